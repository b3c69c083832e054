//! Picard iteration z ← (1−τ) z + τ f(z): no memory at all.

use serde::{Deserialize, Serialize};

use super::{Bars, Evaluated, InverseJacobian, Memory, Reverse, Solver, Trajectory};
use crate::model::cell::FixedPointMap;
use crate::state::State;

/// z ← (1−τ) z + τ f(z).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Picard {
    /// τ in (0, 1\].
    pub damping: f64,
}

#[typetag::serde(name = "picard")]
impl Solver for Picard {
    fn validate(&self) -> Result<(), String> {
        let Self { damping } = self;
        match *damping > 0.0 && *damping <= 1.0 {
            true => Ok(()),
            false => Err(format!("picard damping {damping} must be in (0, 1]")),
        }
    }

    fn start(&self) -> Box<dyn Memory> {
        Box::new(*self)
    }

    fn backwards(&self) -> Option<Box<dyn Reverse>> {
        Some(Box::new(*self))
    }

    fn inverse_jacobian(&self) -> Option<Box<dyn InverseJacobian>> {
        Some(Box::new(*self))
    }
}

impl Memory for Picard {
    fn next(&mut self, current: &Evaluated, _map: &dyn FixedPointMap) -> State {
        current.state.clone() + current.residual.clone() * self.damping
    }

    fn select(&mut self, _rows: &[usize]) {}
}

/// z_{t+1} = z_t + τ g_t.
impl Reverse for Picard {
    fn follow(&mut self, _trajectory: &Trajectory) {}

    fn step(&mut self, t: usize, next: &State, bars: &mut Bars) {
        bars.add_state(t, next.clone());
        bars.add_residual(t, next.clone() * self.damping);
    }
}

/// B = −τ I.
impl InverseJacobian for Picard {
    fn observe(&mut self, _point: Evaluated) {}

    fn transposed_product(&self, x: &State) -> State {
        x.clone() * -self.damping
    }
}
