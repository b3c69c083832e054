//! The implicit gradient, as if the state were exactly a fixed point.
//!
//! With a the deployed final state and v = ∂loss/∂a, solve u = Jᵀu + v by the same family of solvers as
//! forward, from u_0 = 0, and return uᵀ ∂f/∂x. J is taken at the point of the last application of f: for the
//! exact-trained model, at z* itself. Exact when z* is a fixed point and the backward solve has converged;
//! otherwise the paper's misalignment.
//!
//! The product that gives uᵀJ gives uᵀ ∂f/∂x as well, so the injection's share at every iterate u is there once the
//! equation is solved. Only the parameters' share, which training wants, takes another product.

use std::cell::RefCell;

use super::{Cotangents, PullBack, Read, Solved};
use crate::batch;
use crate::model::cell::{FixedPointMap, Linearization};
use crate::readout::damped;
use crate::solve::{Evaluation, SolverConfig, StateChoice, solve_knowing};
use crate::state::Injection;
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
    let at_best = dampings.is_empty();
    let point = dampings.into_iter().fold(best, |a, damping| damped(&a, at.cell.apply(&a), damping));
    let linearization = match at_best {
        true => at.trajectory.linearize(at.cell, StateChoice::Best),
        false => at.cell.linearize(&point),
    };
    let state = match last {
        Some(damping) => damped(&point, linearization.value().clone(), damping),
        None => point,
    };
    Read { state, back: Box::new(Implicit { linearization, backward: at.backward }) }
}

/// The loss is read at z_t itself, and f is linearised there: the same method, pointed at another state than the deployed
/// final one.
pub(super) fn read_at<'a>(at: &Solved<'a>, t: usize) -> Read<'a> {
    let linearization = at.trajectory.linearize(at.cell, StateChoice::At(t));
    Read {
        state: at.trajectory.state(t).clone(),
        back: Box::new(Implicit { linearization, backward: at.backward }),
    }
}

impl PullBack for Implicit<'_> {
    fn pull_back(self: Box<Self>, v: State, cotangents: &mut Cotangents) {
        let shares = Shares::default();
        let adjoint = AdjointMap {
            linearization: Borrowed::Given(&*self.linearization),
            v: v.clone(),
            rows: (0..v.dims()[0]).collect(),
            shares: (!cotangents.wants_parameters()).then_some(&shares),
        };
        // At u_0 = 0 the map is v, without a product.
        let zero = Evaluation { state: v.zeros_like(), value: v };
        let solution = solve_knowing(&adjoint, zero, self.backward);
        if cotangents.wants_parameters() {
            cotangents.through(&*self.linearization, &solution.choose(StateChoice::Best));
        } else {
            cotangents.add(gathered(&shares.into_inner(), solution.best()));
        }
    }
}

/// The injection's share at each iterate, from the first on, with the examples that were still in the batch.
type Shares = RefCell<Vec<(Vec<usize>, Injection)>>;

/// Each example's share at its best iterate, counted from 1.
fn gathered(shares: &[(Vec<usize>, Injection)], best: &[usize]) -> Injection {
    let (all, first) = &shares[0];
    assert_eq!(all.len(), best.len(), "every example takes a first step");
    let mut result = first.clone();
    for (t, (rows, share)) in (1..).zip(shares) {
        let places: Vec<usize> = (0..rows.len()).filter(|&place| best[rows[place]] == t).collect();
        if t > 1 && !places.is_empty() {
            let rows: Vec<usize> = places.iter().map(|&place| rows[place]).collect();
            result = batch::put_rows(&result, &rows, &batch::select(share, &places));
        }
    }
    result
}

/// u ↦ Jᵀu + v, whose fixed point is the adjoint state.
struct AdjointMap<'a> {
    linearization: Borrowed<'a>,
    v: State,
    /// The examples that it is for.
    rows: Vec<usize>,
    /// Where to keep the injection's shares, if they are wanted.
    shares: Option<&'a Shares>,
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

    fn apply_to_iterate(&self, u: &State) -> State {
        let Some(shares) = self.shares else { return self.apply(u) };
        let (product, share) = self.linearization.get().vjp(u);
        shares.borrow_mut().push((self.rows.clone(), share));
        product + self.v.clone()
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        let linearization = Borrowed::Selected(self.linearization.get().select(rows));
        Box::new(AdjointMap {
            linearization,
            v: batch::select(&self.v, rows),
            rows: rows.iter().map(|&row| self.rows[row]).collect(),
            shares: self.shares,
        })
    }
}
