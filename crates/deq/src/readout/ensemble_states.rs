//! `ensemble-states`: the head sees the mean of all iterates and the final state.

use super::{ReadHead, ReadState, Reading, Readout, ReadoutKind, StateReadout, all_states, nothing};
use crate::state::State;
use equipoise_attack::batch::Logits;
use equipoise_attack::loss::Objective;

pub(super) const KIND: ReadoutKind = ReadoutKind {
    name: "ensemble-states",
    usage: "ensemble-states",
    parse: |arguments| nothing(arguments).map(|()| Readout::ensemble_states()),
};

/// head(mean of z_1..z_T and the final state).
pub(super) struct EnsembleStates;

impl StateReadout for EnsembleStates {
    fn spec(&self) -> String {
        "ensemble-states".to_owned()
    }

    fn states(&self, steps: usize) -> Vec<ReadState> {
        all_states(steps)
    }

    fn logits(&self, states: &[State], head: &dyn Fn(State) -> Logits) -> Logits {
        head(mean(states))
    }

    fn transpose(
        &self,
        states: &[State],
        head: &mut dyn ReadHead,
        objective: &dyn Objective,
        weight: f64,
    ) -> (Reading, Vec<State>) {
        let (reading, cotangent) = head.read(&mean(states), objective, weight);
        let share = cotangent / states.len() as f64;
        (reading, vec![share; states.len()])
    }
}

fn mean(states: &[State]) -> State {
    states.iter().cloned().sum::<State>() / states.len() as f64
}
