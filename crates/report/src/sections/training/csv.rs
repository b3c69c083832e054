//! Training runs as CSV: a row for each epoch and one for each step, the run's name first.
//!
//! Shares are fractions; a field without a value is empty, a number that is not finite `NaN`.

use crate::ReportError;
use crate::sheet::sheet;
use equipoise_record::{EpochReport, StepReport, Training};

/// File name and content: `training-epochs.csv` and `training-steps.csv`, each where there is anything to hold.
///
/// # Errors
/// [`ReportError::Csv`] if the writer fails.
pub fn training_csv(trainings: &[Training]) -> Result<Vec<(String, String)>, ReportError> {
    let epochs = trainings.iter().flat_map(|t| t.epochs.iter().map(move |epoch| of_epoch(&t.model, epoch)));
    let steps = trainings.iter().flat_map(|t| t.steps.iter().map(move |step| of_step(&t.model, step)));
    let sheets = [
        ("training-epochs.csv", EPOCH.as_slice(), epochs.collect::<Vec<_>>()),
        ("training-steps.csv", &STEP, steps.collect()),
    ];
    let filled = sheets.into_iter().filter(|(.., rows)| !rows.is_empty());
    filled.map(|(name, head, rows)| Ok((name.to_owned(), sheet(head, rows)?))).collect()
}

const EPOCH: [&str; 13] = [
    "model",
    "epoch",
    "step",
    "loss",
    "accuracy",
    "learning_rate",
    "gradient_norm",
    "jacobian",
    "residual",
    "development_accuracy",
    "development_robust_accuracy",
    "best_epoch",
    "seconds",
];

const STEP: [&str; 11] = [
    "model",
    "step",
    "epoch",
    "loss",
    "accuracy",
    "learning_rate",
    "gradient_norm",
    "jacobian",
    "jacobian_norm",
    "solver_steps",
    "residual",
];

fn or_empty<T: ToString>(value: Option<T>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

fn of_epoch(model: &str, epoch: &EpochReport) -> Vec<String> {
    vec![
        model.to_owned(),
        epoch.epoch.to_string(),
        or_empty(epoch.step),
        epoch.loss.to_string(),
        epoch.accuracy.to_string(),
        epoch.learning_rate.to_string(),
        epoch.gradient_norm.to_string(),
        or_empty(epoch.jacobian),
        or_empty(epoch.residual),
        or_empty(epoch.development_accuracy),
        or_empty(epoch.development_robust_accuracy),
        or_empty(epoch.best_epoch),
        epoch.seconds.to_string(),
    ]
}

fn of_step(model: &str, step: &StepReport) -> Vec<String> {
    vec![
        model.to_owned(),
        step.step.to_string(),
        step.epoch.to_string(),
        step.loss.to_string(),
        step.accuracy.to_string(),
        step.learning_rate.to_string(),
        step.gradient_norm.to_string(),
        or_empty(step.jacobian),
        or_empty(step.jacobian_norm),
        or_empty(step.solver_steps),
        or_empty(step.residual),
    ]
}
