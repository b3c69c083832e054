//! Three by three convolutions of stride 1 with fewer products (Winograd 1980; Lavin and Gray 2016).
//!
//! A tile of m×m results is what is left of an element by element product of (m+2)×(m+2) numbers: the
//! transformed patch of the input times the transformed kernel. Summed over channels, that is one matrix product
//! \[tiles × inputs\] · \[inputs × outputs\] for each of the (m+2)² points, with 2.25 (m = 2) or 4 (m = 4) times
//! fewer products than the convolution has.
//!
//! For m = 4 the points of interpolation are 0, ±√½, ±√2 and ∞: with ab = 1 the transforms need few distinct
//! constants, and the error is about twice that of the direct sum, where the usual 0, ±1, ±2 and ∞ lose a
//! digit. For m = 2 they are 0, ±1 and ∞, with an error below that of the direct sum.
//!
//! Each tile's sums run over channels in one fixed order: results do not depend on what other tiles there are.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::conv::{Images, ImagesMut};
use crate::plane::{LANES, Plane};
use crate::tile::{multiply_add, product};

/// √½ and √2: the points of interpolation for m = 4.
const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;

/// Tiles that are worked on together: each weight that is read serves that many.
const TILES: usize = 32;
/// Twice as many for a kernel of more numbers than this, which comes from memory each time.
const WIDE_KERNEL: usize = 1 << 21;
/// Floats of transformed patches that are worked on together. Where the outputs are more than the inputs, it
/// pays to have all channels at once, so that products need not be added up in memory; where they are fewer, the
/// products are small, and patches had better stay in the second level cache.
const WIDENING: usize = 300 * 1024;
const NARROWING: usize = 80 * 1024;
/// Floats between the images of two points, beyond their size: neighbours must not share a set of a cache.
const APART: usize = 16;

/// A convolution's transformed kernel, and where it goes from and to.
#[derive(Debug, Clone)]
pub(crate) struct Winograd {
    /// m.
    side: usize,
    /// From a bordered plane.
    x: Plane,
    y: Plane,
    /// In the order in which it is read: `[group, part, point, channel, output]`, where a group has the outputs
    /// of `together` panels (the last one may have fewer) and a part has `depth` channels (likewise). Outputs
    /// beyond the last are zero.
    kernel: Vec<f32>,
    panels: usize,
    together: usize,
    depth: usize,
    /// Tiles that are worked on together, at most: each weight that is read serves that many.
    tiles: usize,
}

/// Memory to work in.
#[derive(Debug, Default)]
struct Workspace {
    /// Transformed patches, `[point, tile, channel]`.
    patches: Vec<f32>,
    /// Their products with the kernel, `[panels, point, tile, output]`.
    products: Vec<f32>,
}

thread_local! {
    /// All convolutions of a thread share it, so that it stays in the second level cache.
    static WORKSPACE: Cell<Workspace> = Cell::default();
}

impl Winograd {
    /// m for an image: 4 where that cuts it into several tiles, 2 where it is even, `None` otherwise.
    pub fn side(plane: Plane) -> Option<usize> {
        let divides = |side: usize| plane.height.is_multiple_of(side) && plane.width.is_multiple_of(side);
        match () {
            () if divides(4) && plane.height * plane.width > 16 => Some(4),
            () if divides(2) => Some(2),
            () => None,
        }
    }

    /// Transforms a kernel `[Cout, Cin, 3, 3]`; transposed, its outputs are the kernel's inputs and its taps are
    /// flipped.
    pub fn new(
        arch: Arch,
        kernel: &[f32],
        [output, input, area]: [usize; 3],
        transposed: bool,
        [x, y]: [Plane; 2],
    ) -> Self {
        assert!(area == 9 && kernel.len() == output * input * area, "a kernel [{output}, {input}, 3, 3]");
        let side = Self::side(y).expect("an image of even height and width");
        let points = (side + 2) * (side + 2);
        let (channels, outputs) = if transposed { (output, input) } else { (input, output) };
        let strides = if transposed { (input * area, area) } else { (area, input * area) };
        assert!(x.border() == 1 && [x.channels, y.channels] == [channels, outputs]);
        assert_eq!([x.height, x.width], [y.height, y.width]);
        let panels = outputs.div_ceil(LANES);
        let together = arch.dispatch(PanelsTogether);
        let tiles = if kernel.len() > WIDE_KERNEL { 2 * TILES } else { TILES };
        let room = if channels > outputs { NARROWING } else { WIDENING };
        let most = (room / (points * tiles) / LANES * LANES).max(2 * LANES);
        let depth = x.stride().div_ceil(x.stride().div_ceil(most)).next_multiple_of(LANES);
        let mut data = vec![0.0; panels * points * channels * LANES];
        data.par_chunks_mut(together * points * channels * LANES).enumerate().for_each(|(group, out)| {
            let outputs = group * together * LANES..outputs.min((group + 1) * together * LANES);
            arch.dispatch(TransformKernel {
                side,
                kernel,
                channels,
                depth,
                outputs,
                strides,
                flip: transposed,
                out,
            });
        });
        Self { side, x, y, kernel: data, panels, together, depth, tiles }
    }

