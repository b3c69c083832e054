//! Group normalisation over scratch that is still in cache: statistics, the affine map fused with what follows
//! it, and the vector-Jacobian product fused with what precedes it.
//!
//! The statistics of a channel are those of its group, laid out per channel so that all passes are loops over
//! whole pixels. Sums run over rows, then over rows' sums, then in double precision over the group's channels:
//! a fixed order, and little cancellation.

use pulp::{Arch, Simd, WithSimd};

use crate::plane::{LANES, Plane};

const EPSILON: f64 = 1e-5;

/// One panel of channels.
type Lane = [f32; LANES];

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
    mean: &'a [Lane],
}

impl<'a> Moments<'a> {
    pub fn of(stored: &'a [f32]) -> Self {
        let (mean, _) = stored.split_at(stored.len() / 2);
        Self { mean: mean.as_chunks().0 }
    }
}

/// x ↦ scale · x + shift by channel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Map {
    fn lanes(&self) -> (&[Lane], &[Lane]) {
        (self.scale.as_chunks().0, self.shift.as_chunks().0)
    }
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

    /// Adds the gradients of γ and β, from the channel sums of [`sums`].
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

/// Sums by channel: of x, or of (x − centre)².
struct ChannelSums<'a> {
    plane: Plane,
    image: &'a [f32],
    centre: Option<&'a [f32]>,
    sums: &'a mut [f32],
}

/// Channels that are summed together in registers.
const WIDE: usize = 4;

impl WithSimd for ChannelSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { plane, image, centre, sums } = self;
        let panels = plane.stride() / LANES;
        let sums = sums.as_chunks_mut::<LANES>().0;
        sums.fill([0.0; LANES]);
        for y in 0..plane.height {
            let row = plane.row(image, y);
            let mut panel = 0;
            while panel < panels {
                let wide = if panel + WIDE <= panels { WIDE } else { 1 };
                let centre = centre.map(|centre| centre.as_chunks::<LANES>().0);
                match wide {
                    WIDE => channel_sums::<WIDE>(row, panels, panel, centre, sums),
                    _ => channel_sums::<1>(row, panels, panel, centre, sums),
                }
                panel += wide;
            }
        }
    }
}

/// Adds one row's sums of `W` panels.
#[inline(always)]
fn channel_sums<const W: usize>(
    row: &[Lane],
    panels: usize,
    panel: usize,
    centre: Option<&[Lane]>,
    sums: &mut [Lane],
) {
    let mut sum = [[0.0; LANES]; W];
    match centre {
        None => {
            for pixel in row.chunks_exact(panels) {
                let pixel: &[Lane; W] = pixel[panel..].first_chunk().unwrap();
                for (sum, x) in sum.iter_mut().zip(pixel) {
                    for (sum, x) in sum.iter_mut().zip(x) {
                        *sum += x;
                    }
                }
            }
        }
        Some(centre) => {
            let centre: &[Lane; W] = centre[panel..].first_chunk().unwrap();
            for pixel in row.chunks_exact(panels) {
                let pixel: &[Lane; W] = pixel[panel..].first_chunk().unwrap();
                for ((sum, x), centre) in sum.iter_mut().zip(pixel).zip(centre) {
                    for ((sum, x), centre) in sum.iter_mut().zip(x).zip(centre) {
                        let d = x - centre;
                        *sum += d * d;
                    }
                }
            }
        }
    }
    for (total, sum) in sums[panel..].iter_mut().zip(&sum) {
        for (total, sum) in total.iter_mut().zip(sum) {
            *total += sum;
        }
    }
}

/// ReLU that keeps what is not a number.
#[inline(always)]
pub(crate) fn relu(x: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { x }
}

/// uᵀ ∂ReLU, from the output of the ReLU or anything with its sign.
#[inline(always)]
pub(crate) fn relu_vjp(output: f32, u: f32) -> f32 {
    if output <= 0.0 { 0.0 } else { u }
}

