//! Fixed-point solvers: one loop drives them all, each example on its own.
//!
//! A solver turns a map f and a start z_0 into a [`Trajectory`] z_1, z_2, ... towards z* = f(z*). Norms,
//! stopping, the best iterate and the solver's memory are per example, and an example that has stopped
//! leaves the batch, so what it becomes never depends on its neighbours. How it stopped is data
//! ([`StopReason`]), not an error.
//!
//! With g(z) = f(z) − z: [`Picard`](Method::Picard) z ← z + τ g; [`Anderson`](Method::Anderson) mixes the
//! last m points (Walker and Ni 2011); [`Broyden`](Method::Broyden) z ← z − B g with a limited-memory inverse
//! Jacobian (Broyden 1965; Bai, Kolter and Koltun 2019).

mod anderson;
mod broyden;
mod kept;
mod picard;
mod small;
mod trajectory;

pub use broyden::Broyden;
pub(crate) use broyden::finite_or_zero;
pub use kept::Keep;
pub use trajectory::{Evaluation, StateChoice, StopReason, Trajectory};

use equipoise_kernels::residuals;
use serde::{Deserialize, Serialize};

use crate::batch::{self, norm, put_rows, to_vec};
use crate::model::cell::{BoundCell, FixedPointMap};
use crate::plain::{numbers_of, plain};
use crate::state::State;
use kept::Kept;

/// Which solver, with its own settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Method {
    /// z ← (1−τ) z + τ f(z).
    Picard {
        /// τ in (0, 1\].
        damping: f64,
    },
    /// Anderson acceleration, type II, regularised.
    Anderson {
        /// Number m of points mixed.
        #[serde(default = "defaults::memory")]
        memory: usize,
        /// λ, added to the diagonal of the Gram matrix.
        #[serde(default = "defaults::regularisation")]
        regularisation: f64,
        /// β: 1 takes the mix of the f(z), 0 that of the z.
        #[serde(default = "defaults::mixing")]
        mixing: f64,
    },
    /// Broyden's "good" method without line search.
    Broyden,
}

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
        Method::Broyden
    }
    pub fn memory() -> usize {
        6
    }
    pub fn regularisation() -> f64 {
        1e-4
    }
    pub fn mixing() -> f64 {
        1.0
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
        let (memory, regularisation, mixing) =
            (defaults::memory(), defaults::regularisation(), defaults::mixing());
        Self { method: Method::Anderson { memory, regularisation, mixing }, steps, ..Self::default() }
    }

    /// Picard's method.
    pub fn picard(steps: usize, damping: f64) -> Self {
        Self { method: Method::Picard { damping }, steps, ..Self::default() }
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
        match self.method {
            Method::Picard { damping } if !(damping > 0.0 && damping <= 1.0) => {
                wrong(format!("picard damping {damping} must be in (0, 1]"))
            }
            Method::Anderson { memory: 0, .. } => wrong("anderson memory must be at least 1".into()),
            Method::Anderson { memory, .. } if memory > MAX_STEPS => {
                wrong(format!("anderson memory {memory} must be at most {MAX_STEPS}"))
            }
            Method::Anderson { regularisation, .. } if !(0.0..f64::INFINITY).contains(&regularisation) => {
                wrong(format!("anderson regularisation {regularisation} must be finite and not negative"))
            }
            Method::Anderson { mixing, .. } if !(mixing > 0.0 && mixing <= 1.0) => {
                wrong(format!("anderson mixing {mixing} must be in (0, 1]"))
            }
            _ => Ok(()),
        }
    }
}

impl Method {
    fn start(self) -> Box<dyn Memory> {
        match self {
            Self::Picard { damping } => Box::new(picard::Picard { damping }),
            Self::Anderson { memory, regularisation, mixing } => {
                Box::new(anderson::Anderson::new(memory, regularisation, mixing))
            }
            Self::Broyden => Box::new(broyden::Broyden::default()),
        }
    }

    /// The iteration that led to a trajectory, to be run backwards.
    pub(crate) fn backwards(self, trajectory: &Trajectory) -> Box<dyn Reverse> {
        match self {
            Self::Picard { damping } => Box::new(picard::Picard { damping }),
            Self::Anderson { memory, regularisation, mixing } => {
                let anderson = anderson::Anderson::new(memory, regularisation, mixing);
                Box::new(anderson::Backwards::new(anderson, trajectory))
            }
            Self::Broyden => Box::new(broyden::Backwards::new(trajectory)),
        }
    }

