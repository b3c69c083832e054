//! Jacobian: spectral radius and Frobenius norm of J = ∂f/∂z at the best iterate.

use super::spreads::{
    SHARE, SPREAD, Sheet, empty, fields, share, share_fields, spread, spread_fields, table, three,
};
use super::{Clause, Measurement, result, results, setting};
use crate::numbers;
use crate::table::{Table, columns};
use equipoise_record::{Diagnosis, ModelDiagnosis, Section, Spread, View};

pub(super) struct Jacobian;

impl Measurement for Jacobian {
    fn name(&self) -> &'static str {
        "spectrum"
    }

    fn title(&self) -> &'static str {
        "Jacobian"
    }

    fn about(&self) -> &'static str {
        "Spectral radius and Frobenius norm of J = ∂f/∂z at the best iterate. Below a radius of 1 the cell contracts \
         near its fixed point, and simple iterations converge."
    }

    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>> {
        model.spectrum.as_ref().map(Section::outline)
    }

    fn tables(&self, diagnosis: &Diagnosis) -> Vec<Table> {
        let found = results(diagnosis, |m| m.spectrum.as_ref());
        let mut rows = Vec::new();
        for (model, spectrum) in &found {
            for view in &spectrum.views {
                let norm = |x: Option<f64>| x.map(f64::sqrt);
                let squared = &view.squared_norm;
                let norms = Spread {
                    low: norm(squared.low),
                    median: norm(squared.median),
                    high: norm(squared.high),
                    ..*squared
                };
                let converged = match view.complex {
                    0 => share(&view.converged),
                    n => {
                        let mut cell = share(&view.converged);
                        cell.notes.push(format!("{n} complex"));
                        cell
                    }
                };
                rows.push(vec![
                    model.model.clone().into(),
                    view.view.name().into(),
                    spread(&view.radius),
                    share(&view.below_one),
                    converged,
                    spread(&view.unconverged_growth),
                    spread(&norms),
                    spread(&view.relative_error),
                    spectrum.dim.to_string().into(),
                ]);
            }
        }
        let limits: Vec<String> = found
            .first()
            .map(|(_, s)| {
                format!(
                    "at most {} power iterations, converged at a relative error of {}; {} probes of the norm",
                    s.limit, s.tolerance, s.probes
                )
            })
            .into_iter()
            .collect();
        let numeric = [
            "Spectral radius",
            "Below 1",
            "Converged",
            "Growth, not converged",
            "Norm ‖J‖_F",
            "Error of its square",
            "Dimension",
        ];
        let caption = format!(
            "{}, {}. Medians with the 10th and 90th percentile. Radii are those of the images whose power iteration \
             converged; for the others the growth per iteration is a rough guess.",
            setting(diagnosis),
            limits.join("")
        );
        table(caption, columns(&["Model", "Images"], &numeric), rows)
    }

    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet {
        let mut sheet = Sheet::new(&[&["model", "images", "measure"], &SPREAD, &SHARE]);
        for (model, spectrum) in results(diagnosis, |m| m.spectrum.as_ref()) {
            for view in &spectrum.views {
                let what = |measure: &str| fields(&[&model.model, &view.view.name(), &measure]);
                for (measure, s) in [
                    ("spectral radius", &view.radius),
                    ("growth, not converged", &view.unconverged_growth),
                    ("power iterations", &view.iterations),
                    ("squared frobenius norm", &view.squared_norm),
                    ("its relative standard error", &view.relative_error),
                ] {
                    sheet.row(&[what(measure), spread_fields(s), empty(5)]);
                }
                for (measure, s) in [("converged", &view.converged), ("radius below 1", &view.below_one)] {
                    sheet.row(&[what(measure), empty(5), share_fields(s)]);
                }
            }
        }
        sheet
    }

    fn clause(&self, _: &Diagnosis, model: &ModelDiagnosis) -> Option<Clause> {
        let view = result(&model.spectrum)?.views.iter().find(|v| v.view == View::Clean)?;
        let converged = numbers::percent(view.converged.accuracy.value);
        let says = match view.radius.median {
            None => "the spectral radius of J is unknown: no power iteration converged".to_owned(),
            Some(radius) => format!(
                "the spectral radius of J is {} (median of the {converged} whose power iteration converged)",
                three(radius)
            ),
        };
        Some(Clause { place: 7, says })
    }
}
