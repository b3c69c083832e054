//! How far the work on a batch has come, and whether it should go on: an attack of thousands of steps is watched
//! and stopped from inside.

use std::ops::ControlFlow;

/// A step of the work on a batch that is about to be taken: of an attack, or of a measurement that takes as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
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
pub trait Progress {
    /// Called before each step. `Break` asks the attack to return at once. What it has by then depends on when that
    /// was: its successes are true, and nothing follows for the other examples.
    fn step(&self, step: Step) -> ControlFlow<()>;
}

/// Reports to nobody, and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Uninterrupted;

impl Progress for Uninterrupted {
    fn step(&self, _step: Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
