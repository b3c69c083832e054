//! What a solve leaves behind: every iterate, every residual, and how each example stopped.

use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use super::kept::Kept;
use super::{DIVERGENCE, Method, PATIENCE, SolverConfig};
use crate::model::cell::{BoundCell, Linearization};
use crate::state::State;

/// How an example's solve ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// The relative residual fell below the tolerance.
    Converged,
    /// The step budget ran out.
    StepLimit,
    /// 30 steps brought no new best residual.
    Stalled,
    /// The relative residual exceeded 1000 times the first.
    Diverged,
    /// The residual was not a finite number.
    NonFinite,
}

/// Which state of a trajectory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum StateChoice {
    /// The iterate with the smallest relative residual.
    Best,
    /// The last iterate.
    Last,
    /// z_t, counted from 1. An example that stopped earlier stays where it stopped.
    At(usize),
    /// The best of z_1..z_k, k from 1: where a solve of k steps would have ended.
    BestOf(usize),
}

impl fmt::Display for StateChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("best"),
            Self::Last => f.write_str("last"),
            Self::At(t) => write!(f, "{t}"),
            Self::BestOf(k) => write!(f, "best-of-{k}"),
        }
    }
}

impl FromStr for StateChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "best" => Ok(Self::Best),
            "last" => Ok(Self::Last),
            numbered => {
                let (choice, number) = match numbered.strip_prefix("best-of-") {
                    Some(number) => (Self::BestOf as fn(usize) -> Self, number),
                    None => (Self::At as fn(usize) -> Self, numbered),
                };
                let number = number.parse().ok().filter(|&number| number >= 1);
                let wrong =
                    || format!("state `{text}` is not `best`, `last`, a number from 1, or `best-of-3`, say");
                number.map(choice).ok_or_else(wrong)
            }
        }
    }
}

impl From<StateChoice> for String {
    fn from(choice: StateChoice) -> Self {
        choice.to_string()
    }
}

impl TryFrom<String> for StateChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A state with f there, both `[N, D]`.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// z.
    pub state: State,
    /// f(z).
    pub value: State,
}

/// The iterates z_1..z_T of N examples, and what is known about them.
#[derive(Debug)]
pub struct Trajectory {
    method: Method,
    start: Evaluation,
    states: Vec<State>,
    values: Vec<State>,
    relative: Vec<Vec<f64>>,
    absolute: Vec<Vec<f64>>,
    best: Vec<usize>,
    steps: Vec<usize>,
    stop: Vec<StopReason>,
    /// The linearisation at z_T of the examples that took step T, until it is asked for.
    kept: RefCell<Option<Kept>>,
}

impl Trajectory {
    /// The solver that led to it.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// T, the step budget. Examples that stopped earlier repeat their last state up to T.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there are no iterates; a solve takes at least one step.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// z_t, `[N, D]`, t from 1. Beyond T, the last.
    pub fn state(&self, t: usize) -> &State {
        &self.states[t.clamp(1, self.states.len()) - 1]
    }

    /// z_t and f(z_t), t from 0: what the solver saw, so that estimators that follow its path need not evaluate
    /// the cell again.
    pub fn evaluation(&self, t: usize) -> Evaluation {
        match t.min(self.states.len()) {
            0 => self.start.clone(),
            t => Evaluation { state: self.states[t - 1].clone(), value: self.values[t - 1].clone() },
        }
    }

    /// All iterates, z_1 first.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// A chosen state of each example, `[N, D]`.
    pub fn choose(&self, choice: StateChoice) -> State {
        match choice {
            StateChoice::At(t) => self.state(t).clone(),
            StateChoice::Last => self.state(self.len()).clone(),
            StateChoice::Best => self.gather(&self.best),
            StateChoice::BestOf(k) => self.gather(&self.best_of(k)),
        }
    }

    /// f at a chosen state of each example, `[N, D]`, which the solve has evaluated.
    pub fn value(&self, choice: StateChoice) -> State {
        gathered(&self.values, &self.numbers(choice))
    }

    /// Number of a chosen iterate of each example, from 1.
    pub fn numbers(&self, choice: StateChoice) -> Vec<usize> {
        match choice {
            StateChoice::At(t) => vec![t.clamp(1, self.len()); self.best.len()],
            StateChoice::Last => vec![self.len(); self.best.len()],
            StateChoice::Best => self.best.clone(),
            StateChoice::BestOf(k) => self.best_of(k),
        }
    }

