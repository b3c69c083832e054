//! CSV: one row for each measured accuracy, in long form, so that a data frame needs no reshaping.
//!
//! `measure` is `clean`, `attack` (accuracy after that attack of the cascade), `ready-made` or `white-box`.
//! Accuracies are fractions; a field that does not apply is empty.

use super::Exporter;
use crate::{Report, ReportError, facts};
use equipoise_record::{Accuracy, AttackResult, Evaluation, ReadoutResult};

pub(crate) struct Csv;

const HEAD: [&str; 22] = [
    "model",
    "dataset",
    "norm",
    "eps",
    "seed",
    "count",
    "readout",
    "measure",
    "step",
    "attack",
    "estimator",
    "ready_made",
    "attempted",
    "broken",
    "unconfirmed",
    "correct",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "seconds",
    "cell_evaluations",
    "vjps",
];

impl Exporter for Csv {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut write =
            |row: Vec<String>| writer.write_record(row).map_err(|e| ReportError::Csv(e.to_string()));
        write(HEAD.map(str::to_owned).to_vec())?;
        for model in &report.models {
            for readout in &model.readouts {
                write(row(model, readout, "clean", None, readout.clean_accuracy))?;
                for (i, attack) in readout.attacks.iter().enumerate() {
                    write(row(model, readout, "attack", Some((i + 1, attack)), attack.accuracy))?;
                }
                if let Some(ready_made) = readout.ready_made_accuracy {
                    write(row(model, readout, "ready-made", None, ready_made))?;
                }
                write(row(model, readout, "white-box", None, readout.white_box_accuracy))?;
            }
        }
        let bytes = writer.into_inner().map_err(|e| ReportError::Csv(e.to_string()))?;
        String::from_utf8(bytes).map_err(|e| ReportError::Csv(e.to_string()))
    }
}

fn row(
    model: &Evaluation,
    readout: &ReadoutResult,
    measure: &str,
    attack: Option<(usize, &AttackResult)>,
    accuracy: Accuracy,
) -> Vec<String> {
    let of =
        |field: &dyn Fn(usize, &AttackResult) -> String| attack.map_or(String::new(), |(i, a)| field(i, a));
    vec![
        model.model.clone(),
        model.dataset.clone(),
        model.norm.clone(),
        model.eps.to_string(),
        model.seed.to_string(),
        model.count.to_string(),
        readout.name.clone(),
        measure.to_owned(),
        of(&|i, _| i.to_string()),
        of(&|_, a| a.name.clone()),
        of(&|_, a| a.estimator.clone()),
        of(&|_, a| a.ready_made.to_string()),
        of(&|_, a| a.attempted.to_string()),
        of(&|_, a| a.broken.to_string()),
        of(&|_, a| a.unconfirmed.to_string()),
        facts::correct(accuracy, model.count).to_string(),
        accuracy.value.to_string(),
        accuracy.interval[0].to_string(),
        accuracy.interval[1].to_string(),
        of(&|_, a| a.seconds.to_string()),
        of(&|_, a| a.cell_evaluations.to_string()),
        of(&|_, a| a.vjps.to_string()),
    ]
}
