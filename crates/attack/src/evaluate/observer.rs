//! What an evaluation tells the outside while it runs, and the one thing it asks: whether to stop.
//! Progress bars and Ctrl-C live behind this trait.

use std::cell::Cell;
use std::ops::ControlFlow;

use super::forecast::Forecast;
use crate::attack::{Progress, Step};

/// Watches an evaluation.
pub trait Observer {
    /// A stage begins: `clean`, or an attack as `attack/estimator`, over `total` examples.
    fn stage(&self, label: &str, total: usize);

    /// `examples` more of the stage's examples are done; `note` says how the stage stands.
    fn advance(&self, examples: usize, note: &str);

    /// How many points the first run of the stage has met and broken so far, before an interruption too; in the clean pass,
    /// how many were classified and misclassified. Told before each [`Self::advance`].
    fn counts(&self, _met: usize, _broken: usize) {}

    /// The attack on the current batch, or the measurement, is about to take a step. `Break` stops it at once: the batch is thrown
    /// away, and done again when the run is resumed.
    fn step(&self, _step: Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Adversarial images of other machines, by the indices of their examples, that do not fool the model on this one.
    fn disputed(&self, _indices: &[usize]) {}

    /// How long the evaluation has taken and is expected to take yet. Told after each batch of an attack.
    fn forecast(&self, _forecast: Forecast) {}

    /// Where an assessment of several readouts and radii stands.
    fn part(&self, _part: Part) {}

    /// Whether to stop. Asked before each batch.
    fn cancelled(&self) -> bool;

    /// Whether the model has failed, so that its answers since then say nothing: the batch is thrown away as after Ctrl-C,
    /// and the run ends. Asked after each batch, before anything of it is kept. Only models outside of this library fail.
    fn failed(&self) -> bool {
        false
    }
}

/// A radius behind a readout, one of those that an assessment consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The next one begins.
    Begins,
    /// It is done.
    Ends,
    /// The next one need not be done: its readout was evaluated already.
    Skipped,
}

/// An observer as the progress of one attempt. Whether it stopped the attempt is known afterwards.
pub struct Stopping<'a> {
    observer: &'a dyn Observer,
    stopped: Cell<bool>,
}

impl<'a> Stopping<'a> {
    /// Nothing was stopped yet.
    pub fn new(observer: &'a dyn Observer) -> Self {
        Self { observer, stopped: Cell::new(false) }
    }

    /// Whether the attempt was stopped, so that it is discarded.
    pub fn stopped(&self) -> bool {
        self.stopped.get()
    }
}

impl Progress for Stopping<'_> {
    fn step(&self, step: Step) -> ControlFlow<()> {
        let answer = self.observer.step(step);
        self.stopped.set(self.stopped.get() || answer.is_break());
        answer
    }
}

/// An observer that says nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Observer for Quiet {
    fn stage(&self, _label: &str, _total: usize) {}

    fn advance(&self, _examples: usize, _note: &str) {}

    fn cancelled(&self) -> bool {
        false
    }
}
