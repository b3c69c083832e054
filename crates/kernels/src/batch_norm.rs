//! A convolution and the batch normalisation after it in training (Ioffe and Szegedy 2015): its statistics are the
//! batch's.
//!
//! Chunks of examples are one task each, and tasks meet where statistics are needed. They are gathered example by
//! example, each example's around its own mean, and added up in the order of the examples in float64: neither
//! threads nor chunks change a bit. All else is done by the passes of group normalisation, to which a batch is one
//! tall image with a group for each channel.

use pulp::{Arch, Simd, WithSimd};

use crate::convolution::gradient::{self, Job};
use crate::convolution::tile::multiply_add;
use crate::convolution::{Conv, Counter, Planes};
use crate::image::norm::{
    CotangentSums, GroupNorm, Map, Moments, Normalise, PullBack, Pullback, Source, Then,
};
use crate::image::norm::{vectors, vectors_mut};
use crate::image::plane::Plane;
use crate::image::stack::Stack;
use crate::parameters::{NormedConv, Statistics};

const EPSILON: f64 = 1e-5;

/// The two together. Convolutions are numbered in the order in which they are made.
#[derive(Debug)]
pub(crate) struct Normed {
    pub conv: Conv,
    norm: GroupNorm,
}

/// What a chunk of examples keeps for it.
#[derive(Debug)]
pub(crate) struct Activations {
    /// The convolution's output.
    pub y: Stack,
    /// The cotangent of the normalisation's output, then that of the convolution's.
    pub u: Stack,
    /// Of each example by channel, `[2, stride]`: mean and sum of squared distances from it; on the way back, sums
    /// of the cotangent and of its product with y − mean.
    sums: Stack,
}

/// The batch's statistics, and what follows from them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gathered {
    /// Mean and 1/σ by channel, `[2, stride]`.
    stored: Vec<f32>,
    map: Map,
    /// By channel.
    variance: Vec<f32>,
    /// Of how many numbers.
    count: usize,
    /// Sums of the cotangent, as in [`Activations`], over the batch.
    sums: Vec<f32>,
    pullback: Pullback,
}

impl Normed {
    /// A k×k convolution from `x` to `y`.
    pub fn new(
        size: usize,
        stride: usize,
        parameters: &NormedConv,
        [x, y]: [Plane; 2],
        counter: &mut Counter,
    ) -> Self {
        assert_eq!(parameters.outputs, y.channels, "as many outputs as there are channels");
        let affine = parameters.affine.as_ref().map(|(weight, bias)| (&weight[..], &bias[..]));
        Self {
            conv: counter.conv(size, stride, &parameters.kernel, Planes { x, y, u: y, dx: x }),
            norm: GroupNorm::new(y.channels, y.channels, affine),
        }
    }

    /// Memory for `count` examples.
    pub fn activations(&self, count: usize) -> Activations {
        let plane = self.plane();
        Activations {
            y: Stack::of(plane, count),
            u: Stack::of(plane, count),
            sums: Stack::new(2 * plane.stride(), count),
        }
    }

    /// The plane of what comes out.
    pub fn plane(&self) -> Plane {
        self.conv.planes.y
    }

    /// y = conv(x), and each example's statistics.
    pub fn convolve(&self, arch: Arch, x: &Stack, at: &mut Activations, count: usize) {
        self.conv.apply(arch, x.images(0), at.y.images_mut(0), count);
        for example in 0..count {
            let (image, sums) = (at.y.at(example), at.sums.at_mut(example));
            arch.dispatch(ExampleMoments { plane: self.plane(), image, sums });
        }
    }

