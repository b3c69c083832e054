//! Attacks: they use a model only through two traits, which DEQs and feedforward networks implement alike.
//!
//! A [`Classifier`] answers with logits (black box); a [`WhiteBox`] answers with values and gradients of an
//! [`Objective`]. A readout and a gradient estimator make a DEQ into a white box, so the grid of adaptive
//! attacks is the product readout × estimator × attack.
//!
//! An [`Attack`] is a search; restarts, random numbers, progress and claims are the driver's ([`Search`]). An attack of
//! one's own is one file with its [`register!`](crate::register), and its name is known everywhere (the guide's page on an
//! attack of your own shows one).

mod budget;
mod classes;
mod l1;
mod names;
mod norms;
mod progress;
mod noise;
mod warm_start;
mod driver;
mod expectation;
mod noisy;
mod pinned;
mod pgd;
mod apgd;
mod fab;
mod square;
mod registry;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

pub use apgd::{Apgd, ApgdConfig, ApgdError, ApgdLoss, checkpoints};
pub use budget::{Budget, BudgetError, Norm};
pub use classes::{TargetOrder, TooFewClasses};
pub use driver::{Answer, Region, Schedule, Search, Targets, each_example};
pub use expectation::Expectation;
pub use fab::{Fab, FabConfig, FabError, Nearest};
pub use names::{AttackFamily, AttackNameError, Counts, ParsedName, parse, set};
pub use noise::Noise;
pub use noisy::Noisy;
pub use norms::UnsupportedNorm;
pub use pgd::{Pgd, PgdConfig, PgdError, PgdLoss};
pub use pinned::Pinned;
pub use progress::{Progress, Step, Uninterrupted};
pub use square::{Square, SquareConfig, SquareError, square_share};
pub use warm_start::{Kept, WarmStart};

use crate::batch::{Images, Logits, Values};
use crate::loss::Objective;
use crate::random::Key;
use crate::work::Work;

/// Images that a classifier is asked about, with the key of the random numbers that it may draw for each.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// `[N, C, H, W]`.
    pub images: &'a Images,
    /// One for each image.
    pub keys: &'a [Key],
}

impl<'a> Question<'a> {
    /// The same question about other images of these examples.
    pub fn about<'b>(&self, images: &'b Images) -> Question<'b>
    where
        'a: 'b,
    {
        Question { images, keys: self.keys }
    }
}

/// A model that can only be asked for its answer.
pub trait Classifier {
    /// Number of classes K.
    fn classes(&self) -> usize;

