//! The training loop.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use burn::module::Module;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};
use burn::tensor::Device;
use equipoise_dataset::Dataset;
use serde::{Deserialize, Serialize};

use super::augment::augment;
use super::checkpoint::{self, CheckpointError, Progress};
use super::config::{OptimizerConfig, TrainConfig, TrainConfigError};
use super::gradients::{feedforward_gradients, gradients};
use super::order::{epoch_seed, shuffled};
use crate::attack::{Attack, ExampleRng, Pgd, PgdError, Targets};
use crate::batch::{Images, from_vec, predictions, to_vec};
use crate::checkpoint::{Metadata, ModelFile, ModelFileError, write_atomically};
use crate::deployed::Deployment;
use crate::loss::CrossEntropy;
use crate::model::mdeq::ConfigError;
use crate::network::{Architecture, Network};
use crate::readout::Readout;
use crate::solve::SolverError;
use crate::work::WorkCounter;

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
    /// Where checkpoints and the log go. The finished model is written there as `model.safetensors`.
    pub folder: PathBuf,
    /// Whether to go on from the folder's last checkpoint, if there is one.
    pub resume: bool,
}

/// One step.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StepReport {
    /// Steps taken, over all epochs, this one included.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Mean loss over the batch.
    pub loss: f64,
    /// Share of the batch classified correctly, in training phase, under the inner attack if there is one.
    pub accuracy: f64,
}

/// One epoch, and how the model does on the development split after it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean loss over the epoch's examples.
    pub loss: f64,
    /// Share of the epoch's examples classified correctly, in training phase.
    pub accuracy: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Accuracy on the development split; absent without one.
    pub development_accuracy: Option<f64>,
    /// The same under the training's own PGD with the ready-made gradient; absent in standard training.
    pub development_robust_accuracy: Option<f64>,
    /// Seconds that the epoch took; in a resumed run, since the resumption.
    pub seconds: f64,
}

/// Sums over the steps of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    loss: f64,
    correct: usize,
    seen: usize,
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
    /// Whether the run came to its end; otherwise a checkpoint waits to be resumed.
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

/// Trains a model. Writes checkpoints `step-N/`, `log.jsonl` with a line per epoch, and at the end
/// `model.safetensors` into the plan's folder.
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
    while run.progress.step < total {
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
        if observer.cancelled() && run.progress.step < total {
            return Ok(run.outcome(false));
        }
    }
    run.model_file().write(&plan.folder.join("model.safetensors"))?;
    Ok(run.outcome(true))
}

/// A run under way.
struct Run<'a> {
    plan: &'a Plan<'a>,
    device: Device,
    network: Network,
    optimizer: ModuleOptimizer,
    progress: Progress,
    counter: WorkCounter,
}

impl<'a> Run<'a> {
    fn start(plan: &'a Plan<'a>, device: &Device) -> Result<Self, TrainError> {
        let Plan { metadata, config, data, .. } = plan;
        config.validate()?;
        metadata.deployment.validate()?;
        match &metadata.architecture {
            // Training without it would be another recipe than the one asked for.
            Architecture::Mdeq(mdeq) if mdeq.dropout > 0.0 => {
                let problem =
                    format!("variational dropout ({}) is not supported yet: set dropout = 0", mdeq.dropout);
                return Err(TrainConfigError(problem).into());
            }
            Architecture::ResNet18(_) | Architecture::WideResNet(_) if config.warmup.steps > 0 => {
                let problem = "warmup: a feedforward network has no solver to warm up for; set steps = 0";
                return Err(TrainConfigError(problem.into()).into());
            }
            _ => {}
        }
        if let Some(adversary) = &config.adversary {
            Pgd::new(adversary.pgd())?;
        }
        let network = metadata.architecture.init(plan.seed, device)?;
        let unfit = |problem: String| Err(TrainError::Data { data: data.name.clone(), problem });
        if data.shape != metadata.architecture.image() {
            return unfit(format!(
                "images are {:?}, the model takes {:?}",
                data.shape,
                metadata.architecture.image()
            ));
        }
        if data.classes != metadata.architecture.classes() {
            return unfit(format!(
                "{} classes, the model has {}",
                data.classes,
                metadata.architecture.classes()
            ));
        }
        if data.len() < config.development + config.batch_size {
            let problem = format!(
                "{} examples are fewer than a development split of {} and one batch of {}",
                data.len(),
                config.development,
                config.batch_size
            );
            return unfit(problem);
        }
        fs::create_dir_all(&plan.folder).map_err(|source| CheckpointError::Io {
            path: plan.folder.clone(),
            action: "create",
            source,
        })?;
        let progress =
            Progress { step: 0, plan: plan.fingerprint(), epoch: Sums::default(), history: Vec::new() };
        let optimizer = build_optimizer(&config.optimizer);
        let mut run = Self {
            plan,
            device: device.clone(),
            network,
            optimizer,
            progress,
            counter: WorkCounter::default(),
        };
        if plan.resume {
            let (fingerprint, optimizer) = (plan.fingerprint(), build_optimizer(&config.optimizer));
            if let Some((model, optimizer, progress)) =
                checkpoint::read(&plan.folder, &fingerprint, optimizer, device)?
            {
                run.network = model.network;
                run.optimizer = optimizer;
                run.progress = progress;
            }
        }
        Ok(run)
    }

