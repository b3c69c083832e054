//! Training runs as figures, tables and CSV files: what every format shows of them.
//!
//! Runs share a figure, so that they can be compared. A run that is still going on, or broke off, is shown as far as it
//! is.

mod csv;
mod figures;
mod page;
mod tables;

pub use self::csv::training_csv;
pub(super) use page::Trainings;

use crate::numbers;
use equipoise_record::Training;
use serde_json::Value;

/// How to read the figures and tables, to be said once beside them.
const ABOUT: &str = "Loss, accuracy in training, residual and norms are those of the batches that were \
    trained on, under the inner attack if there is one. Clean and robust accuracy are those of the development split, \
    after each epoch: robust means under the recipe's own attack, which is weaker than an evaluation.";

/// The data of the runs, each once: what stands where others have data set, budget and count.
pub(crate) fn setting(trainings: &[Training]) -> String {
    let mut all: Vec<String> = Vec::new();
    for data in trainings.iter().filter_map(data) {
        if !all.contains(&data) {
            all.push(data);
        }
    }
    match all.is_empty() {
        true => "Training".to_owned(),
        false => format!("Training on {}", numbers::list(&all)),
    }
}

/// What a run was trained on, as its recipe names it.
fn data(training: &Training) -> Option<String> {
    let spec = training.recipe.pointer("/data/spec")?.as_str()?;
    let count = training.recipe.pointer("/data/count").and_then(Value::as_u64);
    Some(count.map_or(spec.to_owned(), |count| format!("{spec}, first {}", numbers::images(count as usize))))
}

/// How a run was trained.
fn method(training: &Training) -> Option<String> {
    Some(training_method(training.recipe.get("train")?))
}

/// How a model was trained, in words, by the table `[train]` of its recipe: `standard`, `PGD-AT, L∞ ε = 8/255, 7 steps`.
pub fn training_method(recipe: &Value) -> String {
    let Some(adversary) = recipe.get("adversary").filter(|adversary| adversary.is_object()) else {
        return "standard".to_owned();
    };
    let text = |field: &str| adversary.get(field).and_then(Value::as_str);
    let name = match text("kind") {
        None | Some("pgd") => "PGD-AT",
        Some("trades") => "TRADES",
        Some("boxes") => "certified by boxes",
        Some(other) => other,
    };
    let eps = match adversary.get("eps") {
        Some(Value::String(eps)) => Some(eps.clone()),
        eps => eps.and_then(Value::as_f64).map(numbers::eps),
    };
    let norm = text("norm").map(numbers::norm);
    let budget = eps.map(|eps| format!("{} ε = {eps}", norm.unwrap_or_default()).trim_start().to_owned());
    // Boxes take no steps: those of the recipe are of the attack that training is watched by.
    let steps = adversary.get("steps").and_then(Value::as_u64).filter(|_| text("kind") != Some("boxes"));
    let steps = steps.map(|steps| format!("{steps} steps"));
    let parts = [Some(name.to_owned()), budget, steps];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Epochs that the recipe asks for.
fn planned(training: &Training) -> Option<usize> {
    Some(training.recipe.pointer("/train/epochs")?.as_u64()? as usize)
}

/// Images of the development split.
fn development(training: &Training) -> Option<usize> {
    let count = training.recipe.pointer("/train/development")?.as_u64()? as usize;
    (count > 0).then_some(count)
}

/// Steps taken, as far as they are known.
fn steps(training: &Training) -> Option<usize> {
    let logged = training.steps.last().map(|step| step.step);
    logged.max(training.epochs.last().and_then(|epoch| epoch.step))
}

/// How far a run has come, in words.
fn state(training: &Training) -> &'static str {
    match (training.finished, planned(training)) {
        (false, _) => "not finished",
        (true, Some(planned)) if training.epochs.len() < planned => "stopped early",
        (true, _) => "finished",
    }
}

/// What is said of runs that have not come to their end; nothing without any.
fn unfinished(trainings: &[Training]) -> Option<String> {
    let open: Vec<String> = trainings.iter().filter(|t| !t.finished).map(|t| t.model.clone()).collect();
    let whose = match open.len() {
        0 => return None,
        1 => "its folder",
        _ => "their folders",
    };
    Some(format!(
        "Not finished: {}. There is no model.safetensors in {whose} yet: training goes on, was interrupted, or broke \
         off.",
        numbers::list(&open)
    ))
}
