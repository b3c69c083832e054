//! Picard iteration z ← (1−τ) z + τ f(z): no memory at all.

use super::{Evaluated, Memory};
use crate::state::State;

pub(super) struct Picard {
    pub(super) damping: f64,
}

impl Memory for Picard {
    fn next(&mut self, current: &Evaluated) -> State {
        current.state.clone() + current.residual.clone() * self.damping
    }

    fn select(&mut self, _rows: &[usize]) {}
}
