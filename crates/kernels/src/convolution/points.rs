//! The transforms around Winograd's products: patches of an image to points, products at points to pixels, and
//! kernels to points.
//!
//! For four results of three taps the points of interpolation are 0, ±√½, ±√2 and ∞: with ab = 1 the transforms need
//! few distinct constants, and the error is about twice that of the direct sum, where the usual 0, ±1, ±2 and ∞ lose
//! a digit. For two results they are 0, ±1 and ∞, with an error below that of the direct sum.
//!
//! A data gradient at stride 2 has two taps at odd pixels, which have the same points without 0, and one tap at even
//! pixels, whose products are plain: nine products for eight results instead of twelve, or five for four instead of
//! six. (At stride 2 itself as many could be saved, and the transforms cost as much.)

#![allow(unsafe_code)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::convolution::tile::multiply_add;
use crate::image::plane::LANES;

/// √½ and √2: the points of interpolation for m = 4.
const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;

/// How an image is cut into tiles, along each of its sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheme {
    /// Pixels that a tile reads.
    pub inputs: usize,
    /// Products that it takes.
    pub points: usize,
    /// Pixels that it writes.
    pub outputs: usize,
    /// From the first pixel that a tile reads to that of the next tile.
    pub step: usize,
    /// The first pixel that the first tile reads, counted from the border.
    pub first: usize,
}

impl Scheme {
    /// m results at stride 1.
    const fn same(m: usize) -> Self {
        Self { inputs: m + 2, points: m + 2, outputs: m, step: m, first: 0 }
    }

    /// The cotangents of 2m pixels that were read at stride 2.
    const fn doubling(m: usize) -> Self {
        Self { inputs: m + 1, points: 2 * m + 1, outputs: 2 * m, step: m, first: 1 }
    }

    /// For results of the given height and width at stride 1: tiles of 4 where that cuts them into several, or the
    /// batch comes as a whole; tiles of 2 where they are even; `None` otherwise.
    pub fn at_stride_1(size: [usize; 2], wide: bool) -> Option<Self> {
        Self::side(size, wide).map(Self::same)
    }

    /// For the data gradient of a convolution of stride 2, from cotangents of the given height and width.
    pub fn back_at_stride_2(size: [usize; 2]) -> Option<Self> {
        Self::side(size, false).map(Self::doubling)
    }

    fn side([height, width]: [usize; 2], wide: bool) -> Option<usize> {
        let divides = |m: usize| height.is_multiple_of(m) && width.is_multiple_of(m);
        match () {
            () if divides(4) && (wide || height * width > 16) => Some(4),
            () if divides(2) => Some(2),
            () => None,
        }
    }
}

/// Bᵀ d B of one vector of channels: I×I pixels to N×N points.
///
/// # Safety
///
/// A vector must be readable at each of the I×I pixels and writable at each of the N·N points.
#[inline(always)]
pub(crate) unsafe fn patch_in<S: Simd, const I: usize, const N: usize>(
    simd: S,
    x: *const f32,
    (row, column): (usize, usize),
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut half = [[simd.splat_f32s(0.0); N]; I];
        for j in 0..I {
            let pixels =
                std::array::from_fn(|i| x.add(i * row + j * column).cast::<S::f32s>().read_unaligned());
            half[j] = to_points::<S, I, N>(simd, pixels);
        }
        for i in 0..N {
            let points = to_points::<S, I, N>(simd, std::array::from_fn(|j| half[j][i]));
            for j in 0..N {
                out.add((i * N + j) * stride).cast::<S::f32s>().write_unaligned(points[j]);
            }
        }
    }
}

/// Aᵀ m A of one vector of outputs: N×N points to O×O pixels.
///
/// # Safety
///
/// A vector must be readable at each of the N·N points, and readable and writable at each of the O×O pixels.
#[inline(always)]
pub(crate) unsafe fn patch_out<S: Simd, const N: usize, const O: usize>(
    simd: S,
    x: *const f32,
    stride: usize,
    out: *mut f32,
    (row, column): (usize, usize),
    accumulate: bool,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut half = [[simd.splat_f32s(0.0); O]; N];
        for j in 0..N {
            let points =
                std::array::from_fn(|i| x.add((i * N + j) * stride).cast::<S::f32s>().read_unaligned());
            half[j] = to_pixels::<S, N, O>(simd, points);
        }
        for i in 0..O {
            let pixels = to_pixels::<S, N, O>(simd, std::array::from_fn(|j| half[j][i]));
            for j in 0..O {
                let at = out.add(i * row + j * column).cast::<S::f32s>();
                let pixel =
                    if accumulate { simd.add_f32s(at.read_unaligned(), pixels[j]) } else { pixels[j] };
                at.write_unaligned(pixel);
            }
        }
    }
}

