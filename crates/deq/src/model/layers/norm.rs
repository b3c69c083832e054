//! Normalisation: group normalisation inside the cell, batch normalisation around it.

use std::cell::RefCell;

use burn::module::{Module, Param, ParamId};
use burn::tensor::Tensor;

use crate::model::init::Init;
use equipoise_attack::batch::{from_vec, to_vec};

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// Group normalisation (Wu and He 2018), with or without an affine map.
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// `[C]`, absent when not affine.
    pub weight: Option<Param<Tensor<1>>>,
    /// `[C]`, absent when not affine.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    groups: usize,
}

/// What group normalisation keeps for its vector-Jacobian products.
#[derive(Debug, Clone)]
pub struct GroupNormTape {
    /// Normalised input x̂, before the affine map.
    pub normalised: Tensor<4>,
    /// 1/σ per group, `[N, G, 1]`.
    inverse_deviation: Tensor<3>,
}

impl GroupNorm {
    /// Normalisation over `groups` groups of channels.
    ///
    /// # Panics
    ///
    /// If the groups do not divide the channels; model configurations are validated before they come here.
    pub fn new(channels: usize, groups: usize, affine: bool, init: &mut Init) -> Self {
        assert_eq!(channels % groups, 0, "{groups} groups do not divide {channels} channels");
        Self {
            weight: affine.then(|| init.filled([channels], 1.0)),
            bias: affine.then(|| init.filled([channels], 0.0)),
            groups,
        }
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Normalises `[N, C, H, W]`, and returns what the vector-Jacobian products need.
    pub fn forward(&self, x: Tensor<4>) -> (Tensor<4>, GroupNormTape) {
        let [n, c, h, w] = x.dims();
        let x = x.reshape([n, self.groups, c / self.groups * h * w]);
        let centred = x.clone() - x.mean_dim(2);
        let variance = (centred.clone() * centred.clone()).mean_dim(2);
        let inverse_deviation = (variance + EPSILON).sqrt().recip();
        let normalised = (centred * inverse_deviation.clone()).reshape([n, c, h, w]);
        let y = match (&self.weight, &self.bias) {
            (Some(weight), Some(bias)) => {
                normalised.clone() * weight.val().reshape([1, c, 1, 1]) + bias.val().reshape([1, c, 1, 1])
            }
            _ => normalised.clone(),
        };
        (y, GroupNormTape { normalised, inverse_deviation })
    }

    /// uᵀ ∂/∂x for an output cotangent u.
    pub fn vjp_input(&self, tape: &GroupNormTape, u: Tensor<4>) -> Tensor<4> {
        let [n, c, h, w] = u.dims();
        let u = match &self.weight {
            Some(weight) => u * weight.val().reshape([1, c, 1, 1]),
            None => u,
        };
        let shape = [n, self.groups, c / self.groups * h * w];
        let (u, normalised) = (u.reshape(shape), tape.normalised.clone().reshape(shape));
        let projection = (u.clone() * normalised.clone()).mean_dim(2);
        let centred = u.clone() - u.mean_dim(2) - normalised * projection;
        (centred * tape.inverse_deviation.clone()).reshape([n, c, h, w])
    }

    /// Cotangents `[C]` of weight and bias for an output cotangent u; `None` when not affine.
    pub fn vjp_affine(&self, tape: &GroupNormTape, u: Tensor<4>) -> Option<(Tensor<1>, Tensor<1>)> {
        self.weight.as_ref()?;
        Some((over_channels(u.clone() * tape.normalised.clone()), over_channels(u)))
    }
}

impl GroupNormTape {
    /// The tape of some rows.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            normalised: equipoise_attack::batch::select(&self.normalised, rows),
            inverse_deviation: equipoise_attack::batch::select(&self.inverse_deviation, rows),
        }
    }
}

/// Sum of `[N, C, H, W]` over all but the channels, in an order that does not depend on threads.
fn over_channels(x: Tensor<4>) -> Tensor<1> {
    let c = x.dims()[1];
    x.flatten::<3>(2, 3).sum_dim(2).sum_dim(0).reshape([c])
}

/// Whether a network is being trained or used.
pub enum Phase<'a> {
    /// Use running statistics.
    Evaluate,
    /// Use the batch's statistics, and note them down for the running statistics.
    Train(&'a BatchMoments),
}

/// Statistics of batches that passed through a network in training: by running statistic, in the order in which
/// they came.
#[derive(Debug, Default)]
pub struct BatchMoments(RefCell<Vec<(ParamId, Tensor<1>)>>);

