//! The log of a training run: a line of `log.jsonl` for each epoch, one of `steps.jsonl` for each step.
//!
//! Both files can be read while they are being written: a last line without its end is left out. JSON has no NaN, so a
//! number that is not finite stands there as `null`.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// One step: a line of `steps.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Steps taken, over all epochs, this one included.
    pub step: usize,
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Mean loss over the batch, without the Jacobian regularisation.
    #[serde(deserialize_with = "or_nan")]
    pub loss: f64,
    /// Share of the batch classified correctly, in training phase, under the inner attack if there is one.
    pub accuracy: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Euclidean norm of all gradients together, before clipping.
    #[serde(deserialize_with = "or_nan")]
    pub gradient_norm: f64,
    /// The estimate of ‖J‖_F² / D, without its weight, in steps that are regularised.
    #[serde(default)]
    pub jacobian: Option<f64>,
    /// And of ‖J‖_F.
    #[serde(default)]
    pub jacobian_norm: Option<f64>,
    /// Budget of the forward solver; absent where nothing was solved.
    #[serde(default)]
    pub solver_steps: Option<usize>,
    /// Mean over the batch of the best relative residual; absent where nothing was solved.
    #[serde(default)]
    pub residual: Option<f64>,
}

/// One epoch, and how the model does on the development split after it: a line of `log.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Counted from 1.
    pub epoch: usize,
    /// Steps taken at its end, over all epochs; absent in logs that have no such column yet.
    #[serde(default)]
    pub step: Option<usize>,
    /// Mean loss over the epoch's examples, without the Jacobian regularisation.
    #[serde(deserialize_with = "or_nan")]
    pub loss: f64,
    /// Share of the epoch's examples classified correctly, in training phase.
    pub accuracy: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean over the steps of the gradients' norm, before clipping. NaN where the log does not say.
    #[serde(default = "unknown", deserialize_with = "or_nan")]
    pub gradient_norm: f64,
    /// Mean over the regularised steps of the estimate of ‖J‖_F² / D; absent without any.
    #[serde(default)]
    pub jacobian: Option<f64>,
    /// Mean over the steps with a solver of the best relative residual; absent without any.
    #[serde(default)]
    pub residual: Option<f64>,
    /// Accuracy on the development split; absent without one.
    #[serde(default)]
    pub development_accuracy: Option<f64>,
    /// The same under PGD as the recipe's adversary has it, through the ready-made gradient; absent in standard
    /// training.
    #[serde(default)]
    pub development_robust_accuracy: Option<f64>,
    /// The best epoch so far on the development split, whose model is `best.safetensors`; absent without one.
    #[serde(default)]
    pub best_epoch: Option<usize>,
    /// Seconds that the epoch took; in a resumed run, since the resumption.
    pub seconds: f64,
}

/// A training run as its folder tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// A short name for the model, as it should stand in legends.
    pub model: String,
    /// Everything that was decided: `recipe.toml` of the folder; null if it has none.
    #[serde(default)]
    pub recipe: Value,
    /// Whether training came to its end, or to an early stop. Otherwise it goes on, was interrupted, or broke off.
    pub finished: bool,
    /// The epochs that are complete, in their order.
    pub epochs: Vec<EpochReport>,
    /// Every step, in its order; empty where only epochs were logged.
    pub steps: Vec<StepReport>,
}

/// Why a log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for LogError {}

/// Reads `log.jsonl`. A last line that is not complete is left out: a run may be writing it.
///
/// # Errors
///
/// The first line that is no epoch, or whose epoch does not come after the one before it.
pub fn read_epochs(text: &str) -> Result<Vec<EpochReport>, LogError> {
    lines(text, "epoch", |epoch: &EpochReport| epoch.epoch)
}

/// Reads `steps.jsonl`. A last line that is not complete is left out: a run may be writing it.
///
/// # Errors
///
/// The first line that is no step, or whose step does not come after the one before it.
pub fn read_steps(text: &str) -> Result<Vec<StepReport>, LogError> {
    lines(text, "step", |step: &StepReport| step.step)
}

fn lines<T: DeserializeOwned>(
    text: &str,
    what: &str,
    count: impl Fn(&T) -> usize,
) -> Result<Vec<T>, LogError> {
    let mut found: Vec<T> = Vec::new();
    for (i, line) in text.split_inclusive('\n').enumerate() {
        let refuse = |problem: String| LogError { line: i + 1, problem };
        match serde_json::from_str::<T>(line) {
            Ok(next) => {
                if let Some(last) = found.last().filter(|last| count(&next) <= count(last)) {
                    let (now, before) = (count(&next), count(last));
                    return Err(refuse(format!("{what} {now} comes after {what} {before}")));
                }
                found.push(next);
            }
            Err(_) if !line.ends_with('\n') => {}
            Err(error) => return Err(refuse(format!("this is no {what} ({error})"))),
        }
    }
    Ok(found)
}

fn unknown() -> f64 {
    f64::NAN
}

/// A number that is not finite was written as `null`.
fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_else(unknown))
}
