//! Convolutions, plain and weight-normalised, with their vector-Jacobian products.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::module::{conv_transpose2d, conv2d, conv2d_weight_backward};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

use crate::model::init::{Init, Law};

/// A convolution kernel, bound to its stride and padding: what is left of a convolution once its weights are
/// known.
#[derive(Debug, Clone)]
pub struct Kernel {
    weight: Tensor<4>,
    stride: usize,
    padding: usize,
}

impl Kernel {
    /// A square kernel `[Cout, Cin, k, k]`, k odd, padded so that stride 1 keeps the resolution.
    pub fn new(weight: Tensor<4>, stride: usize) -> Self {
        let padding = weight.dims()[2] / 2;
        Self::padded(weight, stride, padding)
    }

    /// The same with as many zeros around the input as are given.
    pub fn padded(weight: Tensor<4>, stride: usize, padding: usize) -> Self {
        Self { weight, stride, padding }
    }

    fn options(&self) -> ConvOptions<2> {
        ConvOptions::new([self.stride; 2], [self.padding; 2], [1, 1], 1)
    }

    /// The convolution without bias.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(x, self.weight.clone(), None, self.options())
    }

    /// uᵀ ∂/∂x for a cotangent u of the output; `size` is H, W of the input.
    pub fn vjp_input(&self, u: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
        let [_, _, k, _] = self.weight.dims();
        if self.stride == 1 {
            // A correlation with the flipped kernel: a plain convolution, and the fast path of every backend.
            let flipped = self.weight.clone().swap_dims(0, 1).flip([2, 3]);
            let options = ConvOptions::new([1, 1], [k - 1 - self.padding; 2], [1, 1], 1);
            return conv2d(u, flipped, None, options);
        }
        let [_, _, h, w] = u.dims();
        // Rows of the input that the last output row does not reach are zero; transposed convolution calls
        // their number the output padding.
        let extra = |output: usize, input: usize| input + 2 * self.padding - k - (output - 1) * self.stride;
        let options = ConvTransposeOptions::new(
            [self.stride; 2],
            [self.padding; 2],
            [extra(h, size[0]), extra(w, size[1])],
            [1, 1],
            1,
        );
        conv_transpose2d(u, self.weight.clone(), None, options)
    }

    /// The cotangent of the weights, `[Cout, Cin, k, k]`, for input x and output cotangent u.
    pub fn vjp_weight(&self, x: Tensor<4>, u: Tensor<4>) -> Tensor<4> {
        conv2d_weight_backward(x, self.weight.clone(), u, self.options())
    }

    /// Rows are independent: the same kernel serves any selection of examples.
    pub fn weight(&self) -> &Tensor<4> {
        &self.weight
    }
}

/// A convolution with an optional bias.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[Cout, Cin, k, k]`.
    pub weight: Param<Tensor<4>>,
    /// `[Cout]`.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    stride: usize,
}

impl Conv2d {
    /// A k×k convolution from `channels[0]` to `channels[1]`, padded by k/2.
    pub fn new(channels: [usize; 2], k: usize, stride: usize, bias: bool, law: Law, init: &mut Init) -> Self {
        let [input, output] = channels;
        let bound = 1.0 / ((input * k * k) as f64).sqrt();
        Self {
            weight: init.parameter([output, input, k, k], law),
            bias: bias.then(|| init.parameter([output], Law::Uniform(bound))),
            stride,
        }
    }

    /// `[N, Cin, H, W]` to `[N, Cout, ⌈H/stride⌉, ⌈W/stride⌉]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let kernel = self.kernel();
        let bias = self.bias.as_ref().map(Param::val);
        conv2d(x, kernel.weight.clone(), bias, kernel.options())
    }

    /// Its stride.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The kernel, without the bias.
    pub fn kernel(&self) -> Kernel {
        Kernel::new(self.weight.val(), self.stride)
    }
}

/// A weight-normalised convolution without bias: w = g · v / ‖v‖ per output channel (Salimans and Kingma
/// 2016).
#[derive(Module, Debug)]
pub struct WeightNormConv2d {
    /// `[Cout, 1, 1, 1]`.
    pub weight_g: Param<Tensor<4>>,
    /// `[Cout, Cin, k, k]`.
    pub weight_v: Param<Tensor<4>>,
}

impl WeightNormConv2d {
    /// A k×k convolution of stride 1 from `channels[0]` to `channels[1]`; g starts as ‖v‖.
    pub fn new(channels: [usize; 2], k: usize, law: Law, init: &mut Init) -> Self {
        let [input, output] = channels;
        let weight_v: Param<Tensor<4>> = init.parameter([output, input, k, k], law);
        let weight_g = init.computed([output, 1, 1, 1], |_| channel_norm(weight_v.val()));
        Self { weight_g, weight_v }
    }

    /// The kernel with the normalisation folded in.
    pub fn kernel(&self) -> Kernel {
        let v = self.weight_v.val();
        Kernel::new(v.clone() * (self.weight_g.val() / channel_norm(v)), 1)
    }

    /// Cotangents of g and v for a cotangent of the folded kernel.
    pub fn vjp_fold(&self, cotangent: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let v = self.weight_v.val();
        let norm = channel_norm(v.clone());
        let unit = v / norm.clone();
        let dg = channel_sum(cotangent.clone() * unit.clone());
        let dv = (cotangent - unit * dg.clone()) * (self.weight_g.val() / norm);
        (dg, dv)
    }
}

/// Sum over all but the first dimension, `[Cout, 1, 1, 1]`.
fn channel_sum(x: Tensor<4>) -> Tensor<4> {
    let channels = x.dims()[0];
    x.flatten::<2>(1, 3).sum_dim(1).reshape([channels, 1, 1, 1])
}

fn channel_norm(v: Tensor<4>) -> Tensor<4> {
    channel_sum(v.clone() * v).sqrt()
}
