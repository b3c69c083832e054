//! How far the work on a batch has come, and whether it should go on: an attack of thousands of steps is watched
//! and stopped from inside.

use std::ops::ControlFlow;

/// Where the work on a batch stands, before a step: an attack, or a measurement that takes as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Steps done.
    pub done: usize,
    /// Steps in all, if an example needs all of them.
    pub total: usize,
    /// Examples of the batch.
    pub examples: usize,
    /// Examples that take this step: those that still withstand an attack.
    pub standing: usize,
}

/// Watches an attack at work.
pub trait Pulse {
    /// Before each step. `Break` asks the attack to return at once. What it has by then depends on when that was:
    /// its successes are true, and nothing follows for the other examples.
    fn beat(&self, beat: Beat) -> ControlFlow<()>;
}

/// Reports to nobody, and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steady;

impl Pulse for Steady {
    fn beat(&self, _beat: Beat) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Counts the steps of one attack.
pub(super) struct Count<'a> {
    pulse: &'a dyn Pulse,
    done: usize,
    total: usize,
    examples: usize,
}

impl<'a> Count<'a> {
    /// None done yet of `total` steps with a batch of `examples`.
    pub(super) fn new(pulse: &'a dyn Pulse, total: usize, examples: usize) -> Self {
        Self { pulse, done: 0, total, examples }
    }

    /// Before a step on the examples still `standing`.
    pub(super) fn step(&mut self, standing: usize) -> ControlFlow<()> {
        let Self { done, total, examples, .. } = *self;
        self.done += 1;
        self.pulse.beat(Beat { done, total, examples, standing })
    }

    /// The steps up to `done` need not be taken: nobody is left for them.
    pub(super) fn skip_to(&mut self, done: usize) {
        self.done = done;
    }
}
