//! Readouts: which state, or states, the head sees, and what it makes of them.
//!
//! `final` is what the model was trained as: the best iterate z*, followed by the [`Tail`] of applications of f
//! that is part of the deployed forward pass. The others are defences that read states on the way there.
//!
//! A readout is a [`StateReadout`]: it names the states that it reads, makes logits of them, and pulls a loss behind it
//! back to each of them. A new one is a file beside these and a line in the table of `registry.rs`; in another crate it is
//! that file and a [`register!`](equipoise_attack::register).

mod early;
mod ensemble_logits;
mod ensemble_states;
mod entropy_reduction;
mod final_state;
mod head;
mod picked;
mod random_starts;
mod random_states;
mod registry;
mod tail;

pub use entropy_reduction::{EntropyReduction, Variant};
pub use head::{ReadHead, Reading};
use registry::nothing;
pub use registry::{ReadoutKind, names};
pub use tail::Tail;
pub(crate) use tail::{applied, damped};

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::cell::FixedPointMap;
use crate::solve::{StateChoice, Trajectory};
use crate::state::State;
use equipoise_attack::batch::Logits;
use equipoise_attack::loss::Objective;

/// A state that a readout reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadState {
    /// z_t, t from 1.
    At(usize),
    /// The final state: the best iterate after the tail.
    Final,
    /// The final state of a solve of k steps: the best of z_1..z_k after the tail.
    FinalOf(usize),
}

impl ReadState {
    /// The iterate that is read, or where the tail begins.
    pub fn choice(self) -> StateChoice {
        match self {
            Self::At(t) => StateChoice::At(t),
            Self::Final => StateChoice::Best,
            Self::FinalOf(k) => StateChoice::BestOf(k),
        }
    }

    /// Where the tail begins, if what is read comes after it.
    pub fn before_tail(self) -> Option<StateChoice> {
        match self {
            Self::At(_) => None,
            Self::Final | Self::FinalOf(_) => Some(self.choice()),
        }
    }

    /// The last step, of a solve of so many, that it depends on.
    pub fn last(self, steps: usize) -> usize {
        match self {
            Self::At(t) | Self::FinalOf(t) => t.clamp(1, steps),
            Self::Final => steps,
        }
    }
}

/// What is drawn anew for every image and question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Draws {
    /// Nothing.
    Nothing,
    /// Which of the states that are read answers, with equal chances.
    State,
    /// Where the solve begins.
    Start(Starts),
}

/// Random starts z_0 of a solve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Starts {
    /// How many, of which that with the lowest relative residual at the end answers.
    pub count: usize,
    /// Deviation of their entries, which are normal.
    pub scale: f64,
}

/// What a readout is: the states it reads, and the function of them that answers.
///
/// Unless it says otherwise, the answer is the mean of the head's logits over these states; of one state, its logits.
pub trait StateReadout: Send + Sync + 'static {
    /// The specification, as the `parse` of its [`ReadoutKind`] reads it. Two readouts of one specification are the same.
    fn spec(&self) -> String;

    /// Whether a solver of at most `steps` steps has the states that are read.
    ///
    /// # Errors
    ///
    /// Says what is wrong, and which states there are.
    fn check(&self, steps: usize) -> Result<(), String> {
        let _ = steps;
        Ok(())
    }

    /// The states that are read of a solve of `steps` steps, in the order in which [`logits`](Self::logits) and
    /// [`transpose`](Self::transpose) get them. At least one.
    fn states(&self, steps: usize) -> Vec<ReadState>;

    /// Logits `[N, K]` of the states that are read, each `[N, D]`.
    fn logits(&self, states: &[State], head: &dyn Fn(State) -> Logits) -> Logits {
        let sum = states.iter().cloned().map(head).reduce(|sum, term| sum + term);
        sum.expect("a readout reads at least one state") / states.len() as f64
    }

    /// The loss at these logits, and `weight` times its derivative `[N, D]` with respect to each of the states.
    fn transpose(
        &self,
        states: &[State],
        head: &mut dyn ReadHead,
        objective: &dyn Objective,
        weight: f64,
    ) -> (Reading, Vec<State>) {
        head.read_mean(states, objective, weight)
    }

    /// What is drawn. Of a drawn state [`logits`](Self::logits) and [`transpose`](Self::transpose) compute the whole mixture.
    fn draws(&self) -> Draws {
        Draws::Nothing
    }

    /// Of a readout that draws a state: the one that draws for gradients as well, the same outcome as for logits, by the question's
    /// key. What an attacker meets who knows the draw, or takes the mean over several.
    fn sampled(&self) -> Option<Readout> {
        None
    }

    /// Whether a gradient is that of the outcome which is drawn, rather than of the whole mixture.
    fn samples_gradients(&self) -> bool {
        false
    }

    /// Whether the answer is the mean of the logits of the states: then the joint gradient of these states is its own.
    fn averages_logits(&self) -> bool {
        false
    }

    /// The defence that answers in the place of a readout of one solve, if it is one; the states are then those that the
    /// undefended model reads.
    fn defence(&self) -> Option<&EntropyReduction> {
        None
    }
}

