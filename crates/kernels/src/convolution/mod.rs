//! A convolution with everything known about it before any example comes: its walks or its kernel at points, for the
//! way there and back, and the number of its normalisation.

pub(crate) mod tile;
pub(crate) mod direct;
pub(crate) mod points;
pub(crate) mod winograd;
pub(crate) mod wide;
pub(crate) mod gradient;
pub(crate) mod point_sums;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pulp::Arch;
use rayon::prelude::*;

use crate::convolution::direct::{Images, ImagesMut, Packed, Walk, convolve};
use crate::convolution::points::Scheme;
use crate::convolution::wide::Share;
use crate::convolution::winograd::Winograd;
use crate::image::norm::GroupNorm;
use crate::image::plane::Plane;
use crate::parameters::{Convolutions, NormParameters};

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
    /// Until both methods are made.
    kernel: Mutex<Arc<[f32]>>,
    shape: [usize; 3],
    /// Forward and backward, each made when it is first asked for or by [`prepare`].
    methods: [OnceLock<Method>; 2],
    /// Of the two; `None` for one that is direct.
    schemes: [Option<Scheme>; 2],
    /// Whether it takes whole batches.
    wide: bool,
    stride: usize,
    /// From the input to the plane of the output's cotangent: what weight gradients are summed over.
    pub gradient: Walk,
    /// Of weight gradients; `None` if they are summed term by term.
    pub gradient_scheme: Option<Scheme>,
}

/// How a convolution or its data gradient is computed.
#[derive(Debug)]
enum Method {
    /// Term by term.
    Direct(Walk, Packed),
    /// With fewer products: three by three.
    Winograd(Winograd),
}

impl Method {
    fn apply(&self, arch: Arch, x: Images<'_>, y: ImagesMut<'_>, count: usize, accumulate: bool) {
        match self {
            Self::Direct(walk, weights) => convolve(arch, walk, weights, x, y, count, accumulate),
            Self::Winograd(winograd) => winograd.apply(arch, x, y, count, accumulate),
        }
    }

    /// For a wide convolution.
    fn apply_to_all(&self, arch: Arch, batch: Vec<Share<'_>>, accumulate: bool) {
        match self {
            Self::Winograd(winograd) => winograd.apply_to_all(arch, batch, accumulate),
            Self::Direct(..) => unreachable!("only Winograd's convolutions are wide"),
        }
    }
}

/// A normalisation in use.
#[derive(Debug)]
pub(crate) struct Norm {
    /// Its number among the cell's normalisations.
    pub id: usize,
    pub norm: GroupNorm,
}

/// Hands out numbers.
#[derive(Debug)]
pub(crate) struct Counter {
    convolutions: Convolutions,
    wide_from: usize,
    convs: usize,
    norms: usize,
}

impl Counter {
    /// For convolutions that are wide from so many weights on.
    pub fn new(convolutions: Convolutions, wide_from: usize) -> Self {
        Self { convolutions, wide_from, convs: 0, norms: 0 }
    }

