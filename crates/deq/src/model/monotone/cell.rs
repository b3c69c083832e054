//! The cell of a fully connected monotone DEQ: V = W − (1−m) I as a matrix, whatever it is made of.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, activation};

use super::Splitting;
use super::boxes::Contracting;
use super::peaceman_rachford::{PeacemanRachford, resolvents};
use super::splitting::{Coupling, ForwardBackward, Step};
use super::weight::{IntervalBounded, LbenCell, Nemon, Settings, WinstonKolter, identity};
use crate::model::cell::{BoundCell, Cell, Mask};
use crate::model::layers::products;
use crate::model::parameters::accumulate_module;

/// The cell of a monotone DEQ, by what W is made of.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few handles to parameters, of which a model has one")]
pub enum MonotoneCell {
    /// Monotone in L2.
    WinstonKolter(WinstonKolter),
    /// Contracting in ℓ∞.
    Nemon(Nemon),
    /// With boxes that contract.
    IntervalBounded(IntervalBounded),
    /// Of a Lipschitz-bounded network.
    Lben(LbenCell),
}

impl MonotoneCell {
    pub(super) fn settings(&self) -> &Settings {
        match self {
            Self::WinstonKolter(WinstonKolter { settings, .. })
            | Self::Nemon(Nemon { settings, .. })
            | Self::IntervalBounded(IntervalBounded { settings, .. }) => settings,
            Self::Lben(cell) => &cell.own.settings,
        }
    }

    /// m: the fixed point moves by at most 1/m times as much as the injection, in the norm that is natural to W.
    pub fn monotonicity(&self) -> f64 {
        self.settings().monotonicity
    }

    /// α.
    pub fn step(&self) -> f64 {
        self.settings().step
    }

    /// Which map has the fixed point.
    pub fn splitting(&self) -> Splitting {
        self.settings().splitting
    }

    /// W, `[D, D]`.
    pub fn weight(&self) -> Tensor<2> {
        let v = self.matrix();
        identity(&v) * (1.0 - self.monotonicity()) + v
    }

    /// V = W − (1−m) I, `[D, D]`, as the cell multiplies by it; on whatever is tracked.
    pub fn matrix(&self) -> Tensor<2> {
        match self {
            Self::WinstonKolter(weight) => weight.matrix(),
            Self::Nemon(weight) => weight.matrix(),
            Self::IntervalBounded(weight) => weight.matrix(),
            Self::Lben(cell) => cell.matrix(),
        }
    }

    /// Adds ⟨g, ∂V/∂θ⟩, by parameter, to a collection.
    pub(super) fn accumulate(&self, g: Tensor<2>, into: &mut GradientsParams) {
        let tracked = self.clone().train();
        accumulate_module(into, (tracked.matrix() * g).backward(), &tracked);
    }

    fn coupling(&self) -> Full {
        Full { matrix: self.matrix(), cell: self.clone() }
    }

    fn forward_backward(&self) -> ForwardBackward<Full> {
        ForwardBackward { coupling: self.coupling(), monotonicity: self.monotonicity(), step: self.step() }
    }

    /// R = ((1+α) I − α W)⁻¹, `[D, D]`, as the cell multiplies by it; `None` where it splits forward and backward.
    pub fn resolvent(&self) -> Option<Tensor<2>> {
        (self.splitting() == Splitting::PeacemanRachford).then(|| self.peaceman_rachford().resolvent)
    }

    fn peaceman_rachford(&self) -> PeacemanRachford<Full, Tensor<2>> {
        let coupling = self.coupling();
        let v = || coupling.matrix.clone().unsqueeze::<3>();
        let make = || resolvents(&v(), self.monotonicity(), self.step()).squeeze_dim::<2>(0);
        let resolvent = self.settings().resolvent.get(self, make).map_or_else(make, |kept| (*kept).clone());
        PeacemanRachford { coupling, resolvent, step: self.step() }
    }
}

impl Cell for MonotoneCell {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        match self.splitting() {
            Splitting::ForwardBackward => self.forward_backward().value(&state, &injection),
            Splitting::PeacemanRachford => self.peaceman_rachford().value(&state, &injection),
        }
    }

    fn state_dim(&self) -> usize {
        let square = match self {
            Self::WinstonKolter(weight) => &weight.a,
            Self::Nemon(weight) => &weight.t,
            Self::IntervalBounded(weight) => &weight.m,
            Self::Lben(cell) => &cell.own.v,
        };
        square.lazy_shape()[0]
    }

    fn bind(&self, injection: &Tensor<2>) -> Box<dyn BoundCell> {
        match self.splitting() {
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
        Some(match self.splitting() {
            Splitting::ForwardBackward => self.forward_backward().products(state, injection, cotangents),
            Splitting::PeacemanRachford => self.peaceman_rachford().products(state, injection, cotangents),
        })
    }
}

impl Contracting for MonotoneCell {
    type Coupling = Full;

    fn step(&self) -> f64 {
        self.step()
    }

    fn signs(&self) -> Option<[Full; 2]> {
        if matches!(self, Self::WinstonKolter(_) | Self::Lben(_)) {
            return None;
        }
        let v = self.matrix();
        let a = identity(&v) * (1.0 - self.step() * self.monotonicity()) + v * self.step();
        let positive = activation::relu(a.clone());
        let negative = a - positive.clone();
        Some([positive, negative].map(|matrix| Full { matrix, cell: self.clone() }))
    }
}

/// V, and the parameters that it is made of.
#[derive(Clone)]
pub struct Full {
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

    /// The derivative with respect to V is Σ s zᵀ over the batch.
    fn accumulate(&self, states: &Tensor<2>, cotangents: &Tensor<2>, into: &mut GradientsParams) {
        self.cell.accumulate(cotangents.clone().transpose().matmul(states.clone()), into);
    }
}
