//! Attacks: they use a model only through two traits, which DEQs and feedforward networks implement alike.
//!
//! A [`Classifier`] answers with logits (black box); a [`WhiteBox`] answers with values and gradients of an
//! [`Objective`]. A readout and a gradient estimator make a DEQ into a white box, so the grid of adaptive
//! attacks is the product readout × estimator × attack.

mod budget;
mod carried;
mod classes;
mod l1;
mod names;
mod norms;
mod pulse;
pub(crate) mod random;
mod board;
mod pgd;
mod apgd;
mod fab;
mod square;

pub use apgd::{Apgd, ApgdConfig, ApgdError, ApgdLoss, checkpoints};
pub use budget::{Budget, BudgetError, Norm};
pub use carried::Carried;
pub use classes::TooFewClasses;
pub use fab::{Fab, FabConfig, FabError, Nearest};
pub use names::{UnknownAttack, parse, set};
pub use norms::UnsupportedNorm;
pub use pgd::{Pgd, PgdConfig, PgdError, PgdLoss};
pub use pulse::{Beat, Pulse, Steady};
pub use random::{ExampleRng, Noise};
pub use square::{Square, SquareConfig, SquareError, square_share};

use crate::batch::{Images, Logits, Values};
use crate::loss::Objective;
use crate::work::Work;

/// A model that can only be asked for its answer.
pub trait Classifier {
    /// Number of classes K.
    fn classes(&self) -> usize;

    /// Logits `[N, K]` of the deployed model on images `[N, C, H, W]`.
    fn logits(&self, images: &Images) -> Logits;

    /// The work done so far, counted per example. A model without a cell has none.
    fn work(&self) -> Work {
        Work::default()
    }
}

/// What a white box answers for a batch.
#[derive(Debug, Clone)]
pub struct ValueAndGradient {
    /// Logits `[N, K]` of the **deployed** readout.
    pub logits: Logits,
    /// The objective at those logits, `[N]`.
    pub values: Values,
    /// Estimated gradient of the sum of the objective over the batch, `[N, C, H, W]`.
    pub gradient: Images,
}

/// A model whose gradient can be had, or at least estimated.
pub trait WhiteBox: Classifier {
    /// Value and estimated gradient of an objective.
    fn value_and_gradient(&self, images: &Images, objective: &dyn Objective) -> ValueAndGradient;

    /// The same, continued from what the call before kept for these examples at images nearby. Its answer may differ
    /// from that of [`Self::value_and_gradient`], which begins from nothing, and is never a verdict. A white box
    /// without anything to continue answers as ever, and keeps nothing.
    fn value_and_gradient_from(
        &self,
        images: &Images,
        objective: &dyn Objective,
        carried: &mut Carried,
    ) -> ValueAndGradient {
        let _ = carried;
        self.value_and_gradient(images, objective)
    }
}

/// The examples under attack.
#[derive(Debug, Clone)]
pub struct Targets<'a> {
    /// Unperturbed images `[N, C, H, W]`.
    pub images: &'a Images,
    /// True classes.
    pub labels: &'a [usize],
    /// Where the examples stand in their data set: their random numbers are drawn by it, so that neither
    /// batch size nor order changes them.
    pub indices: &'a [usize],
    /// Seed of the run.
    pub seed: u64,
    /// Which of several independent starts: all random numbers of another start are others. 0 is the first.
    pub start: usize,
}

impl Targets<'_> {
    /// The generator of one example, for a purpose and a restart.
    pub(crate) fn rng(&self, purpose: &str, row: usize, restart: usize) -> ExampleRng {
        ExampleRng::new(self.seed, purpose, self.indices[row], restart).starting(self.start)
    }
}

/// What an attack brings back.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Perturbed images `[N, C, H, W]`, one per example: one that the victim misclassified where the attack saw
    /// such, and its last try elsewhere. They lie within the budget and in \[0, 1\].
    pub images: Images,
    /// Where the attack saw the victim misclassify this very image (logits that are not finite included). A
    /// claim, for the evaluation to verify; `false` means that the attack did not look, or saw no success.
    pub claimed: Vec<bool>,
}

impl Attempt {
    /// The unperturbed images, and no claims.
    pub fn nothing(targets: &Targets<'_>) -> Self {
        Self { images: targets.images.clone(), claimed: vec![false; targets.labels.len()] }
    }
}

/// Questions about one point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queries {
    /// For value and gradient.
    pub gradients: usize,
    /// For logits alone.
    pub logits: usize,
}

/// An attack.
///
/// What it finds for an example must not depend on the other examples of its batch.
pub trait Attack: Send + Sync {
    /// Its name in tables and on the command line, such as `pgd-10`.
    fn name(&self) -> String;

    /// Everything that its result depends on beside victim, targets and budget, in words: two attacks with the
    /// same settings find the same images. The name, unless there is more to say.
    fn settings(&self) -> String {
        self.name()
    }

    /// Whether a model of so many classes can be attacked this way.
    ///
    /// # Errors
    ///
    /// [`TooFewClasses`], which names the attacks that remain possible. To be asked before
    /// [`Self::attempt`], which may panic with the same message.
    fn check(&self, classes: usize) -> Result<(), TooFewClasses> {
        let _ = classes;
        Ok(())
    }

    /// Whether it searches in balls of this norm. Every attack does unless it says otherwise.
    ///
    /// # Errors
    ///
    /// [`UnsupportedNorm`], which names the attacks that do. To be asked before [`Self::attempt`], which may panic
    /// with the same message.
    fn check_norm(&self, norm: Norm) -> Result<(), UnsupportedNorm> {
        let _ = norm;
        Ok(())
    }

    /// Whether it asks for gradients. A black-box attack asks for logits alone, so one gradient estimator is as
    /// good as another.
    fn needs_gradients(&self) -> bool {
        true
    }

    /// Whether another start is another search: whether it draws random numbers, at least from the second start on.
    fn draws_start(&self) -> bool {
        true
    }

    /// What it asks of a model of so many classes, within a ball of this norm, for a point that withstands it: the
    /// most that a point can cost.
    fn queries(&self, classes: usize, norm: Norm) -> Queries;

    /// Searches, and says which images it found to be misclassified.
    ///
    /// It tells `pulse` of every step, and returns at once with what it has when it is told to stop: such an
    /// attempt is cut short, and another run of the attack does not repeat it.
    fn attempt_with(
        &self,
        victim: &dyn WhiteBox,
        targets: &Targets<'_>,
        budget: &Budget,
        pulse: &dyn Pulse,
    ) -> Attempt;

    /// [`Self::attempt_with`] to its end.
    fn attempt(&self, victim: &dyn WhiteBox, targets: &Targets<'_>, budget: &Budget) -> Attempt {
        self.attempt_with(victim, targets, budget, &Steady)
    }

    /// The perturbed images `[N, C, H, W]` alone.
    fn run(&self, victim: &dyn WhiteBox, targets: &Targets<'_>, budget: &Budget) -> Images {
        self.attempt(victim, targets, budget).images
    }
}
