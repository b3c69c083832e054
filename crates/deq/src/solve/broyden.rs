//! Broyden's "good" method with a limited-memory inverse Jacobian B = −I + U Vᵀ.
//!
//! A step is z ← z − B g(z). Then, with Δz and Δg the changes over the step, B is corrected so that
//! B Δg = Δz: vᵀ = Δzᵀ B and u = (Δz − B Δg) / (vᵀ Δg), entries that are not finite set to 0. Because the step
//! was Δz = −B g, the numerator is −B g at the new point, so each step needs only one product with B and one
//! with Bᵀ. The first step is z_1 = f(z_0).

use serde::{Deserialize, Serialize};

use super::{Bars, Evaluated, Evaluation, InverseJacobian, Memory, Reverse, Solver, Trajectory, add};
use crate::model::cell::FixedPointMap;
use crate::state::{BroydenStep, Correction, State};

/// Broyden's "good" method without line search. It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broyden;

#[typetag::serde(name = "broyden")]
impl Solver for Broyden {
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    fn start(&self) -> Box<dyn Memory> {
        Box::new(BroydenMemory::default())
    }

    fn backwards(&self) -> Option<Box<dyn Reverse>> {
        Some(Box::new(Backwards::default()))
    }

    fn inverse_jacobian(&self) -> Option<Box<dyn InverseJacobian>> {
        Some(Box::new(BroydenMemory::default()))
    }
}

/// The memory of Broyden's method: B, and the last point.
#[derive(Default)]
pub struct BroydenMemory {
    /// The rank-one corrections u, v of B, oldest first, each `[N, D]`.
    corrections: Vec<Correction>,
    previous: Option<(State, State)>,
}

impl BroydenMemory {
    /// B x, `[N, D]`.
    pub fn product(&self, x: &State) -> State {
        self.product_at(self.corrections.len(), x)
    }

    /// Bᵀ x, `[N, D]`.
    pub fn transposed_product(&self, x: &State) -> State {
        self.transposed_product_at(self.corrections.len(), x)
    }

    /// B_t x, `[N, D]`: with the first t corrections.
    pub fn product_at(&self, t: usize, x: &State) -> State {
        let terms = self.corrections[..t].iter();
        terms.fold(-x.clone(), |sum, (u, v)| sum + u.clone().times(&v.dot(x)))
    }

    /// B_tᵀ x, `[N, D]`: with the first t corrections.
    pub fn transposed_product_at(&self, t: usize, x: &State) -> State {
        let terms = self.corrections[..t].iter();
        terms.fold(-x.clone(), |sum, (u, v)| sum + v.clone().times(&u.dot(x)))
    }

    /// The rank-one corrections (u, v) so far, oldest first.
    pub fn corrections(&self) -> &[Correction] {
        &self.corrections
    }

    /// Takes in a point z with g = f(z) − z, correcting B if there was one before, and returns B g: the step is
    /// its negative.
    pub fn direction(&mut self, state: &State, residual: &State) -> State {
        match self.fused(state, residual, false) {
            Some(direction) => direction,
            None => self.composed(state, residual),
        }
    }

    /// B g, or the next state, by the one operation that some rows have for it.
    fn fused(&mut self, state: &State, residual: &State, next: bool) -> Option<State> {
        let (previous, corrections) = (self.previous.as_ref(), self.corrections.as_slice());
        let (result, correction) = state.broyden(&BroydenStep { residual, previous, corrections, next })?;
        self.corrections.extend(correction);
        self.previous = Some((state.clone(), residual.clone()));
        Some(result)
    }

    /// The direction in operations on rows, wherever they are.
    fn composed(&mut self, state: &State, residual: &State) -> State {
        let mut direction = self.product(residual);
        if let Some((previous_state, previous_residual)) = self.previous.take() {
            let v = self.transposed_product(&(state.clone() - previous_state));
            let change = residual.clone() - previous_residual;
            let u = (-direction.clone()).over(&v.dot(&change)).finite_or_zero();
            let v = v.finite_or_zero();
            direction = direction + u.clone().times(&v.dot(residual));
            self.corrections.push((u, v));
        }
        self.previous = Some((state.clone(), residual.clone()));
        direction
    }
}

impl Memory for BroydenMemory {
    fn next(&mut self, current: &Evaluated, _map: &dyn FixedPointMap) -> State {
        match self.fused(&current.state, &current.residual, true) {
            Some(next) => next,
            None => current.state.clone() - self.composed(&current.state, &current.residual),
        }
    }

    fn select(&mut self, rows: &[usize]) {
        for (u, v) in &mut self.corrections {
            *u = u.select(rows);
            *v = v.select(rows);
        }
        if let Some((state, residual)) = &mut self.previous {
            *state = state.select(rows);
            *residual = residual.select(rows);
        }
    }
}

impl InverseJacobian for BroydenMemory {
    fn observe(&mut self, point: Evaluated) {
        self.direction(&point.state, &point.residual);
    }

    fn transposed_product(&self, x: &State) -> State {
        BroydenMemory::transposed_product(self, x)
    }
}

