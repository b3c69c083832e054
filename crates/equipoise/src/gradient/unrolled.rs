//! Reverse mode through a few applications of f, from a detached state.

use super::{Cotangents, ReadHead, Reading};
use crate::loss::Objective;
use crate::model::cell::BoundCell;
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
    let mut state = start;
    let mut tape = Vec::new();
    for damping in tail.dampings() {
        let linearization = cell.linearize(&state);
        state = damped(&state, linearization.value().clone(), damping);
        tape.push((linearization, damping));
    }
    let (reading, mut u) = head.read(&state, objective, weight);
    for (linearization, damping) in tape.into_iter().rev() {
        let through = if damping == 1.0 { u.clone() } else { u.clone() * damping };
        let back = cotangents.through(&*linearization, &through);
        u = if damping == 1.0 { back } else { u * (1.0 - damping) + back };
    }
    reading
}
