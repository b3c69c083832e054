//! Readouts: which state, or states, the head sees.
//!
//! `final` is what the model was trained as: the best iterate z*, followed by the [`Tail`] of applications of f
//! that is part of the deployed forward pass. The others are defences that read states on the way there.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::batch::Logits;
use crate::model::cell::FixedPointMap;
use crate::solve::{MAX_STEPS, StateChoice, Trajectory};
use crate::state::State;

/// Applications of f after the solver: first undamped, then a ← (1−λ) a + λ f(a).
///
/// (1, 0) is the exact-trained model; (1, 9) with λ = 0.5 the unroll-trained one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Undamped applications.
    pub lead: usize,
    /// Damped applications after them.
    pub steps: usize,
    /// λ in (0, 1\].
    pub damping: f64,
}

impl Tail {
    /// One undamped application: the tail of an exact-trained model.
    pub const EXACT: Self = Self { lead: 1, steps: 0, damping: 0.5 };

    /// One undamped application and nine damped by half: the tail of an unroll-trained model.
    pub const UNROLLED: Self = Self { lead: 1, steps: 9, damping: 0.5 };

    /// Whether the settings make sense.
    ///
    /// # Errors
    ///
    /// Names the setting and its range.
    pub fn validate(&self) -> Result<(), String> {
        if self.lead.saturating_add(self.steps) > MAX_STEPS {
            return Err(format!(
                "lead {} and steps {} must be at most {MAX_STEPS} together",
                self.lead, self.steps
            ));
        }
        if !(self.damping > 0.0 && self.damping <= 1.0) {
            return Err(format!("damping={} must be in (0, 1]", self.damping));
        }
        Ok(())
    }

    /// λ of each application, in order.
    pub fn dampings(&self) -> impl DoubleEndedIterator<Item = f64> + use<> {
        let damping = self.damping;
        std::iter::repeat_n(1.0, self.lead).chain(std::iter::repeat_n(damping, self.steps))
    }

    /// The state after the tail.
    pub fn apply(&self, map: &dyn FixedPointMap, state: State) -> State {
        self.dampings().fold(state, |a, damping| damped(&a, map.apply(&a), damping))
    }
}

/// (1−λ) a + λ f(a).
pub(crate) fn damped(state: &State, value: State, damping: f64) -> State {
    if damping == 1.0 { value } else { state.clone() * (1.0 - damping) + value * damping }
}

/// Which state(s) the head sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Readout {
    /// head(a), a the best iterate after the tail.
    Final,
    /// head(z_t), t from 1.
    Early(usize),
    /// head(mean of z_1..z_T and the final state).
    EnsembleStates,
    /// Mean of the heads' logits over the same states.
    EnsembleLogits,
}

impl Readout {
    /// Logits of a solved batch.
    pub fn logits(
        self,
        map: &dyn FixedPointMap,
        trajectory: &Trajectory,
        tail: &Tail,
        head: &dyn Fn(State) -> Logits,
    ) -> Logits {
        let last = || tail.apply(map, trajectory.choose(StateChoice::Best));
        match self {
            Self::Final => head(last()),
            Self::Early(t) => head(trajectory.state(t).clone()),
            Self::EnsembleStates => head(mean(trajectory.states().iter().cloned().chain([last()]))),
            Self::EnsembleLogits => mean(trajectory.states().iter().cloned().chain([last()]).map(head)),
        }
    }

    /// Whether a solver of at most so many steps has the states that are read.
    ///
    /// # Errors
    ///
    /// Says which there are.
    pub fn check(self, steps: usize) -> Result<(), String> {
        match self {
            Self::Early(t) if t == 0 || t > steps => {
                Err(format!("{self}: the model's solver takes {steps} steps; choose T in 1..={steps}"))
            }
            _ => Ok(()),
        }
    }

    /// How many solver steps it takes to know the answer, of a budget of T.
    pub fn steps(self, budget: usize) -> usize {
        match self {
            Self::Early(t) => t.min(budget),
            _ => budget,
        }
    }
}

fn mean(terms: impl Iterator<Item = Tensor<2>>) -> Tensor<2> {
    let mut count = 0;
    let sum = terms.inspect(|_| count += 1).reduce(|sum, term| sum + term);
    sum.expect("a trajectory has at least one state") / f64::from(count)
}

impl fmt::Display for Readout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Final => f.write_str("final"),
            Self::Early(t) => write!(f, "early({t})"),
            Self::EnsembleStates => f.write_str("ensemble-states"),
            Self::EnsembleLogits => f.write_str("ensemble-logits"),
        }
    }
}

impl FromStr for Readout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let early = |text: &str| text.strip_prefix("early(")?.strip_suffix(')')?.parse().ok();
        match text {
            "final" => Ok(Self::Final),
            "ensemble-states" => Ok(Self::EnsembleStates),
            "ensemble-logits" => Ok(Self::EnsembleLogits),
            _ => match early(text) {
                Some(t) if t >= 1 => Ok(Self::Early(t)),
                _ => Err(format!(
                    "unknown readout `{text}`: use final, early(T) with T from 1, ensemble-states or \
                     ensemble-logits"
                )),
            },
        }
    }
}

impl From<Readout> for String {
    fn from(readout: Readout) -> Self {
        readout.to_string()
    }
}

impl TryFrom<String> for Readout {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
