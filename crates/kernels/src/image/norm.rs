//! Group normalisation over scratch that is still in cache: statistics, the affine map fused with what follows
//! it, and the vector-Jacobian product fused with what precedes it.
//!
//! The statistics of a channel are those of its group, laid out per channel so that all passes are loops over
//! whole pixels. Sums run over rows, then over rows' sums, then in double precision over the group's channels:
//! a fixed order, and little cancellation.

use pulp::{Arch, Simd, WithSimd};

use crate::convolution::tile::multiply_add;
use crate::image::plane::{LANES, Plane};

const EPSILON: f64 = 1e-5;

/// Group normalisation of the channels of a plane.
#[derive(Debug, Clone)]
pub(crate) struct GroupNorm {
    groups: usize,
    channels: usize,
    /// γ and β by channel, when affine.
    affine: Option<(Vec<f32>, Vec<f32>)>,
}

/// The mean by channel, of a tape that holds mean and 1/σ by channel, zero in the padding: `[2, stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Moments<'a> {
    mean: &'a [f32],
}

impl<'a> Moments<'a> {
    pub fn of(stored: &'a [f32]) -> Self {
        let (mean, _) = stored.split_at(stored.len() / 2);
        Self { mean }
    }
}

/// x ↦ scale · x + shift by channel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// The coefficients of a vector-Jacobian product: u ↦ a·u + b·(x − mean) + c by channel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pullback {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl GroupNorm {
    pub fn new(groups: usize, channels: usize, affine: Option<(&[f32], &[f32])>) -> Self {
        let padded = |values: &[f32]| {
            let mut values = values.to_vec();
            values.resize(channels.next_multiple_of(LANES), 0.0);
            values
        };
        Self { groups, channels, affine: affine.map(|(weight, bias)| (padded(weight), padded(bias))) }
    }

    /// The statistics of an image, into `[2, stride]` floats.
    pub fn moments(&self, arch: Arch, plane: Plane, image: &[f32], into: &mut [f32]) {
        let stride = plane.stride();
        assert_eq!(into.len(), 2 * stride);
        let (mean, inverse) = into.split_at_mut(stride);
        inverse.fill(0.0);
        arch.dispatch(ChannelSums { plane, image, centre: None, sums: mean });
        self.spread(plane, mean, |sum, count| sum / count);
        arch.dispatch(ChannelSums { plane, image, centre: Some(mean), sums: inverse });
        self.spread(plane, inverse, |sum, count| 1.0 / (sum / count + EPSILON).sqrt());
    }

    /// Replaces channel sums by a function of their group's sum and of its number of elements.
    fn spread(&self, plane: Plane, sums: &mut [f32], f: impl Fn(f64, f64) -> f64) {
        let size = self.channels / self.groups;
        let count = (size * plane.height * plane.width) as f64;
        for group in sums[..self.channels].chunks_exact_mut(size) {
            let sum: f64 = group.iter().map(|&sum| f64::from(sum)).sum();
            group.fill(f(sum, count) as f32);
        }
        sums[self.channels..].fill(0.0);
    }

    /// Normalisation and affine map in one.
    pub fn map(&self, stored: &[f32]) -> Map {
        let stride = stored.len() / 2;
        let (mean, inverse) = stored.split_at(stride);
        let (mut scale, mut shift) = (vec![0.0; stride], vec![0.0; stride]);
        for c in 0..self.channels {
            let (weight, bias) = self.affine.as_ref().map_or((1.0, 0.0), |(w, b)| (w[c], b[c]));
            scale[c] = inverse[c] * weight;
            shift[c] = bias - mean[c] * scale[c];
        }
        Map { scale, shift }
    }

    /// The coefficients of uᵀ ∂/∂x, from the channel sums of u and of u · (x − mean), `[2, stride]`.
    ///
    /// The same sums are what the gradients of β and, times 1/σ, of γ are made of.
    pub fn pullback(&self, plane: Plane, stored: &[f32], sums: &[f32]) -> Pullback {
        let stride = plane.stride();
        let inverse = &stored[stride..];
        let (plain, centred) = sums.split_at(stride);
        let mut result = Pullback { a: vec![0.0; stride], b: vec![0.0; stride], c: vec![0.0; stride] };
        let size = self.channels / self.groups;
        let count = (size * plane.height * plane.width) as f64;
        for group in 0..self.groups {
            let members = group * size..(group + 1) * size;
            let weight = |c: usize| self.affine.as_ref().map_or(1.0, |(weight, _)| f64::from(weight[c]));
            let over = |sums: &[f32]| members.clone().map(|c| weight(c) * f64::from(sums[c])).sum::<f64>();
            let deviation = f64::from(inverse[group * size]);
            let mean = over(plain) / count;
            let projection = over(centred) * deviation / count;
            for c in members.clone() {
                result.a[c] = (weight(c) * deviation) as f32;
                result.b[c] = (-projection * deviation * deviation) as f32;
                result.c[c] = (-mean * deviation) as f32;
            }
        }
        result
    }

    /// Adds the gradients of γ and β, from the channel sums of [`CotangentSums`].
    pub fn gradients(&self, stored: &[f32], sums: &[f32], weight: &mut [f32], bias: &mut [f32]) {
        let stride = stored.len() / 2;
        for c in 0..self.channels {
            bias[c] += sums[c];
            weight[c] += sums[stride + c] * stored[stride + c];
        }
    }

    /// Whether there is an affine map.
    pub fn is_affine(&self) -> bool {
        self.affine.is_some()
    }
}

