//! A training recipe: what is minimised, with which gradient, for how long.

use serde::{Deserialize, Serialize};

use super::random_states::RandomStates;
use equipoise_attack::attack::{Budget, Norm, PgdConfig, PgdLoss};
use equipoise_deq::architecture::Architecture;
use equipoise_deq::gradient::Estimator;
use equipoise_deq::model::limits::MAX_SIDE;
use equipoise_deq::model::monotone::{MonotoneConfig, MonotoneConvConfig, Parametrisation};
use equipoise_deq::solve::{MAX_STEPS, SolverConfig};
use equipoise_deq::training_pass::UnsupportedCell;
use equipoise_deq::victim::Deployment;

/// The most epochs, and the most examples per step.
const MAX_COUNT: usize = 1_000_000;
/// The most steps of the inner attack, and the most probes of an example's Jacobian.
const MAX_WORK: usize = 10_000;

/// A training recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training split.
    pub epochs: usize,
    /// Examples per step.
    #[serde(default = "defaults::batch_size")]
    pub batch_size: usize,
    /// Examples whose gradients and batch statistics are computed together; a step adds up those of all its micro-batches, on as
    /// many ranks as there are. It divides the batch size; absent for the whole batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// The optimiser.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// How the learning rate falls.
    #[serde(default)]
    pub schedule: Schedule,
    /// First steps without a solver; see [`Warmup`].
    #[serde(default)]
    pub warmup: Warmup,
    /// Adversarial training; absent for standard training.
    #[serde(default)]
    pub adversary: Option<Adversary>,
    /// Random horizontal flips and crops after padding by this many pixels; absent for none.
    #[serde(default)]
    pub augment: Option<Augment>,
    /// Gradients of all parameters together are scaled down to this Euclidean norm; absent for no clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Jacobian regularisation of a DEQ; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jacobian: Option<JacobianRegularisation>,
    /// A random number of solver steps in each training step; absent for the deployment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_budget: Option<RandomBudget>,
    /// The loss is read after a random number of solver steps, each example's own; absent for the deployment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_states: Option<RandomStates>,
    /// Stops when the development split says so; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// Examples held out of the training split, the last ones, to watch training by.
    #[serde(default = "defaults::development")]
    pub development: usize,
    /// A checkpoint is written at least every so many steps, and at the end of each epoch.
    #[serde(default = "defaults::checkpoint_steps")]
    pub checkpoint_steps: usize,
    /// The model is kept after every so many epochs, as `epoch-N.safetensors`; absent for the last and the best alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every: Option<usize>,
}

/// Adam (Kingma and Ba 2015) or SGD with momentum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Adam with β = (0.9, 0.999).
    Adam {
        /// Learning rate at the start.
        #[serde(default = "defaults::learning_rate")]
        learning_rate: f64,
        /// L2 penalty.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Learning rate at the start.
        learning_rate: f64,
        /// L2 penalty.
        #[serde(default)]
        weight_decay: f64,
        /// Momentum.
        #[serde(default = "defaults::momentum")]
        momentum: f64,
    },
}

impl OptimizerConfig {
    /// The learning rate at the start.
    pub fn learning_rate(&self) -> f64 {
        match *self {
            Self::Adam { learning_rate, .. } | Self::Sgd { learning_rate, .. } => learning_rate,
        }
    }
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::Adam { learning_rate: defaults::learning_rate(), weight_decay: 0.0 }
    }
}

/// How the learning rate falls over the run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// Not at all.
    Constant,
    /// Along half a cosine to zero at the last step.
    #[default]
    Cosine,
    /// Times `factor` at each of the given fractions of the run.
    Steps {
        /// Fractions of the run in (0, 1).
        at: Vec<f64>,
        /// Factor in (0, 1).
        factor: f64,
    },
}

impl Schedule {
    /// The factor on the learning rate at a step, of a run of `total` steps.
    pub fn factor(&self, step: usize, total: usize) -> f64 {
        let done = step as f64 / total.max(1) as f64;
        match self {
            Self::Constant => 1.0,
            Self::Cosine => 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done)),
            Self::Steps { at, factor } => factor.powi(at.iter().filter(|&&at| done >= at).count() as i32),
        }
    }
}

/// The first steps unroll a few weight-tied layers from z_0 = 0 instead of solving, on clean images: until the
/// cell is near a contraction, a solver has nothing to find (Bai, Koltun and Kolter 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// Number of steps.
    pub steps: usize,
    /// Layers unrolled.
    pub layers: usize,
}

