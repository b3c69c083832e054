//! The transforms around Winograd's products: patches of an image to points, products at points to pixels, and
//! kernels to points.
//!
//! For m = 4 the points of interpolation are 0, ±√½, ±√2 and ∞: with ab = 1 the transforms need few distinct
//! constants, and the error is about twice that of the direct sum, where the usual 0, ±1, ±2 and ∞ lose a
//! digit. For m = 2 they are 0, ±1 and ∞, with an error below that of the direct sum.

#![allow(unsafe_code)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::plane::LANES;
use crate::tile::multiply_add;

/// √½ and √2: the points of interpolation for m = 4.
const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;

/// Bᵀ d B of one vector of channels: N×N pixels to N×N points.
///
/// # Safety
///
/// A vector must be readable at each of the N×N pixels and writable at each of the N·N points.
#[inline(always)]
pub(crate) unsafe fn patch_in<S: Simd, const N: usize>(
    simd: S,
    x: *const f32,
    (row, column): (usize, usize),
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut half = [[simd.splat_f32s(0.0); N]; N];
        for j in 0..N {
            let pixels =
                std::array::from_fn(|i| x.add(i * row + j * column).cast::<S::f32s>().read_unaligned());
            half[j] = to_points::<S, N>(simd, pixels);
        }
        for i in 0..N {
            let points = to_points::<S, N>(simd, std::array::from_fn(|j| half[j][i]));
            for j in 0..N {
                out.add((i * N + j) * stride).cast::<S::f32s>().write_unaligned(points[j]);
            }
        }
    }
}

/// Aᵀ m A of one vector of outputs: N×N points to M×M pixels.
///
/// # Safety
///
/// A vector must be readable at each of the N·N points, and readable and writable at each of the M×M pixels.
#[inline(always)]
pub(crate) unsafe fn patch_out<S: Simd, const N: usize, const M: usize>(
    simd: S,
    x: *const f32,
    stride: usize,
    out: *mut f32,
    (row, column): (usize, usize),
    accumulate: bool,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut half = [[simd.splat_f32s(0.0); M]; N];
        for j in 0..N {
            let points =
                std::array::from_fn(|i| x.add((i * N + j) * stride).cast::<S::f32s>().read_unaligned());
            half[j] = to_pixels::<S, N, M>(simd, points);
        }
        for i in 0..M {
            let pixels = to_pixels::<S, N, M>(simd, std::array::from_fn(|j| half[j][i]));
            for j in 0..M {
                let at = out.add(i * row + j * column).cast::<S::f32s>();
                let pixel =
                    if accumulate { simd.add_f32s(at.read_unaligned(), pixels[j]) } else { pixels[j] };
                at.write_unaligned(pixel);
            }
        }
    }
}

/// Bᵀ of one row or column.
#[inline(always)]
fn to_points<S: Simd, const N: usize>(simd: S, d: [S::f32s; N]) -> [S::f32s; N] {
    let (add, sub) = (|a, b| simd.add_f32s(a, b), |a, b| simd.sub_f32s(a, b));
    let mut t = d;
    if N == 4 {
        t[0] = sub(d[0], d[2]);
        t[1] = add(d[1], d[2]);
        t[2] = sub(d[2], d[1]);
        t[3] = sub(d[3], d[1]);
    } else {
        let times = |factor: f32, x, y| multiply_add(simd, simd.splat_f32s(factor), x, y);
        let odd = |a: f32, x, b: f32, y| times(a, x, simd.mul_f32s(simd.splat_f32s(b), y));
        let (even_a, odd_a) = (times(-2.0, d[2], d[4]), odd(A, d[3], -B, d[1]));
        let (even_b, odd_b) = (times(-0.5, d[2], d[4]), odd(B, d[3], -A, d[1]));
        t[0] = times(-2.5, d[2], add(d[0], d[4]));
        t[1] = add(even_a, odd_a);
        t[2] = sub(even_a, odd_a);
        t[3] = add(even_b, odd_b);
        t[4] = sub(even_b, odd_b);
        t[5] = times(-2.5, d[3], add(d[1], d[5]));
    }
    t
}

/// Aᵀ of one row or column.
#[inline(always)]
fn to_pixels<S: Simd, const N: usize, const M: usize>(simd: S, m: [S::f32s; N]) -> [S::f32s; M] {
    let (add, sub) = (|a, b| simd.add_f32s(a, b), |a, b| simd.sub_f32s(a, b));
    let mut y = [m[0]; M];
    if N == 4 {
        let (sum, difference) = (add(m[1], m[2]), sub(m[1], m[2]));
        y[0] = add(m[0], sum);
        y[1] = add(difference, m[3]);
    } else {
        let times = |factor: f32, x, y| multiply_add(simd, simd.splat_f32s(factor), x, y);
        let (sum_a, difference_a) = (add(m[1], m[2]), sub(m[1], m[2]));
        let (sum_b, difference_b) = (add(m[3], m[4]), sub(m[3], m[4]));
        let of = |a: f32, x, b: f32, y| times(a, x, simd.mul_f32s(simd.splat_f32s(b), y));
        y[0] = add(m[0], add(sum_a, sum_b));
        y[1] = of(A, difference_a, B, difference_b);
        y[2] = of(0.5, sum_a, 2.0, sum_b);
        y[3] = add(of(A / 2.0, difference_a, 2.0 * B, difference_b), m[5]);
    }
    y
}

/// G g Gᵀ of a few panels of a kernel.
pub(crate) struct TransformKernel<'a> {
    pub side: usize,
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
        match self.side {
            4 => self.run::<6>(),
            _ => self.run::<4>(),
        }
    }
}

impl TransformKernel<'_> {
    /// In double precision: a rounding here is an error in every result.
    #[inline(always)]
    fn run<const N: usize>(self) {
        let Self { kernel, channels, depth, outputs, strides: (per_channel, per_output), flip, out, .. } =
            self;
        let matrix: [[f64; 3]; N] = std::array::from_fn(|point| kernel_row(N, point));
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
            let mut half = [[[0.0; LANES]; 3]; N];
            for i in 0..N {
                for j in 0..3 {
                    for lane in 0..LANES {
                        half[i][j][lane] = matrix[i][0] * taps[j][lane]
                            + matrix[i][1] * taps[3 + j][lane]
                            + matrix[i][2] * taps[6 + j][lane];
                    }
                }
            }
            for i in 0..N {
                for j in 0..N {
                    let to = &mut out[start + (i * N + j) * here * panels * LANES..][..LANES];
                    for lane in 0..LANES {
                        let sum = matrix[j][0] * half[i][0][lane]
                            + matrix[j][1] * half[i][1][lane]
                            + matrix[j][2] * half[i][2][lane];
                        to[lane] = sum as f32;
                    }
                }
            }
        }
    }
}

/// A row of G.
fn kernel_row(n: usize, point: usize) -> [f64; 3] {
    let (a, b) = (std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::SQRT_2);
    match (n, point) {
        (_, 0) => [1.0, 0.0, 0.0],
        (4, 1) => [0.5, 0.5, 0.5],
        (4, 2) => [0.5, -0.5, 0.5],
        (6, 1) => [-2.0 / 3.0, -2.0 / 3.0 * a, -1.0 / 3.0],
        (6, 2) => [-2.0 / 3.0, 2.0 / 3.0 * a, -1.0 / 3.0],
        (6, 3) => [1.0 / 6.0, b / 6.0, 1.0 / 3.0],
        (6, 4) => [1.0 / 6.0, -b / 6.0, 1.0 / 3.0],
        _ => [0.0, 0.0, 1.0],
    }
}