/// A row as vectors. Rows are whole panels, and a panel is whole vectors.
#[inline(always)]
pub(crate) fn vectors<S: Simd>(row: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(row).0
}

#[inline(always)]
pub(crate) fn vectors_mut<S: Simd>(row: &mut [f32]) -> &mut [S::f32s] {
    S::as_mut_simd_f32s(row).0
}

/// ReLU that keeps what is not a number.
#[inline(always)]
pub(crate) fn relu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    relu_vjp(simd, x, x)
}

/// uᵀ ∂ReLU, from the output of the ReLU or anything with its sign.
#[inline(always)]
pub(crate) fn relu_vjp<S: Simd>(simd: S, output: S::f32s, u: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_or_equal_f32s(output, zero), zero, u)
}

/// Sums by channel: of x, or of (x − centre)².
struct ChannelSums<'a> {
    plane: Plane,
    image: &'a [f32],
    centre: Option<&'a [f32]>,
    sums: &'a mut [f32],
}

/// Vectors of channels that are summed together in registers.
const WIDE: usize = 5;

impl WithSimd for ChannelSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plane, image, centre, sums } = self;
        sums.fill(0.0);
        let sums = vectors_mut::<S>(sums);
        let centre = centre.map(vectors::<S>);
        let count = sums.len();
        for y in 0..plane.height {
            let row = vectors::<S>(plane.row(image, y));
            let mut at = 0;
            while at + WIDE <= count {
                channel_sums::<S, WIDE>(simd, row, count, at, centre, sums);
                at += WIDE;
            }
            while at < count {
                channel_sums::<S, 1>(simd, row, count, at, centre, sums);
                at += 1;
            }
        }
    }
}

/// Adds one row's sums of `W` of each pixel's `count` vectors.
#[inline(always)]
fn channel_sums<S: Simd, const W: usize>(
    simd: S,
    row: &[S::f32s],
    count: usize,
    at: usize,
    centre: Option<&[S::f32s]>,
    sums: &mut [S::f32s],
) {
    let mut sum = [simd.splat_f32s(0.0); W];
    match centre {
        None => {
            for pixel in row.chunks_exact(count) {
                let pixel = &pixel[at..at + W];
                for i in 0..W {
                    sum[i] = simd.add_f32s(sum[i], pixel[i]);
                }
            }
        }
        Some(centre) => {
            let mut centres = [simd.splat_f32s(0.0); W];
            centres.copy_from_slice(&centre[at..at + W]);
            for pixel in row.chunks_exact(count) {
                let pixel = &pixel[at..at + W];
                for i in 0..W {
                    let distance = simd.sub_f32s(pixel[i], centres[i]);
                    sum[i] = multiply_add(simd, distance, distance, sum[i]);
                }
            }
        }
    }
    for (total, sum) in sums[at..].iter_mut().zip(sum) {
        *total = simd.add_f32s(*total, sum);
    }
}

/// Normalised and rectified, in place; what was there goes to `keep`, a plain plane.
pub(crate) struct RectifyInPlace<'a> {
    pub plane: Plane,
    pub image: &'a mut [f32],
    pub map: &'a Map,
    pub keep: Option<&'a mut [f32]>,
}

