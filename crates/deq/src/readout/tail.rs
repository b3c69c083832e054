//! The tail: applications of f after the solver that are part of the deployed forward pass.

use serde::{Deserialize, Serialize};

use crate::model::cell::FixedPointMap;
use crate::solve::{Evaluation, MAX_STEPS};
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

    /// How many applications there are.
    pub fn applications(&self) -> usize {
        self.lead + self.steps
    }

    /// λ of each application, in order.
    pub fn dampings(&self) -> impl DoubleEndedIterator<Item = f64> + use<> {
        let damping = self.damping;
        std::iter::repeat_n(1.0, self.lead).chain(std::iter::repeat_n(damping, self.steps))
    }

    /// The state after the tail, from one where f is known: as many evaluations as it has applications, less one.
    pub fn apply(&self, map: &dyn FixedPointMap, from: Evaluation) -> State {
        applied(self.dampings(), map, from)
    }
}

/// The state after applications of f of these dampings, from one where f is known.
pub(crate) fn applied(
    dampings: impl Iterator<Item = f64>,
    map: &dyn FixedPointMap,
    from: Evaluation,
) -> State {
    let Evaluation { state, value } = from;
    let mut known = Some(value);
    dampings.fold(state, |a, damping| {
        let value = known.take().unwrap_or_else(|| map.apply(&a));
        damped(&a, value, damping)
    })
}

/// (1−λ) a + λ f(a).
pub(crate) fn damped(state: &State, value: State, damping: f64) -> State {
    if damping == 1.0 { value } else { state.clone() * (1.0 - damping) + value * damping }
}
