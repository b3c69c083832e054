//! Convergence: how far each state of the solver is from being a fixed point.

use super::spreads::{
    BANDS, INTERVALS, SHARE, SPREAD, Sheet, curve, deployed_steps, empty, fields, median, share,
    share_fields, shares, spread, spread_fields, table,
};
use super::{Clause, Measurement, result, results, setting};
use crate::figure::{Figure, Scale};
use crate::numbers;
use crate::table::{Table, columns};
use equipoise_record::{Diagnosis, ModelDiagnosis, Section, View};

pub(super) struct Convergence;

impl Measurement for Convergence {
    fn name(&self) -> &'static str {
        "residual"
    }

    fn title(&self) -> &'static str {
        "Convergence"
    }

    fn about(&self) -> &'static str {
        "How far each state of the solver is from being a fixed point. An attack that raises the residual has found \
         states where the model's own gradient, which assumes a fixed point, is wrong."
    }

    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>> {
        model.residual.as_ref().map(Section::outline)
    }

    fn figures(&self, diagnosis: &Diagnosis) -> Vec<Figure> {
        let found = results(diagnosis, |m| m.residual.as_ref());
        let Some((_, first)) = found.first() else { return Vec::new() };
        let horizon = first.horizon;
        let mut curves = Vec::new();
        let mut reached = Vec::new();
        for (model, residual) in &found {
            for view in &residual.views {
                let name = format!("{}, {}", model.model, view.view.name());
                let at = |k: usize| (k + 1) as f64;
                curves.push(curve(name.clone(), view.by_iterate.iter().enumerate().map(|(k, s)| (at(k), s))));
                reached.push(shares(name, view.reached.iter().enumerate().map(|(k, s)| (at(k), s))));
            }
        }
        let deployed: Vec<String> = found
            .iter()
            .filter_map(|(model, _)| Some(format!("{} steps in {}", model.solver_steps?, model.model)))
            .collect();
        let deployed = format!("Deployed: {}; here {horizon}.", deployed.join(", "));
        vec![
            Figure {
                title: "Relative residual by iterate".into(),
                caption: format!("{}. {BANDS} {deployed}", setting(diagnosis)),
                x_label: "iterate t".into(),
                y_label: "relative residual ‖f(z) − z‖ / ‖f(z)‖".into(),
                y_scale: Scale::Log,
                series: curves,
                marks: deployed_steps(&found),
                ..Figure::default()
            },
            Figure {
                title: "Images that have reached the tolerance".into(),
                caption: format!(
                    "{}. Share whose relative residual has been below {} by iterate t. {INTERVALS}",
                    setting(diagnosis),
                    first.tolerance
                ),
                x_label: "iterate t".into(),
                y_label: "images in %".into(),
                series: reached,
                marks: deployed_steps(&found),
                ..Figure::default()
            },
        ]
    }

    fn tables(&self, diagnosis: &Diagnosis) -> Vec<Table> {
        let mut rows = Vec::new();
        for (model, residual) in results(diagnosis, |m| m.residual.as_ref()) {
            for view in &residual.views {
                let last = model.solver_steps.and_then(|t| view.by_iterate.get(t.checked_sub(1)?));
                rows.push(vec![
                    model.model.clone().into(),
                    view.view.name().into(),
                    last.map_or("–".into(), spread),
                    numbers::number(residual.tolerance).into(),
                    spread(&view.steps),
                    share(&view.never),
                ]);
            }
        }
        let numeric = ["Residual at the deployed T", "Tolerance", "Steps to it", "Never reach it"];
        let caption = format!(
            "{}. Medians with the 10th and 90th percentile; steps are those of the images that reach the tolerance, \
             shares have 95% Wilson intervals and counts.",
            setting(diagnosis)
        );
        table(caption, columns(&["Model", "Images"], &numeric), rows)
    }

    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet {
        let mut sheet = Sheet::new(&[&["model", "images", "measure", "t"], &SPREAD, &SHARE]);
        for (model, residual) in results(diagnosis, |m| m.residual.as_ref()) {
            for view in &residual.views {
                let of = |measure: &str, t: &str| fields(&[&model.model, &view.view.name(), &measure, &t]);
                let t = |k: usize| (k + 1).to_string();
                for (k, s) in view.by_iterate.iter().enumerate() {
                    sheet.row(&[of("relative residual", &t(k)), spread_fields(s), empty(5)]);
                }
                for (k, s) in view.reached.iter().enumerate() {
                    sheet.row(&[of("reached", &t(k)), empty(5), share_fields(s)]);
                }
                sheet.row(&[of("steps to tolerance", ""), spread_fields(&view.steps), empty(5)]);
                sheet.row(&[of("never", ""), empty(5), share_fields(&view.never)]);
            }
        }
        sheet
    }

    fn clause(&self, _: &Diagnosis, model: &ModelDiagnosis) -> Option<Clause> {
        let residual = result(&model.residual)?;
        let t = model.solver_steps?;
        let at = |view: View| {
            let view = residual.views.iter().find(|v| v.view == view)?;
            Some((
                median(view.by_iterate.get(t.checked_sub(1)?)?),
                numbers::percent(view.never.accuracy.value),
            ))
        };
        let ((clean, never_clean), (attacked, never_attacked)) = (at(View::Clean)?, at(View::Attacked)?);
        let says = format!(
            "the relative residual at z_{t} is {clean} clean and {attacked} attacked (medians), and {never_clean} and \
             {never_attacked} never reach {} in {} steps",
            numbers::number(residual.tolerance),
            residual.horizon
        );
        Some(Clause { place: 3, says })
    }
}
