//! `random-states`: the answer of a solve whose number of steps is drawn, anew for every image and question (Yang, Li, Pang
//! and Liu, ICML 2023, section 3.3, where training draws; here the deployed model does).
//!
//! One trajectory holds all outcomes, so that nothing needs to be sampled to attack it: the loss is the mean of the
//! outcomes' losses, and one reverse sweep, with cotangents that enter at every outcome, is its exact gradient.

use burn::tensor::activation::log_softmax;

use super::{Draws, ReadHead, ReadState, Reading, Readout, ReadoutKind, StateReadout};
use crate::state::State;
use equipoise_attack::batch::Logits;
use equipoise_attack::loss::Objective;

pub(super) const KIND: ReadoutKind =
    ReadoutKind { name: "random-states", usage: "random-states(LEAST)", parse };

/// head(a_k), a_k the best of the first k iterates after the tail, k uniform in `least`..T.
pub(super) struct RandomStates {
    pub(super) least: usize,
    /// Whether gradients are of one outcome, too.
    pub(super) sampled: bool,
}

/// In a specification, after the least k.
const SAMPLED: &str = "sampled";

impl StateReadout for RandomStates {
    fn spec(&self) -> String {
        match (self.least, self.sampled) {
            (1, false) => KIND.name.to_owned(),
            (least, false) => format!("{}({least})", KIND.name),
            (least, true) => format!("{}({least},{SAMPLED})", KIND.name),
        }
    }

    fn check(&self, steps: usize) -> Result<(), String> {
        if (1..=steps).contains(&self.least) {
            return Ok(());
        }
        Err(format!("the model's solver takes {steps} steps; choose LEAST in 1..={steps}"))
    }

    fn states(&self, steps: usize) -> Vec<ReadState> {
        (self.least.min(steps)..=steps).map(ReadState::FinalOf).collect()
    }

    fn draws(&self) -> Draws {
        Draws::State
    }

    fn sampled(&self) -> Option<Readout> {
        Some(Self { sampled: true, ..*self }.into())
    }

    fn samples_gradients(&self) -> bool {
        self.sampled
    }

    /// The logarithm of the classes' chances.
    fn logits(&self, states: &[State], head: &dyn Fn(State) -> Logits) -> Logits {
        mixed(states.iter().cloned().map(head))
    }

    /// The mean of the outcomes' losses.
    fn transpose(
        &self,
        states: &[State],
        head: &mut dyn ReadHead,
        objective: &dyn Objective,
        weight: f64,
    ) -> (Reading, Vec<State>) {
        let count = states.len() as f64;
        let read = states.iter().map(|state| head.read(state, objective, weight / count));
        let (readings, derivatives): (Vec<Reading>, Vec<State>) = read.unzip();
        let values = readings.iter().map(|reading| reading.values.clone()).reduce(|sum, term| sum + term);
        let values = values.expect("a readout reads at least one state") / count;
        (Reading { logits: mixed(readings.into_iter().map(|reading| reading.logits)), values }, derivatives)
    }
}

/// log of the mean of the softmaxes: logits whose softmax is the mean.
fn mixed(logits: impl ExactSizeIterator<Item = Logits>) -> Logits {
    let count = logits.len() as f64;
    let logs: Vec<Logits> = logits.map(|logits| log_softmax(logits, 1)).collect();
    let highest = logs.iter().cloned().reduce(|a, b| a.max_pair(b)).expect("at least one outcome");
    let sum = logs.into_iter().map(|log| (log - highest.clone()).exp()).reduce(|sum, term| sum + term);
    highest + (sum.expect("at least one outcome") / count).log()
}

fn parse(arguments: Option<&str>) -> Result<Readout, String> {
    let Some(arguments) = arguments else { return Ok(Readout::random_states(1)) };
    let (least, sampled) = match arguments.split_once(',') {
        Some((least, rest)) => (least, Some(rest.trim())),
        None => (arguments, None),
    };
    match (least.trim().parse(), sampled) {
        (Ok(least), None | Some(SAMPLED)) if least >= 1 => {
            Ok(RandomStates { least, sampled: sampled.is_some() }.into())
        }
        _ => Err("LEAST is a whole number from 1, as in random-states(3)".to_owned()),
    }
}