/// The iteration run backwards. Per example it computes, with B_t = −I + Σ_{k<t} u_k v_kᵀ and g_t = f(z_t) − z_t,
///
/// ```text
/// d_t = B_t g_t,   z_{t+1} = z_t − d_t,   g_{t+1} = f(z_{t+1}) − z_{t+1},
/// v_t = B_tᵀ Δz = −B_tᵀ d_t,   p_t = B_t g_{t+1},   s_t = v_tᵀ (g_{t+1} − g_t),   u_t = −p_t / s_t.
/// ```
#[derive(Default)]
struct Backwards {
    /// g_0..g_T.
    residuals: Vec<State>,
    /// d_0..d_{T−1}.
    directions: Vec<State>,
    memory: BroydenMemory,
    /// Cotangents of u_k and v_k.
    bars: Vec<(Option<State>, Option<State>)>,
    /// That of d_t by way of u_t and v_t, from [`Reverse::memory`] to [`Reverse::step`].
    direction: Option<State>,
}

impl Reverse for Backwards {
    fn follow(&mut self, trajectory: &Trajectory) {
        let steps = trajectory.len();
        let mut memory = BroydenMemory::default();
        let (mut residuals, mut directions) = (Vec::new(), Vec::new());
        for t in 0..=steps {
            let Evaluation { state, value } = trajectory.evaluation(t);
            let residual = value - state.clone();
            if t < steps {
                directions.push(memory.direction(&state, &residual));
            }
            residuals.push(residual);
        }
        *self = Self { residuals, directions, memory, bars: vec![(None, None); steps], direction: None };
    }

    fn memory(&mut self, t: usize, bars: &mut Bars) {
        // Only steps after t use u_t and v_t, so both bars are complete here, or there are none.
        let (Some(u_bar), Some(v_bar)) = (self.bars[t].0.take(), self.bars[t].1.take()) else { return };
        let corrections = self.memory.corrections();
        let (u, v) = &corrections[t];
        let (g, g_next) = (&self.residuals[t], &self.residuals[t + 1]);
        let change = g_next.clone() - g.clone();
        let s = v.dot(&change);
        let p_bar = (-u_bar.clone()).over(&s).finite_or_zero();
        let s_bar = (-u_bar.dot(u)).over(&s).finite_or_zero();
        // s_t = v_tᵀ (g_{t+1} − g_t)
        let v_bar = v_bar + change.times(&s_bar);
        let along = v.clone().times(&s_bar);
        bars.add_residual(t, -along.clone());
        // p_t = B_t g_{t+1}
        bars.add_residual(t + 1, along + self.memory.transposed_product_at(t, &p_bar));
        // v_t = −B_tᵀ d_t
        let d = &self.directions[t];
        self.direction = Some(-self.memory.product_at(t, &v_bar));
        for (k, (u_k, v_k)) in corrections[..t].iter().enumerate() {
            let (u_bar, v_bar_k) = &mut self.bars[k];
            add(u_bar, p_bar.clone().times(&v_k.dot(g_next)) - d.clone().times(&v_k.dot(&v_bar)));
            add(v_bar_k, g_next.clone().times(&u_k.dot(&p_bar)) - v_bar.clone().times(&u_k.dot(d)));
        }
    }

    fn step(&mut self, t: usize, next: &State, bars: &mut Bars) {
        // z_{t+1} = z_t − d_t
        bars.add_state(t, next.clone());
        let d_bar = match self.direction.take() {
            None => -next.clone(),
            Some(direction) => direction - next.clone(),
        };
        // d_t = B_t g_t
        bars.add_residual(t, self.memory.transposed_product_at(t, &d_bar));
        let g = &self.residuals[t];
        for (k, (u_k, v_k)) in self.memory.corrections()[..t].iter().enumerate() {
            let (u_bar, v_bar) = &mut self.bars[k];
            add(u_bar, d_bar.clone().times(&v_k.dot(g)));
            add(v_bar, g.clone().times(&u_k.dot(&d_bar)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};
    use equipoise_attack::batch::from_vec;

    /// A few steps on a linear map, both ways.
    #[test]
    fn fused_steps_are_the_composed_ones() {
        let device = Device::default();
        let (n, dim) = (3, 77);
        let numbers = |seed: usize| -> Tensor<2> {
            let entry = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5;
            from_vec((0..n * dim).map(entry).collect(), [n, dim], &device)
        };
        let (slope, offset) = (numbers(1) * 0.8, numbers(2));
        let residual_at = |state: &State| {
            let value = state.tensor().clone() * slope.clone() + offset.clone();
            State::from(value) - state.clone()
        };
        let (mut fused, mut composed) = (BroydenMemory::default(), BroydenMemory::default());
        let mut state = State::from(numbers(3));
        for step in 0..6 {
            let residual = residual_at(&state);
            let found = fused.direction(&state, &residual);
            let expected = composed.composed(&state, &residual);
            for (a, b) in found.to_f32().iter().zip(expected.to_f32()) {
                assert!((a - b).abs() < 1e-4, "step {step}: {a} and {b}");
            }
            assert_eq!(fused.corrections.len(), step);
            state = state - found;
        }
        // The same point again: Δg is zero, u is not finite, and the correction is none.
        let residual = residual_at(&state);
        for _ in 0..2 {
            let direction = fused.direction(&state, &residual);
            assert!(direction.to_f32().iter().all(|x| x.is_finite()));
        }
        assert!(fused.corrections[6].0.to_f32().iter().all(|x| *x == 0.0));
    }
}
