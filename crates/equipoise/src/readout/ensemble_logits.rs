//! `ensemble-logits`: the mean of the head's logits over all iterates and the final state.

use super::{ReadHead, ReadState, Reading, Readout, ReadoutKind, StateReadout, all_states, mean, nothing};
use crate::batch::Logits;
use crate::loss::Objective;
use crate::state::State;

pub(super) const KIND: ReadoutKind = ReadoutKind {
    name: "ensemble-logits",
    usage: "ensemble-logits",
    parse: |arguments| nothing(arguments).map(|()| Readout::ensemble_logits()),
};

/// The mean of head(z_1), .., head(z_T) and head(a), a the final state.
pub(super) struct EnsembleLogits;

impl StateReadout for EnsembleLogits {
    fn spec(&self) -> String {
        "ensemble-logits".to_owned()
    }

    fn states(&self, steps: usize) -> Vec<ReadState> {
        all_states(steps)
    }

    fn logits(&self, states: &[State], head: &dyn Fn(State) -> Logits) -> Logits {
        mean(states.iter().cloned().map(head))
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

    fn averages_logits(&self) -> bool {
        true
    }
}