impl Default for Warmup {
    fn default() -> Self {
        Self { steps: 0, layers: 4 }
    }
}

/// Jacobian regularisation (Bai, Koltun and Kolter 2021): `weight` times ‖J‖_F² / D, estimated at the fixed point
/// by random probes, is added to the loss of some steps. Not during warm-up. With TRADES it is taken on the perturbed
/// images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JacobianRegularisation {
    /// What the estimate is multiplied with.
    pub weight: f64,
    /// Share of steps that have it, drawn at random, in (0, 1\].
    pub frequency: f64,
    /// Probes per example.
    #[serde(default = "defaults::probes")]
    pub probes: usize,
    /// Epochs that have it, from the first; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
}

/// A number of forward solver steps drawn uniformly in each training step, so that a model does not come to rely on
/// one budget. The inner attack and the warm-up do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomBudget {
    /// The least and the greatest number.
    pub steps: [usize; 2],
    /// Only in steps with Jacobian regularisation, as in the authors' release; in all others the deployment's.
    #[serde(default)]
    pub only_with_jacobian: bool,
}

/// Stops a run after `patience` epochs without a new best accuracy on the development split: under the training's own
/// attack, or clean in standard training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Epochs.
    pub patience: usize,
}

/// What is minimised at the images that the inner attack finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdversaryKind {
    /// PGD adversarial training (Madry et al. 2018): the cross-entropy at what PGD finds.
    #[default]
    Pgd,
    /// TRADES (Zhang et al. 2019): the cross-entropy on the clean image and β KL(f(x) ‖ f(x')), where the inner attack
    /// ascends the divergence.
    Trades,
    /// Certified training (Gowal et al. 2018; Wei and Kolter 2022 for equilibria): the cross-entropy at the worst logits that a box
    /// of states leaves, without an attack. For monotone DEQs whose boxes contract.
    Boxes,
}

impl AdversaryKind {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// β of TRADES in the paper.
const BETA: f64 = 6.0;
/// Standard deviation of the noise that the inner attack of TRADES starts from: at the image itself the divergence has
/// no gradient.
pub(super) const TRADES_START: f64 = 0.001;

/// Adversarial training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adversary {
    /// What is minimised.
    #[serde(default, skip_serializing_if = "AdversaryKind::is_default")]
    pub kind: AdversaryKind,
    /// β of TRADES; 6 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// Epochs in which the radius of `boxes` grows to its full size: with the fourth power of the time in the first quarter,
    /// evenly afterwards. 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<usize>,
    /// Norm of the budget.
    #[serde(default = "defaults::norm")]
    pub norm: Norm,
    /// Radius of the budget, such as `"8/255"`.
    #[serde(default = "defaults::eps", with = "eps_text")]
    pub eps: f64,
    /// Step size, such as `"2/255"`; a quarter of the radius when absent.
    #[serde(default, with = "optional_eps_text")]
    pub step_size: Option<f64>,
    /// PGD steps.
    #[serde(default = "defaults::pgd_steps")]
    pub steps: usize,
    /// Gradient estimator of the inner attack; the training gradient when absent.
    #[serde(default)]
    pub gradient: Option<Estimator>,
    /// Whether the solves of the inner attack continue from step to step; see [`PgdConfig::warm_start`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warm_start: bool,
}

impl Default for Adversary {
    /// PGD-AT with ten steps of 2/255 at L∞ 8/255, through the training gradient.
    fn default() -> Self {
        Self {
            kind: AdversaryKind::default(),
            beta: None,
            ramp: None,
            norm: defaults::norm(),
            eps: defaults::eps(),
            step_size: None,
            steps: defaults::pgd_steps(),
            gradient: None,
            warm_start: false,
        }
    }
}

impl Adversary {
    /// β of TRADES.
    pub fn beta(&self) -> f64 {
        self.beta.unwrap_or(BETA)
    }

    /// The radius after so many epochs.
    pub fn radius(&self, epochs: f64) -> f64 {
        const QUARTER: f64 = 0.25;
        let time = match self.ramp {
            Some(ramp) if ramp > 0 => (epochs / ramp as f64).min(1.0),
            _ => 1.0,
        };
        // Both parts meet with the same slope.
        let steep = 1.0 / (QUARTER.powi(3) * (4.0 - 3.0 * QUARTER));
        let share = match time <= QUARTER {
            true => steep * time.powi(4),
            false => 1.0 - 4.0 * steep * QUARTER.powi(3) * (1.0 - time),
        };
        self.eps * share
    }

