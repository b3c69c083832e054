//! The cell of a multi-tier convolutional monotone DEQ: V = W − (1−m) I, tier by tier.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::ops::PadMode;
use burn::tensor::{DType, Tensor};

use super::MonotoneMultiConfig;
use super::tori::{Substitution, Tori};
use crate::model::cell::{BoundCell, Cell, Mask};
use crate::model::init::{Init, Law};
use crate::model::layers::Kernel;
use crate::model::monotone::Splitting;
use crate::model::monotone::convolutional::torus::around;
use crate::model::monotone::convolutional::{gram, skew, unit};
use crate::model::monotone::peaceman_rachford::PeacemanRachford;
use crate::model::monotone::splitting::{Coupling, ForwardBackward, Step, accumulated};
use crate::model::parameters::in_precision;
use crate::model::prepared::Prepared;

/// What acts within a tier.
#[derive(Module, Debug)]
pub struct MonotoneTier {
    /// A, `[C, C, 3, 3]`.
    pub a: Param<Tensor<4>>,
    /// B, `[C, C, 3, 3]`.
    pub b: Param<Tensor<4>>,
    /// g, `[1]`, whose size counts.
    pub g: Param<Tensor<1>>,
    /// h, `[1]`.
    pub h: Param<Tensor<1>>,
}

impl MonotoneTier {
    fn new(channels: usize, init: &mut Init) -> Self {
        Self {
            a: init.parameter([channels, channels, 3, 3], Law::FanIn),
            b: init.parameter([channels, channels, 3, 3], Law::FanIn),
            g: init.filled([1], 1.0),
            h: init.filled([1], 1.0),
        }
    }
}

/// What leads from a tier to the next.
#[derive(Module, Debug)]
pub struct MonotoneDown {
    /// N, `[C′, C, 3, 3]`.
    pub n: Param<Tensor<4>>,
    /// γ, `[1]`, whose size counts.
    pub gamma: Param<Tensor<1>>,
}

impl MonotoneDown {
    fn new(from: usize, to: usize, init: &mut Init) -> Self {
        Self { n: init.parameter([to, from, 3, 3], Law::FanIn), gamma: init.filled([1], 1.0) }
    }
}

/// The cell of a multi-tier convolutional monotone DEQ. Its state is one tier after the other.
#[derive(Module, Debug)]
pub struct MonotoneMultiCell {
    /// Of each tier.
    pub tiers: Vec<MonotoneTier>,
    /// Of each tier but the last.
    pub downs: Vec<MonotoneDown>,
    #[module(skip)]
    states: Vec<[usize; 3]>,
    #[module(skip)]
    monotonicity: f64,
    #[module(skip)]
    step: f64,
    #[module(skip)]
    splitting: Splitting,
    /// The resolvent of Peaceman-Rachford splitting.
    #[module(skip)]
    pub(super) prepared: Prepared<Substitution>,
}

/// √|scale| · kernel/‖kernel‖.
fn scaled(kernel: &Param<Tensor<4>>, scale: &Param<Tensor<1>>) -> Tensor<4> {
    let size = scale.val().abs().clamp_min(MonotoneMultiCell::LEAST);
    unit(kernel.val()) * size.sqrt().reshape([1, 1, 1, 1])
}

impl MonotoneMultiCell {
    /// The size of g and γ, or this where it is smaller: the root has no derivative at 0.
    pub const LEAST: f32 = 1e-12;

    pub(super) fn new(config: &MonotoneMultiConfig, init: &mut Init) -> Self {
        let channels = &config.channels;
        Self {
            tiers: channels.iter().map(|&channels| MonotoneTier::new(channels, init)).collect(),
            downs: channels.windows(2).map(|pair| MonotoneDown::new(pair[0], pair[1], init)).collect(),
            states: config.tiers(),
            monotonicity: config.monotonicity,
            step: config.step,
            splitting: config.splitting,
            prepared: Prepared::default(),
        }
    }

    /// C, H, W of each tier.
    pub fn states(&self) -> &[[usize; 3]] {
        &self.states
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

    /// The same with forward-backward splitting, whose fixed point is the same, in a precision.
    pub fn forward_backward_in(&self, dtype: DType) -> Self {
        Self { splitting: Splitting::ForwardBackward, ..in_precision(self.clone(), dtype) }
    }

    /// In Burn operations on whatever is tracked.
    pub(super) fn coupling(&self) -> Tiers {
        let within = self.tiers.iter().map(|tier| {
            let (a, skew) = (scaled(&tier.a, &tier.g), skew(&tier.b, &tier.h));
            let own = skew.clone().pad((1, 1, 1, 1), PadMode::Constant(0.0)) - gram(a.clone());
            Within { own: Kernel::new(own, 1), twice: Kernel::padded(a * 2.0, 1, 2), skew }
        });
        let downs = self.downs.iter().map(|down| Kernel::padded(scaled(&down.n, &down.gamma), 2, 2));
        Tiers { within: within.collect(), downs: downs.collect(), cell: self.clone() }
    }

    fn forward_backward(&self) -> ForwardBackward<Tiers> {
        ForwardBackward { coupling: self.coupling(), monotonicity: self.monotonicity, step: self.step }
    }

    fn peaceman_rachford(&self) -> PeacemanRachford<Tori, Substitution> {
        let coupling = Tori(self.coupling());
        let make = || Substitution::new(&coupling, self.monotonicity, self.step);
        let resolvent = self.prepared.get(self, make).map_or_else(make, |kept| (*kept).clone());
        PeacemanRachford { coupling, resolvent, step: self.step }
    }
}

impl Cell for MonotoneMultiCell {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        match self.splitting {
            Splitting::ForwardBackward => self.forward_backward().value(&state, &injection),
            Splitting::PeacemanRachford => self.peaceman_rachford().value(&state, &injection),
        }
    }

