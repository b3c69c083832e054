//! f(z; x) = relu((1−α) z + α (W z + x)): a step of forward-backward splitting.
//!
//! With V = B − Bᵀ − AᵀA, so that W = (1−m) I + V, it is relu((1 − αm) z + α (V z + x)), which is how it is computed. V does
//! not depend on the example, so that a bound cell makes it once.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, activation};

use super::MonotoneConfig;
use crate::model::cell::{BoundCell, Cell, FixedPointMap, Linearization, Mask};
use crate::model::init::{Init, Law};
use crate::model::layers::products;
use crate::model::parameters::accumulate;
use crate::state::{Injection, State};
use equipoise_attack::batch::select;

/// The cell of a monotone DEQ.
#[derive(Module, Debug)]
pub struct MonotoneCell {
    /// A, `[D, D]`.
    pub a: Param<Tensor<2>>,
    /// B, `[D, D]`.
    pub b: Param<Tensor<2>>,
    #[module(skip)]
    monotonicity: f64,
    #[module(skip)]
    step: f64,
}

impl MonotoneCell {
    pub(super) fn new(config: &MonotoneConfig, init: &mut Init) -> Self {
        let side = config.hidden;
        Self {
            a: init.parameter([side, side], Law::FanIn),
            b: init.parameter([side, side], Law::FanIn),
            monotonicity: config.monotonicity,
            step: config.step,
        }
    }

    /// m.
    pub fn monotonicity(&self) -> f64 {
        self.monotonicity
    }

    /// α.
    pub fn step(&self) -> f64 {
        self.step
    }

    /// V = B − Bᵀ − AᵀA.
    fn coupling(&self) -> Tensor<2> {
        let (a, b) = (self.a.val(), self.b.val());
        b.clone() - b.transpose() - a.clone().transpose().matmul(a)
    }

    /// f with V at hand.
    fn value(&self, coupling: &Tensor<2>, state: &Tensor<2>, injection: &Tensor<2>) -> Tensor<2> {
        let forward = products(state.clone(), coupling.clone(), None) + injection.clone();
        activation::relu(state.clone() * self.kept() + forward * self.step)
    }

    /// sᵀ ∂f/∂z for a cotangent s behind the ReLU.
    fn pulled_back(&self, coupling: &Tensor<2>, s: Tensor<2>) -> Tensor<2> {
        s.clone() * self.kept() + products(s, coupling.clone().transpose(), None) * self.step
    }

    /// 1 − αm, by which a unit's own state enters.
    fn kept(&self) -> f64 {
        1.0 - self.step * self.monotonicity
    }
}

impl Cell for MonotoneCell {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        self.value(&self.coupling(), &state, &injection)
    }

    fn state_dim(&self) -> usize {
        self.a.lazy_shape()[0]
    }

    fn bind(&self, injection: &Tensor<2>) -> Box<dyn BoundCell> {
        Box::new(Bound { cell: self.clone(), coupling: self.coupling(), injection: injection.clone() })
    }

    fn differentiable_vjp(
        &self,
        state: &Tensor<2>,
        injection: &Tensor<2>,
        _: Option<&Mask>,
        cotangents: &[Tensor<2>],
    ) -> Option<Vec<Tensor<2>>> {
        let coupling = self.coupling();
        let value = self.value(&coupling, state, injection);
        let product = |u: &Tensor<2>| self.pulled_back(&coupling, behind_relu(&value, u));
        Some(cotangents.iter().map(product).collect())
    }
}

/// u where the ReLU lets something through, 0 elsewhere.
fn behind_relu(value: &Tensor<2>, u: &Tensor<2>) -> Tensor<2> {
    u.clone().mask_fill(value.clone().lower_equal_elem(0.0), 0.0)
}

struct Bound {
    cell: MonotoneCell,
    coupling: Tensor<2>,
    injection: Tensor<2>,
}

impl Bound {
    fn rows(&self, rows: &[usize]) -> Self {
        let injection = select(&self.injection, rows);
        Self { cell: self.cell.clone(), coupling: self.coupling.clone(), injection }
    }
}

impl FixedPointMap for Bound {
    fn apply(&self, state: &State) -> State {
        self.cell.value(&self.coupling, state.tensor(), &self.injection).into()
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(self.rows(rows))
    }
}

impl BoundCell for Bound {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        Box::new(Linear {
            cell: self.cell.clone(),
            coupling: self.coupling.clone(),
            state: state.tensor().clone(),
            value: self.apply(state),
        })
    }

    fn linearize_rows(&self, state: &State, rows: &[usize]) -> Box<dyn Linearization> {
        self.rows(rows).linearize(&state.select(rows))
    }
}

struct Linear {
    cell: MonotoneCell,
    coupling: Tensor<2>,
    state: Tensor<2>,
    value: State,
}

impl Linearization for Linear {
    fn value(&self) -> &State {
        &self.value
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        let s = behind_relu(self.value.tensor(), cotangent.tensor());
        self.cell.pulled_back(&self.coupling, s).into()
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        let s = behind_relu(self.value.tensor(), cotangent.tensor());
        (self.cell.pulled_back(&self.coupling, s.clone()).into(), (s * self.cell.step).into())
    }

    /// With G = α Σ s zᵀ over the batch, the derivative with respect to V: −A (G + Gᵀ) for A, G − Gᵀ for B.
    fn vjp_parameters(&self, cotangent: &State, into: &mut GradientsParams) -> (State, Injection) {
        let (state, injection) = self.vjp(cotangent);
        let g = injection.tensor().clone().transpose().matmul(self.state.clone());
        let a = self.cell.a.val().matmul(g.clone() + g.clone().transpose()) * -1.0;
        accumulate(into, self.cell.a.id, a);
        accumulate(into, self.cell.b.id, g.clone() - g.transpose());
        (state, injection)
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        Box::new(Self {
            cell: self.cell.clone(),
            coupling: self.coupling.clone(),
            state: select(&self.state, rows),
            value: self.value.select(rows),
        })
    }
}
