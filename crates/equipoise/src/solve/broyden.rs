//! Broyden's "good" method with a limited-memory inverse Jacobian B = −I + U Vᵀ.
//!
//! A step is z ← z − B g(z). Then, with Δz and Δg the changes over the step, B is corrected so that
//! B Δg = Δz: vᵀ = Δzᵀ B and u = (Δz − B Δg) / (vᵀ Δg), entries that are not finite set to 0. Because the step
//! was Δz = −B g, the numerator is −B g at the new point, so each step needs only one product with B and one
//! with Bᵀ. The first step is z_1 = f(z_0).

use super::{Evaluated, Memory};
use crate::batch::{dot, select};
use crate::state::State;

/// The memory of Broyden's method: B, and the last point.
#[derive(Default)]
pub struct Broyden {
    /// The rank-one corrections u, v of B, oldest first, each `[N, D]`.
    corrections: Vec<(State, State)>,
    previous: Option<(State, State)>,
}

impl Broyden {
    /// B x, `[N, D]`.
    pub fn product(&self, x: &State) -> State {
        let mut sum = x.clone().neg();
        for (u, v) in &self.corrections {
            sum = sum + u.clone() * dot(v, x);
        }
        sum
    }

    /// Bᵀ x, `[N, D]`.
    pub fn transposed_product(&self, x: &State) -> State {
        let mut sum = x.clone().neg();
        for (u, v) in &self.corrections {
            sum = sum + v.clone() * dot(u, x);
        }
        sum
    }
}

impl Broyden {
    /// The rank-one corrections (u, v) so far, oldest first.
    pub fn corrections(&self) -> &[(State, State)] {
        &self.corrections
    }

    /// Takes in a point z with g = f(z) − z, correcting B if there was one before, and returns B g: the step is
    /// its negative.
    pub fn direction(&mut self, state: &State, residual: &State) -> State {
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
        direction
    }
}

impl Memory for Broyden {
    fn next(&mut self, current: &Evaluated) -> State {
        current.state.clone() - self.direction(&current.state, &current.residual)
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

/// The same with 0 in place of what is not a finite number.
pub(crate) fn finite_or_zero(x: State) -> State {
    let broken = x.clone().is_finite().bool_not();
    x.mask_fill(broken, 0.0)
}
