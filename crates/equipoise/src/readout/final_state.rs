//! `final`: the head sees the final state, as in training.

use super::{ReadHead, ReadState, Reading, Readout, ReadoutKind, StateReadout, nothing};
use crate::batch::Logits;
use crate::loss::Objective;
use crate::state::State;

pub(super) const KIND: ReadoutKind = ReadoutKind {
    name: "final",
    usage: "final",
    parse: |arguments| nothing(arguments).map(|()| Readout::final_state()),
};

/// head(a), a the best iterate after the tail.
pub(super) struct FinalState;

impl StateReadout for FinalState {
    fn spec(&self) -> String {
        "final".to_owned()
    }

    fn states(&self, _: usize) -> Vec<ReadState> {
        vec![ReadState::Final]
    }

    fn logits(&self, states: &[State], head: &dyn Fn(State) -> Logits) -> Logits {
        head(states[0].clone())
    }

    fn transpose(
        &self,
        states: &[State],
        head: &mut dyn ReadHead,
        objective: &dyn Objective,
        weight: f64,
    ) -> (Reading, Vec<State>) {
        head.read_mean(states, objective, weight)
    }
}
