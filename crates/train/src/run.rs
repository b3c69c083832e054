//! A run under way: its steps, its evaluations on the development split, its checkpoints.

use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};
use burn::tensor::Device;
use equipoise_files::{Lock, claim};

use super::augment::augment;
use super::checkpoint::{self, Progress, failed};
use super::config::{
    Adversary, AdversaryKind, OptimizerConfig, RandomBudget, TRADES_START, TrainConfigError, Warmup,
};
use super::log::{StepLog, write_epochs};
use super::micro::{Said, Summed};
use super::order::epoch_seed;
use super::random_states::{Drawn, Step};
use super::ranks::{Ranks, Standing, agreed, compared, gathered, share, total};
use super::trades::trades_gradients;
use super::trainer::{Best, EpochReport, Initial, Observer, Outcome, Plan, StepReport, Sums, TrainError};
use super::tree::Tree;
use equipoise_attack::attack::{Attack, Examples, Noise, Pgd, WhiteBox};
use equipoise_attack::batch::{Images, from_vec, predictions, to_vec};
use equipoise_attack::loss::{CrossEntropy, KlFrom, Objective};
use equipoise_attack::random::{ExampleRng, fnv1a};
use equipoise_attack::work::WorkCounter;
use equipoise_deq::architecture::Model;
use equipoise_deq::checkpoint::{Entry, ModelFile};
use equipoise_deq::gradient::Estimator;
use equipoise_deq::model::cell::Mask;
use equipoise_deq::readout::Readout;
use equipoise_deq::training_pass::{
    JacobianTerm, StepGradients, StepOptions, UnsupportedCell, box_gradients,
};
use equipoise_deq::victim::Deployment;

/// A run under way.
pub(super) struct Run<'a> {
    plan: &'a Plan<'a>,
    ranks: &'a dyn Ranks,
    device: Device,
    model: Box<dyn Model>,
    optimizer: ModuleOptimizer,
    pub progress: Progress,
    /// Of the rank that writes.
    log: Option<StepLog>,
    counter: WorkCounter,
    /// Until the run ends, nobody else writes to its folder.
    _lock: Option<Lock>,
}

/// Some examples of a step, attacked or about to be trained on.
struct MicroBatch<'i> {
    indices: &'i [usize],
    labels: Vec<usize>,
    clean: Images,
    /// What the inner attack made of them, if there is one.
    perturbed: Option<Images>,
}

/// After so many steps ranks compare their weights.
const COMPARED: usize = 100;

/// A pass through the model; each has dropout masks of its own.
#[derive(Clone, Copy)]
enum Pass {
    /// That of clean images beside the main one, in TRADES.
    Clean,
    /// The one and only, and that of perturbed images.
    Main,
}