impl BatchMoments {
    /// Notes the mean and the (biased) variance `[C]` of a batch of `count` numbers per channel.
    pub fn note(&self, norm: &BatchNorm, mean: Tensor<1>, variance: Tensor<1>, count: f64) {
        // PyTorch's convention: the running variance is the unbiased one.
        let unbiased = variance * (count / (count - 1.0).max(1.0));
        let note = |running: &Param<Tensor<1>>, batch: Tensor<1>| {
            // Statistics are noted as numbers; nothing is differentiated through them.
            (running.id, if batch.is_autodiff() { batch.inner() } else { batch })
        };
        let notes = [note(&norm.running_mean, mean), note(&norm.running_var, unbiased)];
        self.0.borrow_mut().extend(notes);
    }

    /// What was noted, one number after the other.
    pub fn numbers(&self) -> Vec<f32> {
        self.0.borrow().iter().flat_map(|(_, batch)| to_vec(batch.clone())).collect()
    }

    /// Puts other numbers, as many and in the order of [`Self::numbers`], in their place.
    ///
    /// # Panics
    ///
    /// If there are fewer or more.
    pub fn replace(&mut self, numbers: &[f32]) {
        let mut rest = numbers;
        for (_, batch) in self.0.get_mut() {
            let (own, others) = rest.split_at(batch.dims()[0]);
            (*batch, rest) = (from_vec(own.to_vec(), batch.dims(), &batch.device()), others);
        }
        assert!(rest.is_empty(), "numbers of other statistics");
    }

    /// Adds those of a later pass.
    pub fn extend(&mut self, later: Self) {
        self.0.get_mut().extend(later.0.into_inner());
    }

    /// The module with its running statistics moved towards what was noted, once per pass: r ← 0.9 r + 0.1 b.
    pub fn absorbed_into<M: Module>(self, module: M) -> M {
        struct Absorb(Vec<(ParamId, Tensor<1>)>);
        impl burn::module::ModuleMapper for Absorb {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let (id, shape) = (param.id, param.dims());
                let mut noted = self.0.iter().filter(|(of, _)| *of == id).peekable();
                if noted.peek().is_none() {
                    return param;
                }
                param.map(|running| {
                    noted.fold(running, |running, (_, batch)| {
                        running * (1.0 - MOMENTUM) + batch.clone().reshape(shape) * MOMENTUM
                    })
                })
            }
        }
        module.map(&mut Absorb(self.0.into_inner()))
    }
}

/// Batch normalisation (Ioffe and Szegedy 2015), with or without an affine map.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// `[C]`, absent when not affine.
    pub weight: Option<Param<Tensor<1>>>,
    /// `[C]`, absent when not affine.
    pub bias: Option<Param<Tensor<1>>>,
    /// `[C]`, not trained.
    pub running_mean: Param<Tensor<1>>,
    /// `[C]`, not trained.
    pub running_var: Param<Tensor<1>>,
}

impl BatchNorm {
    /// Normalisation of C channels.
    pub fn new(channels: usize, affine: bool, init: &mut Init) -> Self {
        Self {
            weight: affine.then(|| init.filled([channels], 1.0)),
            bias: affine.then(|| init.filled([channels], 0.0)),
            running_mean: init.filled([channels], 0.0).set_require_grad(false),
            running_var: init.filled([channels], 1.0).set_require_grad(false),
        }
    }

    /// Normalises `[N, C, H, W]`.
    pub fn forward(&self, x: Tensor<4>, phase: &Phase<'_>) -> Tensor<4> {
        let [n, c, h, w] = x.dims();
        let (mean, variance) = match phase {
            Phase::Evaluate => (self.running_mean.val(), self.running_var.val()),
            Phase::Train(moments) => {
                let count = (n * h * w) as f64;
                let mean = over_channels(x.clone()) / count;
                let centred = x.clone() - mean.clone().reshape([1, c, 1, 1]);
                let variance = over_channels(centred.clone() * centred) / count;
                moments.note(self, mean.clone(), variance.clone(), count);
                (mean, variance)
            }
        };
        let (scale, shift) = self.coefficients(mean, variance);
        x * scale.reshape([1, c, 1, 1]) + shift.reshape([1, c, 1, 1])
    }

    /// What it does in evaluation, x ↦ scale · x + shift by channel: scale and shift, each `[C]`.
    pub fn running_map(&self) -> (Tensor<1>, Tensor<1>) {
        self.coefficients(self.running_mean.val(), self.running_var.val())
    }

    fn coefficients(&self, mean: Tensor<1>, variance: Tensor<1>) -> (Tensor<1>, Tensor<1>) {
        let mut scale = (variance + EPSILON).sqrt().recip();
        if let Some(weight) = &self.weight {
            scale = scale * weight.val();
        }
        let mut shift = mean.neg() * scale.clone();
        if let Some(bias) = &self.bias {
            shift = shift + bias.val();
        }
        (scale, shift)
    }
}
