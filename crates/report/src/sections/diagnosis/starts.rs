//! Starts: how many fixed points there are.

use super::spreads::{
    SHARE, SPREAD, Sheet, empty, fields, share, share_fields, spread, spread_fields, table,
};
use super::{Clause, Measurement, result, results, setting};
use crate::numbers;
use crate::table::{Table, columns};
use equipoise_record::{Diagnosis, ModelDiagnosis, Section};

pub(super) struct FixedPoints;

impl Measurement for FixedPoints {
    fn name(&self) -> &'static str {
        "starts"
    }

    fn title(&self) -> &'static str {
        "Fixed points"
    }

    fn about(&self) -> &'static str {
        "How many fixed points there are: solves from 0 and from random states. Where there are several, the deployed model is the one \
         that the start at 0 picks; where none is found, the model has no equilibrium there."
    }

    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>> {
        model.starts.as_ref().map(Section::outline)
    }

    fn tables(&self, diagnosis: &Diagnosis) -> Vec<Table> {
        let (mut rows, mut says) = (Vec::new(), String::new());
        for (model, starts) in results(diagnosis, |m| m.starts.as_ref()) {
            says = format!(
                "{} starts of each image, up to {} steps; a fixed point has a relative residual below {}, and two are one within \
                 a relative distance of {}",
                starts.starts, starts.horizon, starts.tolerance, starts.cluster
            );
            for view in &starts.views {
                rows.push(vec![
                    model.model.clone().into(),
                    view.view.name().into(),
                    share(&view.converged),
                    spread(&view.distinct),
                    share(&view.several),
                    share(&view.disagree),
                    share(&view.from_zero),
                    share(&view.lowest),
                ]);
            }
        }
        let caption = format!(
            "{}. {says}. Lowest: the answer at the iterate of the lowest residual of all starts. Shares in % with 95% Wilson intervals \
             and counts; those of solves are not independent.",
            setting(diagnosis)
        );
        let numeric = [
            "Solves that found one",
            "Distinct",
            "Images with several",
            "Images whose starts disagree",
            "Correct from 0",
            "Correct at the lowest",
        ];
        table(caption, columns(&["Model", "Images"], &numeric), rows)
    }

    fn clause(&self, _: &Diagnosis, model: &ModelDiagnosis) -> Option<Clause> {
        let starts = result(&model.starts)?;
        let view = starts.views.first()?;
        let says = format!(
            "{} of solves from {} starts find a fixed point, and {} have several",
            numbers::percent(view.converged.accuracy.value),
            starts.starts,
            numbers::images(view.several.correct)
        );
        Some(Clause { place: 11, says })
    }

    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet {
        let mut sheet = Sheet::new(&[&["model", "images", "starts", "horizon", "measure"], &SPREAD, &SHARE]);
        for (model, starts) in results(diagnosis, |m| m.starts.as_ref()) {
            for view in &starts.views {
                let of = |measure: &str| {
                    fields(&[&model.model, &view.view.name(), &starts.starts, &starts.horizon, &measure])
                };
                sheet.row(&[of("distinct"), spread_fields(&view.distinct), empty(5)]);
                for (measure, found) in [
                    ("converged", &view.converged),
                    ("several", &view.several),
                    ("disagree", &view.disagree),
                    ("correct from zero", &view.from_zero),
                    ("correct at the lowest", &view.lowest),
                ] {
                    sheet.row(&[of(measure), empty(5), share_fields(found)]);
                }
            }
        }
        sheet
    }
}
