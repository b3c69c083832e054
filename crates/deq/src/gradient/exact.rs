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

use super::{
    Cotangents, Estimator, EstimatorKind, GradientEstimator, OneState, PullBack, Read, Reading, Setting,
    Solved, pull_back_reads,
};
use crate::model::cell::{FixedPointMap, Linearization};
use crate::readout::{Readout, Tail};
use crate::solve::{Evaluation, SolverConfig, StateChoice, solve_knowing};
use crate::state::{Injection, State};
use equipoise_attack::work::Work;

pub(super) const KIND: EstimatorKind = EstimatorKind {
    name: "exact",
    usage: "exact",
    parse: |spec| spec.settings(&[]).map(|_| Estimator::exact()),
};

/// The implicit gradient.
pub(super) struct Exact;

impl GradientEstimator for Exact {
    fn spec(&self) -> String {
        "exact".to_owned()
    }

    fn work(&self, setting: &Setting<'_>) -> Work {
        // At the best iterate f is known, and linearised if the last application is there, as a rule.
        Work::new(setting.tail.applications().saturating_sub(1), setting.backward_products())
    }

    fn visits(&self, setting: &Setting<'_>) -> Vec<usize> {
        if setting.tail.applications() > 1 { Vec::new() } else { vec![setting.steps] }
    }

    fn reads(&self, readout: &Readout, _: &Tail) -> bool {
        *readout == Readout::final_state()
    }

    fn needs_only_the_best(&self) -> bool {
        true
    }

    fn one_state(&self) -> Option<&dyn OneState> {
        Some(self)
    }

    fn pull_back(&self, at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
        pull_back_reads(vec![self.read(at)], at, weight, cotangents)
    }
}

impl OneState for Exact {
    fn read<'a>(&self, at: &Solved<'a>) -> Read<'a> {
        self.read_final(at, StateChoice::Best)
    }

    fn read_final<'a>(&self, at: &Solved<'a>, start: StateChoice) -> Read<'a> {
        let (state, linearization) = at.final_state_from(start);
        Read { state, back: Box::new(Implicit { linearization, backward: at.backward }) }
    }

    /// The loss is read at the given state itself, and f is linearised there.
    fn read_at<'a>(&self, at: &Solved<'a>, state: StateChoice) -> Read<'a> {
        let (choice, state) = (state, at.trajectory.choose(state));
        let linearization = at.trajectory.linearize_at(at.cell, choice, &state);
        Read { state, back: Box::new(Implicit { linearization, backward: at.backward }) }
    }

    fn work_at(&self, setting: &Setting<'_>) -> Work {
        Work::new(0, setting.backward_products())
    }
}

/// The linearisation at the last application of f.
struct Implicit<'a> {
    linearization: Box<dyn Linearization>,
    backward: &'a SolverConfig,
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
            result = result.put(&rows, &share.select(&places));
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
            v: self.v.select(rows),
            rows: rows.iter().map(|&row| self.rows[row]).collect(),
            shares: self.shares,
        })
    }
}
