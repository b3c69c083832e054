//! What an estimator is given, and what it adds to: a solved batch, and cotangents.

use burn::optim::GradientsParams;

use crate::model::cell::{BoundCell, Linearization};
use crate::readout::{ReadHead, Reading, Readout, Tail, applied, damped};
use crate::solve::{SolverConfig, StateChoice, Trajectory};
use crate::state::{Injection, State};
use equipoise_attack::loss::Objective;

/// A solved batch, and how losses are read from states.
pub struct Solved<'a> {
    /// The cell with the batch's injection.
    pub cell: &'a dyn BoundCell,
    /// The forward solve.
    pub trajectory: &'a Trajectory,
    /// The deployed tail.
    pub tail: Tail,
    /// How backward equations are solved.
    pub backward: &'a SolverConfig,
    /// The deployed readout.
    pub readout: &'a Readout,
    /// Reads a loss at a state.
    pub head: &'a mut dyn ReadHead,
    /// The loss.
    pub objective: &'a dyn Objective,
}

impl Solved<'_> {
    /// The deployed final state, and f linearised at the point of the last application before it: the best iterate itself
    /// where the tail has none.
    pub fn final_state(&self) -> (State, Box<dyn Linearization>) {
        self.final_state_from(StateChoice::Best)
    }

    /// The same where the tail begins at another iterate, such as the best of the first k.
    pub fn final_state_from(&self, start: StateChoice) -> (State, Box<dyn Linearization>) {
        let mut dampings: Vec<f64> = self.tail.dampings().collect();
        let last = dampings.pop();
        let best = self.trajectory.evaluated(start);
        let at_best = dampings.is_empty();
        let point = applied(dampings.into_iter(), self.cell, best);
        let linearization = match at_best {
            true => self.trajectory.linearize_at(self.cell, start, &point),
            false => self.cell.linearize(&point),
        };
        let state = match last {
            Some(damping) => damped(&point, linearization.value().clone(), damping),
            None => point,
        };
        (state, linearization)
    }
}

/// A state where a loss is read, and the way from its cotangent to the injection's.
pub struct Read<'a> {
    /// The state, `[N, D]`.
    pub state: State,
    /// The way back from it.
    pub back: Box<dyn PullBack + 'a>,
}

/// From the cotangent of a state that was read to those of what it was computed from.
pub trait PullBack {
    /// Adds what `cotangent` `[N, D]` of the state amounts to.
    fn pull_back(self: Box<Self>, cotangent: State, cotangents: &mut Cotangents);
}

/// Reads one loss at the mean of the logits of some states (of one, as a rule), and pulls `weight` times it back through
/// all of them.
pub fn pull_back_reads(
    reads: Vec<Read<'_>>,
    at: &mut Solved<'_>,
    weight: f64,
    cotangents: &mut Cotangents,
) -> Reading {
    let (states, backs): (Vec<_>, Vec<_>) = reads.into_iter().map(|read| (read.state, read.back)).unzip();
    let (reading, derivatives) = at.head.read_mean(&states, at.objective, weight);
    for (back, derivative) in backs.into_iter().zip(derivatives) {
        back.pull_back(derivative, cotangents);
    }
    reading
}

/// What estimators add up: the injection's cotangent, and the parameters' if this is training.
pub struct Cotangents {
    injection: Option<Injection>,
    parameters: Option<GradientsParams>,
}

impl Cotangents {
    /// For an attack: the injection alone.
    pub fn attack() -> Self {
        Self { injection: None, parameters: None }
    }

    /// For training: the cell's parameters too.
    pub fn training() -> Self {
        Self { injection: None, parameters: Some(GradientsParams::new()) }
    }

    /// Pulls u back through a linearisation, adds the injection's share (and the parameters'), and returns
    /// uᵀ ∂f/∂z.
    pub fn through(&mut self, linearization: &dyn Linearization, u: &State) -> State {
        let (state, injection) = self.product(linearization, u);
        self.add(injection);
        state
    }

    /// The same for a linearisation of some `rows` of `count` examples: the others' cotangents are 0.
    pub fn through_rows(
        &mut self,
        linearization: &dyn Linearization,
        u: &State,
        rows: &[usize],
        count: usize,
    ) -> State {
        let (state, injection) = self.product(linearization, u);
        let among_all = |part: &State| part.zeros([count, part.dims()[1]]).put(rows, part);
        self.add(among_all(&injection));
        among_all(&state)
    }

    fn product(&mut self, linearization: &dyn Linearization, u: &State) -> (State, Injection) {
        match &mut self.parameters {
            None => linearization.vjp(u),
            Some(parameters) => linearization.vjp_parameters(u, parameters),
        }
    }

    /// Whether the parameters' share is wanted.
    pub fn wants_parameters(&self) -> bool {
        self.parameters.is_some()
    }

    /// Adds to the injection's cotangent `[N, I]`.
    pub fn add(&mut self, injection: Injection) {
        self.injection = Some(match self.injection.take() {
            None => injection,
            Some(sum) => sum + injection,
        });
    }

    /// The sums; the injection's is `None` if nothing was pulled back.
    pub fn into_parts(self) -> (Option<Injection>, Option<GradientsParams>) {
        (self.injection, self.parameters)
    }
}