    /// Number of the best of the first k iterates of each example, from 1.
    pub fn best_of(&self, k: usize) -> Vec<usize> {
        let k = k.clamp(1, self.len());
        let rows = self.relative.iter().zip(&self.best);
        rows.map(|(series, &best)| if best <= k { best } else { lowest(&series[..k]) }).collect()
    }

    /// The cell linearised at a chosen state of each example: what the solve kept of it, which is given away, and anew for
    /// the other examples. `cell` is the one that was solved for.
    pub fn linearize(&self, cell: &dyn BoundCell, choice: StateChoice) -> Box<dyn Linearization> {
        self.linearize_at(cell, choice, &self.choose(choice))
    }

    /// [`Self::linearize`] where the chosen state is at hand.
    pub(crate) fn linearize_at(
        &self,
        cell: &dyn BoundCell,
        choice: StateChoice,
        state: &State,
    ) -> Box<dyn Linearization> {
        let last = self.len();
        let (held, left) = match self.kept.take() {
            None => (None, None),
            Some(kept) => kept.split(|row| match choice {
                StateChoice::At(t) => t >= last,
                StateChoice::Last => true,
                StateChoice::Best => self.best[row] == last,
                StateChoice::BestOf(k) => k >= last && self.best[row] == last,
            }),
        };
        self.kept.replace(left);
        match held {
            None => cell.linearize(state),
            Some(held) => held.completed(cell, state),
        }
    }

    /// ‖f(z_t) − z_t‖ / ‖f(z_t)‖ by example, then by t − 1.
    pub fn relative_residuals(&self) -> &[Vec<f64>] {
        &self.relative
    }

    /// ‖f(z_t) − z_t‖ by example, then by t − 1.
    pub fn absolute_residuals(&self) -> &[Vec<f64>] {
        &self.absolute
    }

    /// Number of the best iterate of each example, from 1.
    pub fn best(&self) -> &[usize] {
        &self.best
    }

    /// The relative residual of the best iterate of each example; infinite where the solve broke down at once.
    pub fn best_residuals(&self) -> Vec<f64> {
        let found = self.relative.iter().zip(&self.best).map(|(residuals, &best)| residuals[best - 1]);
        found.map(|residual| if residual.is_nan() { f64::INFINITY } else { residual }).collect()
    }

    /// Steps that each example took before it stopped.
    pub fn steps(&self) -> &[usize] {
        &self.steps
    }

    /// How each example stopped.
    pub fn stop_reasons(&self) -> &[StopReason] {
        &self.stop
    }

    /// The same as if each example had stopped after so many steps, one number for each from 1, or where it stopped earlier:
    /// with the best of these iterates, and the last of them repeated.
    pub fn ended_after(mut self, steps: &[usize]) -> Self {
        let length = self.len();
        let kept = self.kept.take().and_then(|kept| kept.split(|row| steps[row] >= length).0);
        self.kept = RefCell::new(kept);
        for (row, &last) in steps.iter().enumerate() {
            if last >= self.steps[row] {
                continue;
            }
            (self.steps[row], self.stop[row]) = (last, StopReason::StepLimit);
            for series in [&mut self.relative[row], &mut self.absolute[row]] {
                let end = series[last - 1];
                series[last..].fill(end);
            }
            self.best[row] = lowest(&self.relative[row][..last]);
        }
        for t in 1..length {
            let rows: Vec<usize> = (0..steps.len()).filter(|&row| steps[row] <= t).collect();
            if !rows.is_empty() {
                self.states[t] = self.states[t].put(&rows, &self.states[t - 1].select(&rows));
                self.values[t] = self.values[t].put(&rows, &self.values[t - 1].select(&rows));
            }
        }
        self
    }

    /// Row i of z_{chosen[i]}.
    pub(crate) fn gather(&self, chosen: &[usize]) -> State {
        gathered(&self.states, chosen)
    }
}

/// Row i of entry number chosen[i], from 1, of some series.
fn gathered(series: &[State], chosen: &[usize]) -> State {
    let entry = |t: usize| &series[t.clamp(1, series.len()) - 1];
    let first = chosen[0];
    let mut result = entry(first).clone();
    let mut distinct: Vec<usize> = chosen.iter().copied().filter(|&t| t != first).collect();
    distinct.sort_unstable();
    distinct.dedup();
    for t in distinct {
        let rows: Vec<usize> = (0..chosen.len()).filter(|&i| chosen[i] == t).collect();
        result = result.put(&rows, &entry(t).select(&rows));
    }
    result
}

