//! The cell of a fully connected monotone DEQ: V = B − Bᵀ − AᵀA, as a matrix.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::peaceman_rachford::{PeacemanRachford, resolvents};
use super::splitting::{Coupling, ForwardBackward, Step};
use super::{MonotoneConfig, Splitting};
use crate::model::cell::{BoundCell, Cell, Mask};
use crate::model::init::{Init, Law};
use crate::model::layers::products;
use crate::model::parameters::accumulate;
use crate::model::prepared::Prepared;

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
    #[module(skip)]
    splitting: Splitting,
    /// The resolvent of Peaceman-Rachford splitting.
    #[module(skip)]
    prepared: Prepared<Tensor<2>>,
}

impl MonotoneCell {
    pub(super) fn new(config: &MonotoneConfig, init: &mut Init) -> Self {
        let side = config.hidden;
        Self {
            a: init.parameter([side, side], Law::FanIn),
            b: init.parameter([side, side], Law::FanIn),
            monotonicity: config.monotonicity,
            step: config.step,
            splitting: config.splitting,
            prepared: Prepared::default(),
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

    /// Which map has the fixed point.
    pub fn splitting(&self) -> Splitting {
        self.splitting
    }

    fn coupling(&self) -> Full {
        let (a, b) = (self.a.val(), self.b.val());
        let matrix = b.clone() - b.transpose() - a.clone().transpose().matmul(a);
        Full { matrix, cell: self.clone() }
    }

    fn forward_backward(&self) -> ForwardBackward<Full> {
        ForwardBackward { coupling: self.coupling(), monotonicity: self.monotonicity, step: self.step }
    }

    fn peaceman_rachford(&self) -> PeacemanRachford<Full, Tensor<2>> {
        let coupling = self.coupling();
        let v = || coupling.matrix.clone().unsqueeze::<3>();
        let make = || resolvents(&v(), self.monotonicity, self.step).squeeze_dim::<2>(0);
        let resolvent = self.prepared.get(self, make).map_or_else(make, |kept| (*kept).clone());
        PeacemanRachford { coupling, resolvent, step: self.step }
    }
}

impl Cell for MonotoneCell {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        match self.splitting {
            Splitting::ForwardBackward => self.forward_backward().value(&state, &injection),
            Splitting::PeacemanRachford => self.peaceman_rachford().value(&state, &injection),
        }
    }

    fn state_dim(&self) -> usize {
        self.a.lazy_shape()[0]
    }

    fn bind(&self, injection: &Tensor<2>) -> Box<dyn BoundCell> {
        match self.splitting {
            Splitting::ForwardBackward => self.forward_backward().bound(injection),
            Splitting::PeacemanRachford => self.peaceman_rachford().bound(injection),
        }
    }

    fn differentiable_vjp(
        &self,
        state: &Tensor<2>,
        injection: &Tensor<2>,
        _: Option<&Mask>,
        cotangents: &[Tensor<2>],
    ) -> Option<Vec<Tensor<2>>> {
        Some(match self.splitting {
            Splitting::ForwardBackward => self.forward_backward().products(state, injection, cotangents),
            Splitting::PeacemanRachford => self.peaceman_rachford().products(state, injection, cotangents),
        })
    }
}

/// V, and the parameters that it is made of.
#[derive(Clone)]
struct Full {
    matrix: Tensor<2>,
    cell: MonotoneCell,
}

impl Coupling for Full {
    fn times(&self, states: &Tensor<2>) -> Tensor<2> {
        products(states.clone(), self.matrix.clone(), None)
    }

    fn transposed(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        products(cotangents.clone(), self.matrix.clone().transpose(), None)
    }

    /// With G = Σ s zᵀ over the batch, the derivative with respect to V: −A (G + Gᵀ) for A, G − Gᵀ for B.
    fn accumulate(&self, states: &Tensor<2>, cotangents: &Tensor<2>, into: &mut GradientsParams) {
        let g = cotangents.clone().transpose().matmul(states.clone());
        let a = self.cell.a.val().matmul(g.clone() + g.clone().transpose()) * -1.0;
        accumulate(into, self.cell.a.id, a);
        accumulate(into, self.cell.b.id, g.clone() - g.transpose());
    }
}
