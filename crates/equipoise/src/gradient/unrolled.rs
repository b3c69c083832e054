//! Reverse mode through a few applications of f, from a detached state.

use super::{Cotangents, PullBack, Read, Solved};
use crate::model::cell::Linearization;
use crate::readout::{Tail, damped};
use crate::state::State;

/// The applications and their dampings, in order.
struct Tape(Vec<(Box<dyn Linearization>, f64)>);

pub(super) fn read<'a>(at: &Solved<'a>, start: State, tail: &Tail) -> Read<'a> {
    let mut state = start;
    let mut tape = Vec::new();
    for damping in tail.dampings() {
        let linearization = at.cell.linearize(&state);
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
