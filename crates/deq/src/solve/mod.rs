//! Fixed-point solvers: one loop drives them all, each example on its own.
//!
//! A solver turns a map f and a start z_0 into a [`Trajectory`] z_1, z_2, ... towards z* = f(z*). Norms,
//! stopping, the best iterate and the solver's memory are per example, and an example that has stopped
//! leaves the batch, so what it becomes never depends on its neighbours. How it stopped is data
//! ([`StopReason`]), not an error.
//!
//! With g(z) = f(z) − z: [`Picard`] z ← z + τ g; [`Anderson`] mixes the last m points (Walker and Ni 2011);
//! [`Reversible`] z_{t+1} = (1−β) z_{t−1} + β f(z_t);
//! [`Broyden`] z ← z − B g with a limited-memory inverse Jacobian (Broyden 1965; Bai, Kolter and Koltun 2019). One more
//! solver is one more file beside theirs, or in a crate of its own: an implementation of [`Solver`].

mod anderson;
mod broyden;
mod kept;
mod picard;
mod reversible;
pub(crate) mod small;
mod solver;
mod trajectory;

pub use anderson::Anderson;
pub use broyden::{Broyden, BroydenMemory};
pub use kept::Keep;
pub use picard::Picard;
pub use reversible::Reversible;
pub(crate) use solver::add;
pub use solver::{Bars, InverseJacobian, Memory, Method, Reverse, Solver};
pub use trajectory::{Evaluation, StateChoice, StopReason, Trajectory};

use serde::{Deserialize, Serialize};

use crate::model::cell::{BoundCell, FixedPointMap};
use crate::state::State;
use kept::Keeper;

/// What "the residual is small enough" and "the best iterate" refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopScope {
    /// Each example alone: the only scope under which results do not depend on the batch.
    #[default]
    Example,
    /// The whole batch's norms, as in the authors' release. For comparison with it only.
    Batch,
}

/// A solver and when it stops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SolverConfig {
    /// The solver.
    #[serde(default = "defaults::method")]
    pub method: Method,
    /// T: at most so many steps.
    #[serde(default = "defaults::steps")]
    pub steps: usize,
    /// An example has converged when its relative residual ‖f(z) − z‖ / ‖f(z)‖ is below this; 0 never stops.
    #[serde(default = "defaults::tolerance")]
    pub tolerance: f64,
    /// Whose norms.
    #[serde(default)]
    pub scope: StopScope,
}

mod defaults {
    use super::Method;
    pub fn method() -> Method {
        Method::broyden()
    }
    pub fn steps() -> usize {
        8
    }
    pub fn tolerance() -> f64 {
        1e-3
    }
}

impl Default for SolverConfig {
    fn default() -> Self {
        Self {
            method: defaults::method(),
            steps: defaults::steps(),
            tolerance: defaults::tolerance(),
            scope: StopScope::Example,
        }
    }
}

/// The most steps of a solver, and the most applications of f after it: every iterate is kept in memory.
pub const MAX_STEPS: usize = 1_000;

/// Solver settings that make no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("solver: {0}")]
pub struct SolverError(pub(crate) String);

impl SolverConfig {
    /// Broyden's method, T steps, the default tolerance.
    pub fn broyden(steps: usize) -> Self {
        Self { steps, ..Self::default() }
    }

    /// Anderson's method with the default memory, regularisation and mixing.
    pub fn anderson(steps: usize) -> Self {
        Self { method: Anderson::default().into(), steps, ..Self::default() }
    }

    /// Picard's method.
    pub fn picard(steps: usize, damping: f64) -> Self {
        Self { method: Method::picard(damping), steps, ..Self::default() }
    }

    /// The reversible iteration.
    pub fn reversible(steps: usize, beta: f64) -> Self {
        Self { method: Reversible { beta }.into(), steps, ..Self::default() }
    }

    /// The same with another tolerance.
    pub fn with_tolerance(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// Whether the settings make sense.
    ///
    /// # Errors
    ///
    /// Names the setting and its range.
    pub fn validate(&self) -> Result<(), SolverError> {
        let wrong = |problem: String| Err(SolverError(problem));
        if self.steps == 0 {
            return wrong("steps must be at least 1".into());
        }
        if self.steps > MAX_STEPS {
            return wrong(format!("steps {} must be at most {MAX_STEPS}", self.steps));
        }
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            return wrong(format!("tolerance {} must be finite and not negative", self.tolerance));
        }
        self.method.validate().map_err(SolverError)
    }
}

/// A state with f and g = f − z there, for the examples still in the batch.
#[derive(Clone)]
pub struct Evaluated {
    /// z, `[N, D]`.
    pub state: State,
    /// f(z), `[N, D]`.
    pub value: State,
    /// g(z) = f(z) − z, `[N, D]`.
    pub residual: State,
    /// ‖g‖ and ‖f‖ of each example.
    norms: Vec<(f64, f64)>,
}

