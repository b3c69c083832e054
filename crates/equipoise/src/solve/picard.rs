//! Picard iteration z ← (1−τ) z + τ f(z): no memory at all.

use super::{Bars, Evaluated, InverseJacobian, Memory, Reverse};
use crate::state::State;

#[derive(Clone, Copy)]
pub(super) struct Picard {
    pub(super) damping: f64,
}

impl Memory for Picard {
    fn next(&mut self, current: &Evaluated) -> State {
        current.state.clone() + current.residual.clone() * self.damping
    }

    fn select(&mut self, _rows: &[usize]) {}
}

/// z_{t+1} = z_t + τ g_t.
impl Reverse for Picard {
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