impl<'a> Run<'a> {
    /// Checks that everything fits together, and takes up the run where it was left.
    pub fn start(
        plan: &'a Plan<'a>,
        ranks: &'a dyn Ranks,
        device: &Device,
        observer: &dyn Observer,
    ) -> Result<Self, TrainError> {
        let Plan { metadata, config, data, .. } = plan;
        metadata.deployment.validate()?;
        config.validate_for(&metadata.architecture, &metadata.deployment)?;
        if let Some(adversary) = &config.adversary {
            Pgd::new(adversary.pgd())?;
        }
        let initial = metadata.architecture.init(plan.seed, device)?;
        let initial = match &plan.init {
            None => initial,
            Some(Initial { model: from, origin }) => {
                initial.with_weights(from.weights()).map_err(|source| TrainError::Initial {
                    name: origin.name.clone(),
                    source: Box::new(source),
                })?
            }
        };
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
        if data.len() < config.development.saturating_add(config.batch_size) {
            let problem = format!(
                "{} examples are fewer than a development split of {} and one batch of {}",
                data.len(),
                config.development,
                config.batch_size
            );
            return unfit(problem);
        }
        let micro_batches = config.batch_size / config.micro_batch.unwrap_or(config.batch_size);
        if micro_batches < ranks.size() {
            let enough = |size: &usize| {
                config.batch_size.is_multiple_of(*size) && config.batch_size / size >= ranks.size()
            };
            let advice = match (1..=config.batch_size).rev().find(enough) {
                Some(size) => format!("give micro_batch = {size} or a divisor of it, or start fewer ranks"),
                None => "start fewer ranks".to_owned(),
            };
            return Err(TrainConfigError(format!(
                "micro_batch: a step of {} examples is {micro_batches} micro-batches, fewer than the {} ranks; {advice}",
                config.batch_size,
                ranks.size(),
            ))
            .into());
        }
        let (folder, fingerprint) = (&plan.folder, plan.fingerprint());
        let read = |writes: bool| match plan.resume {
            true => {
                checkpoint::read(folder, &fingerprint, build_optimizer(&config.optimizer), device, writes)
            }
            false => Ok(None),
        };
        // The rank that writes makes the folder its own; then the others read.
        let writes = ranks.rank() == 0;
        let begun = || {
            let lock = claim(folder, plan.resume).map_err(failed(folder, "write to"))?;
            if let Some(warning) = lock.warning() {
                tracing::warn!("{warning}");
            }
            Ok::<_, TrainError>((Some(lock), read(true)?))
        };
        let (lock, found) = agreed(ranks, if writes { begun() } else { Ok((None, None)) })?;
        let found = agreed(ranks, if writes { Ok(found) } else { read(false).map_err(TrainError::from) })?;
        let (model, optimizer, progress) = match found {
            Some((model, optimizer, progress)) => {
                (model.model, optimizer, Progress { plan: fingerprint, ..progress })
            }
            None => {
                let (epoch, history, best) = (Sums::default(), Vec::new(), None);
                let progress = Progress { step: 0, plan: fingerprint, epoch, history, best };
                (initial, build_optimizer(&config.optimizer), progress)
            }
        };
        let steps_per_epoch = (data.len() - config.development) / config.batch_size;
        if progress.step > steps_per_epoch * config.epochs {
            let done = progress.step.div_ceil(steps_per_epoch);
            let problem =
                format!("epochs {}: the run is in epoch {done} already; give at least {done}", config.epochs);
            return Err(TrainConfigError(problem).into());
        }
        let (device, counter) = (device.clone(), WorkCounter::default());
        let run = Self { plan, ranks, device, model, optimizer, progress, log: None, counter, _lock: lock };
        run.compare()?;
        observer.begin(run.progress.step, steps_per_epoch * config.epochs);
        let log = || StepLog::open(folder, run.progress.step).map_err(TrainError::from);
        let log = agreed(ranks, if writes { log().map(Some) } else { Ok(None) })?;
        Ok(Self { log, ..run })
    }

    /// Whether this rank writes.
    fn writes(&self) -> bool {
        self.ranks.rank() == 0
    }

    /// Whether something holds on any rank.
    pub fn any(&self, here: bool) -> Result<bool, TrainError> {
        Ok(gathered(self.ranks, vec![here])?.contains(&true))
    }

