//! Broyden's "good" method with a limited-memory inverse Jacobian B = −I + U Vᵀ.
//!
//! A step is z ← z − B g(z). Then, with Δz and Δg the changes over the step, B is corrected so that
//! B Δg = Δz: vᵀ = Δzᵀ B and u = (Δz − B Δg) / (vᵀ Δg), entries that are not finite set to 0. Because the step
//! was Δz = −B g, the numerator is −B g at the new point, so each step needs only one product with B and one
//! with Bᵀ. The first step is z_1 = f(z_0).

use super::{Evaluated, Memory};
use crate::batch::{dot, select};
use crate::state::State;

#[derive(Default)]
pub(super) struct Broyden {
    /// The rank-one corrections u, v of B, oldest first, each `[N, D]`.
    corrections: Vec<(State, State)>,
    previous: Option<(State, State)>,
}

impl Broyden {
    /// B x.
    fn product(&self, x: &State) -> State {
        let mut sum = x.clone().neg();
        for (u, v) in &self.corrections {
            sum = sum + u.clone() * dot(v, x);
        }
        sum
    }

    /// Bᵀ x.
    fn transposed_product(&self, x: &State) -> State {
        let mut sum = x.clone().neg();
        for (u, v) in &self.corrections {
            sum = sum + v.clone() * dot(u, x);
        }
        sum
    }
}

impl Memory for Broyden {
    fn next(&mut self, current: &Evaluated) -> State {
        let Evaluated { state, residual, .. } = current;
        let mut direction = self.product(residual);
        if let Some((previous_state, previous_residual)) = self.previous.take() {
            let v = self.transposed_product(&(state.clone() - previous_state));
            let change = residual.clone() - previous_residual;
            let u = direction.clone().neg() / dot(&v, &change);
            let (u, v) = (finite_or_zero(u), finite_or_zero(v));
            direction = direction + u.clone() * dot(&v, residual);
            self.corrections.push((u, v));
        }
        self.previous = Some((state.clone(), residual.clone()));
        state.clone() - direction
    }

    fn select(&mut self, rows: &[usize]) {
        for (u, v) in &mut self.corrections {
            *u = select(u, rows);
            *v = select(v, rows);
        }
        if let Some((state, residual)) = &mut self.previous {
            *state = select(state, rows);
            *residual = select(residual, rows);
        }
    }
}

fn finite_or_zero(x: State) -> State {
    let broken = x.clone().is_finite().bool_not();
    x.mask_fill(broken, 0.0)
}
