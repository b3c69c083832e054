//! Reverse mode through a few applications of f, from a detached state.

use super::{Cotangents, PullBack, Read, ReadHead, Reading, Solved};
use crate::loss::Objective;
use crate::model::cell::{BoundCell, Linearization};
use crate::readout::{Tail, damped};
use crate::solve::StateChoice;
use crate::state::State;

/// Some applications of f: their linearisations and dampings, in order, and the state at their end.
pub(super) struct Tape {
    applications: Vec<(Box<dyn Linearization>, f64)>,
    end: State,
}

impl Tape {
    /// Applies `tail` from a state of the trajectory.
    pub(super) fn record(at: &Solved<'_>, start: StateChoice, tail: &Tail) -> Self {
        let first = |_: &State| at.trajectory.linearize(at.cell, start);
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

pub(super) fn read<'a>(at: &Solved<'a>, start: StateChoice, tail: &Tail) -> Read<'a> {
    let tape = Tape::record(at, start, tail);
    Read { state: tape.end.clone(), back: Box::new(Detached(tape)) }
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
