//! Reverse mode through the whole iteration of the solver: the true gradient of the function that is deployed.
//!
//! With g_t = f(z_t) − z_t an iterate z_{t+1} follows from z_0..z_t and g_0..g_t; how is the solver's to say, and to run
//! backwards ([`Reverse`](crate::solve::Reverse)). The cell enters only through its linearisation at each z_t, which is
//! recomputed when its turn comes: memory is a few vectors of the state's size for each step (4 for Broyden's method: g, d,
//! u, v) and one linearisation, whatever the cell keeps.
//!
//! Exact wherever the deployed function is differentiable: where an example stops, and which iterate is its best,
//! are piecewise constant.

use super::{Cotangents, Reading, Solved, unrolled};
use crate::batch::{column, put_rows, select};
use crate::readout::Readout;
use crate::solve::{Bars, StateChoice, Trajectory, add};
use crate::state::State;

pub(super) fn pull_back(at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
    let (reading, states) = read(at, weight, cotangents);
    let (trajectory, mut bars) = (at.trajectory, Bars::new(states));
    let mut solver = trajectory.method().backwards().expect("`Estimator::check` refuses a solver without it");
    solver.follow(trajectory);
    for t in (0..trajectory.len()).rev() {
        solver.memory(t, &mut bars);
        // g_{t+1} = f(z_{t+1}) − z_{t+1}
        if let Some(bar) = bars.residuals[t + 1].take() {
            let through = through_cell(at, t + 1, &bar, cotangents);
            bars.add_state(t + 1, through - bar);
        }
        let Some(next) = bars.states[t + 1].take() else { continue };
        match moving(trajectory, t, &next) {
            None => solver.step(t, &next, &mut bars),
            Some(moving) => {
                let moved = next.clone() * moving;
                bars.add_state(t, next - moved.clone());
                solver.step(t, &moved, &mut bars);
            }
        }
    }
    // g_0 = f(0) − 0, and z_0 does not depend on the image.
    if let Some(bar) = bars.residuals[0].take() {
        through_cell(at, 0, &bar, cotangents);
    }
    reading
}

/// 1 for the examples that took step t, 0 for those that had stopped and stayed where they were, `[N, 1]`; `None` if all
/// took it.
fn moving(trajectory: &Trajectory, t: usize, like: &State) -> Option<State> {
    let moving: Vec<f64> = trajectory.steps().iter().map(|&taken| f64::from(u8::from(taken > t))).collect();
    moving.contains(&0.0).then(|| column(moving, like))
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
    let tail = unrolled::Tape::record(at, StateChoice::Best, &at.tail);
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
