//! Diagnostics: residuals, accuracy by iterate, gradient alignment, loss landscape, spectrum, sweeps (the paper's section 3).
//!
//! One file per question, and an [`Examination`] that asks them all. [`residual`]: does the solver converge, and does an attack keep it from it?
//! [`accuracy`]: what would the head answer at every iterate? [`alignment`]: where do the gradient estimators
//! point, beside the true gradient? [`landscape`]: does the loss rise along them? [`spectrum`]: does the cell
//! contract? [`yardstick()`]: what does the true gradient break that the
//! training gradient does not? `sweep`: what if the solver or ε were another? [`distances`]: how far is the nearest adversarial
//! image? [`targets`]: which classes can images be turned into? [`work`]: how much longer can the solver be made to work?
//! [`starts`]: how many fixed points are there? [`gallery`]: what does it look like?
//!
//! All of them look at a [`Case`]: some points, clean and after the ready-made PGD-10, or after an evaluation's
//! attacks where that saved their images. Everything is per example,
//! so batch size changes speed alone. What is found is plain data of the `equipoise-record` crate.
//!
//! The observer is asked before each batch, and within it before each step of an attack, each gradient and each
//! product with J: whoever wants to stop waits for one solve or gradient at most.

mod accuracy;
mod alignment;
mod distance;
mod examination;
mod gallery;
mod landscape;
mod residual;
mod spectrum;
mod starts;
mod sweep;
mod targets;
mod work;
mod yardstick;

pub use accuracy::{accuracy, feedforward_accuracy};
pub use alignment::alignment;
pub use distance::distances;
pub use examination::{Examination, QUESTIONS, Question, UnknownSection};
pub use gallery::{feedforward_gallery, gallery};
pub use landscape::{DISTANCES, landscape};
pub use residual::residual;
pub use spectrum::{SpectrumConfig, spectrum};
pub use starts::starts;
pub use sweep::{eps as sweep_eps, solver_steps as sweep_solver_steps, tolerance as sweep_tolerance};
pub use targets::targets;
pub use work::work;
pub use yardstick::yardstick;

use std::ops::ControlFlow;

use equipoise_record::View;

use crate::attack::{Attack, Budget, Pgd, PgdConfig, Step, WhiteBox};
use crate::batch::{Images, put_rows, select};
use crate::evaluate::{Observer, Points, Stopping, Verified};
use crate::gradient::EstimatorError;
use crate::work::Work;

/// How everything is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Norm and ε.
    pub budget: Budget,
    /// Seed of all random numbers, which are keyed by example.
    pub seed: u64,
    /// Examples at once. Changes speed and memory, not results.
    pub batch_size: usize,
}

/// Why nothing could be diagnosed.
#[derive(Debug, thiserror::Error)]
pub enum DiagnoseError {
    /// There is nothing to look at.
    #[error("no examples to diagnose on: give at least one")]
    NoPoints,
    /// A batch size of zero.
    #[error("the batch size is 0: use at least 1")]
    BatchSize,
    /// A label that the model has no class for.
    #[error("example {index} has label {label}, but the model has {classes} classes: use the data it is for")]
    Label {
        /// The example's index in its data set.
        index: usize,
        /// Its label.
        label: usize,
        /// Classes of the model.
        classes: usize,
    },
    /// A gradient that the model's solver does not have.
    #[error(transparent)]
    Gradient(EstimatorError),
    /// The observer asked to stop.
    #[error("stopped before the diagnosis was complete")]
    Cancelled,
}

/// A result, and the work that it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured<T> {
    /// What was found.
    pub result: T,
    /// Counted per example.
    pub work: Work,
}

/// What is looked at: points, clean and attacked.
#[derive(Clone)]
pub struct Case<'a> {
    points: &'a Points,
    attacked: Images,
    settings: Settings,
    observer: &'a dyn Observer,
}