/// A u Aᵀ of one vector of outputs: the transpose of [`patch_out`], from O×O pixels to N×N points.
///
/// # Safety
///
/// A vector must be readable at each of the O×O pixels and writable at each of the N·N points.
#[inline(always)]
pub(crate) unsafe fn patch_back<S: Simd, const N: usize, const O: usize>(
    simd: S,
    u: *const f32,
    (row, column): (usize, usize),
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut half = [[simd.splat_f32s(0.0); N]; O];
        for j in 0..O {
            let pixels =
                std::array::from_fn(|i| u.add(i * row + j * column).cast::<S::f32s>().read_unaligned());
            half[j] = from_pixels::<S, N, O>(simd, pixels);
        }
        for i in 0..N {
            let points = from_pixels::<S, N, O>(simd, std::array::from_fn(|j| half[j][i]));
            for j in 0..N {
                out.add((i * N + j) * stride).cast::<S::f32s>().write_unaligned(points[j]);
            }
        }
    }
}

/// Bᵀ of one row or column.
#[inline(always)]
fn to_points<S: Simd, const I: usize, const N: usize>(simd: S, d: [S::f32s; I]) -> [S::f32s; N] {
    let mut t = [simd.splat_f32s(0.0); N];
    match (I, N) {
        (4, 4) => {
            t[0] = simd.sub_f32s(d[0], d[2]);
            t[1..].copy_from_slice(&three(simd, [d[1], d[2], d[3]]));
        }
        (6, 6) => {
            t[0] = times(simd, -2.5, d[2], simd.add_f32s(d[0], d[4]));
            t[1..].copy_from_slice(&five(simd, [d[1], d[2], d[3], d[4], d[5]]));
        }
        (5, 9) => {
            t[..5].copy_from_slice(&five(simd, [d[0], d[1], d[2], d[3], d[4]]));
            t[5..].copy_from_slice(&d[..4]);
        }
        (3, 5) => {
            t[..3].copy_from_slice(&three(simd, [d[0], d[1], d[2]]));
            t[3..].copy_from_slice(&d[..2]);
        }
        _ => unreachable!("no scheme of {I} pixels and {N} points"),
    }
    t
}

/// At the points ±1 and ∞.
#[inline(always)]
fn three<S: Simd>(simd: S, d: [S::f32s; 3]) -> [S::f32s; 3] {
    [simd.add_f32s(d[1], d[0]), simd.sub_f32s(d[1], d[0]), simd.sub_f32s(d[2], d[0])]
}

/// At the points ±√½, ±√2 and ∞.
#[inline(always)]
fn five<S: Simd>(simd: S, d: [S::f32s; 5]) -> [S::f32s; 5] {
    let (even_a, odd_a) = (times(simd, -2.0, d[1], d[3]), both(simd, A, d[2], -B, d[0]));
    let (even_b, odd_b) = (times(simd, -0.5, d[1], d[3]), both(simd, B, d[2], -A, d[0]));
    [
        simd.add_f32s(even_a, odd_a),
        simd.sub_f32s(even_a, odd_a),
        simd.add_f32s(even_b, odd_b),
        simd.sub_f32s(even_b, odd_b),
        times(simd, -2.5, d[2], simd.add_f32s(d[0], d[4])),
    ]
}

/// Aᵀ of one row or column.
#[inline(always)]
fn to_pixels<S: Simd, const N: usize, const O: usize>(simd: S, m: [S::f32s; N]) -> [S::f32s; O] {
    let mut y = [simd.splat_f32s(0.0); O];
    match (N, O) {
        (4, 2) => {
            y.copy_from_slice(&two(simd, [m[1], m[2], m[3]]));
            y[0] = simd.add_f32s(m[0], y[0]);
        }
        (6, 4) => {
            y.copy_from_slice(&four(simd, [m[1], m[2], m[3], m[4], m[5]]));
            y[0] = simd.add_f32s(m[0], y[0]);
        }
        (9, 8) => {
            for (i, sum) in four(simd, [m[0], m[1], m[2], m[3], m[4]]).into_iter().enumerate() {
                (y[2 * i], y[2 * i + 1]) = (m[5 + i], sum);
            }
        }
        (5, 4) => {
            for (i, sum) in two(simd, [m[0], m[1], m[2]]).into_iter().enumerate() {
                (y[2 * i], y[2 * i + 1]) = (m[3 + i], sum);
            }
        }
        _ => unreachable!("no scheme of {N} points and {O} results"),
    }
    y
}