/// out\[pixel\] = f(x\[pixel\], scale, shift) by channel, over a row.
#[inline(always)]
fn map_row(x: &[Lane], map: &Map, mut f: impl FnMut(usize, &Lane, &Lane, &Lane)) {
    let (scale, shift) = map.lanes();
    for (pixel, x) in x.chunks_exact(scale.len()).enumerate() {
        for (panel, ((x, a), b)) in x.iter().zip(scale).zip(shift).enumerate() {
            f(pixel * scale.len() + panel, x, a, b);
        }
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
    fn with_simd<S: Simd>(self, _: S) {
        let Self { plane, image, map, mut keep } = self;
        let (scale, shift) = map.lanes();
        let kept = Plane::plain([plane.channels, plane.height, plane.width]);
        for y in 0..plane.height {
            let row = plane.row_mut(image, y);
            if let Some(keep) = keep.as_deref_mut() {
                kept.row_mut(keep, y).copy_from_slice(row);
            }
            for pixel in row.chunks_exact_mut(scale.len()) {
                for ((x, a), b) in pixel.iter_mut().zip(scale).zip(shift) {
                    for ((x, a), b) in x.iter_mut().zip(a).zip(b) {
                        *x = relu(*x * a + b);
                    }
                }
            }
        }
    }
}

/// What is done with a normalised image.
pub(crate) enum Then<'a> {
    /// out = normalised.
    Store,
    /// out = ReLU(normalised).
    Rectify,
    /// out = ReLU(normalised + other), other in its own plane.
    AddRectify(&'a [f32], Plane),
    /// out += normalised.
    Accumulate,
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
    fn with_simd<S: Simd>(self, _: S) {
        let Self { x, plane, map, out, out_plane, then } = self;
        for y in 0..plane.height {
            let row = plane.row(x, y);
            if let Then::Upsample(factor) = then {
                let panels = plane.stride() / LANES;
                for copy in 0..factor {
                    let to = out_plane.row_mut(out, y * factor + copy);
                    map_row(row, map, |at, x, a, b| {
                        let (pixel, panel) = (at / panels, at % panels);
                        let first = pixel * factor * panels + panel;
                        for repeat in 0..factor {
                            let to = &mut to[first + repeat * panels];
                            for i in 0..LANES {
                                to[i] += x[i] * a[i] + b[i];
                            }
                        }
                    });
                }
                continue;
            }
            let to = out_plane.row_mut(out, y);
            let to = &mut to[..row.len()];
            match then {
                Then::Store => map_row(row, map, |at, x, a, b| {
                    let to = &mut to[at];
                    for i in 0..LANES {
                        to[i] = x[i] * a[i] + b[i];
                    }
                }),
                Then::Rectify => map_row(row, map, |at, x, a, b| {
                    let to = &mut to[at];
                    for i in 0..LANES {
                        to[i] = relu(x[i] * a[i] + b[i]);
                    }
                }),
                Then::AddRectify(other, other_plane) => {
                    let other = &other_plane.row(other, y)[..row.len()];
                    map_row(row, map, |at, x, a, b| {
                        let (to, other) = (&mut to[at], &other[at]);
                        for i in 0..LANES {
                            to[i] = relu(x[i] * a[i] + b[i] + other[i]);
                        }
                    });
                }
                Then::Accumulate => map_row(row, map, |at, x, a, b| {
                    let to = &mut to[at];
                    for i in 0..LANES {
                        to[i] += x[i] * a[i] + b[i];
                    }
                }),
                Then::Upsample(_) => {}
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
    fn with_simd<S: Simd>(self, _: S) {
        let Self { u, u_plane, x, x_plane, moments, rectified, sums } = self;
        let panels = u_plane.stride() / LANES;
        let (plain, centred) = sums.split_at_mut(u_plane.stride());
        let (plain, centred) = (plain.as_chunks_mut::<LANES>().0, centred.as_chunks_mut::<LANES>().0);
        plain.fill([0.0; LANES]);
        centred.fill([0.0; LANES]);
        let mean = moments.mean;
        for y in 0..u_plane.height {
            let x = x_plane.row(x, y);
            let u = u_plane.row_mut(u, y);
            for panel in 0..panels {
                let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
                let mean = &mean[panel];
                match rectified {
                    None => {
                        for (u, x) in u.chunks_exact(panels).zip(x.chunks_exact(panels)) {
                            let (u, x) = (&u[panel], &x[panel]);
                            for i in 0..LANES {
                                first[i] += u[i];
                                second[i] += u[i] * (x[i] - mean[i]);
                            }
                        }
                    }
                    Some(map) => {
                        let (scale, shift) = map.lanes();
                        let (scale, shift) = (&scale[panel], &shift[panel]);
                        for (u, x) in u.chunks_exact_mut(panels).zip(x.chunks_exact(panels)) {
                            let (u, x) = (&mut u[panel], &x[panel]);
                            for i in 0..LANES {
                                u[i] = relu_vjp(x[i] * scale[i] + shift[i], u[i]);
                                first[i] += u[i];
                                second[i] += u[i] * (x[i] - mean[i]);
                            }
                        }
                    }
                }
                for i in 0..LANES {
                    plain[panel][i] += first[i];
                    centred[panel][i] += second[i];
                }
            }
        }
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
    fn with_simd<S: Simd>(self, _: S) {
        let Self { u, x, x_plane, moments, coefficients, out, out_plane, rectified } = self;
        let a = coefficients.a.as_chunks::<LANES>().0;
        let panels = a.len();
        let b = &coefficients.b.as_chunks::<LANES>().0[..panels];
        let c = &coefficients.c.as_chunks::<LANES>().0[..panels];
        let mean = &moments.mean[..panels];
        for y in 0..out_plane.height {
            let x = x_plane.row(x, y);
            let out = out_plane.row_mut(out, y);
            if let Source::At(u, plane) = u {
                out.copy_from_slice(plane.row(u, y));
            }
            for (out, x) in out.chunks_exact_mut(panels).zip(x.chunks_exact(panels)) {
                for panel in 0..panels {
                    let (out, x) = (&mut out[panel], &x[panel]);
                    let (a, b, c, mean) = (&a[panel], &b[panel], &c[panel], &mean[panel]);
                    for i in 0..LANES {
                        let value = a[i] * out[i] + (b[i] * (x[i] - mean[i]) + c[i]);
                        out[i] = if rectified { relu_vjp(x[i], value) } else { value };
                    }
                }
            }
        }
    }
}