    /// The budget.
    ///
    /// # Errors
    ///
    /// If the radius is negative or not finite.
    pub fn budget(&self) -> Result<Budget, equipoise_attack::attack::BudgetError> {
        Budget::new(self.norm, self.eps)
    }

    /// The inner attack: the textbook form, which takes all its steps.
    pub fn pgd(&self) -> PgdConfig {
        PgdConfig {
            steps: self.steps,
            step_size: self.step_size,
            restarts: 1,
            random_start: true,
            objective: PgdLoss::CrossEntropy,
            keep_first: false,
            warm_start: self.warm_start,
        }
    }
}

/// Random flips and crops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Pixels of zero padding before a random crop of the original size.
    pub crop: usize,
    /// Whether to flip left and right at random.
    pub flip: bool,
}

mod defaults {
    use equipoise_attack::attack::Norm;
    pub fn batch_size() -> usize {
        64
    }
    pub fn development() -> usize {
        500
    }
    pub fn checkpoint_steps() -> usize {
        200
    }
    pub fn learning_rate() -> f64 {
        1e-3
    }
    pub fn momentum() -> f64 {
        0.9
    }
    pub fn norm() -> Norm {
        Norm::Linf
    }
    pub fn eps() -> f64 {
        8.0 / 255.0
    }
    pub fn pgd_steps() -> usize {
        10
    }
    pub fn probes() -> usize {
        2
    }
}

/// Radii as fractions of 255, as people write them.
mod eps_text {
    use equipoise_attack::attack::Budget;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    pub enum Written {
        Number(f64),
        Text(String),
    }

    impl Written {
        pub fn value<E: serde::de::Error>(self) -> Result<f64, E> {
            match self {
                Self::Number(number) => Ok(number),
                Self::Text(text) => Budget::parse_eps(&text).map_err(E::custom),
            }
        }
    }

    pub fn serialize<S: Serializer>(eps: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(*eps)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Written::deserialize(from)?.value()
    }
}

mod optional_eps_text {
    use super::eps_text::Written;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(eps: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        eps.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        Option::<Written>::deserialize(from)?.map(Written::value).transpose()
    }
}

/// A recipe that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("training recipe: {0}")]
pub struct TrainConfigError(pub(crate) String);

impl TrainConfigError {
    /// What is wrong, beginning with the setting.
    pub fn problem(&self) -> &str {
        &self.0
    }
}

impl TrainConfig {
    /// Standard training with default settings.
    pub fn standard(epochs: usize) -> Self {
        Self {
            epochs,
            batch_size: defaults::batch_size(),
            micro_batch: None,
            optimizer: OptimizerConfig::default(),
            schedule: Schedule::default(),
            warmup: Warmup::default(),
            adversary: None,
            augment: None,
            clip_norm: None,
            jacobian: None,
            random_budget: None,
            random_states: None,
            early_stopping: None,
            development: defaults::development(),
            checkpoint_steps: defaults::checkpoint_steps(),
            keep_every: None,
        }
    }