impl Evaluated {
    /// A state z `[N, D]` with f(z).
    pub fn new(state: State, value: State) -> Self {
        let (residual, norms) = state.residual(&value);
        Self { state, value, residual, norms }
    }

    /// ‖g‖ of each example.
    pub fn residual_norms(&self) -> impl Iterator<Item = f64> + '_ {
        self.norms.iter().map(|norms| norms.0)
    }

    /// The same for some of the examples.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            state: self.state.select(rows),
            value: self.value.select(rows),
            residual: self.residual.select(rows),
            norms: rows.iter().map(|&row| self.norms[row]).collect(),
        }
    }
}

/// A point of a trajectory, as the solver saw it.
impl From<Evaluation> for Evaluated {
    fn from(Evaluation { state, value }: Evaluation) -> Self {
        Self::new(state, value)
    }
}

/// Residual growth beyond this factor of the first is divergence.
pub const DIVERGENCE: f64 = 1e3;
/// This many steps without a new best residual are a stall.
pub const PATIENCE: usize = 30;

/// Iterates `map` from `start` `[N, D]`. Costs one evaluation of each example for z_0 and one per step until
/// that example stops, beside those that the solver makes on its way to an iterate.
pub fn solve(map: &dyn FixedPointMap, start: State, config: &SolverConfig) -> Trajectory {
    let value = map.apply_to_iterate(&start);
    iterate(map, Evaluation { state: start, value }, config, None)
}

/// The same for a map whose value f(z_0) is known beforehand: one evaluation less.
pub fn solve_knowing(map: &dyn FixedPointMap, first: Evaluation, config: &SolverConfig) -> Trajectory {
    iterate(map, first, config, None)
}

/// The same for a cell, with what is kept for [`Trajectory::linearize`].
pub fn solve_keeping(cell: &dyn BoundCell, start: State, config: &SolverConfig, keep: &Keep) -> Trajectory {
    let mut keeper = Keeper::new(cell, keep, config.steps);
    let all: Vec<usize> = (0..start.dims()[0]).collect();
    let value = keeper.evaluate(0, &start, &all, &start).unwrap_or_else(|| cell.apply_to_iterate(&start));
    iterate(cell, Evaluation { state: start, value }, config, Some(keeper))
}

/// The one loop of all solvers, with what keeps linearisations of a cell on the way.
fn iterate(
    map: &dyn FixedPointMap,
    first: Evaluation,
    config: &SolverConfig,
    mut keeper: Option<Keeper<'_>>,
) -> Trajectory {
    let count = first.state.dims()[0];
    let mut active: Vec<usize> = (0..count).collect();
    let mut memory = config.method.start();
    let mut current = Evaluated::new(first.state.clone(), first.value.clone());
    let mut record = trajectory::Recorder::new(first.clone(), config);
    record.first(&residual_norms(&current, config.scope));
    let mut selected = None;
    let mut full = first;
    for t in 1..=config.steps {
        if active.is_empty() {
            break;
        }
        let here: &dyn FixedPointMap = selected.as_deref().unwrap_or(map);
        let next = memory.next(&current, here);
        let kept = keeper.as_mut().and_then(|keeper| keeper.evaluate(t, &full.state, &active, &next));
        let value = kept.unwrap_or_else(|| here.apply_to_iterate(&next));
        current = Evaluated::new(next, value);
        full = Evaluation {
            state: full.state.put(&active, &current.state),
            value: full.value.put(&active, &current.value),
        };
        record.step(full.clone(), &active, &residual_norms(&current, config.scope));
        let staying = record.staying(&active, config.tolerance);
        if staying.len() < active.len() && !staying.is_empty() {
            memory.select(&staying);
            current = current.select(&staying);
            // Rows of the original map: selections of selections would pile up.
            let rows: Vec<usize> = staying.iter().map(|&k| active[k]).collect();
            selected = Some(map.select(&rows));
        }
        active = staying.into_iter().map(|k| active[k]).collect();
    }
    if let Some(keeper) = keeper {
        record.keep(keeper.kept);
    }
    record.finish()
}

/// ‖g‖ and ‖f‖ of each example, or of the whole batch for each.
fn residual_norms(current: &Evaluated, scope: StopScope) -> Vec<(f64, f64)> {
    match scope {
        StopScope::Example => current.norms.clone(),
        StopScope::Batch => {
            let sum =
                |of: fn(&(f64, f64)) -> f64| current.norms.iter().map(|norms| of(norms).powi(2)).sum::<f64>();
            let whole = (sum(|norms| norms.0).sqrt(), sum(|norms| norms.1).sqrt());
            vec![whole; current.norms.len()]
        }
    }
}