    pub fn conv(&mut self, size: usize, stride: usize, kernel: &[f32], planes: Planes) -> Conv {
        let Planes { x, y, u, .. } = planes;
        let shape = [y.channels, x.channels, size * size];
        let id = self.convs;
        self.convs += 1;
        let wide = stride == 1 && kernel.len() >= self.wide_from;
        let size_of_output = [y.height, y.width];
        let (forward, backward, gradient_scheme) = match (self.convolutions, size, stride) {
            (Convolutions::Winograd, 3, 1) => {
                let scheme = Scheme::at_stride_1(size_of_output, wide);
                // Gradients are summed over the whole batch: the larger tiles always pay.
                (scheme, scheme, Scheme::at_stride_1(size_of_output, true))
            }
            (Convolutions::Winograd, 3, 2) if [x.height, x.width] == size_of_output.map(|side| 2 * side) => {
                (None, Scheme::back_at_stride_2(size_of_output), None)
            }
            _ => (None, None, None),
        };
        Conv {
            id,
            planes,
            shape,
            methods: [OnceLock::new(), OnceLock::new()],
            schemes: [forward, backward],
            wide: wide && forward.is_some(),
            stride,
            gradient: Walk::forward(size, stride, x, u),
            gradient_scheme,
            kernel: Mutex::new(kernel.into()),
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

    /// Whether this is for whole batches: [`Self::apply_to_all`] and [`Self::pull_all_back`].
    pub fn is_wide(&self) -> bool {
        self.wide
    }

    /// y (+)= conv(x) for a whole batch.
    pub fn apply_to_all(&self, arch: Arch, batch: Vec<Share<'_>>, accumulate: bool) {
        self.method(arch, Direction::Forward).apply_to_all(arch, batch, accumulate);
    }

    /// Whether a data gradient sets every pixel: one by one at stride 2, only every other row and column does it.
    pub fn pulls_back_everywhere(&self) -> bool {
        self.stride == 1 || self.shape[2] > 1
    }

    /// From x = the output's cotangent to y (+)= uᵀ ∂conv/∂x, for a whole batch.
    pub fn pull_all_back(&self, arch: Arch, batch: Vec<Share<'_>>, accumulate: bool) {
        self.method(arch, Direction::Backward).apply_to_all(arch, batch, accumulate);
    }

    /// y = conv(x) for several examples.
    pub fn apply(&self, arch: Arch, x: Images<'_>, y: ImagesMut<'_>, count: usize) {
        self.method(arch, Direction::Forward).apply(arch, x, y, count, false);
    }

    /// y += conv(x) for several examples.
    pub fn accumulate(&self, arch: Arch, x: Images<'_>, y: ImagesMut<'_>, count: usize) {
        self.method(arch, Direction::Forward).apply(arch, x, y, count, true);
    }

    /// dx (+)= uᵀ ∂conv/∂x for several examples.
    #[allow(clippy::too_many_arguments)]
    pub fn pull_back(&self, arch: Arch, u: Images<'_>, dx: ImagesMut<'_>, count: usize, accumulate: bool) {
        self.method(arch, Direction::Backward).apply(arch, u, dx, count, accumulate);
    }

    fn method(&self, arch: Arch, direction: Direction) -> &Method {
        let place = &self.methods[direction as usize];
        if let Some(method) = place.get() {
            return method;
        }
        let Planes { x, y, u, dx } = self.planes;
        let (planes, transposed) = match direction {
            Direction::Forward => ([x, y], false),
            Direction::Backward => ([u, dx], true),
        };
        let kernel = Arc::clone(&self.kernel.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(method) = place.get() {
            // Made meanwhile, and perhaps the other one too.
            return method;
        }
        let (kernel, shape) = (&*kernel, self.shape);
        let method = match self.schemes[direction as usize] {
            Some(scheme) => {
                Method::Winograd(Winograd::new(arch, kernel, shape, transposed, planes, scheme, self.wide))
            }
            None => {
                let size = if shape[2] == 9 { 3 } else { 1 };
                let walk = match direction {
                    Direction::Forward => Walk::forward(size, self.stride, x, y),
                    Direction::Backward => Walk::backward(size, self.stride, u, dx),
                };
                let weights = Packed::new(kernel, shape, &walk, transposed);
                Method::Direct(walk, weights)
            }
        };
        // Not made under the lock: a thread that waits for others to make their parts of it may be given a task that
        // asks for it, too.
        let method = place.get_or_init(|| method);
        if self.methods.iter().all(|method| method.get().is_some()) {
            *self.kernel.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        }
        method
    }
}

/// A way through a convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// Makes convolutions ready for a direction: all of them the first time, none later. Tasks that find one that is not ready make
/// it, each for itself.
pub(crate) fn prepare<'a>(arch: Arch, convs: impl Iterator<Item = &'a Conv>, direction: Direction) {
    let unprepared: Vec<&Conv> =
        convs.filter(|conv| conv.methods[direction as usize].get().is_none()).collect();
    unprepared.par_iter().with_max_len(1).for_each(|conv| {
        conv.method(arch, direction);
    });
}