/// A of one row or column.
#[inline(always)]
fn from_pixels<S: Simd, const N: usize, const O: usize>(simd: S, u: [S::f32s; O]) -> [S::f32s; N] {
    let mut m = [simd.splat_f32s(0.0); N];
    (m[0], m[N - 1]) = (u[0], u[O - 1]);
    match (N, O) {
        (4, 2) => {
            m[1] = simd.add_f32s(u[0], u[1]);
            m[2] = simd.sub_f32s(u[0], u[1]);
        }
        (6, 4) => {
            let (even_a, odd_a) = (times(simd, 0.5, u[2], u[0]), both(simd, A, u[1], A / 2.0, u[3]));
            let (even_b, odd_b) = (times(simd, 2.0, u[2], u[0]), both(simd, B, u[1], 2.0 * B, u[3]));
            m[1] = simd.add_f32s(even_a, odd_a);
            m[2] = simd.sub_f32s(even_a, odd_a);
            m[3] = simd.add_f32s(even_b, odd_b);
            m[4] = simd.sub_f32s(even_b, odd_b);
        }
        _ => unreachable!("no scheme of {N} points and {O} results at stride 1"),
    }
    m
}

/// Two results from the points ±1 and ∞.
#[inline(always)]
fn two<S: Simd>(simd: S, m: [S::f32s; 3]) -> [S::f32s; 2] {
    [simd.add_f32s(m[0], m[1]), simd.add_f32s(simd.sub_f32s(m[0], m[1]), m[2])]
}

/// Four results from the points ±√½, ±√2 and ∞.
#[inline(always)]
fn four<S: Simd>(simd: S, m: [S::f32s; 5]) -> [S::f32s; 4] {
    let (sum_a, difference_a) = (simd.add_f32s(m[0], m[1]), simd.sub_f32s(m[0], m[1]));
    let (sum_b, difference_b) = (simd.add_f32s(m[2], m[3]), simd.sub_f32s(m[2], m[3]));
    [
        simd.add_f32s(sum_a, sum_b),
        both(simd, A, difference_a, B, difference_b),
        both(simd, 0.5, sum_a, 2.0, sum_b),
        simd.add_f32s(both(simd, A / 2.0, difference_a, 2.0 * B, difference_b), m[4]),
    ]
}

/// factor · x + y.
#[inline(always)]
fn times<S: Simd>(simd: S, factor: f32, x: S::f32s, y: S::f32s) -> S::f32s {
    multiply_add(simd, simd.splat_f32s(factor), x, y)
}

/// a · x + b · y.
#[inline(always)]
fn both<S: Simd>(simd: S, a: f32, x: S::f32s, b: f32, y: S::f32s) -> S::f32s {
    times(simd, a, x, simd.mul_f32s(simd.splat_f32s(b), y))
}

/// G g Gᵀ of a few panels of a kernel.
pub(crate) struct TransformKernel<'a> {
    pub points: usize,
    pub kernel: &'a [f32],
    pub channels: usize,
    pub depth: usize,
    pub outputs: Range<usize>,
    /// Of a channel and of an output.
    pub strides: (usize, usize),
    pub flip: bool,
    pub out: &'a mut [f32],
}

impl WithSimd for TransformKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match self.points {
            4 => self.run::<4>(),
            5 => self.run::<5>(),
            6 => self.run::<6>(),
            _ => self.run::<9>(),
        }
    }
}

impl TransformKernel<'_> {
    /// In double precision: a rounding here is an error in every result.
    #[inline(always)]
    fn run<const N: usize>(self) {
        let Self { kernel, channels, depth, outputs, strides: (per_channel, per_output), flip, out, .. } =
            self;
        let panels = outputs.len().div_ceil(LANES);
        for (channel, panel) in
            (0..channels).flat_map(|channel| (0..panels).map(move |panel| (channel, panel)))
        {
            let outputs = outputs.start + panel * LANES..outputs.end.min(outputs.start + (panel + 1) * LANES);
            let part = channel / depth * depth;
            let here = depth.min(channels - part);
            let start = (part * N * N + channel - part) * panels * LANES + panel * LANES;
            let mut taps = [[0.0; LANES]; 9];
            for (lane, output) in outputs.enumerate() {
                let from = &kernel[output * per_output + channel * per_channel..][..9];
                for (tap, weight) in from.iter().enumerate() {
                    taps[if flip { 8 - tap } else { tap }][lane] = f64::from(*weight);
                }
            }
            let columns: [_; 3] =
                std::array::from_fn(|j| from_taps::<N>([&taps[j], &taps[3 + j], &taps[6 + j]]));
            for i in 0..N {
                let row = from_taps::<N>([&columns[0][i], &columns[1][i], &columns[2][i]]);
                for (j, sums) in row.iter().enumerate() {
                    let to = &mut out[start + (i * N + j) * here * panels * LANES..][..LANES];
                    to.iter_mut().zip(sums).for_each(|(to, sum)| *to = *sum as f32);
                }
            }
        }
    }
}

