//! A readout of another crate: the head sees the mean of the last two iterates.

use equipoise::batch::Logits;
use equipoise::loss::Objective;
use equipoise::readout::{ReadHead, ReadState, Reading, ReadoutKind, StateReadout};
use equipoise::state::State;

equipoise::register! {
    ReadoutKind {
        name: "last-two",
        usage: "last-two",
        parse: |arguments| match arguments {
            None => Ok(LastTwo.into()),
            Some(_) => Err("takes nothing in parentheses".to_owned()),
        },
    }
}

pub struct LastTwo;

impl StateReadout for LastTwo {
    fn spec(&self) -> String {
        "last-two".to_owned()
    }

    fn check(&self, steps: usize) -> Result<(), String> {
        match steps {
            0 | 1 => Err("the model's solver must take at least 2 steps".to_owned()),
            _ => Ok(()),
        }
    }

    fn states(&self, steps: usize) -> Vec<ReadState> {
        vec![ReadState::At(steps - 1), ReadState::At(steps)]
    }

    fn logits(&self, states: &[State], head: &dyn Fn(State) -> Logits) -> Logits {
        head((states[0].clone() + states[1].clone()) / 2.0)
    }

    fn transpose(
        &self,
        states: &[State],
        head: &mut dyn ReadHead,
        objective: &dyn Objective,
        weight: f64,
    ) -> (Reading, Vec<State>) {
        let mean = (states[0].clone() + states[1].clone()) / 2.0;
        let (reading, derivative) = head.read(&mean, objective, weight);
        let half = derivative / 2.0;
        (reading, vec![half.clone(), half])
    }
}
