//! Work: how much longer the solver can be made to work.

use super::spreads::{
    SHARE, SPREAD, Sheet, fields, median, share, share_fields, spread, spread_fields, table,
};
use super::{Clause, Measurement, result, results, setting};
use crate::numbers;
use crate::table::{Table, columns};
use equipoise_record::{Diagnosis, ModelDiagnosis, Section};

pub(super) struct SolverWork;

impl Measurement for SolverWork {
    fn name(&self) -> &'static str {
        "work"
    }

    fn title(&self) -> &'static str {
        "Work"
    }

    fn about(&self) -> &'static str {
        "How much longer the solver can be made to work within ε, whatever the class: an attack that raises the residual. It concerns \
         models that solve until they have converged, and says whether an attack *could* keep the solver from its fixed point."
    }

    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>> {
        model.work.as_ref().map(Section::outline)
    }

    fn tables(&self, diagnosis: &Diagnosis) -> Vec<Table> {
        let (mut rows, mut says) = (Vec::new(), Vec::new());
        for (model, work) in results(diagnosis, |m| m.work.as_ref()) {
            let said = format!("{}, up to {} steps", work.attack, work.horizon);
            says.extend((!says.contains(&said)).then_some(said));
            for (images, side) in [("clean", &work.clean), ("attacked", &work.attacked)] {
                rows.push(vec![
                    model.model.clone().into(),
                    images.into(),
                    spread(&side.residual),
                    numbers::number(work.tolerance).into(),
                    spread(&side.steps),
                    side.most.map_or("–".into(), |most| most.to_string().into()),
                    share(&side.never),
                ]);
            }
        }
        let caption = format!(
            "{}, {}. Medians with the 10th and 90th percentile; steps are those of the images that reach the tolerance.",
            setting(diagnosis),
            numbers::list(&says)
        );
        let numeric = ["Residual at the deployed T", "Tolerance", "Steps to it", "At most", "Never reach it"];
        table(caption, columns(&["Model", "Images"], &numeric), rows)
    }

    fn clause(&self, _: &Diagnosis, model: &ModelDiagnosis) -> Option<Clause> {
        let work = result(&model.work)?;
        let says = format!(
            "an attack on the residual raises it from {} to {}, and the steps to the tolerance from {} to {}",
            median(&work.clean.residual),
            median(&work.attacked.residual),
            median(&work.clean.steps),
            median(&work.attacked.steps)
        );
        Some(Clause { place: 10, says })
    }

    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet {
        let head = ["model", "attack", "tolerance", "horizon", "images", "measure", "most"];
        let mut sheet = Sheet::new(&[&head, &SPREAD, &SHARE]);
        for (model, work) in results(diagnosis, |m| m.work.as_ref()) {
            for (images, side) in [("clean", &work.clean), ("attacked", &work.attacked)] {
                let most = side.most.map_or(String::new(), |most| most.to_string());
                for (measure, of) in [("residual", &side.residual), ("steps", &side.steps)] {
                    sheet.row(&[
                        fields(&[
                            &model.model,
                            &work.attack,
                            &work.tolerance,
                            &work.horizon,
                            &images,
                            &measure,
                            &most,
                        ]),
                        spread_fields(of),
                        share_fields(&side.never),
                    ]);
                }
            }
        }
        sheet
    }
}