/// Gᵀ m G of a panel of outputs, in double precision: from sums at N×N points, `stride` apart, to the nine taps of the
/// kernel's gradient.
pub(crate) struct ToTaps<'a> {
    pub points: usize,
    pub sums: &'a [f32],
    pub stride: usize,
}

impl WithSimd for ToTaps<'_> {
    type Output = [[f32; LANES]; 9];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [[f32; LANES]; 9] {
        match self.points {
            4 => self.run::<4>(),
            _ => self.run::<6>(),
        }
    }
}

impl ToTaps<'_> {
    #[inline(always)]
    fn run<const N: usize>(self) -> [[f32; LANES]; 9] {
        let Self { sums, stride, .. } = self;
        let matrix: [[f64; 3]; N] = std::array::from_fn(|point| kernel_row(N, point));
        let mut half = [[[0.0; LANES]; N]; 3];
        for j in 0..N {
            let mut sum = [[0.0; LANES]; 3];
            for i in 0..N {
                let sums: &[f32; LANES] = sums[(i * N + j) * stride..].first_chunk().expect("a panel");
                let sums = sums.map(f64::from);
                for row in 0..3 {
                    for lane in 0..LANES {
                        sum[row][lane] += matrix[i][row] * sums[lane];
                    }
                }
            }
            for row in 0..3 {
                half[row][j] = sum[row];
            }
        }
        let mut taps = [[0.0; LANES]; 9];
        for row in 0..3 {
            let mut sum = [[0.0; LANES]; 3];
            for j in 0..N {
                for column in 0..3 {
                    for lane in 0..LANES {
                        sum[column][lane] += matrix[j][column] * half[row][j][lane];
                    }
                }
            }
            for column in 0..3 {
                for lane in 0..LANES {
                    taps[row * 3 + column][lane] = sum[column][lane] as f32;
                }
            }
        }
        taps
    }
}

/// G of three taps: opposite points have the same even part and opposite odd ones.
#[inline(always)]
fn from_taps<const N: usize>([first, middle, last]: [&[f64; LANES]; 3]) -> [[f64; LANES]; N] {
    let (a, b) = (std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::SQRT_2);
    let mut points = [[0.0; LANES]; N];
    for lane in 0..LANES {
        let (first, middle, last) = (first[lane], middle[lane], last[lane]);
        let mut pair = |at: usize, even: f64, odd: f64| {
            points[at][lane] = even + odd;
            points[at + 1][lane] = even - odd;
        };
        match N {
            4 => pair(1, 0.5 * (first + last), 0.5 * middle),
            5 => pair(0, 0.5 * last, 0.5 * first),
            6 => {
                pair(1, -2.0 / 3.0 * first - 1.0 / 3.0 * last, -2.0 / 3.0 * a * middle);
                pair(3, 1.0 / 6.0 * first + 1.0 / 3.0 * last, b / 6.0 * middle);
            }
            _ => {
                pair(0, -1.0 / 3.0 * last, -2.0 / 3.0 * a * first);
                pair(2, 1.0 / 3.0 * last, b / 6.0 * first);
            }
        }
        match N {
            4 | 6 => (points[0][lane], points[N - 1][lane]) = (first, last),
            _ => {
                points[N / 2][lane] = last;
                points[N / 2 + 1..].iter_mut().for_each(|point| point[lane] = middle);
            }
        }
    }
    points
}

/// A row of G, for schemes of n points at stride 1.
fn kernel_row(n: usize, point: usize) -> [f64; 3] {
    let (a, b) = (std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::SQRT_2);
    match (n, point) {
        (4 | 6, 0) => [1.0, 0.0, 0.0],
        (4, 1) => [0.5, 0.5, 0.5],
        (4, 2) => [0.5, -0.5, 0.5],
        (6, 1) => [-2.0 / 3.0, -2.0 / 3.0 * a, -1.0 / 3.0],
        (6, 2) => [-2.0 / 3.0, 2.0 / 3.0 * a, -1.0 / 3.0],
        (6, 3) => [1.0 / 6.0, b / 6.0, 1.0 / 3.0],
        (6, 4) => [1.0 / 6.0, -b / 6.0, 1.0 / 3.0],
        (4 | 6, _) => [0.0, 0.0, 1.0],
        _ => unreachable!("no scheme of {n} points at stride 1"),
    }
}
