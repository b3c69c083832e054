//! A training method pointed at the deployed readout, rather than at the final state that it was made for.
//!
//! `exact` reads its loss at the final state even where an early one answers: right, but the gradient of another
//! function. Here the loss is read where the readout reads it, and every state that it reads is pulled back as the
//! method does: `exact` by solving u = Jᵀu + v with f linearised at that state, `unrolled` through applications that
//! start there. What is left of an obfuscation gap against this gradient is not aim.

use super::{Cotangents, Estimator, Read, Reading, Solved, exact, joint, unrolled};
use crate::readout::Readout;
use crate::solve::StateChoice;
use crate::state::State;

pub(super) fn pull_back(
    method: &Estimator,
    at: &mut Solved<'_>,
    weight: f64,
    cotangents: &mut Cotangents,
) -> Reading {
    match at.readout {
        Readout::Final => method.pull_back(at, weight, cotangents),
        Readout::Early(t) => {
            let read = read(method, at, t);
            joint(vec![read], at, weight, cotangents)
        }
        Readout::EnsembleLogits => {
            let reads = all(method, at);
            joint(reads, at, weight, cotangents)
        }
        Readout::EnsembleStates => {
            let reads = all(method, at);
            let count = reads.len() as f64;
            let sum = reads.iter().map(|read| read.state.clone()).reduce(|sum, state| sum + state);
            let mean: State = sum.expect("a trajectory has at least one state") / count;
            let (reading, derivative) = at.head.read(&mean, at.objective, weight);
            for read in reads {
                read.back.pull_back(derivative.clone() / count, cotangents);
            }
            reading
        }
    }
}

/// The states that an ensemble reads: z_1, z_2, .., z_T, and the final one as the method itself reads it.
fn all<'a>(method: &Estimator, at: &Solved<'a>) -> Vec<Read<'a>> {
    let states = (1..=at.trajectory.len()).map(|t| read(method, at, t));
    let last = match method {
        Estimator::Unrolled { tail, .. } => unrolled::read(at, StateChoice::Best, tail),
        _ => exact::read(at),
    };
    states.chain([last]).collect()
}

/// z_t, with the method's way back from it.
fn read<'a>(method: &Estimator, at: &Solved<'a>, t: usize) -> Read<'a> {
    match method {
        Estimator::Unrolled { tail, .. } => unrolled::read(at, StateChoice::At(t), tail),
        _ => exact::read_at(at, t),
    }
}
