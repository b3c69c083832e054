//! One outcome for each example of a readout that draws, once it is drawn.

use super::{ReadHead, ReadState, Reading, Readout, StateReadout};
use crate::state::State;
use equipoise_attack::batch::Logits;
use equipoise_attack::loss::Objective;

/// The state in this place among those of another readout, by example.
pub(super) struct Picked {
    pub(super) of: Readout,
    pub(super) places: Vec<usize>,
}

impl Picked {
    /// Row i of the state in place `places[i]`.
    fn pick(&self, states: &[State]) -> State {
        let mut picked = states[0].clone();
        for (place, state) in states.iter().enumerate().skip(1) {
            let rows = self.rows(place);
            if !rows.is_empty() {
                picked = picked.put(&rows, &state.select(&rows));
            }
        }
        picked
    }

    fn rows(&self, place: usize) -> Vec<usize> {
        (0..self.places.len()).filter(|&row| self.places[row] == place).collect()
    }
}

impl StateReadout for Picked {
    fn spec(&self) -> String {
        format!("{} at {:?}", self.of, self.places)
    }

    fn states(&self, steps: usize) -> Vec<ReadState> {
        self.of.states(steps)
    }

    fn logits(&self, states: &[State], head: &dyn Fn(State) -> Logits) -> Logits {
        head(self.pick(states))
    }

    fn transpose(
        &self,
        states: &[State],
        head: &mut dyn ReadHead,
        objective: &dyn Objective,
        weight: f64,
    ) -> (Reading, Vec<State>) {
        let (reading, derivative) = head.read(&self.pick(states), objective, weight);
        let own = |place: usize| {
            let rows = self.rows(place);
            let nothing = derivative.zeros_like();
            if rows.is_empty() { nothing } else { nothing.put(&rows, &derivative.select(&rows)) }
        };
        (reading, (0..states.len()).map(own).collect())
    }
}
