//! The implicit gradient, as if the state were exactly a fixed point.
//!
//! With a the deployed final state and v = ∂loss/∂a, solve u = Jᵀu + v by the same family of solvers as
//! forward, from u_0 = 0, and return uᵀ ∂f/∂x. J is taken at the point of the last application of f: for the
//! exact-trained model, at z* itself. Exact when z* is a fixed point and the backward solve has converged;
//! otherwise the paper's misalignment.

use super::{Cotangents, Reading, Solved};
use crate::batch;
use crate::model::cell::{FixedPointMap, Linearization};
use crate::readout::damped;
use crate::solve::{StateChoice, solve};
use crate::state::State;

pub(super) fn pull_back(at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
    let mut dampings: Vec<f64> = at.tail.dampings().collect();
    let last = dampings.pop();
    let best = at.trajectory.choose(StateChoice::Best);
    let point = dampings.into_iter().fold(best, |a, damping| damped(&a, at.cell.apply(&a), damping));
    let linearization = at.cell.linearize(&point);
    let read_at = match last {
        Some(damping) => damped(&point, linearization.value().clone(), damping),
        None => point,
    };
    let (reading, v) = at.head.read(&read_at, at.objective, weight);
    let adjoint = AdjointMap { linearization: Borrowed::Given(&*linearization), v: v.clone() };
    let u = solve(&adjoint, v.zeros_like(), at.backward).choose(StateChoice::Best);
    cotangents.through(&*linearization, &u);
    reading
}

/// u ↦ Jᵀu + v, whose fixed point is the adjoint state.
struct AdjointMap<'a> {
    linearization: Borrowed<'a>,
    v: State,
}

enum Borrowed<'a> {
    Given(&'a dyn Linearization),
    Selected(Box<dyn Linearization>),
}

impl Borrowed<'_> {
    fn get(&self) -> &dyn Linearization {
        match self {
            Self::Given(linearization) => *linearization,
            Self::Selected(linearization) => &**linearization,
        }
    }
}

impl FixedPointMap for AdjointMap<'_> {
    fn apply(&self, u: &State) -> State {
        self.linearization.get().vjp_state(u) + self.v.clone()
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        let linearization = Borrowed::Selected(self.linearization.get().select(rows));
        Box::new(AdjointMap { linearization, v: batch::select(&self.v, rows) })
    }
}