impl<'a> Case<'a> {
    /// Attacks the points by PGD-10 through `victim`, the model as it is deployed. All ten steps are taken, so
    /// that the images do not depend on which readout would have been fooled first.
    ///
    /// # Errors
    ///
    /// [`DiagnoseError`] if there are no points, a label is not a class of the victim, or the observer cancels.
    pub fn new(
        victim: &dyn WhiteBox,
        points: &'a Points,
        settings: Settings,
        observer: &'a dyn Observer,
    ) -> Result<Self, DiagnoseError> {
        check(victim.classes(), points, &settings)?;
        let mut case = Self { points, attacked: points.images().clone(), settings, observer };
        let attack = pgd(false);
        let mut attacked = case.attacked.clone();
        case.each("ready-made pgd-10", View::Clean, |rows, batch| {
            let found = case.attack(&attack, victim, batch, &settings.budget)?;
            attacked = put_rows(&attacked, rows, &found);
            Ok(())
        })?;
        case.attacked = attacked;
        Ok(case)
    }

    /// Takes the images of attacks that were run before, verified for these very points, for a model of so many
    /// classes.
    ///
    /// # Errors
    ///
    /// [`DiagnoseError`] if there are no points, or a label is not a class.
    ///
    /// # Panics
    ///
    /// If `attacked` is of other points.
    pub fn saved(
        classes: usize,
        points: &'a Points,
        attacked: &Verified,
        settings: Settings,
        observer: &'a dyn Observer,
    ) -> Result<Self, DiagnoseError> {
        check(classes, points, &settings)?;
        let attacked = attacked.images().clone();
        assert_eq!(attacked.dims(), points.images().dims(), "the images are of these points");
        Ok(Self { points, attacked, settings, observer })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there are none: never, since [`Self::new`] refuses that.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The images `[N, C, H, W]` of a kind.
    pub fn images(&self, view: View) -> &Images {
        match view {
            View::Clean => self.points.images(),
            View::Attacked => &self.attacked,
        }
    }

    /// Some rows of a view.
    fn batch(&self, view: View, rows: &[usize]) -> Points {
        let batch = self.points.select(rows);
        match view {
            View::Clean => batch,
            View::Attacked => batch.with_images(select(&self.attacked, rows)),
        }
    }

    /// The images of a batch after an attack.
    fn attack(
        &self,
        attack: &Pgd,
        victim: &dyn WhiteBox,
        batch: &Points,
        budget: &Budget,
    ) -> Result<Images, DiagnoseError> {
        let examples = batch.examples(self.settings.seed, 0);
        let progress = Stopping::new(self.observer);
        let found = attack.run_with(victim, &examples, budget, &progress).images;
        if progress.stopped() { Err(DiagnoseError::Cancelled) } else { Ok(found) }
    }

    /// Before a step of the work on a batch, which may take minutes: an error if it should not be taken.
    fn step(&self, step: Step) -> Result<(), DiagnoseError> {
        match self.observer.step(step) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(DiagnoseError::Cancelled),
        }
    }

    /// Visits all examples of a view in batches, in order, until a visit fails.
    fn each(
        &self,
        stage: &str,
        view: View,
        mut visit: impl FnMut(&[usize], &Points) -> Result<(), DiagnoseError>,
    ) -> Result<(), DiagnoseError> {
        self.observer.stage(stage, self.len());
        let rows: Vec<usize> = (0..self.len()).collect();
        for rows in rows.chunks(self.settings.batch_size) {
            if self.observer.cancelled() {
                return Err(DiagnoseError::Cancelled);
            }
            visit(rows, &self.batch(view, rows))?;
            self.observer.advance(rows.len(), "");
        }
        Ok(())
    }
}

/// What can be known to be wrong before anything is run.
fn check(classes: usize, points: &Points, settings: &Settings) -> Result<(), DiagnoseError> {
    if points.is_empty() {
        return Err(DiagnoseError::NoPoints);
    }
    if settings.batch_size == 0 {
        return Err(DiagnoseError::BatchSize);
    }
    match points.labels().iter().position(|&label| label >= classes) {
        Some(row) => {
            let (index, label) = (points.indices()[row], points.labels()[row]);
            Err(DiagnoseError::Label { index, label, classes })
        }
        None => Ok(()),
    }
}

const VIEWS: [View; 2] = [View::Clean, View::Attacked];

/// PGD-10 with steps of ε/4, which stops at an example's first success or takes all steps.
fn pgd(keep_first: bool) -> Pgd {
    Pgd::new(PgdConfig { keep_first, ..PgdConfig::default() }).expect("the default has steps and restarts")
}