    fn training_count(&self) -> usize {
        self.plan.data.len() - self.plan.config.development
    }

    /// A last incomplete batch is dropped: batch statistics of a few examples would disturb the running ones.
    fn steps_per_epoch(&self) -> usize {
        self.training_count() / self.plan.config.batch_size
    }

    fn total_steps(&self) -> usize {
        self.steps_per_epoch() * self.plan.config.epochs
    }

    fn learning_rate(&self, step: usize) -> f64 {
        let config = &self.plan.config;
        config.optimizer.learning_rate() * config.schedule.factor(step, self.total_steps())
    }

    fn deployment(&self) -> &'a Deployment {
        &self.plan.metadata.deployment
    }

    /// Images of some examples, augmented if the recipe says so.
    fn images(&self, indices: &[usize], epoch: Option<usize>) -> Images {
        let data = self.plan.data;
        let mut pixels = data.images(indices);
        if let (Some(settings), Some(epoch)) = (self.plan.config.augment, epoch) {
            let seed = epoch_seed(self.plan.seed, epoch);
            let size: usize = data.shape.iter().product();
            for (image, &index) in pixels.chunks_mut(size).zip(indices) {
                augment(image, data.shape, settings, &mut ExampleRng::new(seed, "augment", index, 0));
            }
        }
        let [c, h, w] = data.shape;
        from_vec(pixels, [indices.len(), c, h, w], &self.device)
    }

    fn labels(&self, indices: &[usize]) -> Vec<usize> {
        indices.iter().map(|&index| self.plan.data.labels[index]).collect()
    }

    fn step(&mut self, order: &[usize], epoch: usize) -> Result<StepReport, TrainError> {
        let config = &self.plan.config;
        let start = (self.progress.step % self.steps_per_epoch()) * config.batch_size;
        let indices = &order[start..start + config.batch_size];
        let labels = self.labels(indices);
        let mut images = self.images(indices, Some(epoch));
        let warmup = Some(&config.warmup).filter(|warmup| self.progress.step < warmup.steps);
        if warmup.is_none() {
            images = self.perturbed(images, &labels, indices, epoch_seed(self.plan.seed, epoch))?;
        }
        let objective = CrossEntropy { labels: labels.clone() };
        let step = match &self.network {
            Network::Mdeq(model) => {
                gradients(model, self.deployment(), warmup, &images, &objective, &self.counter)
            }
            Network::ResNet18(model) => feedforward_gradients(model, &images, &objective),
            Network::WideResNet(model) => feedforward_gradients(model, &images, &objective),
        };
        let predicted = predictions(&step.logits);
        let correct = predicted.iter().zip(&labels).filter(|(found, label)| **found == Some(**label)).count();
        let loss: f64 = to_vec(step.values).into_iter().map(f64::from).sum();
        let mean = loss / labels.len() as f64;
        if !mean.is_finite() {
            return Err(TrainError::NonFinite { step: self.progress.step + 1, loss: mean });
        }
        let rate = self.learning_rate(self.progress.step);
        // Burn's optimisers want parameters on autodiff; everything else here wants them off it.
        let network = self.optimizer.step(rate, self.network.clone().train(), step.parameters).valid();
        self.network = step.moments.absorbed_into(network);
        self.progress.step += 1;
        self.progress.epoch.loss += loss;
        self.progress.epoch.correct += correct;
        self.progress.epoch.seen += labels.len();
        let accuracy = correct as f64 / labels.len() as f64;
        Ok(StepReport { step: self.progress.step, steps: self.total_steps(), loss: mean, accuracy })
    }

    /// What the inner attack makes of a batch; the batch itself in standard training.
    fn perturbed(
        &self,
        images: Images,
        labels: &[usize],
        indices: &[usize],
        seed: u64,
    ) -> Result<Images, TrainError> {
        let Some(adversary) = &self.plan.config.adversary else { return Ok(images) };
        let budget = adversary.budget().map_err(|error| TrainConfigError(error.to_string()))?;
        let deployment = self.deployment();
        let estimator = adversary.gradient.as_ref().unwrap_or(&deployment.training_gradient);
        let victim = self.network.victim(deployment, Readout::Final, estimator.clone());
        let targets = Targets { images: &images, labels, indices, seed };
        Ok(Pgd::new(adversary.pgd())?.run(&*victim, &targets, &budget))
    }

    /// Ends an epoch: evaluates on the development split and writes the log.
    fn close_epoch(&mut self, epoch: usize, seconds: f64) -> Result<EpochReport, TrainError> {
        let Sums { loss, correct, seen } = std::mem::take(&mut self.progress.epoch);
        let (clean, robust) = self.develop()?;
        let report = EpochReport {
            epoch: epoch + 1,
            loss: loss / seen as f64,
            accuracy: correct as f64 / seen as f64,
            learning_rate: self.learning_rate(self.progress.step - 1),
            development_accuracy: clean,
            development_robust_accuracy: robust,
            seconds,
        };
        self.progress.history.push(report);
        let path = self.plan.folder.join("log.jsonl");
        let lines: Vec<String> = self
            .progress
            .history
            .iter()
            .filter_map(|report| serde_json::to_string(report).ok())
            .map(|line| line + "\n")
            .collect();
        write_atomically(&path, lines.concat().as_bytes())?;
        Ok(report)
    }

    /// Clean and robust accuracy on the development split.
    fn develop(&self) -> Result<(Option<f64>, Option<f64>), TrainError> {
        let count = self.plan.config.development;
        if count == 0 {
            return Ok((None, None));
        }
        let deployment = self.deployment();
        let estimator = deployment.training_gradient.clone();
        let victim = self.network.victim(deployment, Readout::Final, estimator);
        let held_out: Vec<usize> = (self.training_count()..self.plan.data.len()).collect();
        let (mut clean, mut robust) = (0, 0);
        for indices in held_out.chunks(self.plan.config.batch_size) {
            let labels = self.labels(indices);
            let correct = |images: &Images| {
                let found = predictions(&victim.logits(images));
                found.iter().zip(&labels).filter(|(found, label)| **found == Some(**label)).count()
            };
            let images = self.images(indices, None);
            clean += correct(&images);
            if self.plan.config.adversary.is_some() {
                robust += correct(&self.perturbed(images, &labels, indices, self.plan.seed)?);
            }
        }
        let share = |correct: usize| correct as f64 / count as f64;
        Ok((Some(share(clean)), self.plan.config.adversary.as_ref().map(|_| share(robust))))
    }

    fn model_file(&self) -> ModelFile {
        ModelFile { metadata: self.plan.trained_metadata(), network: self.network.clone() }
    }

    fn checkpoint(&self) -> Result<(), TrainError> {
        Ok(checkpoint::write(&self.plan.folder, &self.model_file(), &self.optimizer, &self.progress)?)
    }

    fn outcome(self, complete: bool) -> Outcome {
        let model = self.model_file();
        Outcome { model, history: self.progress.history, complete }
    }
}