impl WithSimd for RectifyInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plane, image, map, mut keep } = self;
        let (scale, shift) = (vectors::<S>(&map.scale), vectors::<S>(&map.shift));
        let kept = Plane::plain([plane.channels, plane.height, plane.width]);
        for y in 0..plane.height {
            let row = plane.row_mut(image, y);
            if let Some(keep) = keep.as_deref_mut() {
                kept.row_mut(keep, y).copy_from_slice(row);
            }
            for pixel in vectors_mut::<S>(row).chunks_exact_mut(scale.len()) {
                for ((x, a), b) in pixel.iter_mut().zip(scale).zip(shift) {
                    *x = relu(simd, multiply_add(simd, *x, *a, *b));
                }
            }
        }
    }
}

/// What is done with a normalised image.
#[derive(Clone, Copy)]
pub(crate) enum Then<'a> {
    /// out = normalised.
    Store,
    /// out = ReLU(normalised).
    Rectify,
    /// out = ReLU(normalised + other), other in its own plane.
    AddRectify(&'a [f32], Plane),
    /// out += normalised.
    Accumulate,
    /// out = ReLU(out + normalised).
    AccumulateRectify,
    /// out += normalised, each pixel repeated factor × factor times.
    Upsample(usize),
}

/// Normalises `x` into `out`.
pub(crate) struct Normalise<'a> {
    pub x: &'a [f32],
    pub plane: Plane,
    pub map: &'a Map,
    pub out: &'a mut [f32],
    pub out_plane: Plane,
    pub then: Then<'a>,
}

impl WithSimd for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, plane, map, out, out_plane, then } = self;
        let (scale, shift) = (vectors::<S>(&map.scale), vectors::<S>(&map.shift));
        for y in 0..plane.height {
            let row = vectors::<S>(plane.row(x, y));
            if let Then::Upsample(factor) = then {
                for copy in 0..factor {
                    let to = vectors_mut::<S>(out_plane.row_mut(out, y * factor + copy));
                    let cells = to.chunks_exact_mut(factor * scale.len());
                    for (pixel, cell) in row.chunks_exact(scale.len()).zip(cells) {
                        for to in cell.chunks_exact_mut(scale.len()) {
                            for (((to, x), a), b) in to.iter_mut().zip(pixel).zip(scale).zip(shift) {
                                *to = simd.add_f32s(*to, multiply_add(simd, *x, *a, *b));
                            }
                        }
                    }
                }
                continue;
            }
            let to = vectors_mut::<S>(out_plane.row_mut(out, y));
            let pixels = to.chunks_exact_mut(scale.len()).zip(row.chunks_exact(scale.len()));
            match then {
                Then::AddRectify(other, other_plane) => {
                    let other = vectors::<S>(other_plane.row(other, y)).chunks_exact(scale.len());
                    for ((to, x), other) in pixels.zip(other) {
                        let terms = to.iter_mut().zip(x).zip(other).zip(scale).zip(shift);
                        for ((((to, x), other), a), b) in terms {
                            let sum = simd.add_f32s(multiply_add(simd, *x, *a, *b), *other);
                            *to = relu(simd, sum);
                        }
                    }
                }
                _ => {
                    for (to, x) in pixels {
                        for (((to, x), a), b) in to.iter_mut().zip(x).zip(scale).zip(shift) {
                            let value = multiply_add(simd, *x, *a, *b);
                            *to = match then {
                                Then::Rectify => relu(simd, value),
                                Then::Accumulate => simd.add_f32s(*to, value),
                                Then::AccumulateRectify => relu(simd, simd.add_f32s(*to, value)),
                                _ => value,
                            };
                        }
                    }
                }
            }
        }
    }
}

/// The first pass of a vector-Jacobian product: sums by channel of u and of u · (x − mean), `[2, stride]`,
/// with u first masked, in place, by the sign of the rectified output.
pub(crate) struct CotangentSums<'a> {
    pub u: &'a mut [f32],
    pub u_plane: Plane,
    pub x: &'a [f32],
    pub x_plane: Plane,
    pub moments: Moments<'a>,
    /// The normalisation was followed by a ReLU: its map.
    pub rectified: Option<&'a Map>,
    pub sums: &'a mut [f32],
}

