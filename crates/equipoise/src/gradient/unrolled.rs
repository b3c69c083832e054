//! Reverse mode through a few applications of f, from a detached state.

use super::{Cotangents, Reading, Solved};
use crate::readout::{Tail, damped};
use crate::state::State;

pub(super) fn pull_back(
    at: &mut Solved<'_>,
    start: State,
    tail: &Tail,
    weight: f64,
    cotangents: &mut Cotangents,
) -> Reading {
    let mut state = start;
    let mut tape = Vec::new();
    for damping in tail.dampings() {
        let linearization = at.cell.linearize(&state);
        state = damped(&state, linearization.value().clone(), damping);
        tape.push((linearization, damping));
    }
    let (reading, mut u) = at.head.read(&state, at.objective, weight);
    for (linearization, damping) in tape.into_iter().rev() {
        let through = if damping == 1.0 { u.clone() } else { u.clone() * damping };
        let back = cotangents.through(&*linearization, &through);
        u = if damping == 1.0 { back } else { u * (1.0 - damping) + back };
    }
    reading
}
