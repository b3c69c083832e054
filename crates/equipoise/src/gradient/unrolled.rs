//! Reverse mode through a few applications of f, from a detached state.

use super::{Cotangents, PullBack, Read, ReadHead, Reading};
use crate::loss::Objective;
use crate::model::cell::{BoundCell, Linearization};
use crate::readout::{Tail, damped};
use crate::state::State;

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
    let Read { state, back } = read(cell, start, tail);
    let (reading, cotangent) = head.read(&state, objective, weight);
    back.pull_back(cotangent, cotangents);
    reading
}

/// The applications and their dampings, in order.
struct Tape(Vec<(Box<dyn Linearization>, f64)>);

/// The state at the end of the applications, and the way back through them.
pub(super) fn read<'a>(cell: &dyn BoundCell, start: State, tail: &Tail) -> Read<'a> {
    let mut state = start;
    let mut tape = Vec::new();
    for damping in tail.dampings() {
        let linearization = cell.linearize(&state);
        state = damped(&state, linearization.value().clone(), damping);
        tape.push((linearization, damping));
    }
    Read { state, back: Box::new(Tape(tape)) }
}

impl PullBack for Tape {
    fn pull_back(self: Box<Self>, mut u: State, cotangents: &mut Cotangents) {
        for (linearization, damping) in self.0.into_iter().rev() {
            let through = if damping == 1.0 { u.clone() } else { u.clone() * damping };
            let back = cotangents.through(&*linearization, &through);
            u = if damping == 1.0 { back } else { u * (1.0 - damping) + back };
        }
    }
}
