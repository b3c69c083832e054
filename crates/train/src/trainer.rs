//! The training loop.

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Device;
use equipoise_dataset::Dataset;
use serde::{Deserialize, Serialize};

use super::checkpoint::CheckpointError;
use super::config::{TrainConfig, TrainConfigError};
use super::order::shuffled;
use super::ranks::{Alone, Ranks, RanksError};
use super::run::Run;
use equipoise_attack::attack::PgdError;
use equipoise_deq::architecture::Model;
use equipoise_deq::checkpoint::{Metadata, ModelFile, ModelFileError, StateDictError};
use equipoise_deq::model::ConfigError;
use equipoise_deq::training_pass::UnsupportedCell;
use equipoise_deq::victim::DeploymentError;

pub use equipoise_record::{EpochReport, StepReport};

/// What is trained, on what, how, and where to.
pub struct Plan<'a> {
    /// Name, architecture and deployment of the model to be.
    pub metadata: Metadata,
    /// The recipe.
    pub config: TrainConfig,
    /// The training split. Its last examples are held out as the development split.
    pub data: &'a Dataset,
    /// Weights to start from; random ones of the seed when absent. The optimiser starts anew either way.
    pub init: Option<Initial>,
    /// Seed of the weights and of everything random in training.
    pub seed: u64,
    /// Where checkpoints and the log go. The finished model is written there as `model.safetensors`, that of the best
    /// epoch as `best.safetensors`, those that the recipe keeps as `epoch-N.safetensors`.
    pub folder: PathBuf,
    /// Whether to go on from the folder's last checkpoint, if there is one.
    pub resume: bool,
}

/// A trained network that a run goes out from: fine-tuning.
#[derive(Debug, Clone)]
pub struct Initial {
    /// The weights. They must be of the plan's architecture; dropout, which has no weights, may differ.
    pub model: Box<dyn Model>,
    /// Where they are from.
    pub origin: Origin,
}

/// Where the first weights of a run are from, as its models record it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The model's name.
    pub name: String,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
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
    /// Training begins, or goes on at a step. Everything is known to fit together, and of this run nothing is written yet.
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
    /// A setting of the deployment is out of range.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
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
        "the loss is {loss} at step {step}: start anew in another folder with a lower learning rate, clipped \
         gradients or a longer warm-up{}",
        best.as_ref().map_or_else(String::new, |best| format!(
            ", or from the weights of the best epoch so far, {}, as the initial ones", best.display()
        ))
    )]
    NonFinite {
        /// The step.
        step: usize,
        /// The loss.
        loss: f64,
        /// The model of the best complete epoch, if there is one.
        best: Option<PathBuf>,
    },
    /// The initial weights are of another architecture.
    #[error("the initial weights of {name} are not of the architecture to be trained: {source}")]
    Initial {
        /// The model that they are from.
        name: String,
        /// What does not fit.
        source: Box<StateDictError>,
    },
    /// Ranks cannot go on together.
    #[error("{source}{}", kept.map_or_else(String::new, |step| format!("; a checkpoint of step {step} is kept: resume the run")))]
    Ranks {
        /// What is wrong, and with which.
        source: RanksError,
        /// The step of the checkpoint that this rank has written on that account.
        kept: Option<usize>,
    },
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model cannot be written.
    #[error(transparent)]
    Model(#[from] ModelFileError),
}

impl From<RanksError> for TrainError {
    fn from(source: RanksError) -> Self {
        Self::Ranks { source, kept: None }
    }
}

