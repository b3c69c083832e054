//! Training runs as tables: where each has come to, and epoch by epoch.

use super::{data, development, method, planned, setting, state, steps};
use crate::numbers;
use crate::table::{Cell, Table, columns};
use equipoise_record::{Accuracy, Training};

fn none() -> Cell {
    "–".into()
}

fn number(value: Option<f64>) -> Cell {
    value.map_or(none(), |value| numbers::number(value).into())
}

/// A share of the development split, with interval and count where its size is known.
fn share(training: &Training, value: Option<f64>) -> Cell {
    match (value, development(training)) {
        (None, _) => none(),
        (Some(value), None) => numbers::percent(value).into(),
        (Some(value), Some(count)) => {
            Cell::accuracy(Accuracy::new((value * count as f64).round() as usize, count))
        }
    }
}

/// Where each run has come to. Nothing without runs.
pub(super) fn summary(trainings: &[Training]) -> Option<Table> {
    // What all were trained on stands in the caption.
    let several = trainings.iter().any(|training| data(training) != data(&trainings[0]));
    let row = |training: &Training| -> Vec<Cell> {
        let last = training.epochs.last();
        let best = last.and_then(|epoch| epoch.best_epoch);
        let epochs = training.epochs.len();
        let epochs = match planned(training) {
            Some(planned) => format!("{epochs} of {planned}"),
            None => epochs.to_string(),
        };
        let seconds: f64 = training.epochs.iter().map(|epoch| epoch.seconds).sum();
        // Where no epoch is complete, the last step says where the run stands.
        let step = training.steps.last();
        let or_step = |of_epoch: Option<f64>, of_step: Option<f64>| {
            number(if last.is_some() { of_epoch } else { of_step })
        };
        let mut row: Vec<Cell> = vec![training.model.clone().into()];
        row.extend(several.then(|| data(training).map_or(none(), Cell::from)));
        row.extend([
            method(training).map_or(none(), Cell::from),
            Cell::noted(epochs, vec![state(training).to_owned()]),
            steps(training).map_or(none(), |steps| numbers::thousands(steps as u64).into()),
            or_step(last.map(|epoch| epoch.loss), step.map(|step| step.loss)),
            or_step(last.and_then(|epoch| epoch.residual), step.and_then(|step| step.residual)),
            share(training, last.and_then(|epoch| epoch.development_accuracy)),
            share(training, last.and_then(|epoch| epoch.development_robust_accuracy)),
            best.map_or(none(), |epoch| epoch.to_string().into()),
            numbers::seconds(seconds).into(),
        ]);
        row
    };
    let mut text = vec!["Model"];
    text.extend(several.then_some("Data"));
    text.push("Training");
    let numeric = ["Epochs", "Steps", "Loss", "Residual", "Clean", "Robust", "Best epoch", "Time"];
    (!trainings.is_empty()).then(|| Table {
        caption: format!(
            "{}. After the last epoch that is complete. Clean and robust: of the development split, in %, with the 95% \
             Wilson interval and count.",
            setting(trainings)
        ),
        columns: columns(&text, &numeric),
        rows: trainings.iter().map(row).collect(),
    })
}

/// A run epoch by epoch. Nothing before the first is complete.
pub(super) fn epochs(training: &Training) -> Option<Table> {
    let regularised = training.epochs.iter().any(|epoch| epoch.jacobian.is_some());
    let rows: Vec<Vec<Cell>> = training
        .epochs
        .iter()
        .map(|epoch| {
            let mut row = vec![
                epoch.epoch.to_string().into(),
                number(Some(epoch.loss)),
                numbers::percent(epoch.accuracy).into(),
                number(Some(epoch.learning_rate)),
                number(Some(epoch.gradient_norm)),
            ];
            row.extend(regularised.then(|| number(epoch.jacobian)));
            row.extend([
                number(epoch.residual),
                share(training, epoch.development_accuracy),
                share(training, epoch.development_robust_accuracy),
                numbers::seconds(epoch.seconds).into(),
            ]);
            row
        })
        .collect();
    let mut numeric = vec!["Loss", "Correct in training", "Learning rate", "Gradient norm"];
    numeric.extend(regularised.then_some("Jacobian"));
    numeric.extend(["Residual", "Clean", "Robust", "Time"]);
    (!rows.is_empty()).then(|| Table {
        caption: format!("{}, epoch by epoch. {}.", training.model, setting(std::slice::from_ref(training))),
        columns: columns(&["Epoch"], &numeric),
        rows,
    })
}