/// Which state(s) the head sees: any [`StateReadout`]. Equal to another of the same specification.
#[derive(Clone)]
pub struct Readout(Arc<dyn StateReadout>);

impl Readout {
    /// `final`: head(a), a the best iterate after the tail.
    pub fn final_state() -> Self {
        final_state::FinalState.into()
    }

    /// `early(t)`: head(z_t), t from 1.
    pub fn early(t: usize) -> Self {
        early::Early { t }.into()
    }

    /// `ensemble-states`: head(mean of z_1..z_T and the final state).
    pub fn ensemble_states() -> Self {
        ensemble_states::EnsembleStates.into()
    }

    /// `ensemble-logits`: the mean of the head's logits over the same states.
    pub fn ensemble_logits() -> Self {
        ensemble_logits::EnsembleLogits.into()
    }

    /// Whether a solver of at most so many steps has the states that are read.
    ///
    /// # Errors
    ///
    /// Says which there are.
    pub fn check(&self, steps: usize) -> Result<(), String> {
        self.0.check(steps).map_err(|problem| format!("{self}: {problem}"))
    }

    /// The states that are read of a solve of so many steps, in order.
    pub fn states(&self, steps: usize) -> Vec<ReadState> {
        self.0.states(steps)
    }

    /// How many of the states that are read come after the tail.
    pub fn tails(&self, steps: usize) -> usize {
        self.states(steps).into_iter().filter(|state| state.before_tail().is_some()).count()
    }

    /// Whether the final state is all that is read, so that any solve that ends at the same fixed point serves it.
    pub fn needs_only_the_best(&self, steps: usize) -> bool {
        self.states(steps) == [ReadState::Final] && self.starts().is_none()
    }

    /// `random-states`: one of the final states of solves of `least`..T steps, drawn.
    pub fn random_states(least: usize) -> Self {
        random_states::RandomStates { least, sampled: false }.into()
    }

    /// `random-starts`: the final state of the solve from random starts that ends at the lowest residual.
    pub fn random_starts(starts: Starts) -> Self {
        random_starts::RandomStarts(starts).into()
    }

    /// Whether anything is drawn anew for every image and question.
    pub fn draws(&self) -> bool {
        self.0.draws() != Draws::Nothing
    }

    /// Whether the answer is that of one of the states that are read, drawn with equal chances: one solve holds all outcomes.
    pub fn mixes(&self) -> bool {
        self.0.draws() == Draws::State
    }

    /// The random starts of the solve, if it does not begin at 0.
    pub fn starts(&self) -> Option<Starts> {
        match self.0.draws() {
            Draws::Start(starts) => Some(starts),
            Draws::Nothing | Draws::State => None,
        }
    }

    /// This readout with an outcome drawn for each gradient, if it draws a state; see [`StateReadout::sampled`].
    pub fn sampled(&self) -> Option<Self> {
        self.0.sampled()
    }

    /// Whether gradients are those of the outcomes that are drawn.
    pub fn samples_gradients(&self) -> bool {
        self.0.samples_gradients()
    }

    /// A readout that answers each example by one of the states that are read, given by its place.
    pub(crate) fn picking(&self, places: Vec<usize>) -> Self {
        picked::Picked { of: self.clone(), places }.into()
    }

    /// Logits of a solved batch where each example is answered by one of the states that are read, given by its place.
    pub fn logits_drawn(
        &self,
        map: &dyn FixedPointMap,
        trajectory: &Trajectory,
        tail: &Tail,
        head: &dyn Fn(State) -> Logits,
        places: &[usize],
    ) -> Logits {
        let states = self.states(trajectory.len());
        let drawn: Vec<ReadState> = places.iter().map(|&place| states[place]).collect();
        let numbers: Vec<Vec<usize>> = states.iter().map(|read| trajectory.numbers(read.choice())).collect();
        let number = |(row, &place): (usize, &usize)| numbers[place][row];
        let read = trajectory.gather(&places.iter().enumerate().map(number).collect::<Vec<_>>());
        let tailed: Vec<usize> = (0..drawn.len()).filter(|&row| drawn[row].before_tail().is_some()).collect();
        if tailed.is_empty() {
            return head(read.state);
        }
        let after = tail.apply(map, read.clone());
        let read = read.state;
        head(if tailed.len() == drawn.len() { after } else { read.put(&tailed, &after.select(&tailed)) })
    }