    /// Whether all ranks train the same model on the same data, and stand at the same place.
    fn compare(&self) -> Result<(), TrainError> {
        if self.ranks.size() == 1 {
            return Ok(());
        }
        let data = self.plan.data;
        let (labels, ends) = (&data.labels, data.images(&[0, data.len() - 1]));
        let settings = (&self.progress.plan, labels, ends.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        let settings = serde_json::to_vec(&settings).expect("JSON of numbers and strings");
        let weights = self.model.weights();
        let numbers = weights.values().flat_map(Entry::to_le_bytes);
        let standing = Standing {
            plan: fnv1a(&settings),
            step: self.progress.step,
            weights: fnv1a(&numbers.collect::<Vec<u8>>()),
        };
        Ok(compared(self.ranks, standing)?)
    }

    pub fn training_count(&self) -> usize {
        self.plan.data.len() - self.plan.config.development
    }

    /// A last incomplete batch is dropped: batch statistics of a few examples would disturb the running ones.
    pub fn steps_per_epoch(&self) -> usize {
        self.training_count() / self.plan.config.batch_size
    }

    pub fn total_steps(&self) -> usize {
        self.steps_per_epoch() * self.plan.config.epochs
    }

    /// Whether too many epochs went by without a new best one.
    pub fn stops_early(&self) -> bool {
        match (self.plan.config.early_stopping, self.progress.best) {
            (Some(rule), Some(best)) => self.progress.history.len() - best.epoch >= rule.patience,
            _ => false,
        }
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

    /// Takes one step of an epoch, whose examples come in this order.
    pub fn step(&mut self, order: &[usize], epoch: usize) -> Result<StepReport, TrainError> {
        let config = &self.plan.config;
        let number = self.progress.step;
        let start = (number % self.steps_per_epoch()) * config.batch_size;
        let indices = &order[start..start + config.batch_size];
        let warmup = Some(&config.warmup).filter(|warmup| number < warmup.steps);
        let solver_steps = self.solver_steps(number, epoch, warmup);
        let (mut step, Summed { loss, correct, .. }) = self.added_up(indices, epoch, warmup, solver_steps)?;
        let mean = loss / indices.len() as f64;
        if !mean.is_finite() {
            let best = self.progress.best.map(|_| self.plan.folder.join("best.safetensors"));
            return Err(TrainError::NonFinite { step: number + 1, loss: mean, best });
        }
        let gradient_norm = self.model.gradient_norm(&step.parameters);
        if let Some(limit) = config.clip_norm {
            self.model.clip(&mut step.parameters, gradient_norm, limit);
        }
        let rate = self.learning_rate(number);
        self.model = self.model.stepped(&mut self.optimizer, rate, step.parameters, step.moments);
        self.progress.step += 1;
        let sums = &mut self.progress.epoch;
        sums.loss += loss;
        sums.correct += correct;
        sums.seen += indices.len();
        sums.steps += 1;
        sums.gradient_norm += gradient_norm;
        sums.jacobian += step.jacobian.unwrap_or(0.0);
        sums.regularised += usize::from(step.jacobian.is_some());
        sums.residual += step.residual.unwrap_or(0.0);
        sums.solved += usize::from(step.residual.is_some());
        let report = StepReport {
            step: self.progress.step,
            epoch: epoch + 1,
            loss: mean,
            accuracy: correct as f64 / indices.len() as f64,
            learning_rate: rate,
            gradient_norm,
            jacobian: step.jacobian,
            jacobian_norm: step.jacobian.map(|estimate| (estimate * self.state_dim() as f64).sqrt()),
            solver_steps: step.residual.map(|_| solver_steps),
            residual: step.residual,
        };
        let written = self.log.as_mut().map_or(Ok(()), |log| log.write(&report).map_err(TrainError::from));
        agreed(self.ranks, written)?;
        if self.progress.step.is_multiple_of(COMPARED) {
            self.compare()?;
        }
        Ok(report)
    }

    /// Gradients of a step: the mean over its micro-batches, of which this rank computes its share.
    fn added_up(
        &self,
        indices: &[usize],
        epoch: usize,
        warmup: Option<&Warmup>,
        solver_steps: usize,
    ) -> Result<(StepGradients, Summed), TrainError> {
        let size = self.plan.config.micro_batch.unwrap_or(indices.len());
        let count = indices.len() / size;
        let (mut tree, mut said, mut last) = (Tree::new(count), Vec::new(), None);
        // All attacks come first: kernels for evaluation and for training are made once, and are not in memory together.
        let batches = share(self.ranks, count).map(|number| {
            let indices = &indices[number * size..(number + 1) * size];
            Ok((number, self.micro_batch(indices, epoch, warmup)?))
        });
        let batches: Vec<(usize, MicroBatch<'_>)> = batches.collect::<Result<_, TrainError>>()?;
        for (number, batch) in batches {
            let step = self.gradients(&batch, epoch, warmup, solver_steps)?;
            let predicted = predictions(&step.logits);
            let correct =
                predicted.iter().zip(&batch.labels).filter(|(found, label)| **found == Some(**label)).count();
            let loss = to_vec(step.values.clone()).into_iter().map(f64::from).sum();
            let mut moments = Vec::new();
            if count > 1 {
                moments = step.moments.numbers();
                tree.add_leaf(number, self.model.gradient_numbers(&step.parameters));
            }
            said.push(Said::new(loss, correct, step.jacobian, step.residual, &moments));
            last = Some(step);
        }
        let mut step = last.expect("as many micro-batches as ranks, or more");
        let summed = Summed::of(&gathered(self.ranks, said)?);
        if count > 1 {
            let mut mean = total(self.ranks, tree)?;
            mean.iter_mut().for_each(|sum| *sum /= count as f32);
            self.model.replace_gradients(&mut step.parameters, &mean);
            step.moments.replace(&summed.moments);
            (step.jacobian, step.residual) = (summed.jacobian, summed.residual);
        }
        Ok((step, summed))
    }

    /// The images of a micro-batch, and what the inner attack makes of them.
    fn micro_batch<'i>(
        &self,
        indices: &'i [usize],
        epoch: usize,
        warmup: Option<&Warmup>,
    ) -> Result<MicroBatch<'i>, TrainError> {
        let (clean, labels) = (self.images(indices, Some(epoch)), self.labels(indices));
        let adversary = self.adversary(warmup).filter(|adversary| adversary.kind != AdversaryKind::Boxes);
        let seed = epoch_seed(self.plan.seed, epoch);
        let perturbed = adversary
            .map(|adversary| self.perturbed(adversary, &clean, &labels, indices, seed))
            .transpose()?;
        Ok(MicroBatch { indices, labels, clean, perturbed })
    }

    fn adversary(&self, warmup: Option<&Warmup>) -> Option<&Adversary> {
        self.plan.config.adversary.as_ref().filter(|_| warmup.is_none())
    }

    /// Gradients of a step.
    fn gradients(
        &self,
        batch: &MicroBatch<'_>,
        epoch: usize,
        warmup: Option<&Warmup>,
        solver_steps: usize,
    ) -> Result<StepGradients, TrainError> {
        let MicroBatch { indices, labels, clean, perturbed } = batch;
        let seed = epoch_seed(self.plan.seed, epoch);
        let options = |pass: Pass| StepOptions {
            warmup_layers: warmup.map(|warmup| warmup.layers),
            solver_steps: Some(solver_steps),
            ended_after: self.drawn_states(indices, pass).filter(|_| warmup.is_none()),
            mask: self.mask(indices, seed, pass),
            jacobian: match pass {
                Pass::Clean => None,
                Pass::Main => self.jacobian(indices, epoch, warmup),
            },
        };
        let objective = CrossEntropy { labels: labels.clone() };
        let Some(adversary) = self.adversary(warmup) else {
            return Ok(self.pass(clean, &objective, &options(Pass::Main))?);
        };
        let perturbed = || perturbed.as_ref().expect("made with the micro-batch");
        Ok(match adversary.kind {
            AdversaryKind::Pgd => self.pass(perturbed(), &objective, &options(Pass::Main))?,
            AdversaryKind::Trades => trades_gradients(
                &*self.model,
                labels,
                adversary.beta(),
                &|objective| self.pass(clean, objective, &options(Pass::Clean)),
                &|objective| self.pass(perturbed(), objective, &options(Pass::Main)),
            )?,
            AdversaryKind::Boxes => {
                let radius = adversary.radius(self.progress.step as f64 / self.steps_per_epoch() as f64);
                let (deployment, options) = (self.deployment(), options(Pass::Main));
                box_gradients(&*self.model, radius, labels, deployment, &options, clean, &self.counter)?
            }
        })
    }

    /// One pass through the model and back.
    fn pass(
        &self,
        images: &Images,
        objective: &dyn Objective,
        options: &StepOptions,
    ) -> Result<StepGradients, UnsupportedCell> {
        self.model.training_pass(self.deployment(), options, images, objective, &self.counter)
    }

    /// Dropout masks: for each example and channel 0 with probability p, 1/(1 − p) otherwise.
    fn mask(&self, indices: &[usize], seed: u64, pass: Pass) -> Option<Mask> {
        let rate = self.plan.metadata.architecture.dropout();
        if rate == 0.0 {
            return None;
        }
        let dim = self.model.mask_dim();
        let kept = (1.0 / (1.0 - rate)) as f32;
        let factors = indices.iter().flat_map(|&index| {
            let mut rng = ExampleRng::new(seed, "dropout", index, pass as usize);
            (0..dim).map(move |_| if rng.unit() < rate { 0.0 } else { kept })
        });
        Some(from_vec(factors.collect(), [indices.len(), dim], &self.device))
    }

    /// Whether a step is regularised: drawn by its number.
    fn is_regularised(&self, number: usize, epoch: usize, warmup: Option<&Warmup>) -> bool {
        let Some(settings) = &self.plan.config.jacobian else { return false };
        let drawn = ExampleRng::new(self.plan.seed, "jacobian step", number, 0).unit() < settings.frequency;
        drawn && warmup.is_none() && settings.epochs.is_none_or(|epochs| epoch < epochs)
    }

    fn jacobian(&self, indices: &[usize], epoch: usize, warmup: Option<&Warmup>) -> Option<JacobianTerm> {
        let settings = self.plan.config.jacobian.as_ref()?;
        if !self.is_regularised(self.progress.step, epoch, warmup) {
            return None;
        }
        let seed = epoch_seed(self.plan.seed, epoch);
        Some(JacobianTerm::draw(
            settings.weight,
            settings.probes,
            indices,
            self.state_dim(),
            seed,
            &self.device,
        ))
    }

    /// The forward solver's budget in a step: drawn by its number, if the recipe says so.
    fn solver_steps(&self, number: usize, epoch: usize, warmup: Option<&Warmup>) -> usize {
        match self.plan.config.random_budget {
            Some(RandomBudget { steps: [least, greatest], only_with_jacobian })
                if !only_with_jacobian || self.is_regularised(number, epoch, warmup) =>
            {
                let mut rng = ExampleRng::new(self.plan.seed, "solver budget", number, 0);
                least + rng.below(greatest - least + 1)
            }
            _ => self.deployment().solver.steps,
        }
    }

    /// After how many steps each example's solve ends in a pass, if the recipe draws that.
    fn drawn_states(&self, indices: &[usize], pass: Pass) -> Option<Vec<usize>> {
        let states = self.plan.config.random_states?;
        let role = match pass {
            Pass::Clean => "clean",
            Pass::Main => "main",
        };
        let most = self.deployment().solver.steps;
        Some(states.draw(most, self.draws(), role, indices.iter().copied()))
    }

    /// What draws of states in this step are keyed by.
    fn draws(&self) -> Step {
        Step { seed: self.plan.seed, number: self.progress.step }
    }

    /// The model as the inner attack meets it: as it is used, with running statistics and without dropout; with states drawn
    /// anew for each of its questions, if the recipe says so.
    fn attacked<'v>(&'v self, adversary: &Adversary, indices: &'v [usize]) -> Box<dyn WhiteBox + 'v> {
        let states = self.plan.config.random_states.filter(|states| states.in_attack);
        match (states, self.model.equilibrium()) {
            (Some(states), Some(model)) => {
                let (deployment, estimator) = (self.deployment(), self.inner_gradient(adversary));
                Box::new(Drawn::new(model, deployment, estimator, states, self.draws(), indices))
            }
            _ => self.used(adversary),
        }
    }

    /// The model as it is used, attacked through the inner attack's gradient.
    fn used(&self, adversary: &Adversary) -> Box<dyn WhiteBox + '_> {
        self.model.victim(self.deployment(), Readout::final_state(), self.inner_gradient(adversary))
    }

