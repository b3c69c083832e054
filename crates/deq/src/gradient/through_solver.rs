//! Reverse mode through the whole iteration of the solver: the true gradient of the function that is deployed.
//!
//! With g_t = f(z_t) − z_t an iterate z_{t+1} follows from z_0..z_t and g_0..g_t; how is the solver's to say, and to run
//! backwards ([`Reverse`](crate::solve::Reverse)). The cell enters only through its linearisation at each z_t, which the
//! solve kept on its way or, where the memory for that did not reach, is made when its turn comes: memory is a few vectors
//! of the state's size for each step (4 for Broyden's method: g, d, u, v) beside what is [kept](crate::solve::Keep).
//!
//! Exact wherever the deployed function is differentiable: where an example stops, and which iterate is its best,
//! are piecewise constant.

use super::{
    Cotangents, Estimator, EstimatorError, EstimatorKind, GradientEstimator, Reading, Setting, Solved,
    unrolled,
};
use crate::readout::{ReadState, Readout, Tail};
use crate::solve::{Bars, SolverConfig, Trajectory, add};
use crate::state::State;
use equipoise_attack::work::Work;

pub(super) const KIND: EstimatorKind = EstimatorKind {
    name: "through-solver",
    usage: "through-solver",
    parse: |spec| spec.settings(&[]).map(|_| Estimator::through_solver()),
};

/// The gradient of the deployed function.
pub(super) struct ThroughSolver;

impl GradientEstimator for ThroughSolver {
    fn spec(&self) -> String {
        "through-solver".to_owned()
    }

    fn check(&self, solver: &SolverConfig) -> Result<(), EstimatorError> {
        if solver.method.backwards().is_some() {
            return Ok(());
        }
        let name = solver.method.name();
        let problem = format!("the model's solver, {name}, cannot be run backwards; choose another gradient");
        Err(EstimatorError::new(self.spec(), problem))
    }

    fn work(&self, setting: &Setting<'_>) -> Work {
        let last = setting.readout.last(setting.steps);
        let tails = setting.readout.tails(setting.steps);
        // A tail begins at a state that is linearised already, as a rule: the last one, which nothing else visits.
        let applications = tails * setting.tail.applications();
        let known = usize::from(setting.readout.states(setting.steps).contains(&ReadState::Final));
        Work::new(applications.saturating_sub(known), last + applications)
    }

    fn visits(&self, setting: &Setting<'_>) -> Vec<usize> {
        let last = setting.readout.last(setting.steps);
        let tail = setting.readout.states(setting.steps).contains(&ReadState::Final);
        (0..last).chain(tail.then_some(setting.steps)).collect()
    }

    fn reads(&self, _: &Readout, _: &Tail) -> bool {
        true
    }

    fn pull_back(&self, at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
        pull_back(at, weight, cotangents)
    }
}

fn pull_back(at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
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
                let moved = next.clone().times(&moving);
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
    moving.contains(&0.0).then(|| like.like(moving, 1))
}

/// Reads the loss behind the deployed readout; returns the cotangents of z_0..z_T that it leaves.
fn read(at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> (Reading, Vec<Option<State>>) {
    let (trajectory, steps) = (at.trajectory, at.trajectory.len());
    let read = at.readout.states(steps);
    // The way back from a final state ends at the cotangent of the iterate where its tail begins.
    let tails: Vec<Option<unrolled::Tape>> = read
        .iter()
        .map(|read| read.before_tail().map(|best| unrolled::Tape::record(at, best, &at.tail)))
        .collect();
    let state = |(read, tail): (&ReadState, &Option<unrolled::Tape>)| match (read, tail) {
        (_, Some(tail)) => tail.end().clone(),
        (read, None) => trajectory.choose(read.choice()),
    };
    let states: Vec<State> = read.iter().zip(&tails).map(state).collect();
    let (reading, derivatives) = at.readout.transpose(&states, at.head, at.objective, weight);
    let mut bars: Vec<Option<State>> = vec![None; steps + 1];
    for ((read, tail), derivative) in read.iter().zip(tails).zip(derivatives) {
        let Some(tail) = tail else {
            add(&mut bars[read.last(steps)], derivative);
            continue;
        };
        let at_best = tail.pull_back(derivative, cotangents);
        let best = trajectory.numbers(read.choice());
        for (t, bar) in bars.iter_mut().enumerate() {
            let here: Vec<usize> = (0..best.len()).filter(|&row| best[row] == t).collect();
            if !here.is_empty() {
                add(bar, at_best.zeros_like().put(&here, &at_best.select(&here)));
            }
        }
    }
    (reading, bars)
}

/// Pulls the cotangent of f(z_t) back to z_t, for the examples of which a later iterate was read: the others' is 0,
/// and costs them nothing, whatever the rest of the batch needs.
fn through_cell(at: &Solved<'_>, t: usize, bar: &State, cotangents: &mut Cotangents) -> State {
    let trajectory = at.trajectory;
    let steps = trajectory.steps();
    let read = at.readout.states(trajectory.len());
    let numbers: Vec<Vec<usize>> = read.iter().map(|read| trajectory.numbers(read.choice())).collect();
    // The last iterate that was read and that the example moved to.
    let reach = |row: usize| numbers.iter().map(|numbers| numbers[row].min(steps[row])).max().unwrap_or(0);
    let count = steps.len();
    let rows: Vec<usize> = (0..count).filter(|&row| reach(row) > t).collect();
    let state = trajectory.evaluation(t).state;
    if rows.is_empty() {
        return bar.zeros_like();
    }
    let linearization = trajectory.linearize_rows(at.cell, |_| t, &state, &rows);
    if rows.len() == count {
        return cotangents.through(&*linearization, bar);
    }
    cotangents.through_rows(&*linearization, &bar.select(&rows), &rows, count)
}