    /// Whether the answer is the mean of the logits of the states that are read.
    pub fn averages_logits(&self) -> bool {
        self.0.averages_logits()
    }

    /// The defence that answers, if it is one rather than a readout of one solve: see [`defence`](crate::defence).
    pub fn defence(&self) -> Option<&EntropyReduction> {
        self.0.defence()
    }

    /// The last step, of a solve of so many, that what is read depends on.
    pub fn last(&self, steps: usize) -> usize {
        self.states(steps).into_iter().map(|state| state.last(steps)).max().unwrap_or(steps)
    }

    /// How many solver steps it takes to know the answer, of a budget of T.
    pub fn steps(&self, budget: usize) -> usize {
        let last = self.last(budget);
        // A shorter solve answers only where the same states are read of it.
        if self.states(last) == self.states(budget) { last } else { budget }
    }

    /// Logits of a solved batch.
    pub fn logits(
        &self,
        map: &dyn FixedPointMap,
        trajectory: &Trajectory,
        tail: &Tail,
        head: &dyn Fn(State) -> Logits,
    ) -> Logits {
        let state = |state: ReadState| {
            let read = trajectory.evaluated(state.choice());
            if state.before_tail().is_some() { tail.apply(map, read) } else { read.state }
        };
        let states: Vec<State> = self.states(trajectory.len()).into_iter().map(state).collect();
        self.0.logits(&states, head)
    }

    /// The loss behind the readout, and `weight` times its derivative `[N, D]` with respect to each of the states that
    /// are read, in the order of [`Self::states`].
    pub fn transpose(
        &self,
        states: &[State],
        head: &mut dyn ReadHead,
        objective: &dyn Objective,
        weight: f64,
    ) -> (Reading, Vec<State>) {
        self.0.transpose(states, head, objective, weight)
    }
}

/// z_1, .., z_T and the final state.
fn all_states(steps: usize) -> Vec<ReadState> {
    (1..=steps).map(ReadState::At).chain([ReadState::Final]).collect()
}

impl<R: StateReadout> From<R> for Readout {
    fn from(readout: R) -> Self {
        Self(Arc::new(readout))
    }
}

impl PartialEq for Readout {
    fn eq(&self, other: &Self) -> bool {
        self.0.spec() == other.0.spec()
    }
}

impl Eq for Readout {}

impl fmt::Display for Readout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.spec())
    }
}

impl fmt::Debug for Readout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Readout({self})")
    }
}

impl Serialize for Readout {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Readout {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_survive_a_round_trip() {
        let specs = ["final", "early(1)", "early(12)", "ensemble-states", "ensemble-logits", "random-states"];
        for spec in specs.into_iter().chain([
            "random-states(3)",
            "random-states(2,sampled)",
            "random-starts(1)",
            "random-starts(4,0.5)",
        ]) {
            assert_eq!(spec.parse::<Readout>().unwrap().to_string(), spec);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (spec, problem) in [
            (
                "",
                "unknown readout ``: use final, early(T) with T from 1, ensemble-states, ensemble-logits, random-states(LEAST), random-starts(N), entropy-reduction(segments=S",
            ),
            ("fianl", "use final, early(T) with T from 1, ensemble-states"),
            ("early", "T is a whole number from 1"),
            ("early(0)", "readout `early(0)`: T is a whole number from 1"),
            ("early(x)", "T is a whole number from 1"),
            ("early(3", "without its `)`"),
            ("early(3)x", "without its `)`"),
            ("final(2)", "takes nothing in parentheses"),
            ("random-states(0)", "LEAST is a whole number from 1"),
            ("random-starts(0)", "N is a whole number from 1 to 1000"),
            ("random-starts(2,0)", "deviation of the starts' entries"),
            ("random-starts(2,nan)", "deviation of the starts' entries"),
        ] {
            let message = spec.parse::<Readout>().unwrap_err();
            assert!(message.contains(problem), "{spec}: {message}");
        }
    }

    /// A readout that names states counted from the end reads others of a shorter solve.
    #[test]
    fn a_solve_is_cut_short_only_where_that_changes_nothing() {
        struct Middle;
        impl StateReadout for Middle {
            fn spec(&self) -> String {
                "middle".into()
            }
            fn states(&self, steps: usize) -> Vec<ReadState> {
                vec![ReadState::At(steps.div_ceil(2))]
            }
        }
        let steps = |readout: Readout| readout.steps(8);
        assert_eq!(steps(Middle.into()), 8);
        assert_eq!(steps(Readout::early(3)), 3);
        assert_eq!(steps(Readout::early(99)), 8);
        assert_eq!(steps(Readout::final_state()), 8);
        assert_eq!(steps(Readout::ensemble_logits()), 8);
    }
}