    fn inner_gradient(&self, adversary: &Adversary) -> Estimator {
        adversary.gradient.as_ref().unwrap_or(&self.deployment().training_gradient).clone()
    }

    /// Length of a state; 0 for a network without one.
    fn state_dim(&self) -> usize {
        self.model.equilibrium().map_or(0, |model| model.state_dim())
    }

    /// What the inner attack makes of a batch.
    fn perturbed(
        &self,
        adversary: &Adversary,
        images: &Images,
        labels: &[usize],
        indices: &[usize],
        seed: u64,
    ) -> Result<Images, TrainError> {
        let victim = self.attacked(adversary, indices);
        if adversary.kind == AdversaryKind::Pgd {
            return pgd(&*victim, adversary, &Examples { images, labels, indices, seed, start: 0 });
        }
        let budget = adversary.budget().map_err(|error| TrainConfigError(error.to_string()))?;
        let noise = Noise::new(seed, "trades start", 0).normal(indices, self.plan.data.shape, &self.device);
        let start = images.clone() + noise * TRADES_START;
        let divergence = KlFrom { reference: victim.logits(images) };
        Ok(Pgd::new(adversary.pgd())?.ascend(&*victim, images, &budget, &start, &divergence))
    }

    /// Ends an epoch: evaluates on the development split, keeps the model if it is the best so far, and writes the
    /// log.
    pub fn close_epoch(&mut self, epoch: usize, seconds: f64) -> Result<EpochReport, TrainError> {
        let development = self.develop()?;
        let sums = std::mem::take(&mut self.progress.epoch);
        let mut kept = Vec::new();
        if let Some((clean, robust)) = development {
            let correct = robust.unwrap_or(clean);
            if self.progress.best.is_none_or(|best| correct > best.correct) {
                self.progress.best = Some(Best { epoch: epoch + 1, correct });
                kept.push("best.safetensors".to_owned());
            }
        }
        if self.plan.config.keep_every.is_some_and(|every| (epoch + 1).is_multiple_of(every)) {
            kept.push(format!("epoch-{:03}.safetensors", epoch + 1));
        }
        let share = |correct: usize| correct as f64 / self.plan.config.development as f64;
        let mean = |sum: f64, count: usize| (count > 0).then(|| sum / count as f64);
        let report = EpochReport {
            epoch: epoch + 1,
            step: Some(self.progress.step),
            loss: sums.loss / sums.seen as f64,
            accuracy: sums.correct as f64 / sums.seen as f64,
            learning_rate: self.learning_rate(self.progress.step - 1),
            gradient_norm: sums.gradient_norm / sums.steps as f64,
            jacobian: mean(sums.jacobian, sums.regularised),
            residual: mean(sums.residual, sums.solved),
            development_accuracy: development.map(|(clean, _)| share(clean)),
            development_robust_accuracy: development.and_then(|(_, robust)| robust.map(share)),
            best_epoch: self.progress.best.map(|best| best.epoch),
            seconds,
        };
        self.progress.history.push(report);
        let write = || -> Result<(), TrainError> {
            for name in &kept {
                self.model_file().write(&self.plan.folder.join(name))?;
            }
            Ok(write_epochs(&self.plan.folder, &self.progress.history)?)
        };
        agreed(self.ranks, if self.writes() { write() } else { Ok(()) })?;
        Ok(report)
    }

