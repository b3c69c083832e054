//! Reverse mode through the whole Broyden iteration: the true gradient of the function that is deployed.
//!
//! Per example the iteration computes, with B_t = −I + Σ_{k<t} u_k v_kᵀ and g_t = f(z_t) − z_t,
//!
//! ```text
//! d_t = B_t g_t,   z_{t+1} = z_t − d_t,   g_{t+1} = f(z_{t+1}) − z_{t+1},
//! v_t = B_tᵀ Δz = −B_tᵀ d_t,   p_t = B_t g_{t+1},   s_t = v_tᵀ (g_{t+1} − g_t),   u_t = −p_t / s_t.
//! ```
//!
//! The reverse pass runs these lines backwards, with a bar for the cotangent of each quantity. The cell enters only
//! through its linearisation at each z_t, which is recomputed when its turn comes: memory is 4 T vectors of the
//! state's size (g, d, u, v) and one linearisation, whatever the cell keeps.
//!
//! Exact wherever the deployed function is differentiable: where an example stops, and which iterate is its best,
//! are piecewise constant.

use burn::tensor::Tensor;

use super::{Cotangents, Reading, Solved, unrolled};
use crate::batch::{dot, from_vec, put_rows, select};
use crate::readout::Readout;
use crate::solve::{Broyden, Evaluation, StateChoice, Trajectory, finite_or_zero};
use crate::state::State;

pub(super) fn pull_back(at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
    let (reading, states) = read(at, weight, cotangents);
    let path = Path::follow(at.trajectory);
    path.pull_back(at, states, cotangents);
    reading
}