/// Where the lowest of some residuals stands, from 1; the first of equals, and of none that is finite.
fn lowest(residuals: &[f64]) -> usize {
    let best = residuals.iter().enumerate().fold(0, |best, (t, &residual)| {
        let before = residuals[best];
        let beaten = residual.is_finite() && (residual < before || !before.is_finite());
        if beaten { t } else { best }
    });
    best + 1
}

/// Builds a [`Trajectory`] step by step.
pub(super) struct Recorder {
    limit: usize,
    first: Vec<f64>,
    trajectory: Trajectory,
    stopped: Vec<Option<StopReason>>,
}

impl Recorder {
    pub(super) fn new(start: Evaluation, config: &SolverConfig) -> Self {
        let limit = config.steps;
        let count = start.state.dims()[0];
        let trajectory = Trajectory {
            method: config.method.clone(),
            start,
            states: Vec::with_capacity(limit),
            values: Vec::with_capacity(limit),
            relative: vec![Vec::with_capacity(limit); count],
            absolute: vec![Vec::with_capacity(limit); count],
            best: vec![1; count],
            steps: vec![0; count],
            stop: vec![StopReason::StepLimit; count],
            kept: RefCell::default(),
        };
        Self { limit, first: Vec::new(), trajectory, stopped: vec![None; count] }
    }

    /// Residuals at z_0: the measure of divergence.
    pub(super) fn first(&mut self, norms: &[(f64, f64)]) {
        self.first = norms.iter().copied().map(relative).collect();
    }

    /// One more state of all examples, with f there and the residual norms of the active ones.
    pub(super) fn step(&mut self, now: Evaluation, active: &[usize], norms: &[(f64, f64)]) {
        self.trajectory.states.push(now.state);
        self.trajectory.values.push(now.value);
        let t = self.trajectory.states.len();
        for (&example, &norms) in active.iter().zip(norms) {
            let relative = relative(norms);
            let best = self.trajectory.best[example];
            let history = &mut self.trajectory.relative[example];
            // A first residual that is not finite is no best: anything finite replaces it.
            let beaten = history.get(best - 1).is_none_or(|&best| relative < best || !best.is_finite());
            if relative.is_finite() && beaten {
                self.trajectory.best[example] = t;
            }
            history.push(relative);
            self.trajectory.absolute[example].push(norms.0);
            self.trajectory.steps[example] = t;
        }
    }

    /// What the last step kept.
    pub(super) fn keep(&mut self, kept: Kept) {
        self.trajectory.kept = RefCell::new(Some(kept));
    }

    /// Positions in `active` of the examples that go on; notes down why the others stop.
    pub(super) fn staying(&mut self, active: &[usize], tolerance: f64) -> Vec<usize> {
        let t = self.trajectory.states.len();
        let mut staying = Vec::with_capacity(active.len());
        for (position, &example) in active.iter().enumerate() {
            let now = self.trajectory.relative[example][t - 1];
            let reason = if !now.is_finite() {
                Some(StopReason::NonFinite)
            } else if now < tolerance {
                Some(StopReason::Converged)
            } else if now > DIVERGENCE * self.first[example] {
                Some(StopReason::Diverged)
            } else if t - self.trajectory.best[example] >= PATIENCE {
                Some(StopReason::Stalled)
            } else {
                None
            };
            self.stopped[example] = reason;
            if reason.is_none() {
                staying.push(position);
            }
        }
        staying
    }

    /// The trajectory, padded to the step budget: results must not depend on how long others in the batch
    /// went on.
    pub(super) fn finish(mut self) -> Trajectory {
        let last = self.trajectory.states.last().expect("a solve takes at least one step").clone();
        self.trajectory.states.resize(self.limit, last);
        let last = self.trajectory.values.last().expect("as many values as states").clone();
        self.trajectory.values.resize(self.limit, last);
        for series in self.trajectory.relative.iter_mut().chain(&mut self.trajectory.absolute) {
            let last = *series.last().expect("every example takes at least one step");
            series.resize(self.limit, last);
        }
        for (stop, reason) in self.trajectory.stop.iter_mut().zip(self.stopped) {
            *stop = reason.unwrap_or(StopReason::StepLimit);
        }
        self.trajectory
    }
}

/// ‖g‖ / ‖f‖, guarded as in the release against f = 0. Where ‖f‖ overflows it is no number: a residual that is still finite
/// beside it would otherwise count as 0.
fn relative((residual, value): (f64, f64)) -> f64 {
    if value.is_finite() { residual / (value + 1e-9) } else { f64::NAN }
}