    /// The estimate of the inverse Jacobian of g that the method makes on its way; none yet.
    pub(crate) fn inverse_jacobian(self) -> Box<dyn InverseJacobian> {
        match self {
            Self::Picard { damping } => Box::new(picard::Picard { damping }),
            Self::Anderson { memory, regularisation, mixing } => {
                let anderson = anderson::Anderson::new(memory, regularisation, mixing);
                Box::new(anderson::Differences::new(anderson))
            }
            Self::Broyden => Box::new(broyden::Broyden::default()),
        }
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
    /// A point of a trajectory, as the solver saw it.
    pub(crate) fn again(Evaluation { state, value }: Evaluation) -> Self {
        Self::new(state, value)
    }

    fn new(state: State, value: State) -> Self {
        if let (Some(z), Some(f)) = (plain(&state), plain(&value)) {
            let (residual, norms) = residuals(state.dims()[1], numbers_of(&z), numbers_of(&f));
            let residual = batch::from_vec(residual, state.dims(), &state.device());
            return Self { state, value, residual, norms };
        }
        let residual = value.clone() - state.clone();
        let of = |state: &State| to_vec(norm(state)).into_iter().map(f64::from);
        let norms = of(&residual).zip(of(&value)).collect();
        Self { state, value, residual, norms }
    }

    fn select(&self, rows: &[usize]) -> Self {
        Self {
            state: batch::select(&self.state, rows),
            value: batch::select(&self.value, rows),
            residual: batch::select(&self.residual, rows),
            norms: rows.iter().map(|&row| self.norms[row]).collect(),
        }
    }
}

/// What a solver remembers between steps, and how it takes one.
trait Memory {
    /// The next iterate.
    fn next(&mut self, current: &Evaluated) -> State;

    /// Keeps only the given examples.
    fn select(&mut self, rows: &[usize]);
}

/// Cotangents, which formulas write with a bar: of the iterates z_0..z_T, and of g_0..g_T at them.
pub(crate) struct Bars {
    pub(crate) states: Vec<Option<State>>,
    pub(crate) residuals: Vec<Option<State>>,
}

impl Bars {
    /// Those of the iterates z_0..z_T, before anything is pulled back.
    pub(crate) fn new(states: Vec<Option<State>>) -> Self {
        let residuals = vec![None; states.len()];
        Self { states, residuals }
    }

    pub(crate) fn add_state(&mut self, t: usize, term: State) {
        add(&mut self.states[t], term);
    }

    pub(crate) fn add_residual(&mut self, t: usize, term: State) {
        add(&mut self.residuals[t], term);
    }
}

/// A sum that may have no terms yet.
pub(crate) fn add(sum: &mut Option<State>, term: State) {
    *sum = Some(match sum.take() {
        None => term,
        Some(sum) => sum + term,
    });
}

/// A solver's iteration run backwards. For t from T−1 down to 0: [`memory`](Self::memory), then whoever knows the cell turns
/// the cotangent of g_{t+1} into one of z_{t+1}, then [`step`](Self::step).
pub(crate) trait Reverse {
    /// Pulls what steps after t left to what the solver learned from g_{t+1} back to the residuals.
    fn memory(&mut self, _t: usize, _bars: &mut Bars) {}

    /// Pulls the cotangent of z_{t+1} back to z_0..z_t and g_0..g_t. It is 0 for examples that did not take the step.
    fn step(&mut self, t: usize, next: &State, bars: &mut Bars);
}

/// The estimate B of the inverse Jacobian of g that a step z ← z − B g amounts to.
pub(crate) trait InverseJacobian {
    /// Takes in the next point.
    fn observe(&mut self, point: Evaluated);

    /// Bᵀ x, `[N, D]`.
    fn transposed_product(&self, x: &State) -> State;
}

/// Residual growth beyond this factor of the first is divergence.
const DIVERGENCE: f64 = 1e3;
/// This many steps without a new best residual are a stall.
const PATIENCE: usize = 30;

/// Iterates `map` from `start` `[N, D]`. Costs one evaluation of each example for z_0 and one per step until
/// that example stops.
pub fn solve(map: &dyn FixedPointMap, start: State, config: &SolverConfig) -> Trajectory {
    let value = map.apply_to_iterate(&start);
    iterate(map, Evaluation { state: start, value }, config, None)
}

/// The same for a map whose value f(z_0) is known beforehand: one evaluation less.
pub fn solve_knowing(map: &dyn FixedPointMap, first: Evaluation, config: &SolverConfig) -> Trajectory {
    iterate(map, first, config, None)
}

/// The same for a cell, with what is kept for [`Trajectory::linearize`].
pub fn solve_keeping(cell: &dyn BoundCell, start: State, config: &SolverConfig, keep: Keep) -> Trajectory {
    let value = cell.apply_to_iterate(&start);
    let keeping = (keep == Keep::Last).then_some(cell);
    iterate(cell, Evaluation { state: start, value }, config, keeping)
}

/// The one loop of all solvers. Where a cell is given, its linearisation at the last iterate is kept.
fn iterate(
    map: &dyn FixedPointMap,
    first: Evaluation,
    config: &SolverConfig,
    keeping: Option<&dyn BoundCell>,
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
        let next = memory.next(&current);
        let cell = keeping.filter(|_| t == config.steps);
        let kept = cell.and_then(|cell| Kept::at(cell, &full.state, &active, &next));
        let value = match &kept {
            Some(kept) => kept.value().clone(),
            None => here.apply_to_iterate(&next),
        };
        kept.into_iter().for_each(|kept| record.keep(kept));
        current = Evaluated::new(next, value);
        full = Evaluation {
            state: put_rows(&full.state, &active, &current.state),
            value: put_rows(&full.value, &active, &current.value),
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