    /// Logits `[N, K]` of the deployed model. One that draws random numbers draws them by the keys.
    fn answer(&self, question: &Question<'_>) -> Logits;

    /// Logits `[N, K]` of images `[N, C, H, W]` whose keys do not matter: each is that of its row.
    fn logits(&self, images: &Images) -> Logits {
        let keys = unkeyed(images);
        self.answer(&Question { images, keys: &keys })
    }

    /// The same model answering faster and less surely, if it can.
    fn approximation(&self) -> Option<&dyn Approximate> {
        None
    }

    /// The work done so far, counted per example. A model without a cell has none.
    fn work(&self) -> Work {
        Work::default()
    }
}

/// A classifier whose answer is the end of an iteration, which can begin near its end and be cut short.
pub trait Approximate {
    /// Logits `[N, K]` by an iteration of at most `steps` steps, which goes on from what the call before kept for these rows at images
    /// nearby; of all its steps from its usual start, where nothing is kept. They depend on those images too, and are
    /// never a verdict.
    fn approximate(&self, question: &Question<'_>, steps: usize, warm_start: &mut WarmStart) -> Logits;
}

/// Keys by row.
fn unkeyed(images: &Images) -> Vec<Key> {
    Key::first(0, "row", &(0..images.dims()[0]).collect::<Vec<_>>())
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
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient;

    /// Value and estimated gradient of an objective, with solves that go on from what the call before kept for these
    /// examples at images nearby. The answer may differ from that of [`Self::differentiate`], which begins from nothing,
    /// and is never a verdict. A white box without anything to continue answers as ever, and keeps nothing.
    fn differentiate_from(
        &self,
        question: &Question<'_>,
        objective: &dyn Objective,
        warm_start: &mut WarmStart,
    ) -> ValueAndGradient {
        let _ = warm_start;
        self.differentiate(question, objective)
    }

    /// Value and estimated gradient at images `[N, C, H, W]` whose keys do not matter: each is that of its row.
    fn value_and_gradient(&self, images: &Images, objective: &dyn Objective) -> ValueAndGradient {
        let keys = unkeyed(images);
        self.differentiate(&Question { images, keys: &keys }, objective)
    }
}

/// What is lent, or boxed, answers as it is.
macro_rules! passed_on {
    ($($kind:ty),*) => {$(
        impl<W: Classifier + ?Sized> Classifier for $kind {
            fn classes(&self) -> usize {
                (**self).classes()
            }

            fn answer(&self, question: &Question<'_>) -> Logits {
                (**self).answer(question)
            }

            fn logits(&self, images: &Images) -> Logits {
                (**self).logits(images)
            }

            fn approximation(&self) -> Option<&dyn Approximate> {
                (**self).approximation()
            }

            fn work(&self) -> Work {
                (**self).work()
            }
        }

        impl<W: WhiteBox + ?Sized> WhiteBox for $kind {
            fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
                (**self).differentiate(question, objective)
            }

            fn differentiate_from(
                &self,
                question: &Question<'_>,
                objective: &dyn Objective,
                warm_start: &mut WarmStart,
            ) -> ValueAndGradient {
                (**self).differentiate_from(question, objective, warm_start)
            }

            fn value_and_gradient(&self, images: &Images, objective: &dyn Objective) -> ValueAndGradient {
                (**self).value_and_gradient(images, objective)
            }
        }
    )*};
}

passed_on!(&W, Box<W>);

/// The examples under attack.
#[derive(Debug, Clone)]
pub struct Examples<'a> {
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
    pub fn nothing(examples: &Examples<'_>) -> Self {
        Self { images: examples.images.clone(), claimed: vec![false; examples.labels.len()] }
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

/// An attack: how its searches are scheduled, and the search. The rest is the driver's (see [`Search`]).
///
/// What it finds for an example must not depend on the other examples of its batch.
pub trait Attack: Send + Sync {
    /// Its name in tables and on the command line, such as `pgd-10`.
    fn name(&self) -> String;

    /// Everything that its result depends on beside victim, examples and budget, in words: two attacks with the
    /// same settings find the same images. The name, unless there is more to say.
    fn settings(&self) -> String {
        self.name()
    }

    /// The fewest classes that it can attack.
    fn least_classes(&self) -> usize {
        2
    }

    /// The norms in whose balls it searches.
    fn norms(&self) -> &'static [Norm] {
        &[Norm::Linf, Norm::L2, Norm::L1]
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

    /// The same attack without its end at an example's first success: it takes all its steps, and returns where the loss is
    /// highest, or where it ends. For a victim that draws random numbers, of which a success is but one draw's. `None` if it has
    /// no such form.
    fn to_the_end(&self) -> Option<Arc<dyn Attack>> {
        None
    }

    /// How often it searches, and what a search asks of a model of so many classes, at least [`Self::least_classes`],
    /// within a ball of this norm.
    fn schedule(&self, classes: usize, norm: Norm) -> Schedule;

    /// One search for the examples that [`Search::rows`] names.
    ///
    /// # Errors
    ///
    /// Breaks where [`Search::step`] breaks, with nothing more asked or kept.
    fn search(&self, search: &mut Search<'_>) -> ControlFlow<()>;

    /// Whether a model of so many classes can be attacked this way.
    ///
    /// # Errors
    ///
    /// [`TooFewClasses`], which names the attacks that remain possible. To be asked before [`Self::run`], which panics
    /// with the same message.
    fn check(&self, classes: usize) -> Result<(), TooFewClasses> {
        classes::at_least(self.least_classes(), &self.name(), classes)
    }

    /// Whether it searches in balls of this norm.
    ///
    /// # Errors
    ///
    /// [`UnsupportedNorm`], which names the attacks that do. To be asked before [`Self::run`], which panics with the
    /// same message.
    fn check_norm(&self, norm: Norm) -> Result<(), UnsupportedNorm> {
        norms::searches_in(self, norm)
    }

    /// The questions that it asks a model of so many classes about a point that withstands it within a ball of this
    /// norm: the most that a point can cost.
    fn queries(&self, classes: usize, norm: Norm) -> Queries {
        self.schedule(classes, norm).all_queries()
    }

    /// Searches, and says which images it found to be misclassified.
    ///
    /// It tells `progress` of every step, and returns at once with what it has when it is told to stop: such an
    /// attempt is cut short, and another run of the attack does not repeat it. An attack that is carried out by another
    /// program takes the place of this method; whoever evaluates it verifies what it returns.
    ///
    /// # Panics
    ///
    /// With the messages of [`Self::check`] and [`Self::check_norm`].
    fn run_with(
        &self,
        victim: &dyn WhiteBox,
        examples: &Examples<'_>,
        budget: &Budget,
        progress: &dyn Progress,
    ) -> Attempt {
        insist(self, victim.classes(), budget.norm());
        let schedule = self.schedule(victim.classes(), budget.norm());
        driver::drive(schedule, victim, (examples, budget), progress, |search| self.search(search))
    }

    /// Searches to the end, without anybody to tell of its steps; see [`Self::run_with`].
    fn run(&self, victim: &dyn WhiteBox, examples: &Examples<'_>, budget: &Budget) -> Attempt {
        self.run_with(victim, examples, budget, &Uninterrupted)
    }
}

/// For callers of an attack, who have checked.
///
/// # Panics
///
/// If the attack has no form for a model of so many classes, or for balls of this norm.
fn insist(attack: &(impl Attack + ?Sized), classes: usize, norm: Norm) {
    if let Err(error) = attack.check(classes) {
        panic!("{error}");
    }
    if let Err(error) = attack.check_norm(norm) {
        panic!("{error}");
    }
}

impl fmt::Debug for dyn Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.settings())
    }
}

/// Two attacks are the same if their names and settings are: then they find the same images.
impl PartialEq for dyn Attack {
    fn eq(&self, other: &Self) -> bool {
        (self.name(), self.settings()) == (other.name(), other.settings())
    }
}

impl Eq for dyn Attack {}
