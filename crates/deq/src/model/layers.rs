//! The layers that stems, cells and heads are made of.
//!
//! They are plain data: parameters named as in a PyTorch state dict, and a forward function in Burn
//! operations. Layers of the cell also have a vector-Jacobian product written by hand, in Burn operations
//! too, so that it can be applied as often as wanted and can itself be differentiated (Jacobian
//! regularisation needs that).

mod conv;
mod norm;

pub use conv::{Conv2d, Kernel, WeightNormConv2d};
pub use norm::{BatchMoments, BatchNorm, GroupNorm, GroupNormTape, Phase};

use burn::module::Module;
use burn::tensor::{Tensor, activation};

use equipoise_attack::batch::Logits;

/// ReLU, a layer without parameters that takes a place in a sequence.
#[derive(Module, Debug, Default)]
pub struct Relu {}

/// A layer of a sequence, as in PyTorch's `Sequential`: its index is its name.
#[derive(Module, Debug)]
pub enum Layer {
    /// Convolution.
    Conv2d(Conv2d),
    /// Batch normalisation.
    BatchNorm(BatchNorm),
    /// ReLU.
    Relu(Relu),
}

/// Applies layers one after another.
pub fn sequence(layers: &[Layer], mut x: Tensor<4>, phase: &Phase<'_>) -> Tensor<4> {
    for layer in layers {
        x = match layer {
            Layer::Conv2d(conv) => conv.forward(x),
            Layer::BatchNorm(norm) => norm.forward(x, phase),
            Layer::Relu(_) => activation::relu(x),
        };
    }
    x
}

/// Convolution, batch normalisation, ReLU: the usual three.
pub fn conv_bn_relu(conv: Conv2d, init: &mut super::init::Init) -> Vec<Layer> {
    let channels = conv.weight.lazy_shape()[0];
    vec![Layer::Conv2d(conv), Layer::BatchNorm(BatchNorm::new(channels, true, init)), Layer::Relu(Relu {})]
}

/// A fully connected layer with PyTorch's layout: `weight` `[K, C]`, `bias` `[K]`.
#[derive(Module, Debug)]
pub struct Dense {
    /// `[K, C]`.
    pub weight: burn::module::Param<Tensor<2>>,
    /// `[K]`.
    pub bias: burn::module::Param<Tensor<1>>,
}

impl Dense {
    /// A layer from C features to K classes.
    pub fn new(features: usize, classes: usize, init: &mut super::init::Init) -> Self {
        let bound = 1.0 / (features as f64).sqrt();
        Self {
            weight: init.parameter([classes, features], super::init::Law::Uniform(bound)),
            bias: init.parameter([classes], super::init::Law::Uniform(bound)),
        }
    }

    /// `[N, C]` to `[N, K]`.
    pub fn forward(&self, x: Tensor<2>) -> Logits {
        products(x, self.weight.val(), Some(self.bias.val()))
    }
}

/// x Wᵀ + b of rows `[N, C]`, W `[K, C]` and b `[K]`.
///
/// Computed as a 1×1 convolution: a matrix product of one row and of several go through different kernels, and an
/// example's result must not depend on its batch.
pub fn products(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let ([n, features], [outputs, _]) = (x.dims(), weight.dims());
    let weight = weight.reshape([outputs, features, 1, 1]);
    let options = burn::tensor::ops::ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
    let x = x.reshape([n, features, 1, 1]);
    burn::tensor::module::conv2d(x, weight, bias, options).reshape([n, outputs])
}
