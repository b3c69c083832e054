//! The implicit gradient, as if the state were exactly a fixed point.
//!
//! With a the deployed final state and v = ∂loss/∂a, solve u = Jᵀu + v by the same family of solvers as
//! forward, from u_0 = 0, and return uᵀ ∂f/∂x. J is taken at the point of the last application of f: for the
//! exact-trained model, at z* itself. Exact when z* is a fixed point and the backward solve has converged;
//! otherwise the paper's misalignment.

use super::{Cotangents, PullBack, Read, Solved};
use crate::batch;
use crate::model::cell::{FixedPointMap, Linearization};
use crate::readout::damped;
use crate::solve::{Evaluation, SolverConfig, StateChoice, solve_knowing};
use crate::state::State;

/// The linearisation at the last application of f.
struct Implicit<'a> {
    linearization: Box<dyn Linearization>,
    backward: &'a SolverConfig,
}

pub(super) fn read<'a>(at: &Solved<'a>) -> Read<'a> {
    let mut dampings: Vec<f64> = at.tail.dampings().collect();
    let last = dampings.pop();
    let best = at.trajectory.choose(StateChoice::Best);
    let point = dampings.into_iter().fold(best, |a, damping| damped(&a, at.cell.apply(&a), damping));
    let linearization = at.cell.linearize(&point);
    let state = match last {
        Some(damping) => damped(&point, linearization.value().clone(), damping),
        None => point,
    };
    Read { state, back: Box::new(Implicit { linearization, backward: at.backward }) }
}

impl PullBack for Implicit<'_> {
    fn pull_back(self: Box<Self>, v: State, cotangents: &mut Cotangents) {
        let adjoint = AdjointMap { linearization: Borrowed::Given(&*self.linearization), v: v.clone() };
        // At u_0 = 0 the map is v, without a product.
        let zero = Evaluation { state: v.zeros_like(), value: v };
        let u = solve_knowing(&adjoint, zero, self.backward).choose(StateChoice::Best);
        cotangents.through(&*self.linearization, &u);
    }
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