    /// Examples of the development split that are classified correctly: clean, and under attack in adversarial
    /// training. `None` without a split.
    fn develop(&self) -> Result<Option<(usize, Option<usize>)>, TrainError> {
        let config = &self.plan.config;
        if config.development == 0 {
            return Ok(None);
        }
        let deployment = self.deployment();
        let estimator = deployment.training_gradient.clone();
        let victim = self.model.victim(deployment, Readout::final_state(), estimator);
        let held_out: Vec<usize> = (self.training_count()..self.plan.data.len()).collect();
        let (mut clean, mut robust) = (0, 0);
        let chunks: Vec<&[usize]> = held_out.chunks(config.batch_size).collect();
        for &indices in &chunks[share(self.ranks, chunks.len())] {
            let labels = self.labels(indices);
            let correct = |images: &Images| {
                let found = predictions(&victim.logits(images));
                found.iter().zip(&labels).filter(|(found, label)| **found == Some(**label)).count()
            };
            let images = self.images(indices, None);
            clean += correct(&images);
            if let Some(adversary) = &config.adversary {
                let examples =
                    Examples { images: &images, labels: &labels, indices, seed: self.plan.seed, start: 0 };
                robust += correct(&pgd(&*self.used(adversary), adversary, &examples)?);
            }
        }
        let (clean, robust) = gathered(self.ranks, vec![(clean, robust)])?
            .into_iter()
            .fold((0, 0), |(clean, robust), here| (clean + here.0, robust + here.1));
        Ok(Some((clean, config.adversary.as_ref().map(|_| robust))))
    }

