//! The cell of a convolutional monotone DEQ: V = W − (1−m) I as a convolution between scalings, whatever it is made of.
//!
//! With zeros around the state, ÂᵀÂ is the convolution by the autocorrelation of A: entry (o, i, d) is
//! Σ A[c, o, e] A[c, i, e + d] over channels c and places e. B̂ᵀ is the convolution by B with its channels exchanged and its
//! places turned by half a turn.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{DType, Tensor, activation};

use super::torus::{Bordered, Circular, Frequencies, around};
use super::weight::{IntervalBoundedConv, NemonConv, Scales, Settings, WinstonKolterConv};
use crate::model::cell::{BoundCell, Cell, Mask};
use crate::model::layers::Kernel;
use crate::model::monotone::Splitting;
use crate::model::monotone::boxes::Contracting;
use crate::model::monotone::peaceman_rachford::PeacemanRachford;
use crate::model::monotone::splitting::{Coupling, ForwardBackward, Step, accumulated};
use crate::model::parameters::{accumulate_module, in_precision};

/// The cell of a convolutional monotone DEQ, by what W is made of.
#[derive(Module, Debug)]
pub enum MonotoneConvCell {
    /// Monotone in L2.
    WinstonKolter(WinstonKolterConv),
    /// Contracting in ℓ∞.
    Nemon(NemonConv),
    /// With boxes that contract.
    IntervalBounded(IntervalBoundedConv),
}

impl MonotoneConvCell {
    /// A kernel is divided by its length, or by this where it is shorter: one of zeros stays one.
    pub const SHORTEST: f32 = 1e-12;

    fn settings(&self) -> &Settings {
        match self {
            Self::WinstonKolter(WinstonKolterConv { settings, .. })
            | Self::Nemon(NemonConv { settings, .. })
            | Self::IntervalBounded(IntervalBoundedConv { settings, .. }) => settings,
        }
    }

    /// C, H, W of z.
    pub fn state(&self) -> [usize; 3] {
        self.settings().state
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

    /// The same with forward-backward splitting, whose fixed point is the same, in a precision.
    pub fn forward_backward_in(&self, dtype: DType) -> Self {
        let mut cell = in_precision(self.clone(), dtype);
        match &mut cell {
            Self::WinstonKolter(WinstonKolterConv { settings, .. })
            | Self::Nemon(NemonConv { settings, .. })
            | Self::IntervalBounded(IntervalBoundedConv { settings, .. }) => {
                settings.splitting = Splitting::ForwardBackward;
            }
        }
        cell
    }

    /// In Burn operations on whatever is tracked.
    pub(super) fn coupling(&self) -> Convolution {
        let (kernel, scales) = match self {
            Self::WinstonKolter(weight) => (weight.kernel(), None),
            Self::Nemon(weight) => (weight.t.val(), Some(weight.scales())),
            Self::IntervalBounded(weight) => (weight.m.val(), Some(weight.scales())),
        };
        Convolution { kernel: Kernel::new(kernel, 1), scales, cell: self.clone() }
    }

    fn forward_backward(&self) -> ForwardBackward<Convolution> {
        ForwardBackward { coupling: self.coupling(), monotonicity: self.monotonicity(), step: self.step() }
    }

    /// R = ((1+α) I − α W)⁻¹ on the torus around the state, as the cell multiplies by it; `None` where it splits forward and backward.
    pub fn resolvent(&self) -> Option<Frequencies> {
        (self.splitting() == Splitting::PeacemanRachford)
            .then(|| self.peaceman_rachford().resolvent.frequencies())
    }

    fn peaceman_rachford(&self) -> PeacemanRachford<Circular, Bordered> {
        let (coupling, m, step) = (self.coupling(), self.monotonicity(), self.step());
        let make = || Bordered::new(coupling.kernel.weight(), self.state(), m, step);
        let resolvent = self.settings().resolvent.get(self, make).map_or_else(make, |kept| (*kept).clone());
        PeacemanRachford { coupling: Circular(coupling), resolvent, step }
    }
}

impl Cell for MonotoneConvCell {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        match self.splitting() {
            Splitting::ForwardBackward => self.forward_backward().value(&state, &injection),
            Splitting::PeacemanRachford => self.peaceman_rachford().value(&state, &injection),
        }
    }