    fn state_dim(&self) -> usize {
        let units = |state: &[usize; 3]| -> usize {
            match self.splitting {
                Splitting::ForwardBackward => state.iter().product(),
                Splitting::PeacemanRachford => around(*state).iter().product(),
            }
        };
        self.states.iter().map(units).sum()
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

/// The kernels of a tier.
#[derive(Clone)]
pub(super) struct Within {
    /// B − Bᵀ − AᵀA, 5×5.
    pub(super) own: Kernel,
    /// 2 A, to outputs that are larger by one on each side.
    pub(super) twice: Kernel,
    /// B − Bᵀ.
    pub(super) skew: Tensor<4>,
}

/// V, and the parameters that it is made of.
#[derive(Clone)]
pub(super) struct Tiers {
    pub(super) within: Vec<Within>,
    /// N, to all outputs but the last row and column, which are 0.
    pub(super) downs: Vec<Kernel>,
    pub(super) cell: MonotoneMultiCell,
}

/// Rows `[N, D]` as the maps of tiers of these C, H, W.
pub(super) fn maps(rows: &Tensor<2>, tiers: impl IntoIterator<Item = [usize; 3]>) -> Vec<Tensor<4>> {
    let (count, mut start) = (rows.dims()[0], 0);
    let tier = |[c, h, w]: [usize; 3]| {
        let maps = rows.clone().narrow(1, start, c * h * w).reshape([count, c, h, w]);
        start += c * h * w;
        maps
    };
    tiers.into_iter().map(tier).collect()
}

/// The maps of tiers as rows.
pub(super) fn rows(maps: Vec<Tensor<4>>) -> Tensor<2> {
    Tensor::cat(maps.into_iter().map(|maps| maps.flatten(1, 3)).collect(), 1)
}

impl Tiers {
    /// Rows and columns of a tier.
    fn side(&self, tier: usize) -> [usize; 2] {
        let [_, h, w] = self.cell.states[tier];
        [h, w]
    }
}

impl Coupling for Tiers {
    fn times(&self, states: &Tensor<2>) -> Tensor<2> {
        let maps = maps(states, self.cell.states.iter().copied());
        let below: Vec<Tensor<4>> =
            self.downs.iter().zip(&maps).map(|(down, maps)| down.apply(maps.clone())).collect();
        let tier = |(i, within): (usize, &Within)| {
            let mut sum = within.own.apply(maps[i].clone());
            if let Some(down) = self.downs.get(i) {
                sum = sum - down.vjp_input(below[i].clone(), self.side(i));
            }
            if let Some(before) = i.checked_sub(1) {
                let whole = below[before].clone().pad((0, 1, 0, 1), PadMode::Constant(0.0));
                sum = sum - within.twice.vjp_input(whole, self.side(i));
            }
            sum
        };
        rows(self.within.iter().enumerate().map(tier).collect())
    }

    fn transposed(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        let maps = maps(cotangents, self.cell.states.iter().copied());
        let tier = |(i, within): (usize, &Within)| {
            let own = within.own.vjp_input(maps[i].clone(), self.side(i));
            let Some(down) = self.downs.get(i) else { return own };
            let [n, _, h, w] = maps[i + 1].dims();
            let [c, ..] = self.cell.states[i + 1];
            let above = self.within[i + 1].twice.apply(maps[i + 1].clone());
            let above = above.slice([0..n, 0..c, 0..h + 1, 0..w + 1]);
            own - down.vjp_input(down.apply(maps[i].clone()) + above, self.side(i))
        };
        rows(self.within.iter().enumerate().map(tier).collect())
    }

    fn accumulate(&self, states: &Tensor<2>, cotangents: &Tensor<2>, into: &mut GradientsParams) {
        accumulated(&self.cell, |cell, states| cell.coupling().times(states), states, cotangents, into);
    }

    fn injected(&self, injection: &Tensor<2>) -> Tensor<2> {
        let others = self.cell.state_dim() - injection.dims()[1];
        injection.clone().pad((0, others, 0, 0), PadMode::Constant(0.0))
    }

    fn injection(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        cotangents.clone().narrow(1, 0, self.cell.states[0].iter().product())
    }
}
