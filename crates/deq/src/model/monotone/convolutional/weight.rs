//! How V of a convolutional cell is made of parameters: a convolution between two scalings of units.
//!
//! That of Winston and Kolter is a convolution alone, in whose place stand 5×5 taps. The others have the fully connected ones' W
//! ([`parametrisations`](crate::model::monotone::Parametrisation)) for the matrix of a 3×3 convolution with zeros around the state. Its sums by row
//! and column are fewer at the border than inside, so that what is made of them differs from unit to unit, but by channel alone inside.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;

use super::MonotoneConvConfig;
use super::cell::{gram, skew, unit};
use super::torus::Bordered;
use crate::model::init::{Init, Law};
use crate::model::layers::Kernel;
use crate::model::monotone::weight::{IntervalBounded, scale};
use crate::model::monotone::{Parametrisation, Splitting};
use crate::model::prepared::Prepared;

/// What a cell has beside its parameters.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// C, H, W of z.
    pub(super) state: [usize; 3],
    /// m.
    pub(super) monotonicity: f64,
    /// α.
    pub(super) step: f64,
    pub(super) splitting: Splitting,
    /// The resolvent of Peaceman-Rachford splitting.
    pub(super) resolvent: Prepared<Bordered>,
}

/// Monotone in L2 (Winston and Kolter 2020, arXiv 2006.08591, section 4).
#[derive(Module, Debug)]
pub struct WinstonKolterConv {
    /// A, `[C, C, 3, 3]`.
    pub a: Param<Tensor<4>>,
    /// B, `[C, C, 3, 3]`.
    pub b: Param<Tensor<4>>,
    /// g, `[1]`, whose size counts.
    pub g: Param<Tensor<1>>,
    /// h, `[1]`.
    pub h: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) settings: Settings,
}

/// Contracting in ℓ∞, as [`Nemon`](crate::model::monotone::Nemon) is.
#[derive(Module, Debug)]
pub struct NemonConv {
    /// T, `[C, C, 3, 3]`.
    pub t: Param<Tensor<4>>,
    /// d, by which Λ is given, `[C]`.
    pub d: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) settings: Settings,
}

/// With boxes that contract, as [`IntervalBounded`] has them.
#[derive(Module, Debug)]
pub struct IntervalBoundedConv {
    /// M, `[C, C, 3, 3]`.
    pub m: Param<Tensor<4>>,
    /// d, by which Λ is given, `[C]`.
    pub d: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) settings: Settings,
}

/// Of V z = after ⊙ K(before ⊙ z) − own ⊙ z what is not the convolution K, `[1, C, H, W]` or broadcast to it.
#[derive(Debug, Clone)]
pub(super) struct Scales {
    pub(super) before: Tensor<4>,
    pub(super) after: Tensor<4>,
    pub(super) own: Tensor<4>,
}

impl WinstonKolterConv {
    /// V as a kernel, `[C, C, 5, 5]`, in Burn operations on whatever is tracked.
    pub(super) fn kernel(&self) -> Tensor<4> {
        let symmetric = gram(unit(self.a.val())) * self.g.val().abs().reshape([1, 1, 1, 1]);
        skew(&self.b, &self.h).pad((1, 1, 1, 1), PadMode::Constant(0.0)) - symmetric
    }
}

impl NemonConv {
    pub(super) fn scales(&self) -> Scales {
        let (sums, _) = sums(self.t.val(), self.settings.state);
        let scale = by_channel(self.d.val());
        Scales { before: scale.clone(), after: scale.recip(), own: sums }
    }
}

impl IntervalBoundedConv {
    pub(super) fn scales(&self) -> Scales {
        let Settings { state, monotonicity, .. } = self.settings;
        let (rows, columns) = sums(self.m.val(), state);
        let share = 1.0 - monotonicity;
        let factor = ((rows + columns) * (0.5 / share) + IntervalBounded::SMALLEST_SUM).sqrt().recip();
        let scale = by_channel(self.d.val());
        let own = factor.zeros_like() + share;
        Scales { before: factor.clone() * scale.clone(), after: factor / scale, own }
    }
}

/// |K|1 and |K|ᵀ1 of each unit, `[1, C, H, W]`, of the matrix of a convolution with zeros around the state.
fn sums(kernel: Tensor<4>, [c, h, w]: [usize; 3]) -> (Tensor<4>, Tensor<4>) {
    let ones = Tensor::<4>::ones([1, c, h, w], &kernel.device()).cast(kernel.dtype());
    let ones = if kernel.is_autodiff() { ones.autodiff() } else { ones };
    let sizes = Kernel::new(kernel.abs(), 1);
    (sizes.apply(ones.clone()), sizes.vjp_input(ones, [h, w]))
}

/// Λ of the channels, `[1, C, 1, 1]`.
fn by_channel(d: Tensor<1>) -> Tensor<4> {
    let [channels] = d.dims();
    scale(d).reshape([1, channels, 1, 1])
}

impl MonotoneConvConfig {
    /// Random parameters of the cell.
    pub(super) fn cell(&self, init: &mut Init) -> super::MonotoneConvCell {
        let channels = self.channels;
        let settings = Settings {
            state: self.state(),
            monotonicity: self.monotonicity,
            step: self.step,
            splitting: self.splitting,
            resolvent: Prepared::default(),
        };
        let mut kernel = || init.parameter([channels, channels, 3, 3], Law::FanIn);
        match self.parametrisation {
            Parametrisation::WinstonKolter => super::MonotoneConvCell::WinstonKolter(WinstonKolterConv {
                a: kernel(),
                b: kernel(),
                g: init.filled([1], 1.0),
                h: init.filled([1], 1.0),
                settings,
            }),
            Parametrisation::Nemon => super::MonotoneConvCell::Nemon(NemonConv {
                t: kernel(),
                d: init.filled([channels], 0.0),
                settings,
            }),
            Parametrisation::IntervalBounded => {
                super::MonotoneConvCell::IntervalBounded(IntervalBoundedConv {
                    m: kernel(),
                    d: init.filled([channels], 0.0),
                    settings,
                })
            }
        }
    }
}
