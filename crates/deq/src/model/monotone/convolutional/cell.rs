//! The cell of a convolutional monotone DEQ: V = h (B̂ − B̂ᵀ) − |g| ÂᵀÂ as one 5×5 convolution.
//!
//! With zeros around the state, ÂᵀÂ is the convolution by the autocorrelation of A: entry (o, i, d) is
//! Σ A[c, o, e] A[c, i, e + d] over channels c and places e. B̂ᵀ is the convolution by B with its channels exchanged and its
//! places turned by half a turn.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};

use super::MonotoneConvConfig;
use super::torus::{Bordered, Circular, around};
use crate::model::cell::{BoundCell, Cell, Mask};
use crate::model::init::{Init, Law};
use crate::model::layers::Kernel;
use crate::model::monotone::Splitting;
use crate::model::monotone::peaceman_rachford::PeacemanRachford;
use crate::model::monotone::splitting::{Coupling, ForwardBackward, Step};
use crate::model::parameters::accumulate_module;
use crate::model::prepared::Prepared;

/// The cell of a convolutional monotone DEQ.
#[derive(Module, Debug)]
pub struct MonotoneConvCell {
    /// A, `[C, C, 3, 3]`.
    pub a: Param<Tensor<4>>,
    /// B, `[C, C, 3, 3]`.
    pub b: Param<Tensor<4>>,
    /// g, `[1]`, whose size counts.
    pub g: Param<Tensor<1>>,
    /// h, `[1]`.
    pub h: Param<Tensor<1>>,
    #[module(skip)]
    state: [usize; 3],
    #[module(skip)]
    monotonicity: f64,
    #[module(skip)]
    step: f64,
    #[module(skip)]
    splitting: Splitting,
    /// The resolvent of Peaceman-Rachford splitting.
    #[module(skip)]
    prepared: Prepared<Bordered>,
}

impl MonotoneConvCell {
    /// A kernel is divided by its length, or by this where it is shorter: one of zeros stays one.
    pub const SHORTEST: f32 = 1e-12;

    pub(super) fn new(config: &MonotoneConvConfig, init: &mut Init) -> Self {
        let channels = config.channels;
        Self {
            a: init.parameter([channels, channels, 3, 3], Law::FanIn),
            b: init.parameter([channels, channels, 3, 3], Law::FanIn),
            g: init.filled([1], 1.0),
            h: init.filled([1], 1.0),
            state: config.state(),
            monotonicity: config.monotonicity,
            step: config.step,
            splitting: config.splitting,
            prepared: Prepared::default(),
        }
    }

    /// C, H, W of z.
    pub fn state(&self) -> [usize; 3] {
        self.state
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

    /// V as a kernel, `[C, C, 5, 5]`, in Burn operations on whatever is tracked.
    fn kernel(&self) -> Tensor<4> {
        let symmetric = gram(unit(self.a.val())) * self.g.val().abs().reshape([1, 1, 1, 1]);
        skew(&self.b, &self.h).pad((1, 1, 1, 1), PadMode::Constant(0.0)) - symmetric
    }

    pub(super) fn coupling(&self) -> Convolution {
        Convolution { kernel: Kernel::new(self.kernel(), 1), cell: self.clone() }
    }

    fn forward_backward(&self) -> ForwardBackward<Convolution> {
        let coupling = self.coupling();
        ForwardBackward { coupling, monotonicity: self.monotonicity, step: self.step }
    }

    fn peaceman_rachford(&self) -> PeacemanRachford<Circular, Bordered> {
        let coupling = self.coupling();
        let make = || Bordered::new(coupling.kernel.weight(), self.state, self.monotonicity, self.step);
        let resolvent = self.prepared.get(self, make).map_or_else(make, |kept| (*kept).clone());
        PeacemanRachford { coupling: Circular(coupling), resolvent, step: self.step }
    }
}

impl Cell for MonotoneConvCell {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        match self.splitting {
            Splitting::ForwardBackward => self.forward_backward().value(&state, &injection),
            Splitting::PeacemanRachford => self.peaceman_rachford().value(&state, &injection),
        }
    }

    fn state_dim(&self) -> usize {
        let units = match self.splitting {
            Splitting::ForwardBackward => self.state,
            Splitting::PeacemanRachford => around(self.state),
        };
        units.iter().product()
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

/// A kernel over its length.
pub(in super::super) fn unit(weight: Tensor<4>) -> Tensor<4> {
    let square = (weight.clone() * weight.clone()).flatten::<1>(0, 3).sum_dim(0);
    let least = MonotoneConvCell::SHORTEST * MonotoneConvCell::SHORTEST;
    weight / square.clamp_min(least).sqrt().reshape([1, 1, 1, 1])
}

/// AᵀA, 5×5.
pub(in super::super) fn gram(a: Tensor<4>) -> Tensor<4> {
    // [i, c, ·] and [o, c, ·]: the input channels of A are what is apart.
    let a = a.swap_dims(0, 1);
    conv2d(a.clone(), a, None, ConvOptions::new([1, 1], [2, 2], [1, 1], 1)).swap_dims(0, 1)
}

/// h (B̂ − B̂ᵀ), 3×3.
pub(in super::super) fn skew(b: &Param<Tensor<4>>, h: &Param<Tensor<1>>) -> Tensor<4> {
    let b = unit(b.val());
    (b.clone() - b.swap_dims(0, 1).flip([2, 3])) * h.val().reshape([1, 1, 1, 1])
}

/// V, and the parameters that it is made of.
#[derive(Clone)]
pub(super) struct Convolution {
    pub(super) kernel: Kernel,
    cell: MonotoneConvCell,
}

impl Convolution {
    /// C, H, W of z.
    pub(super) fn state(&self) -> [usize; 3] {
        self.cell.state
    }

    /// Takes the derivatives with respect to the kernel's few numbers back to the parameters, by autodiff.
    pub(super) fn accumulate_kernel(&self, gradient: Tensor<4>, into: &mut GradientsParams) {
        let cell = self.cell.clone().train();
        let product = cell.kernel() * Tensor::from_inner(gradient);
        accumulate_module(into, product.backward(), &cell);
    }

    fn maps(&self, rows: &Tensor<2>) -> Tensor<4> {
        let [c, h, w] = self.cell.state;
        rows.clone().reshape([rows.dims()[0], c, h, w])
    }
}

impl Coupling for Convolution {
    fn times(&self, states: &Tensor<2>) -> Tensor<2> {
        self.kernel.apply(self.maps(states)).flatten(1, 3)
    }

    fn transposed(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        let [_, h, w] = self.cell.state;
        self.kernel.vjp_input(self.maps(cotangents), [h, w]).flatten(1, 3)
    }

    fn accumulate(&self, states: &Tensor<2>, cotangents: &Tensor<2>, into: &mut GradientsParams) {
        let gradient = self.kernel.vjp_weight(self.maps(states), self.maps(cotangents));
        self.accumulate_kernel(gradient, into);
    }
}
