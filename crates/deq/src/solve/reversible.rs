//! The reversible iteration: z_{t+1} = (1−β) z_{t−1} + β f(z_t), z_{−1} = z_0 (reversible deep equilibrium models, McCallum and
//! Foster 2025).
//!
//! In the publication a step moves two states in turn, y ← (1−β) y + β f(z), then z ← (1−β) z + β f(y). They are the odd and the
//! even members of this one sequence, so that its n steps are 2n here and the state after them is z_{2n}. Each step can be
//! undone, z_{t−1} = (z_{t+1} − β f(z_t)) / (1−β), which is how the publication finds the iterates again on the way back, in
//! float64, as the error grows by 1/(1−β) a step. Here they are kept: they are small beside a linearisation of the cell, and
//! the gradient through them, [`through-solver`](crate::gradient::Estimator::through_solver), has no such error.

use serde::{Deserialize, Serialize};

use super::{Bars, Evaluated, Memory, Reverse, Solver, Trajectory};
use crate::model::cell::FixedPointMap;
use crate::state::State;

/// z_{t+1} = (1−β) z_{t−1} + β f(z_t).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reversible {
    /// β in (0, 1\]; 1 is Picard's iteration, which cannot be undone.
    pub beta: f64,
}

impl Default for Reversible {
    /// β = 0.8.
    fn default() -> Self {
        Self { beta: 0.8 }
    }
}

#[typetag::serde(name = "reversible")]
impl Solver for Reversible {
    fn validate(&self) -> Result<(), String> {
        let Self { beta } = self;
        match *beta > 0.0 && *beta <= 1.0 {
            true => Ok(()),
            false => Err(format!("reversible beta {beta} must be in (0, 1]")),
        }
    }

    fn start(&self) -> Box<dyn Memory> {
        Box::new(Leapfrog { beta: self.beta, before: None })
    }

    fn backwards(&self) -> Option<Box<dyn Reverse>> {
        Some(Box::new(*self))
    }
}

/// The iterate before the current one.
struct Leapfrog {
    beta: f64,
    before: Option<State>,
}

impl Memory for Leapfrog {
    fn next(&mut self, current: &Evaluated, _map: &dyn FixedPointMap) -> State {
        let before = self.before.replace(current.state.clone()).unwrap_or_else(|| current.state.clone());
        before * (1.0 - self.beta) + current.value.clone() * self.beta
    }

    fn select(&mut self, rows: &[usize]) {
        self.before = self.before.as_ref().map(|before| before.select(rows));
    }
}

/// z_{t+1} = (1−β) z_{t−1} + β (z_t + g_t).
impl Reverse for Reversible {
    fn follow(&mut self, _trajectory: &Trajectory) {}

    fn step(&mut self, t: usize, next: &State, bars: &mut Bars) {
        let through = next.clone() * self.beta;
        bars.add_state(t, through.clone());
        bars.add_residual(t, through);
        // z_{−1} is z_0.
        bars.add_state(t.saturating_sub(1), next.clone() * (1.0 - self.beta));
    }
}
