//! Batch normalisation in training (Ioffe and Szegedy 2015): its statistics are the batch's.
//!
//! Statistics are gathered example by example, each example's around its own mean, and added up in the order of the examples
//! in float64: neither threads nor chunks change a bit. All else is done by the passes of group normalisation, to which a
//! batch is one tall image with a group for each channel.

use pulp::{Arch, Simd, WithSimd};

use crate::convolution::tile::multiply_add;
use crate::image::norm::{
    CotangentSums, GroupNorm, Map, Moments, Normalise, PullBack, Pullback, Source, Then,
};
use crate::image::norm::{vectors, vectors_mut};
use crate::image::plane::Plane;
use crate::network::parameters::BatchNormParameters;
use crate::parameters::Statistics;

const EPSILON: f64 = 1e-5;

/// A batch normalisation of images of a plane.
#[derive(Debug)]
pub(crate) struct BatchNorm {
    plane: Plane,
    norm: GroupNorm,
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
    /// Sums of the cotangent and of its product with x − mean over the batch, `[2, stride]`.
    sums: Vec<f32>,
    pullback: Pullback,
}

impl BatchNorm {
    /// # Panics
    ///
    /// If the affine map is not of the plane's channels.
    pub fn new(plane: Plane, parameters: &BatchNormParameters) -> Self {
        let affine = parameters.affine.as_ref().map(|(weight, bias)| (&weight[..], &bias[..]));
        if let Some((weight, bias)) = affine {
            let channels = plane.channels;
            assert_eq!([weight.len(), bias.len()], [channels; 2], "an affine map of {channels} channels");
        }
        Self { plane, norm: GroupNorm::new(plane.channels, plane.channels, affine) }
    }

    /// An image's statistics by channel, `[2, stride]`: mean and sum of squared distances from it.
    pub fn moments(&self, arch: Arch, image: &[f32], sums: &mut [f32]) {
        arch.dispatch(ExampleMoments { plane: self.plane, image, sums });
    }

    /// The statistics of the batch, from those of its examples.
    pub fn gather<'a>(&self, examples: impl Iterator<Item = &'a [f32]> + Clone) -> Gathered {
        let Plane { channels, height, width, .. } = self.plane;
        let (each, stride) = ((height * width) as f64, self.plane.stride());
        let count = examples.clone().count() as f64 * each;
        let mut stored = vec![0.0; 2 * stride];
        let mut variance = vec![0.0; channels];
        for c in 0..channels {
            let mean = examples.clone().map(|sums| f64::from(sums[c]) * each).sum::<f64>() / count;
            let squares = examples.clone().map(|sums| {
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

    /// Normalises an image.
    pub fn normalise(&self, arch: Arch, gathered: &Gathered, x: &[f32], out: &mut [f32], then: Then<'_>) {
        let plane = self.plane;
        arch.dispatch(Normalise { x, plane, map: &gathered.map, out, out_plane: plane, then });
    }

    /// An example's sums over the cotangent `u` and over its product with x − mean, `[2, stride]`; `u` is first pulled back through a ReLU that followed, if it is said so.
    pub fn sum(
        &self,
        arch: Arch,
        gathered: &Gathered,
        u: &mut [f32],
        x: &[f32],
        rectified: bool,
        sums: &mut [f32],
    ) {
        let moments = Moments::of(&gathered.stored);
        let rectified = rectified.then_some(&gathered.map);
        let plane = self.plane;
        arch.dispatch(CotangentSums { u, u_plane: plane, x, x_plane: plane, moments, rectified, sums });
    }

    /// The sums over the batch, from those of its examples.
    pub fn gather_sums<'a>(&self, gathered: &mut Gathered, examples: impl Iterator<Item = &'a [f32]>) {
        let mut total = vec![0.0_f64; gathered.stored.len()];
        for sums in examples {
            total.iter_mut().zip(sums).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        gathered.sums = total.into_iter().map(|sum| sum as f32).collect();
        let tall = Plane::plain([self.plane.channels, gathered.count, 1]);
        gathered.pullback = self.norm.pullback(tall, &gathered.stored, &gathered.sums);
    }

    /// The cotangent of what was normalised, from that of what came out.
    pub fn pull_back(&self, arch: Arch, gathered: &Gathered, u: &[f32], x: &[f32], out: &mut [f32]) {
        let plane = self.plane;
        arch.dispatch(PullBack {
            u: Source::At(u, plane),
            x,
            x_plane: plane,
            moments: Moments::of(&gathered.stored),
            coefficients: &gathered.pullback,
            out,
            out_plane: plane,
            rectified: false,
        });
    }

    /// What is noted of the statistics.
    pub fn statistics(&self, gathered: &Gathered) -> Statistics {
        Statistics {
            mean: gathered.stored[..self.plane.channels].to_vec(),
            variance: gathered.variance.clone(),
            count: gathered.count,
        }
    }

    /// The gradients of γ and β.
    pub fn gradients(&self, gathered: &Gathered) -> BatchNormParameters {
        let channels = self.plane.channels;
        let affine = self.norm.is_affine().then(|| {
            let (mut weight, mut bias) = (vec![0.0; channels], vec![0.0; channels]);
            self.norm.gradients(&gathered.stored, &gathered.sums, &mut weight, &mut bias);
            (weight, bias)
        });
        BatchNormParameters { affine }
    }
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