    /// Tiles of one image.
    fn tiles(&self) -> usize {
        self.y.height * self.y.width / (self.side * self.side)
    }

    /// y (+)= conv(x) for `count` examples.
    ///
    /// # Panics
    ///
    /// If an image is too short.
    pub fn apply(&self, arch: Arch, x: Images<'_>, y: ImagesMut<'_>, count: usize, accumulate: bool) {
        if count == 0 {
            return;
        }
        // What the transforms rely on.
        assert!(self.x.len() + (count - 1) * x.stride <= x.data.len(), "input images");
        assert!(self.y.len() + (count - 1) * y.stride <= y.data.len(), "output images");
        let total = count * self.tiles();
        for first in (0..total).step_by(self.tiles) {
            let tiles = first..total.min(first + self.tiles);
            let (data, y_stride) = (&mut *y.data, y.stride);
            arch.dispatch(Block { conv: self, tiles, x: &x, y: data, y_stride, accumulate });
        }
    }
}

/// Some tiles of a convolution.
struct Block<'a> {
    conv: &'a Winograd,
    tiles: Range<usize>,
    x: &'a Images<'a>,
    y: &'a mut [f32],
    y_stride: usize,
    accumulate: bool,
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (S::F32_LANES, S::REGISTER_COUNT) {
            (16, _) => self.sized::<S, 8, 2, 1>(simd),
            (8, _) => self.sized::<S, 6, 1, 2>(simd),
            (4, _) => self.sized::<S, 4, 1, 4>(simd),
            _ => self.sized::<S, 1, 1, 16>(simd),
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn sized<S: Simd, const R: usize, const P: usize, const V: usize>(self, simd: S) {
        match self.conv.side {
            4 => self.run::<S, R, P, V, 6, 4>(simd),
            _ => self.run::<S, R, P, V, 4, 2>(simd),
        }
    }

    /// Products of R tiles with P panels of V vectors; N×N points for M×M results.
    #[inline(always)]
    fn run<S: Simd, const R: usize, const P: usize, const V: usize, const N: usize, const M: usize>(
        self,
        simd: S,
    ) {
        let conv = self.conv;
        // Rows beyond the last tile hold what was there before; their products are never read.
        let rows = self.tiles.len().next_multiple_of(R);
        let depth = conv.depth;
        assert_eq!(conv.together, P, "a kernel laid out for another instruction set");
        let (channels, points) = (conv.x.channels, N * N);
        let patch_stride = rows * depth + APART;
        let parts = conv.x.stride().div_ceil(depth);
        let groups = conv.panels.div_ceil(P);
        let product_stride = rows * P * LANES + APART;
        let group_len = points * product_stride;
        let Workspace { mut patches, mut products } = WORKSPACE.take();
        grow(&mut patches, points * patch_stride);
        grow(&mut products, group_len * if parts > 1 { groups } else { 1 });
        for part in 0..parts {
            let from = part * depth;
            let padded = depth.min(conv.x.stride() - from);
            let here = depth.min(channels - from);
            for (row, tile) in self.tiles.clone().enumerate() {
                let (example, at) = self.place::<M>(conv.x, tile);
                let image = at - conv.x.raw_offset(1, 1) + example * self.x.stride + from;
                let corner = conv.x.raw_offset(N - 1, N - 1) + padded;
                let patch = &self.x.data[image..image + corner];
                for channel in (0..padded).step_by(S::F32_LANES) {
                    let out = &mut patches[row * depth + channel..];
                    assert!(out.len() >= (points - 1) * patch_stride + S::F32_LANES);
                    // SAFETY: the patch ends with the padded channels of its last corner, and the room for
                    // every point was just checked.
                    unsafe {
                        let from = patch.as_ptr().add(channel);
                        let strides = (conv.x.row_stride(), conv.x.stride());
                        patch_in::<S, N>(simd, from, strides, out.as_mut_ptr(), patch_stride);
                    }
                }
            }
            for group in 0..groups {
                let panel = group * P;
                let present = P.min(conv.panels - panel);
                let out = if parts > 1 { group * group_len } else { 0 };
                let out = &mut products[out..out + group_len];
                let width = present * LANES;
                let start = panel * LANES * points * channels + from * points * width;
                let weights = &conv.kernel[start..start + points * here * width];
                for (point, weights) in weights.chunks_exact(here * width).enumerate() {
                    let x = &patches[point * patch_stride..][..rows * depth];
                    let out = &mut out[point * product_stride..][..rows * P * LANES];
                    for (row, (x, out)) in
                        x.chunks_exact(R * depth).zip(out.chunks_exact_mut(R * P * LANES)).enumerate()
                    {
                        let ahead =
                            weights.as_ptr().wrapping_add((present + row.min(present - 1)) * here * LANES);
                        // SAFETY: R rows of x and out were just taken, and `here` rows of the weights.
                        unsafe {
                            let (x, w, y) = (x.as_ptr(), weights.as_ptr(), out.as_mut_ptr());
                            let accumulate = part > 0;
                            if present == P {
                                product::<S, R, P, V>(
                                    simd,
                                    x,
                                    depth,
                                    w,
                                    here,
                                    y,
                                    P * LANES,
                                    accumulate,
                                    ahead,
                                );
                            } else {
                                product::<S, R, 1, V>(
                                    simd,
                                    x,
                                    depth,
                                    w,
                                    here,
                                    y,
                                    P * LANES,
                                    accumulate,
                                    ahead,
                                );
                            }
                        }
                    }
                }
                if part + 1 < parts {
                    continue;
                }
                for (row, tile) in self.tiles.clone().enumerate() {
                    let (example, at) = self.place::<M>(conv.y, tile);
                    let image = at + example * self.y_stride + panel * LANES;
                    let corner = conv.y.raw_offset(M - 1, M - 1) + present * LANES;
                    let image = &mut self.y[image..image + corner];
                    for lane in (0..present * LANES).step_by(S::F32_LANES) {
                        let from = &out[row * P * LANES + lane..];
                        assert!(from.len() >= (points - 1) * product_stride + S::F32_LANES);
                        // SAFETY: the image ends with the last of the tile's results, and the products of every
                        // point were just checked.
                        unsafe {
                            let to = image.as_mut_ptr().add(lane);
                            let strides = (conv.y.row_stride(), conv.y.stride());
                            let from = from.as_ptr();
                            patch_out::<S, N, M>(simd, from, product_stride, to, strides, self.accumulate);
                        }
                    }
                }
            }
        }
        WORKSPACE.set(Workspace { patches, products });
    }

    /// A tile's example, and where its first result lies in that example's plane.
    #[inline(always)]
    fn place<const M: usize>(&self, plane: Plane, tile: usize) -> (usize, usize) {
        let across = plane.width / M;
        let each = across * (plane.height / M);
        let (example, tile) = (tile / each, tile % each);
        (example, plane.offset(tile / across * M, tile % across * M))
    }
}

fn grow(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
}

/// Bᵀ d B of one vector of channels: N×N pixels to N×N points.
///
/// # Safety
///
/// A vector must be readable at each of the N×N pixels and writable at each of the N·N points.
#[inline(always)]
unsafe fn patch_in<S: Simd, const N: usize>(
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
unsafe fn patch_out<S: Simd, const N: usize, const M: usize>(
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

/// The panels that [`Block`] multiplies with at a time.
struct PanelsTogether;

impl WithSimd for PanelsTogether {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        if S::F32_LANES == 16 { 2 } else { 1 }
    }
}

/// G g Gᵀ of a few panels of a kernel.
struct TransformKernel<'a> {
    side: usize,
    kernel: &'a [f32],
    channels: usize,
    depth: usize,
    outputs: Range<usize>,
    /// Of a channel and of an output.
    strides: (usize, usize),
    flip: bool,
    out: &'a mut [f32],
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
