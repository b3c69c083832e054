//! One convolution of a cell with everything known about it before any example comes: both of its walks, its
//! weights packed for each, and its normalisation's number.

use std::sync::OnceLock;

use pulp::Arch;

use crate::conv::{Images, ImagesMut, Packed, Walk, convolve};
use crate::norm::GroupNorm;
use crate::parameters::NormParameters;
use crate::plane::Plane;

/// The planes that a convolution goes between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planes {
    /// Input.
    pub x: Plane,
    /// Output.
    pub y: Plane,
    /// Cotangent of the output.
    pub u: Plane,
    /// Cotangent of the input.
    pub dx: Plane,
}

/// A convolution in use.
#[derive(Debug)]
pub(crate) struct Conv {
    /// Its number among the cell's convolutions.
    pub id: usize,
    pub planes: Planes,
    kernel: Vec<f32>,
    shape: [usize; 3],
    forward: Walk,
    forward_weights: Packed,
    backward: Walk,
    /// Packed when a vector-Jacobian product is first asked for.
    backward_weights: OnceLock<Packed>,
    /// From the input to the plane of the output's cotangent: what weight gradients are summed over.
    pub gradient: Walk,
}

/// A normalisation in use.
#[derive(Debug)]
pub(crate) struct Norm {
    /// Its number among the cell's normalisations.
    pub id: usize,
    pub norm: GroupNorm,
}

/// Hands out numbers.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    convs: usize,
    norms: usize,
}

impl Counter {
    pub fn conv(&mut self, size: usize, stride: usize, kernel: &[f32], planes: Planes) -> Conv {
        let Planes { x, y, u, dx } = planes;
        let shape = [y.channels, x.channels, size * size];
        let forward = Walk::forward(size, stride, x, y);
        let id = self.convs;
        self.convs += 1;
        Conv {
            id,
            planes,
            shape,
            forward_weights: Packed::new(kernel, shape, &forward, false),
            forward,
            backward: Walk::backward(size, stride, u, dx),
            backward_weights: OnceLock::new(),
            gradient: Walk::forward(size, stride, x, u),
            kernel: kernel.to_vec(),
        }
    }

    pub fn norm(&mut self, channels: usize, parameters: &NormParameters) -> Norm {
        let id = self.norms;
        self.norms += 1;
        let affine = parameters.affine.as_ref().map(|(weight, bias)| (&weight[..], &bias[..]));
        Norm { id, norm: GroupNorm::new(parameters.groups, channels, affine) }
    }

    pub fn norms(&self) -> usize {
        self.norms
    }
}

impl Conv {
    /// Output, input channels and taps.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// y = conv(x), or y += conv(x), for several examples.
    pub fn apply(&self, arch: Arch, x: Images<'_>, y: ImagesMut<'_>, count: usize) {
        convolve(arch, &self.forward, &self.forward_weights, x, y, count, false);
    }

    /// dx (+)= uᵀ ∂conv/∂x for several examples.
    pub fn pull_back(&self, arch: Arch, u: Images<'_>, dx: ImagesMut<'_>, count: usize, accumulate: bool) {
        let weights =
            self.backward_weights.get_or_init(|| Packed::new(&self.kernel, self.shape, &self.backward, true));
        convolve(arch, &self.backward, weights, u, dx, count, accumulate);
    }
}
