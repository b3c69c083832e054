//! Fusion: every branch receives all others, brought to its own shape.
//!
//! From a finer branch j < i, i−j times a 3×3 convolution of stride 2 and group normalisation, with ReLU
//! between but not after, channels changing at the last; from a coarser branch j > i, a 1×1 convolution,
//! group normalisation, and nearest-neighbour upsampling by 2^(j−i). The sum passes ReLU, a 1×1 convolution
//! and a group normalisation with half the groups.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, activation};

use super::block::{affine_gradient, fold_gradient, relu_vjp};
use super::config::MdeqConfig;
use crate::model::init::{Init, Law};
use crate::model::layers::{Conv2d, GroupNorm, GroupNormTape, Kernel, WeightNormConv2d};
use crate::model::parameters::accumulate;
use equipoise_attack::batch;

/// Convolution and group normalisation.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// Without bias.
    pub conv: Conv2d,
    /// After the convolution.
    pub gnorm: GroupNorm,
}

/// The way from one branch to another.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // A model holds a dozen of them.
pub enum FusePath {
    /// To a coarser branch.
    Down(Downsample),
    /// To a finer branch.
    Up(Upsample),
}

/// Halves the resolution once per step.
#[derive(Module, Debug)]
pub struct Downsample {
    /// The steps.
    pub net: Vec<ConvNorm>,
}

/// Doubles the resolution `times` times.
#[derive(Module, Debug)]
pub struct Upsample {
    /// Changes the channels, before the upsampling.
    pub net: ConvNorm,
    #[module(skip)]
    times: usize,
}

/// What follows the sum.
#[derive(Module, Debug)]
pub struct PostFuse {
    /// 1×1.
    pub conv: WeightNormConv2d,
    /// With half the groups.
    pub gnorm: GroupNorm,
}

/// What a path keeps of an evaluation: for each step its input and its normalisation.
#[derive(Clone)]
pub struct PathTape(Vec<(Tensor<4>, GroupNormTape)>);

/// What post-fusion keeps: the output of its ReLU and its normalisation.
#[derive(Clone)]
pub struct PostTape {
    rectified: Tensor<4>,
    gnorm: GroupNormTape,
}

impl ConvNorm {
    fn new(channels: [usize; 2], k: usize, stride: usize, config: &MdeqConfig, init: &mut Init) -> Self {
        Self {
            conv: Conv2d::new(channels, k, stride, false, Law::Normal(0.01), init),
            gnorm: GroupNorm::new(channels[1], config.groups, config.fuse_affine, init),
        }
    }

    fn forward(&self, x: Tensor<4>) -> (Tensor<4>, GroupNormTape) {
        self.gnorm.forward(self.conv.kernel().apply(x))
    }

    /// Pulls u back to the input, noting the parameters' gradients on the way if asked to.
    fn vjp(
        &self,
        input: &Tensor<4>,
        tape: &GroupNormTape,
        u: Tensor<4>,
        parameters: Option<&mut GradientsParams>,
    ) -> Tensor<4> {
        let [_, _, h, w] = input.dims();
        let kernel = self.conv.kernel();
        let convolved = self.gnorm.vjp_input(tape, u.clone());
        if let Some(into) = parameters {
            affine_gradient(&self.gnorm, tape, u, into);
            accumulate(into, self.conv.weight.id, kernel.vjp_weight(input.clone(), convolved.clone()));
        }
        kernel.vjp_input(convolved, [h, w])
    }
}