    /// Whether the recipe makes sense.
    ///
    /// # Errors
    ///
    /// Names the setting and its range.
    pub fn validate(&self) -> Result<(), TrainConfigError> {
        let wrong = |problem: String| Err(TrainConfigError(problem));
        let positive = |x: f64| x > 0.0 && x.is_finite();
        for (setting, value) in [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("checkpoint_steps", self.checkpoint_steps),
        ] {
            if value == 0 {
                return wrong(format!("{setting} must be at least 1"));
            }
        }
        if let Some(micro_batch) = self.micro_batch
            && (micro_batch == 0 || !self.batch_size.is_multiple_of(micro_batch))
        {
            return wrong(format!(
                "micro_batch {micro_batch} must divide batch_size, which is {}",
                self.batch_size
            ));
        }
        if self.keep_every == Some(0) {
            return wrong(
                "keep_every must be at least 1 epoch; leave it out to keep the last and the best".into(),
            );
        }
        for (setting, value, most) in [
            ("epochs", self.epochs, MAX_COUNT),
            ("batch_size", self.batch_size, MAX_COUNT),
            ("warmup.layers", self.warmup.layers, MAX_STEPS),
            ("adversary.steps", self.adversary.as_ref().map_or(0, |adversary| adversary.steps), MAX_WORK),
            (
                "adversary.ramp",
                self.adversary.as_ref().and_then(|adversary| adversary.ramp).unwrap_or(0),
                MAX_COUNT,
            ),
            ("augment.crop", self.augment.map_or(0, |augment| augment.crop), MAX_SIDE),
            ("jacobian.probes", self.jacobian.map_or(0, |jacobian| jacobian.probes), MAX_WORK),
            ("random_budget.steps", self.random_budget.map_or(0, |budget| budget.steps[1]), MAX_STEPS),
        ] {
            if value > most {
                return wrong(format!("{setting} {value} must be at most {most}"));
            }
        }
        let rate = self.optimizer.learning_rate();
        if !positive(rate) {
            return wrong(format!("learning_rate {rate} must be positive"));
        }
        let (OptimizerConfig::Adam { weight_decay, .. } | OptimizerConfig::Sgd { weight_decay, .. }) =
            self.optimizer;
        if !(0.0..f64::INFINITY).contains(&weight_decay) {
            return wrong(format!("weight_decay {weight_decay} must be finite and not negative"));
        }
        if let OptimizerConfig::Sgd { momentum, .. } = self.optimizer
            && !(0.0..1.0).contains(&momentum)
        {
            return wrong(format!("momentum {momentum} must be in [0, 1)"));
        }
        if self.warmup.steps > 0 && self.warmup.layers == 0 {
            return wrong("warmup.layers must be at least 1".into());
        }
        if let Schedule::Steps { at, factor } = &self.schedule {
            let inside = |x: &f64| *x > 0.0 && *x < 1.0;
            if !at.iter().all(inside) || !inside(factor) {
                return wrong("schedule.steps: `at` and `factor` must lie in (0, 1)".into());
            }
        }
        if let Some(adversary) = &self.adversary {
            adversary.budget().map_err(|error| TrainConfigError(format!("adversary.eps: {error}")))?;
            if adversary.norm == Norm::Linf && adversary.eps > 1.0 {
                return wrong(format!(
                    "adversary.eps {0}: images lie in [0, 1], so that every image is within linf 1 of any other; did you \
                     mean \"{0}/255\"?",
                    adversary.eps
                ));
            }
            if let Some(step) = adversary.step_size
                && !positive(step)
            {
                return wrong(format!("adversary.step_size {step} must be positive"));
            }
            if adversary.norm == Norm::L1 {
                return wrong(
                    "adversary.norm l1: the inner attack is PGD, which does not search in l1 balls; use linf or l2".into(),
                );
            }
            if adversary.steps == 0 {
                return wrong("adversary.steps must be at least 1".into());
            }
            if adversary.kind == AdversaryKind::Boxes {
                if adversary.norm != Norm::Linf {
                    return wrong(format!(
                        "adversary.norm {}: boxes are those of linf; remove it",
                        adversary.norm
                    ));
                }
                if self.jacobian.is_some() {
                    return wrong(
                        "jacobian: boxes have a Jacobian of their own, which is not regularised; remove the setting".into(),
                    );
                }
            } else if adversary.ramp.is_some() {
                return wrong(
                    "adversary.ramp belongs to kind = \"boxes\"; remove it or change the kind".into(),
                );
            }
            if let Some(beta) = adversary.beta {
                if adversary.kind != AdversaryKind::Trades {
                    return wrong(
                        "adversary.beta belongs to kind = \"trades\"; remove it or change the kind".into(),
                    );
                }
                if !positive(beta) {
                    return wrong(format!("adversary.beta {beta} must be positive"));
                }
            }
        }
        if let Some(limit) = self.clip_norm
            && !positive(limit)
        {
            return wrong(format!("clip_norm {limit} must be positive; leave it out for no clipping"));
        }
        if let Some(JacobianRegularisation { weight, frequency, probes, .. }) = self.jacobian {
            if !positive(weight) {
                return wrong(format!(
                    "jacobian.weight {weight} must be positive; leave [jacobian] out for none"
                ));
            }
            if !(positive(frequency) && frequency <= 1.0) {
                return wrong(format!("jacobian.frequency {frequency} must be in (0, 1]"));
            }
            if probes == 0 {
                return wrong("jacobian.probes must be at least 1".into());
            }
        }
        if let Some(RandomBudget { steps: [least, greatest], only_with_jacobian }) = self.random_budget {
            if least == 0 || least > greatest {
                return wrong(format!(
                    "random_budget.steps [{least}, {greatest}] must be the least and the greatest number, from 1"
                ));
            }
            if only_with_jacobian && self.jacobian.is_none() {
                return wrong("random_budget.only_with_jacobian needs the table [train.jacobian]".into());
            }
        }
        if let Some(EarlyStopping { patience }) = self.early_stopping {
            if patience == 0 {
                return wrong("early_stopping.patience must be at least 1 epoch".into());
            }
            if self.development == 0 {
                return wrong(
                    "early_stopping needs held-out examples to watch: set development, 500 say".into(),
                );
            }
        }
        Ok(())
    }

