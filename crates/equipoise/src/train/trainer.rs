//! The training loop.

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Device;
use equipoise_dataset::Dataset;
use serde::{Deserialize, Serialize};

use super::checkpoint::CheckpointError;
use super::config::{TrainConfig, TrainConfigError};
use super::gradients::UnsupportedCell;
use super::order::shuffled;
use super::run::Run;
use crate::attack::PgdError;
use crate::checkpoint::{Metadata, ModelFile, ModelFileError};
use crate::model::mdeq::ConfigError;
use crate::solve::SolverError;

pub use equipoise_record::{EpochReport, StepReport};

/// What is trained, on what, how, and where to.
pub struct Plan<'a> {
    /// Name, architecture and deployment of the model to be.
    pub metadata: Metadata,
    /// The recipe.
    pub config: TrainConfig,
    /// The training split. Its last examples are held out as the development split.
    pub data: &'a Dataset,
    /// Seed of the weights and of everything random in training.
    pub seed: u64,
    /// Where checkpoints and the log go. The finished model is written there as `model.safetensors`, that of the best
    /// epoch as `best.safetensors`.
    pub folder: PathBuf,
    /// Whether to go on from the folder's last checkpoint, if there is one.
    pub resume: bool,
}

/// The best epoch so far: most examples of the development split correct, under attack in adversarial training and
/// clean in standard training; the first of equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Best {
    /// Counted from 1.
    pub epoch: usize,
    /// Examples classified correctly.
    pub correct: usize,
}

/// Sums over the steps of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sums {
    pub(super) loss: f64,
    pub(super) correct: usize,
    pub(super) seen: usize,
    pub(super) steps: usize,
    pub(super) gradient_norm: f64,
    pub(super) jacobian: f64,
    pub(super) regularised: usize,
    pub(super) residual: f64,
    pub(super) solved: usize,
}

/// Watches training.
pub trait Observer {
    /// Training begins, or goes on at a step.
    fn begin(&self, step: usize, steps: usize);
    /// A step is done.
    fn step(&self, report: &StepReport);
    /// An epoch is done.
    fn epoch(&self, report: &EpochReport);
    /// Whether to stop. Asked after each step; a checkpoint is written before stopping.
    fn cancelled(&self) -> bool;
}

/// An observer that says nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn begin(&self, _step: usize, _steps: usize) {}
    fn step(&self, _report: &StepReport) {}
    fn epoch(&self, _report: &EpochReport) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The model as it stands.
    pub model: ModelFile,
    /// Reports of the complete epochs.
    pub history: Vec<EpochReport>,
    /// The best epoch on the development split; absent without one.
    pub best: Option<Best>,
    /// Whether the run came to its end, or to an early stop; otherwise a checkpoint waits to be resumed.
    pub complete: bool,
}

/// Why training cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe makes no sense.
    #[error(transparent)]
    Recipe(#[from] TrainConfigError),
    /// The architecture contradicts itself.
    #[error(transparent)]
    Architecture(#[from] ConfigError),
    /// The inner attack makes no sense.
    #[error("inner attack: {0}")]
    Attack(#[from] PgdError),
    /// A solver's settings are out of range.
    #[error(transparent)]
    Solver(#[from] SolverError),
    /// A cell cannot do what the recipe asks for.
    #[error(transparent)]
    Cell(#[from] UnsupportedCell),
    /// The data does not fit the model.
    #[error("{data} does not fit the model: {problem}")]
    Data {
        /// The data set.
        data: String,
        /// What does not fit.
        problem: String,
    },
    /// The loss is not a number any more.
    #[error(
        "the loss is {loss} at step {step}: lower the learning rate, lengthen the warm-up, or resume from the \
         last checkpoint with another recipe"
    )]
    NonFinite {
        /// The step.
        step: usize,
        /// The loss.
        loss: f64,
    },
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model cannot be written.
    #[error(transparent)]
    Model(#[from] ModelFileError),
}

/// Trains a model. Writes into the plan's folder: checkpoints `step-N/`; `steps.jsonl` and `log.jsonl` with a line per
/// step and per epoch; `best.safetensors`, the model after the best epoch on the development split, if there is
/// one; and when it is done `model.safetensors`, the model after the last epoch.
///
/// # Errors
///
/// If recipe, architecture and data do not fit together, if the loss stops being a number, or if a file cannot
/// be written.
pub fn train(plan: &Plan<'_>, device: &Device, observer: &dyn Observer) -> Result<Outcome, TrainError> {
    let mut run = Run::start(plan, device)?;
    let total = run.total_steps();
    observer.begin(run.progress.step, total);
    let mut since_checkpoint = 0;
    while run.progress.step < total && !run.stops_early() {
        let started = Instant::now();
        let epoch = run.progress.step / run.steps_per_epoch();
        let order = shuffled(run.training_count(), plan.seed, epoch);
        let end = (epoch + 1) * run.steps_per_epoch();
        while run.progress.step < end {
            let report = run.step(&order, epoch)?;
            observer.step(&report);
            since_checkpoint += 1;
            let stop = observer.cancelled();
            if run.progress.step < end && (stop || since_checkpoint >= plan.config.checkpoint_steps) {
                run.checkpoint()?;
                since_checkpoint = 0;
            }
            if stop && run.progress.step < end {
                return Ok(run.outcome(false));
            }
        }
        let report = run.close_epoch(epoch, started.elapsed().as_secs_f64())?;
        observer.epoch(&report);
        run.checkpoint()?;
        since_checkpoint = 0;
        if observer.cancelled() && run.progress.step < total && !run.stops_early() {
            return Ok(run.outcome(false));
        }
    }
    run.model_file().write(&plan.folder.join("model.safetensors"))?;
    Ok(run.outcome(true))
}

impl Plan<'_> {
    /// The model's metadata with the recipe that trains it.
    pub(super) fn trained_metadata(&self) -> Metadata {
        let training = serde_json::json!({ "recipe": self.config, "seed": self.seed });
        Metadata { training, data: format!("{}, train", self.data.name), ..self.metadata.clone() }
    }

    /// What must be the same when a run is resumed.
    pub(super) fn fingerprint(&self) -> serde_json::Value {
        serde_json::json!({
            "recipe": self.config,
            "seed": self.seed,
            "architecture": self.metadata.architecture,
            "deployment": self.metadata.deployment,
            "data": { "name": self.data.name, "count": self.data.len() },
        })
    }
}
