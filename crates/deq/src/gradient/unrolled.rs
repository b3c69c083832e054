//! Reverse mode through a few applications of f, from a detached state.

use super::{
    Cotangents, Estimator, EstimatorError, EstimatorKind, GradientEstimator, OneState, PullBack, Read,
    ReadHead, Reading, Setting, Solved, Spec, SpecError, check_state, number, pull_back_reads,
};
use crate::model::cell::{BoundCell, Linearization};
use crate::readout::{Readout, Tail, damped};
use crate::solve::{SolverConfig, StateChoice};
use crate::state::State;
use equipoise_attack::loss::Objective;
use equipoise_attack::work::Work;

pub(super) const KIND: EstimatorKind =
    EstimatorKind { name: "unrolled", usage: "unrolled:state=T,lead=L,steps=K,damping=D", parse };

/// Reverse mode through `tail`, applied at `state`.
pub(super) struct Unrolled {
    /// Where the applications start. Detached: no gradient flows into it.
    pub(super) state: StateChoice,
    /// The applications.
    pub(super) tail: Tail,
}

fn parse(spec: &Spec<'_>) -> Result<Estimator, SpecError> {
    let (mut state, mut tail) = (StateChoice::Best, Tail::UNROLLED);
    for (key, value) in spec.settings(&["state", "lead", "steps", "damping"])? {
        match key {
            "state" => state = value.parse().map_err(|problem: String| spec.error(problem))?,
            "lead" => tail.lead = spec.number(key, value)?,
            "steps" => tail.steps = spec.number(key, value)?,
            _ => {
                let problem = || spec.error(format!("damping={value} must be in (0, 1]"));
                tail.damping = value.parse().map_err(|_| problem())?;
            }
        }
    }
    validate(&tail).map_err(|problem| spec.error(problem))?;
    Ok(Unrolled { state, tail }.into())
}

/// Whether a gradient can go through these applications.
fn validate(tail: &Tail) -> Result<(), String> {
    tail.validate()?;
    match tail.applications() {
        0 => Err("lead and steps are both 0: no gradient would reach the image".to_owned()),
        _ => Ok(()),
    }
}

impl GradientEstimator for Unrolled {
    fn spec(&self) -> String {
        let Self { state, tail: Tail { lead, steps, damping } } = self;
        format!("unrolled:state={state},lead={lead},steps={steps},damping={damping}")
    }

    fn check(&self, solver: &SolverConfig) -> Result<(), EstimatorError> {
        check_state(&self.spec(), self.state, solver)?;
        validate(&self.tail).map_err(|problem| EstimatorError::new(self.spec(), problem))
    }

    fn work(&self, setting: &Setting<'_>) -> Work {
        self.work_at(setting)
    }

    fn visits(&self, setting: &Setting<'_>) -> Vec<usize> {
        vec![number(self.state, setting.steps)]
    }

    fn reads(&self, readout: &Readout, deployed: &Tail) -> bool {
        self.needs_only_the_best()
            && *readout == Readout::final_state()
            && self.tail.dampings().eq(deployed.dampings())
    }

    fn needs_only_the_best(&self) -> bool {
        self.state == StateChoice::Best
    }

    fn one_state(&self) -> Option<&dyn OneState> {
        Some(self)
    }

    fn pull_back(&self, at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
        pull_back_reads(vec![self.read(at)], at, weight, cotangents)
    }
}

impl OneState for Unrolled {
    fn read<'a>(&self, at: &Solved<'a>) -> Read<'a> {
        self.read_at(at, self.state)
    }

    fn read_at<'a>(&self, at: &Solved<'a>, state: StateChoice) -> Read<'a> {
        let tape = Tape::record(at, state, &self.tail);
        Read { state: tape.end.clone(), back: Box::new(Detached(tape)) }
    }

    fn read_final<'a>(&self, at: &Solved<'a>, start: StateChoice) -> Read<'a> {
        self.read_at(at, start)
    }

    fn work_at(&self, _: &Setting<'_>) -> Work {
        // The first application is linearised on the solve's way.
        let count = self.tail.applications();
        Work::new(count.saturating_sub(1), count)
    }

    fn applications(&self) -> Option<Tail> {
        Some(self.tail)
    }
}

/// Some applications of f: their linearisations and dampings, in order, and the state at their end.
pub(super) struct Tape {
    applications: Vec<(Box<dyn Linearization>, f64)>,
    end: State,
}

impl Tape {
    /// Applies `tail` from a state of the trajectory.
    pub(super) fn record(at: &Solved<'_>, start: StateChoice, tail: &Tail) -> Self {
        let first = |state: &State| at.trajectory.linearize_at(at.cell, start, state);
        Self::record_from(at.cell, at.trajectory.choose(start), first, tail)
    }

    /// Applies `tail` from `start`, where `first` linearises.
    fn record_from(
        cell: &dyn BoundCell,
        start: State,
        first: impl Fn(&State) -> Box<dyn Linearization>,
        tail: &Tail,
    ) -> Self {
        let mut end = start;
        let mut applications = Vec::new();
        for damping in tail.dampings() {
            let linearization = if applications.is_empty() { first(&end) } else { cell.linearize(&end) };
            end = damped(&end, linearization.value().clone(), damping);
            applications.push((linearization, damping));
        }
        Self { applications, end }
    }

    /// The state after the applications.
    pub(super) fn end(&self) -> &State {
        &self.end
    }

    /// Pulls the cotangent of the end back to that of the start.
    pub(super) fn pull_back(self, mut u: State, cotangents: &mut Cotangents) -> State {
        for (linearization, damping) in self.applications.into_iter().rev() {
            let through = if damping == 1.0 { u.clone() } else { u.clone() * damping };
            let back = cotangents.through(&*linearization, &through);
            u = if damping == 1.0 { back } else { u * (1.0 - damping) + back };
        }
        u
    }
}

/// The start is detached: its cotangent goes nowhere.
struct Detached(Tape);

impl PullBack for Detached {
    fn pull_back(self: Box<Self>, cotangent: State, cotangents: &mut Cotangents) {
        self.0.pull_back(cotangent, cotangents);
    }
}

/// Applies `tail` from `start` (detached), reads the loss at the end, and pulls `weight` times it back into
/// `cotangents`. Keeps one linearisation per application.
pub fn pull_back_from(
    cell: &dyn BoundCell,
    start: State,
    tail: &Tail,
    head: &mut dyn ReadHead,
    objective: &dyn Objective,
    weight: f64,
    cotangents: &mut Cotangents,
) -> Reading {
    let tape = Tape::record_from(cell, start, |start| cell.linearize(start), tail);
    let (reading, derivative) = head.read(tape.end(), objective, weight);
    tape.pull_back(derivative, cotangents);
    reading
}