impl WithSimd for CotangentSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { u, u_plane, x, x_plane, moments, rectified, sums } = self;
        sums.fill(0.0);
        let (plain, centred) = sums.split_at_mut(u_plane.stride());
        let (plain, centred) = (vectors_mut::<S>(plain), vectors_mut::<S>(centred));
        let mean = vectors::<S>(moments.mean);
        let map = rectified.map(|map| (vectors::<S>(&map.scale), vectors::<S>(&map.shift)));
        let count = plain.len();
        for y in 0..u_plane.height {
            let x = vectors::<S>(x_plane.row(x, y));
            let u = vectors_mut::<S>(u_plane.row_mut(u, y));
            let mut at = 0;
            while at + WIDE <= count {
                cotangent_sums::<S, WIDE>(simd, u, x, count, at, mean, map, plain, centred);
                at += WIDE;
            }
            while at < count {
                cotangent_sums::<S, 1>(simd, u, x, count, at, mean, map, plain, centred);
                at += 1;
            }
        }
    }
}

/// Adds one row's sums of `W` of each pixel's `count` vectors.
#[inline(always)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn cotangent_sums<S: Simd, const W: usize>(
    simd: S,
    u: &mut [S::f32s],
    x: &[S::f32s],
    count: usize,
    at: usize,
    mean: &[S::f32s],
    map: Option<(&[S::f32s], &[S::f32s])>,
    plain: &mut [S::f32s],
    centred: &mut [S::f32s],
) {
    let zero = simd.splat_f32s(0.0);
    let (mut first, mut second, mut means) = ([zero; W], [zero; W], [zero; W]);
    means.copy_from_slice(&mean[at..at + W]);
    let pixels = u.chunks_exact_mut(count).zip(x.chunks_exact(count));
    match map {
        None => {
            for (u, x) in pixels {
                let (u, x) = (&u[at..at + W], &x[at..at + W]);
                for i in 0..W {
                    first[i] = simd.add_f32s(first[i], u[i]);
                    second[i] = multiply_add(simd, u[i], simd.sub_f32s(x[i], means[i]), second[i]);
                }
            }
        }
        Some((scale, shift)) => {
            let (mut scales, mut shifts) = ([zero; W], [zero; W]);
            scales.copy_from_slice(&scale[at..at + W]);
            shifts.copy_from_slice(&shift[at..at + W]);
            for (u, x) in pixels {
                let (u, x) = (&mut u[at..at + W], &x[at..at + W]);
                for i in 0..W {
                    u[i] = relu_vjp(simd, multiply_add(simd, x[i], scales[i], shifts[i]), u[i]);
                    first[i] = simd.add_f32s(first[i], u[i]);
                    second[i] = multiply_add(simd, u[i], simd.sub_f32s(x[i], means[i]), second[i]);
                }
            }
        }
    }
    for i in 0..W {
        plain[at + i] = simd.add_f32s(plain[at + i], first[i]);
        centred[at + i] = simd.add_f32s(centred[at + i], second[i]);
    }
}

/// The second pass: out = a·u + b·(x − mean) + c, masked by the sign of x if x is itself rectified.
pub(crate) struct PullBack<'a> {
    pub u: Source<'a>,
    pub x: &'a [f32],
    pub x_plane: Plane,
    pub moments: Moments<'a>,
    pub coefficients: &'a Pullback,
    pub out: &'a mut [f32],
    pub out_plane: Plane,
    /// x is the output of a ReLU, which is pulled back through as well.
    pub rectified: bool,
}

/// Where a pass finds its cotangent.
pub(crate) enum Source<'a> {
    /// In the output, which is overwritten.
    Output,
    /// Elsewhere.
    At(&'a [f32], Plane),
}

impl WithSimd for PullBack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { u, x, x_plane, moments, coefficients, out, out_plane, rectified } = self;
        let a = vectors::<S>(&coefficients.a);
        let (b, c) = (&vectors::<S>(&coefficients.b)[..a.len()], &vectors::<S>(&coefficients.c)[..a.len()]);
        let mean = &vectors::<S>(moments.mean)[..a.len()];
        for y in 0..out_plane.height {
            let x = vectors::<S>(x_plane.row(x, y));
            let out = out_plane.row_mut(out, y);
            if let Source::At(u, plane) = u {
                out.copy_from_slice(plane.row(u, y));
            }
            let out = vectors_mut::<S>(out);
            for (out, x) in out.chunks_exact_mut(a.len()).zip(x.chunks_exact(a.len())) {
                for (i, (out, x)) in out.iter_mut().zip(x).enumerate() {
                    let rest = multiply_add(simd, b[i], simd.sub_f32s(*x, mean[i]), c[i]);
                    let value = multiply_add(simd, a[i], *out, rest);
                    *out = if rectified { relu_vjp(simd, *x, value) } else { value };
                }
            }
        }
    }
}
