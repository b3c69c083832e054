//! Reading a loss from states through the head, with the derivative there.

use crate::state::State;
use equipoise_attack::batch::{Logits, Values};
use equipoise_attack::loss::Objective;

/// A loss that was read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The logits `[N, K]` that it was read from.
    pub logits: Logits,
    /// The objective there, `[N]`.
    pub values: Values,
}

/// A head that can be pulled back through.
pub trait ReadHead {
    /// The loss at the mean of several states' logits, and `weight` times its derivative `[N, D]` with respect
    /// to each state. Passes every state through the head once.
    fn read_mean(
        &mut self,
        states: &[State],
        objective: &dyn Objective,
        weight: f64,
    ) -> (Reading, Vec<State>);

    /// The loss at one state, and `weight` times its derivative `[N, D]` with respect to that state.
    fn read(&mut self, state: &State, objective: &dyn Objective, weight: f64) -> (Reading, State) {
        let (reading, mut derivatives) = self.read_mean(std::slice::from_ref(state), objective, weight);
        (reading, derivatives.pop().expect("one derivative for each state"))
    }
}