impl Plan<'_> {
    /// The model's metadata with the recipe that trains it.
    fn trained_metadata(&self) -> Metadata {
        let training = serde_json::json!({ "recipe": self.config, "seed": self.seed });
        Metadata { training, data: format!("{}, train", self.data.name), ..self.metadata.clone() }
    }

    /// What must be the same when a run is resumed.
    fn fingerprint(&self) -> serde_json::Value {
        serde_json::json!({
            "recipe": self.config,
            "seed": self.seed,
            "architecture": self.metadata.architecture,
            "deployment": self.metadata.deployment,
            "data": { "name": self.data.name, "count": self.data.len() },
        })
    }
}

fn build_optimizer(config: &OptimizerConfig) -> ModuleOptimizer {
    let decay = |rate: f64| (rate > 0.0).then(|| WeightDecayConfig::new(rate as f32));
    match *config {
        OptimizerConfig::Adam { weight_decay, .. } => {
            AdamConfig::new().with_epsilon(1e-8).with_weight_decay(decay(weight_decay)).init()
        }
        OptimizerConfig::Sgd { weight_decay, momentum, .. } => {
            let momentum = MomentumConfig::new().with_momentum(momentum).with_dampening(0.0);
            SgdConfig::new().with_momentum(Some(momentum)).with_weight_decay(decay(weight_decay)).init()
        }
    }
}