impl FusePath {
    /// The path from branch `from` to branch `to`; none from a branch to itself.
    pub fn new(from: usize, to: usize, config: &MdeqConfig, init: &mut Init) -> Option<Self> {
        let (source, target) = (config.channels[from], config.channels[to]);
        match to.cmp(&from) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => {
                let steps = to - from;
                let net = (1..=steps)
                    .map(|step| {
                        let out = if step == steps { target } else { source };
                        ConvNorm::new([source, out], 3, 2, config, init)
                    })
                    .collect();
                Some(Self::Down(Downsample { net }))
            }
            std::cmp::Ordering::Less => {
                let net = ConvNorm::new([source, target], 1, 1, config, init);
                Some(Self::Up(Upsample { net, times: from - to }))
            }
        }
    }

    /// A branch, brought to the shape of the other.
    pub fn forward(&self, x: Tensor<4>) -> (Tensor<4>, PathTape) {
        match self {
            Self::Down(Downsample { net }) => {
                let mut tape = Vec::with_capacity(net.len());
                let mut x = x;
                for (step, layer) in net.iter().enumerate() {
                    if step > 0 {
                        x = activation::relu(x);
                    }
                    let (y, norm) = layer.forward(x.clone());
                    tape.push((x, norm));
                    x = y;
                }
                (x, PathTape(tape))
            }
            Self::Up(Upsample { net, times }) => {
                let (y, norm) = net.forward(x.clone());
                (upsample(y, 1 << times), PathTape(vec![(x, norm)]))
            }
        }
    }

    /// Pulls u back to the source branch, noting the parameters' gradients on the way if asked to.
    pub fn vjp(
        &self,
        tape: &PathTape,
        u: Tensor<4>,
        mut parameters: Option<&mut GradientsParams>,
    ) -> Tensor<4> {
        match self {
            Self::Down(Downsample { net }) => {
                let mut u = u;
                for (step, (layer, (input, norm))) in net.iter().zip(&tape.0).enumerate().rev() {
                    u = layer.vjp(input, norm, u, parameters.as_deref_mut());
                    if step > 0 {
                        u = relu_vjp(input, u);
                    }
                }
                u
            }
            Self::Up(Upsample { net, times }) => {
                let (input, norm) = &tape.0[0];
                net.vjp(input, norm, upsample_vjp(u, 1 << times), parameters)
            }
        }
    }
}

impl PathTape {
    /// The tape of some rows.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self(self.0.iter().map(|(x, norm)| (batch::select(x, rows), norm.select(rows))).collect())
    }
}

impl PostFuse {
    /// For a branch of C channels.
    pub fn new(channels: usize, config: &MdeqConfig, init: &mut Init) -> Self {
        Self {
            conv: WeightNormConv2d::new([channels; 2], 1, Law::Normal(0.01), init),
            gnorm: GroupNorm::new(channels, config.groups / 2, config.post_affine, init),
        }
    }

    /// ReLU, the folded convolution, normalisation.
    pub fn forward(&self, kernel: &Kernel, x: Tensor<4>) -> (Tensor<4>, PostTape) {
        let rectified = activation::relu(x);
        let (y, gnorm) = self.gnorm.forward(kernel.apply(rectified.clone()));
        (y, PostTape { rectified, gnorm })
    }

    /// Pulls u back to the sum, noting the parameters' gradients on the way if asked to.
    pub fn vjp(
        &self,
        kernel: &Kernel,
        tape: &PostTape,
        u: Tensor<4>,
        parameters: Option<&mut GradientsParams>,
    ) -> Tensor<4> {
        let [_, _, h, w] = u.dims();
        let convolved = self.gnorm.vjp_input(&tape.gnorm, u.clone());
        if let Some(into) = parameters {
            affine_gradient(&self.gnorm, &tape.gnorm, u, into);
            fold_gradient(&self.conv, kernel.vjp_weight(tape.rectified.clone(), convolved.clone()), into);
        }
        relu_vjp(&tape.rectified, kernel.vjp_input(convolved, [h, w]))
    }
}

impl PostTape {
    /// The tape of some rows.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self { rectified: batch::select(&self.rectified, rows), gnorm: self.gnorm.select(rows) }
    }
}

/// Nearest-neighbour upsampling of `[N, C, H, W]` by a factor.
fn upsample(x: Tensor<4>, factor: usize) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    x.reshape([n * c, h, 1, w, 1]).expand([n * c, h, factor, w, factor]).reshape([
        n,
        c,
        h * factor,
        w * factor,
    ])
}

/// Its transpose: the sum over each factor×factor cell.
fn upsample_vjp(u: Tensor<4>, factor: usize) -> Tensor<4> {
    let [n, c, h, w] = u.dims();
    let (h, w) = (h / factor, w / factor);
    u.reshape([n * c, h, factor, w, factor]).sum_dim(4).sum_dim(2).reshape([n, c, h, w])
}