    fn state_dim(&self) -> usize {
        let units = match self.splitting() {
            Splitting::ForwardBackward => self.state(),
            Splitting::PeacemanRachford => around(self.state()),
        };
        units.iter().product()
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

impl Contracting for MonotoneConvCell {
    type Coupling = Convolution;

    fn step(&self) -> f64 {
        self.step()
    }

    /// A is α K between the scalings, off its diagonal.
    fn signs(&self) -> Option<[Convolution; 2]> {
        let Convolution { kernel, scales, cell } = self.coupling();
        let Scales { before, after, own } = scales?;
        let (m, step) = (self.monotonicity(), self.step());
        let kernel = kernel.weight();
        let [channels, _, side, _] = kernel.dims();
        let place = Tensor::<2>::eye(channels, &kernel.device()).cast(kernel.dtype());
        let reach = side / 2;
        let place = place
            .reshape([channels, channels, 1, 1])
            .pad((reach, reach, reach, reach), PadMode::Constant(0.0));
        let place = if kernel.is_autodiff() { place.autodiff() } else { place };
        let centre = kernel.clone() * place;
        let others = kernel.clone() - centre.clone();
        let centre = centre.sum_dim(3).sum_dim(2).sum_dim(1).reshape([1, channels, 1, 1]);
        let diagonal = (after.clone() * centre * before.clone() - own) * step + (1.0 - step * m);
        let signed = |sign: f64| Convolution {
            kernel: Kernel::new(activation::relu(others.clone() * sign) * sign, 1),
            scales: Some(Scales {
                before: before.clone(),
                after: after.clone() * step,
                own: activation::relu(diagonal.clone() * sign) * -sign,
            }),
            cell: cell.clone(),
        };
        Some([signed(1.0), signed(-1.0)])
    }
}

/// A kernel over its length, whose squares are added up axis by axis: of hundreds of channels a sum of them all in a row may be off by
/// a hundred times as much.
pub(in super::super) fn unit(weight: Tensor<4>) -> Tensor<4> {
    let square = (weight.clone() * weight.clone()).sum_dim(3).sum_dim(2).sum_dim(1).sum_dim(0);
    let least = MonotoneConvCell::SHORTEST * MonotoneConvCell::SHORTEST;
    weight / square.clamp_min(least).sqrt()
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
pub struct Convolution {
    pub(super) kernel: Kernel,
    scales: Option<Scales>,
    cell: MonotoneConvCell,
}

impl Convolution {
    /// C, H, W of z.
    pub(super) fn state(&self) -> [usize; 3] {
        self.cell.state()
    }

    /// Takes the derivatives with respect to the kernel's few numbers back to the parameters, by autodiff.
    pub(super) fn accumulate_kernel(&self, gradient: Tensor<4>, into: &mut GradientsParams) {
        let cell = self.cell.clone().train();
        let product = cell.coupling().kernel.weight().clone() * Tensor::from_inner(gradient);
        accumulate_module(into, product.backward(), &cell);
    }

    fn maps(&self, rows: &Tensor<2>) -> Tensor<4> {
        let [c, h, w] = self.state();
        rows.clone().reshape([rows.dims()[0], c, h, w])
    }

    /// By K or its adjoint, between the two scalings given.
    fn between(&self, rows: &Tensor<2>, by: impl Fn(Tensor<4>) -> Tensor<4>, turned: bool) -> Tensor<2> {
        let maps = self.maps(rows);
        let product = match &self.scales {
            None => by(maps),
            Some(Scales { before, after, own }) => {
                let (first, last) = if turned { (after, before) } else { (before, after) };
                by(maps.clone() * first.clone()) * last.clone() - maps * own.clone()
            }
        };
        product.flatten(1, 3)
    }
}

impl Coupling for Convolution {
    fn times(&self, states: &Tensor<2>) -> Tensor<2> {
        self.between(states, |maps| self.kernel.apply(maps), false)
    }

    fn transposed(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        let [_, h, w] = self.state();
        self.between(cotangents, |maps| self.kernel.vjp_input(maps, [h, w]), true)
    }

    fn accumulate(&self, states: &Tensor<2>, cotangents: &Tensor<2>, into: &mut GradientsParams) {
        match self.scales {
            None => {
                let gradient = self.kernel.vjp_weight(self.maps(states), self.maps(cotangents));
                self.accumulate_kernel(gradient, into);
            }
            Some(_) => {
                accumulated(
                    &self.cell,
                    |cell, states| cell.coupling().times(states),
                    states,
                    cotangents,
                    into,
                );
            }
        }
    }
}
