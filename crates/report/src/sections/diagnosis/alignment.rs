//! Gradients: the angle between each estimator's gradient and the true one.

use super::spreads::{BANDS, SPREAD, Sheet, curve, fields, median, spread_fields};
use super::{Clause, Measurement, result, results, setting};
use crate::figure::Figure;
use equipoise_record::{Cosine, Diagnosis, ModelDiagnosis, Section, View};

pub(super) struct Gradients;

impl Measurement for Gradients {
    fn name(&self) -> &'static str {
        "alignment"
    }

    fn title(&self) -> &'static str {
        "Gradients"
    }

    fn about(&self) -> &'static str {
        "Cosine between each gradient estimator and the true gradient of the deployed function (through-solver). 1 is \
         the same direction, 0 a right angle."
    }

    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>> {
        model.alignment.as_ref().map(Section::outline)
    }

    fn figures(&self, diagnosis: &Diagnosis) -> Vec<Figure> {
        let mut figures = Vec::new();
        for (model, alignment) in results(diagnosis, |m| m.alignment.as_ref()) {
            let steps = model.solver_steps.unwrap_or(1);
            let clean: Vec<&Cosine> = alignment.cosines.iter().filter(|c| c.view == View::Clean).collect();
            let mut families: Vec<&str> = Vec::new();
            for cosine in &clean {
                if !families.contains(&cosine.family.as_str()) {
                    families.push(&cosine.family);
                }
            }
            let at = |readout: &str, family: &str, t: usize| {
                let matches = |c: &&&Cosine| {
                    c.readout == readout && c.family == family && c.t.is_none_or(|state| state == t)
                };
                clean.iter().find(matches).map(|c| (t as f64, &c.cosine))
            };
            let figure =
                |readout: &dyn Fn(usize) -> String, title: String, x_label: &str, note: &str| Figure {
                    title,
                    caption: format!(
                        "{}, clean images, gradients of the cross-entropy. {BANDS} {note}",
                        setting(diagnosis)
                    ),
                    x_label: x_label.into(),
                    y_label: "cosine to through-solver".into(),
                    series: families
                        .iter()
                        .map(|family| {
                            let points = (1..=steps).filter_map(|t| at(&readout(t), family, t));
                            curve((*family).to_owned(), points)
                        })
                        .collect(),
                    ..Figure::default()
                };
            figures.push(figure(
                &|_| "final".into(),
                format!("{}: gradients for the readout final", model.model),
                "state t that an estimator starts from",
                "Estimators without a state of their own are level lines.",
            ));
            figures.push(figure(
                &|t| format!("early({t})"),
                format!("{}: gradients for the readout early(t)", model.model),
                "state t that is read",
                "Each estimator starts from the state that is read, where it can.",
            ));
        }
        figures
    }

    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet {
        let head = ["model", "images", "readout", "estimator", "family", "t", "zero_gradients"];
        let mut sheet = Sheet::new(&[&head, &SPREAD]);
        for (model, alignment) in results(diagnosis, |m| m.alignment.as_ref()) {
            for c in &alignment.cosines {
                let t = c.t.map_or(String::new(), |t| t.to_string());
                let what =
                    fields(&[&model.model, &c.view.name(), &c.readout, &c.estimator, &c.family, &t, &c.zero]);
                sheet.row(&[what, spread_fields(&c.cosine)]);
            }
        }
        sheet
    }

    fn clause(&self, _: &Diagnosis, model: &ModelDiagnosis) -> Option<Clause> {
        let alignment = result(&model.alignment)?;
        let trained = alignment.cosines.iter().find(|c| {
            c.view == View::Clean && c.readout == "final" && c.estimator == model.training_gradient
        })?;
        let says =
            format!("the training gradient's cosine to the true one is {} (median)", median(&trained.cosine));
        Some(Clause { place: 4, says })
    }
}