    /// Whether the recipe makes sense by itself, and for such a model used in such a way.
    ///
    /// # Errors
    ///
    /// Names the setting, and what would be right.
    pub fn validate_for(
        &self,
        architecture: &Architecture,
        deployment: &Deployment,
    ) -> Result<(), TrainConfigError> {
        self.validate()?;
        let wrong = |problem: String| Err(TrainConfigError(problem));
        if self.adversary.as_ref().is_some_and(|adversary| adversary.kind == AdversaryKind::Boxes) {
            let full = architecture.config::<MonotoneConfig>().map(|config| config.parametrisation);
            let convolutional =
                architecture.config::<MonotoneConvConfig>().map(|config| config.parametrisation);
            if !full.or(convolutional).is_some_and(Parametrisation::has_boxes) {
                return wrong(format!("adversary: {}", UnsupportedCell::Boxes));
            }
        }
        if !architecture.is_equilibrium() {
            let what = match self {
                _ if self.warmup.steps > 0 => {
                    Some("warmup: a feedforward network has no solver to warm up for")
                }
                _ if self.jacobian.is_some() => {
                    Some("jacobian: a feedforward network has no fixed point to regularise at")
                }
                _ if self.random_budget.is_some() => {
                    Some("random_budget: a feedforward network has no solver to give a budget")
                }
                _ if self.random_states.is_some() => {
                    Some("random_states: a feedforward network has no states to draw from")
                }
                _ if self.adversary.as_ref().is_some_and(|adversary| adversary.gradient.is_some()) => {
                    Some("adversary.gradient: a feedforward network has one gradient only")
                }
                _ => None,
            };
            return match what {
                Some(what) => wrong(format!("{what}; remove the setting")),
                None => Ok(()),
            };
        }
        let training = &deployment.training_gradient;
        let reads_once = training.one_state().is_some();
        if self.adversary.as_ref().is_some_and(|a| a.kind == AdversaryKind::Trades) && !reads_once {
            return wrong(format!(
                "adversary: TRADES compares the answers at one state, and the training gradient `{training}` reads \
                 several; use exact or unrolled"
            ));
        }
        let inner = self.adversary.as_ref().and_then(|adversary| adversary.gradient.as_ref());
        // The states that every training step has.
        let fewest =
            self.random_budget.map_or(usize::MAX, |budget| budget.steps[0]).min(deployment.solver.steps);
        let solver = SolverConfig { steps: fewest, ..deployment.solver.clone() };
        for estimator in inner.into_iter().chain([training]) {
            let checked = estimator.check(&solver);
            checked.map_err(|error| TrainConfigError(error.to_string()))?;
        }
        self.random_states.map_or(Ok(()), |states| self.validate_states(states, deployment))
    }

    /// Whether states can be drawn of the solves of this deployment.
    fn validate_states(&self, states: RandomStates, deployment: &Deployment) -> Result<(), TrainConfigError> {
        let wrong = |problem: String| Err(TrainConfigError(format!("random_states{problem}")));
        let most = deployment.solver.steps;
        if !(1..=most).contains(&states.least) {
            return wrong(format!(".least {} must be from 1 to the solver's {most} steps", states.least));
        }
        if self.random_budget.is_some() {
            return wrong(" and random_budget both draw a number of steps: remove one of the two".into());
        }
        let adversary = self.adversary.as_ref().filter(|_| states.in_attack);
        if adversary.is_some_and(|adversary| adversary.warm_start) {
            return wrong(
                " draws states of solves from 0: remove adversary.warm_start, or set random_states.in_attack = false"
                    .into(),
            );
        }
        let inner = adversary.and_then(|adversary| adversary.gradient.as_ref());
        let all = inner.into_iter().chain([&deployment.training_gradient]);
        match all.into_iter().find(|estimator| !estimator.needs_only_the_best()) {
            Some(other) => wrong(format!(
                ": the gradient {other} reads states that a draw may not reach; use one of the best state, such as exact \
                 or unrolled:state=best"
            )),
            None => Ok(()),
        }
    }
}