    /// The statistics of all chunks, given with their numbers of examples.
    pub fn gather<'a>(&self, chunks: impl Iterator<Item = (&'a Activations, usize)> + Clone) -> Gathered {
        let plane = self.plane();
        let each = (plane.height * plane.width) as f64;
        let examples =
            || chunks.clone().flat_map(|(at, count)| (0..count).map(|example| at.sums.at(example)));
        let count = examples().count() as f64 * each;
        let (stride, channels) = (plane.stride(), plane.channels);
        let mut stored = vec![0.0; 2 * stride];
        let mut variance = vec![0.0; channels];
        for c in 0..channels {
            let mean = examples().map(|sums| f64::from(sums[c]) * each).sum::<f64>() / count;
            let squares = examples().map(|sums| {
                let distance = f64::from(sums[c]) - mean;
                f64::from(sums[stride + c]) + distance * distance * each
            });
            let found = squares.sum::<f64>() / count;
            stored[c] = mean as f32;
            stored[stride + c] = (1.0 / (found + EPSILON).sqrt()) as f32;
            variance[c] = found as f32;
        }
        let map = self.norm.map(&stored);
        Gathered { stored, map, variance, count: count as usize, ..Gathered::default() }
    }

    /// The normalised output goes to `out`, a stack of the same plane.
    pub fn normalise(
        &self,
        arch: Arch,
        gathered: &Gathered,
        y: &Stack,
        out: &mut Stack,
        then: Finish<'_>,
        count: usize,
    ) {
        let plane = self.plane();
        for example in 0..count {
            let then = match then {
                Finish::Store => Then::Store,
                Finish::Rectify => Then::Rectify,
                Finish::AddRectify(other) => Then::AddRectify(other.at(example), plane),
            };
            let (x, out) = (y.at(example), out.at_mut(example));
            arch.dispatch(Normalise { x, plane, map: &gathered.map, out, out_plane: plane, then });
        }
    }

    /// Each example's sums over the cotangent `u`, which is first pulled back through a ReLU, if there was one.
    pub fn sum(&self, arch: Arch, gathered: &Gathered, at: &mut Activations, rectified: bool, count: usize) {
        let plane = self.plane();
        let Activations { y, u, sums } = at;
        for example in 0..count {
            arch.dispatch(CotangentSums {
                u: u.at_mut(example),
                u_plane: plane,
                x: y.at(example),
                x_plane: plane,
                moments: Moments::of(&gathered.stored),
                rectified: rectified.then_some(&gathered.map),
                sums: sums.at_mut(example),
            });
        }
    }

    /// The sums of all chunks.
    pub fn gather_sums<'a>(
        &self,
        gathered: &mut Gathered,
        chunks: impl Iterator<Item = (&'a Activations, usize)>,
    ) {
        let mut total = vec![0.0_f64; gathered.stored.len()];
        for (at, count) in chunks {
            for example in 0..count {
                total.iter_mut().zip(at.sums.at(example)).for_each(|(sum, x)| *sum += f64::from(*x));
            }
        }
        gathered.sums = total.into_iter().map(|sum| sum as f32).collect();
        let Plane { channels, .. } = self.plane();
        let tall = Plane::plain([channels, gathered.count, 1]);
        gathered.pullback = self.norm.pullback(tall, &gathered.stored, &gathered.sums);
    }

    /// `u` becomes the cotangent of the convolution's output.
    pub fn pull_back(&self, arch: Arch, gathered: &Gathered, at: &mut Activations, count: usize) {
        let plane = self.plane();
        let Activations { y, u, .. } = at;
        for example in 0..count {
            arch.dispatch(PullBack {
                u: Source::Output,
                x: y.at(example),
                x_plane: plane,
                moments: Moments::of(&gathered.stored),
                coefficients: &gathered.pullback,
                out: u.at_mut(example),
                out_plane: plane,
                rectified: false,
            });
        }
    }

    /// (+)= the cotangent of the convolution's input.
    pub fn pull_input(&self, arch: Arch, at: &Activations, dx: &mut Stack, count: usize, accumulate: bool) {
        self.conv.pull_back(arch, at.u.images(0), dx.images_mut(0), count, accumulate);
    }

    /// What is noted of the statistics.
    pub fn statistics(&self, gathered: &Gathered) -> Statistics {
        Statistics {
            mean: gathered.stored[..self.plane().channels].to_vec(),
            variance: gathered.variance.clone(),
            count: gathered.count,
        }
    }

    /// Zeros in the kernel's shape, and the gradients of γ and β.
    fn gradients(&self, gathered: &Gathered) -> NormedConv {
        let channels = self.plane().channels;
        let affine = self.norm.is_affine().then(|| {
            let (mut weight, mut bias) = (vec![0.0; channels], vec![0.0; channels]);
            self.norm.gradients(&gathered.stored, &gathered.sums, &mut weight, &mut bias);
            (weight, bias)
        });
        let kernel = vec![0.0; self.conv.shape().iter().product()];
        NormedConv { outputs: channels, kernel, affine }
    }
}

/// What is done with a normalised image.
#[derive(Clone, Copy)]
pub(crate) enum Finish<'a> {
    /// Nothing.
    Store,
    /// ReLU.
    Rectify,
    /// ReLU after another image is added.
    AddRectify(&'a Stack),
}

/// One convolution after its way back: what it read and what its output's cotangent was, chunk by chunk.
pub(crate) struct Trained<'a> {
    pub normed: &'a Normed,
    pub chunks: Vec<(&'a Stack, &'a Activations, usize)>,
}

/// Gradients of all parameters, summed over the batch, in the order of the convolutions' numbers.
pub(crate) fn gradients(arch: Arch, trained: Vec<Trained<'_>>, gathered: &[Gathered]) -> Vec<NormedConv> {
    let mut trained = trained;
    trained.sort_by_key(|of| of.normed.conv.id);
    let mut found: Vec<NormedConv> =
        trained.iter().map(|of| of.normed.gradients(&gathered[of.normed.conv.id])).collect();
    let jobs: Vec<Job<'_>> = trained
        .iter()
        .map(|of| Job {
            conv: &of.normed.conv,
            chunks: of.chunks.iter().map(|&(x, at, count)| (x, &at.u, count)).collect(),
        })
        .collect();
    let mut kernels: Vec<&mut Vec<f32>> = found.iter_mut().map(|of| &mut of.kernel).collect();
    gradient::accumulate(arch, &jobs, &mut kernels);
    found
}

/// Mean and sum of squared distances from it, by channel, `[2, stride]`. Sums run over rows, then over rows' sums.
struct ExampleMoments<'a> {
    plane: Plane,
    image: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for ExampleMoments<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plane, image, sums } = self;
        let (mean, squares) = sums.split_at_mut(plane.stride());
        let (mean, squares) = (vectors_mut::<S>(mean), vectors_mut::<S>(squares));
        let share = simd.splat_f32s(1.0 / (plane.height * plane.width) as f32);
        let zero = simd.splat_f32s(0.0);
        let count = mean.len();
        for at in 0..count {
            let mut total = zero;
            for y in 0..plane.height {
                let row = vectors::<S>(plane.row(image, y));
                let mut sum = zero;
                for pixel in row.chunks_exact(count) {
                    sum = simd.add_f32s(sum, pixel[at]);
                }
                total = simd.add_f32s(total, sum);
            }
            mean[at] = simd.mul_f32s(total, share);
            let mut total = zero;
            for y in 0..plane.height {
                let row = vectors::<S>(plane.row(image, y));
                let mut sum = zero;
                for pixel in row.chunks_exact(count) {
                    let distance = simd.sub_f32s(pixel[at], mean[at]);
                    sum = multiply_add(simd, distance, distance, sum);
                }
                total = simd.add_f32s(total, sum);
            }
            squares[at] = total;
        }
    }
}