/// Reads the loss behind the deployed readout; returns the cotangents of z_1..z_T that it leaves.
fn read(at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> (Reading, Vec<Option<State>>) {
    let steps = at.trajectory.len();
    let mut states: Vec<Option<State>> = vec![None; steps + 1];
    if let Readout::Early(t) = at.readout {
        let t = t.min(steps);
        let (reading, cotangent) = at.head.read(at.trajectory.state(t), at.objective, weight);
        states[t] = Some(cotangent);
        return (reading, states);
    }
    // The final state: the tail, from the best iterate. Its way back ends at the best iterate's cotangent.
    let best = at.trajectory.choose(StateChoice::Best);
    let tail = unrolled::Tape::record(at.cell, best, &at.tail);
    let (reading, at_final) = match at.readout {
        Readout::Final => at.head.read(tail.end(), at.objective, weight),
        Readout::EnsembleStates => {
            let count = (steps + 1) as f64;
            let sum = at.trajectory.states().iter().cloned().chain([tail.end().clone()]);
            let mean = sum.reduce(|sum, term| sum + term).expect("at least one state") / count;
            let (reading, cotangent) = at.head.read(&mean, at.objective, weight);
            let share = cotangent / count;
            states[1..].iter_mut().for_each(|state| *state = Some(share.clone()));
            (reading, share)
        }
        Readout::EnsembleLogits => {
            let members: Vec<State> =
                at.trajectory.states().iter().cloned().chain([tail.end().clone()]).collect();
            let (reading, mut shares) = at.head.read_mean(&members, at.objective, weight);
            let last = shares.pop().expect("one share per member");
            for (state, share) in states[1..].iter_mut().zip(shares) {
                *state = Some(share);
            }
            (reading, last)
        }
        Readout::Early(_) => unreachable!("handled above"),
    };
    let at_best = tail.pull_back(at_final, cotangents);
    for (t, state) in states.iter_mut().enumerate() {
        let best = at.trajectory.best().iter().enumerate();
        let here: Vec<usize> = best.filter(|&(_, &best)| best == t).map(|(row, _)| row).collect();
        if !here.is_empty() {
            add(state, put_rows(&at_best.zeros_like(), &here, &select(&at_best, &here)));
        }
    }
    (reading, states)
}

/// What the iteration computed, replayed from its trajectory.
struct Path {
    /// g_0..g_T.
    residuals: Vec<State>,
    /// d_0..d_{T−1}.
    directions: Vec<State>,
    memory: Broyden,
    /// 1 for the examples that took step t, 0 for those that had stopped; `None` if all took it.
    moving: Vec<Option<Tensor<2>>>,
}

impl Path {
    fn follow(trajectory: &Trajectory) -> Self {
        let mut memory = Broyden::default();
        let mut path = Self {
            residuals: Vec::new(),
            directions: Vec::new(),
            memory: Broyden::default(),
            moving: Vec::new(),
        };
        let steps = trajectory.len();
        for t in 0..=steps {
            let Evaluation { state, value } = trajectory.evaluation(t);
            let residual = value - state.clone();
            if t < steps {
                path.directions.push(memory.direction(&state, &residual));
                let took = |&taken: &usize| f32::from(u8::from(taken > t));
                let moving: Vec<f32> = trajectory.steps().iter().map(took).collect();
                path.moving.push(moving.contains(&0.0).then(|| {
                    let rows = moving.len();
                    from_vec(moving, [rows, 1], &state.device()).cast(state.dtype())
                }));
            }
            path.residuals.push(residual);
        }
        path.memory = memory;
        path
    }

    /// Runs the iteration backwards from the cotangents of z_0..z_T.
    fn pull_back(self, at: &Solved<'_>, mut states: Vec<Option<State>>, cotangents: &mut Cotangents) {
        let steps = self.directions.len();
        let mut residuals: Vec<Option<State>> = vec![None; steps + 1];
        // Cotangents of u_k and v_k.
        let mut bars: Vec<(Option<State>, Option<State>)> = vec![(None, None); steps];
        let corrections = self.memory.corrections();
        for t in (0..steps).rev() {
            let mut direction: Option<State> = None;
            if let (Some(u_bar), Some(v_bar)) = (bars[t].0.take(), bars[t].1.take()) {
                // Only steps after t use u_t and v_t, so both bars are complete here, or there are none.
                let (u, v) = &corrections[t];
                let (g, g_next) = (&self.residuals[t], &self.residuals[t + 1]);
                let change = g_next.clone() - g.clone();
                let s = dot(v, &change);
                let p_bar = finite_or_zero(u_bar.clone().neg() / s.clone());
                let s_bar = finite_or_zero(dot(&u_bar, u).neg() / s);
                // s_t = v_tᵀ (g_{t+1} − g_t)
                let v_bar = v_bar + change * s_bar.clone();
                let along = v.clone() * s_bar;
                add(&mut residuals[t], along.clone().neg());
                // p_t = B_t g_{t+1}
                add(&mut residuals[t + 1], along + self.memory.transposed_product_at(t, &p_bar));
                // v_t = −B_tᵀ d_t
                let d = &self.directions[t];
                direction = Some(self.memory.product_at(t, &v_bar).neg());
                for (k, (u_k, v_k)) in corrections[..t].iter().enumerate() {
                    let (u_bar, v_bar_k) = &mut bars[k];
                    add(u_bar, p_bar.clone() * dot(v_k, g_next) - d.clone() * dot(v_k, &v_bar));
                    add(v_bar_k, g_next.clone() * dot(u_k, &p_bar) - v_bar.clone() * dot(u_k, d));
                }
            }
            // g_{t+1} = f(z_{t+1}) − z_{t+1}
            let mut next = states[t + 1].take();
            if let Some(bar) = residuals[t + 1].take() {
                let through = through_cell(at, t + 1, &bar, cotangents);
                add(&mut next, through - bar);
            }
            let Some(next) = next else { continue };
            // z_{t+1} = z_t − d_t, for the examples that took this step; the others stayed.
            add(&mut states[t], next.clone());
            let moved = match &self.moving[t] {
                None => next,
                Some(moving) => next * moving.clone(),
            };
            let d_bar = match direction {
                None => moved.neg(),
                Some(direction) => direction - moved,
            };
            // d_t = B_t g_t
            add(&mut residuals[t], self.memory.transposed_product_at(t, &d_bar));
            let g = &self.residuals[t];
            for (k, (u_k, v_k)) in corrections[..t].iter().enumerate() {
                let (u_bar, v_bar) = &mut bars[k];
                add(u_bar, d_bar.clone() * dot(v_k, g));
                add(v_bar, g.clone() * dot(u_k, &d_bar));
            }
        }
        // g_0 = f(0) − 0, and z_0 does not depend on the image.
        if let Some(bar) = residuals[0].take() {
            through_cell(at, 0, &bar, cotangents);
        }
    }
}

/// Pulls the cotangent of f(z_t) back to z_t, for the examples of which a later iterate was read: the others' is 0,
/// and costs them nothing, whatever the rest of the batch needs.
fn through_cell(at: &Solved<'_>, t: usize, bar: &State, cotangents: &mut Cotangents) -> State {
    let trajectory = at.trajectory;
    let (best, steps) = (trajectory.best(), trajectory.steps());
    // The last iterate that was read and that the example moved to.
    let reach = |row: usize| match at.readout {
        Readout::Final => best[row],
        Readout::Early(read) => read.min(steps[row]),
        Readout::EnsembleStates | Readout::EnsembleLogits => steps[row],
    };
    let count = best.len();
    let rows: Vec<usize> = (0..count).filter(|&row| reach(row) > t).collect();
    let state = trajectory.evaluation(t).state;
    if rows.len() == count {
        let linearization = at.cell.linearize(&state);
        return cotangents.through(&*linearization, bar);
    }
    if rows.is_empty() {
        return bar.zeros_like();
    }
    let linearization = at.cell.linearize_rows(&state, &rows);
    cotangents.through_rows(&*linearization, &select(bar, &rows), &rows, count)
}

fn add(sum: &mut Option<State>, term: State) {
    *sum = Some(match sum.take() {
        None => term,
        Some(sum) => sum + term,
    });
}