/// Trains a model. Writes into the plan's folder: checkpoints `step-N/`; `steps.jsonl` and `log.jsonl` with a line per
/// step and per epoch; `best.safetensors`, the model after the best epoch on the development split, if there is
/// one; `epoch-N.safetensors`, if the recipe keeps epochs; and when it is done `model.safetensors`, the model after the
/// last epoch.
///
/// A run may be resumed with other checkpoint steps, kept epochs and patience, which do not change its weights. With a
/// constant learning rate it may also be resumed with more epochs, even when it was done: the weights are then those of
/// a run that was that long from the start. Under any other schedule the learning rate of every step depends on the
/// length.
///
/// The folder is locked against other runs, and a run that is resumed removes what a killed one left half written.
///
/// # Errors
///
/// If recipe, architecture and data do not fit together, if the loss stops being a number, if a file cannot be written (the
/// folder may have been removed), or if another run writes to the folder.
pub fn train(plan: &Plan<'_>, device: &Device, observer: &dyn Observer) -> Result<Outcome, TrainError> {
    train_together(plan, &Alone, device, observer)
}

/// The same on several ranks: every rank calls it with the same plan, and computes a share of the micro-batches of each step. All
/// of them come to the weights, to the bit, that one would come to, and a run may be resumed with another number. Rank 0 alone
/// writes; a folder that is resumed must be one that all ranks read. If any rank is asked to stop, all do.
///
/// # Errors
///
/// As [`train`]; if a step has fewer micro-batches than there are ranks; if ranks turn out to differ in settings, data or, on the
/// way, in weights; and if one of them is lost, before which rank 0 writes a checkpoint.
pub fn train_together(
    plan: &Plan<'_>,
    ranks: &dyn Ranks,
    device: &Device,
    observer: &dyn Observer,
) -> Result<Outcome, TrainError> {
    let mut run = Run::start(plan, ranks, device, observer)?;
    match go(&mut run, plan, observer) {
        Ok(complete) => Ok(run.outcome(complete)),
        // Of weights that may be wrong nothing is kept.
        Err(TrainError::Ranks { source, .. }) if source.lost => {
            let kept = run.rescue();
            Err(TrainError::Ranks { source, kept })
        }
        Err(error) => Err(error),
    }
}

/// Takes steps until the run is done, or somebody asks to stop; whether it is done.
fn go(run: &mut Run<'_>, plan: &Plan<'_>, observer: &dyn Observer) -> Result<bool, TrainError> {
    let total = run.total_steps();
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
            let stop = run.any(observer.cancelled())?;
            if run.progress.step < end && (stop || since_checkpoint >= plan.config.checkpoint_steps) {
                run.checkpoint()?;
                since_checkpoint = 0;
            }
            if stop && run.progress.step < end {
                return Ok(false);
            }
        }
        let report = run.close_epoch(epoch, started.elapsed().as_secs_f64())?;
        observer.epoch(&report);
        run.checkpoint()?;
        since_checkpoint = 0;
        if run.any(observer.cancelled())? && run.progress.step < total && !run.stops_early() {
            return Ok(false);
        }
    }
    run.finish()?;
    Ok(true)
}

impl Plan<'_> {
    /// The model's metadata with the recipe that trains it, and how far it has come.
    pub(super) fn trained_metadata(&self, step: usize, epoch: usize) -> Metadata {
        let mut training =
            serde_json::json!({ "recipe": self.config, "seed": self.seed, "step": step, "epoch": epoch });
        if let Some(origin) = self.origin() {
            training["init"] = origin;
        }
        Metadata { training, data: format!("{}, train", self.data.name), ..self.metadata.clone() }
    }

    /// What must be the same when a run is resumed.
    pub(super) fn fingerprint(&self) -> serde_json::Value {
        let mut plan = serde_json::json!({
            "recipe": self.config,
            "seed": self.seed,
            "architecture": self.metadata.architecture,
            "deployment": self.metadata.deployment,
            "data": { "name": self.data.name, "count": self.data.len() },
        });
        if let Some(origin) = self.origin() {
            plan["init"] = origin;
        }
        plan
    }

    fn origin(&self) -> Option<serde_json::Value> {
        let Origin { name, sha256 } = &self.init.as_ref()?.origin;
        Some(serde_json::json!({ "name": name, "sha256": sha256 }))
    }
}