    pub fn model_file(&self) -> ModelFile {
        let (step, epoch) = (self.progress.step, self.progress.step / self.steps_per_epoch());
        ModelFile { metadata: self.plan.trained_metadata(step, epoch), model: self.model.clone() }
    }

    /// Writes a checkpoint, once all ranks agree on what is in it.
    pub fn checkpoint(&self) -> Result<(), TrainError> {
        self.compare()?;
        agreed(self.ranks, if self.writes() { self.write_checkpoint() } else { Ok(()) })
    }

    fn write_checkpoint(&self) -> Result<(), TrainError> {
        Ok(checkpoint::write(&self.plan.folder, &self.model_file(), &self.optimizer, &self.progress)?)
    }

    /// Writes a checkpoint where ranks cannot go on together; the step that it is of, if this rank writes and could.
    pub fn rescue(&self) -> Option<usize> {
        let written = self.writes() && self.write_checkpoint().is_ok();
        written.then_some(self.progress.step)
    }

    /// Writes the finished model.
    pub fn finish(&self) -> Result<(), TrainError> {
        let path = self.plan.folder.join("model.safetensors");
        let write = || self.model_file().write(&path).map_err(TrainError::from);
        agreed(self.ranks, if self.writes() { write() } else { Ok(()) })
    }

    pub fn outcome(self, complete: bool) -> Outcome {
        let model = self.model_file();
        Outcome { model, history: self.progress.history, best: self.progress.best, complete }
    }
}

/// PGD on the cross-entropy: the inner attack of PGD-AT, and the yardstick of every development split.
fn pgd(victim: &dyn WhiteBox, adversary: &Adversary, examples: &Examples<'_>) -> Result<Images, TrainError> {
    let budget = adversary.budget().map_err(|error| TrainConfigError(error.to_string()))?;
    Ok(Pgd::new(adversary.pgd())?.run(victim, examples, &budget).images)
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
