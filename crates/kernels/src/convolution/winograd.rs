//! Three by three convolutions with fewer products (Winograd 1980; Lavin and Gray 2016).
//!
//! A tile of m×m results is what is left of an element by element product of n×n numbers, its points: the
//! transformed patch of the input times the transformed kernel. Summed over channels, that is one matrix product
//! \[tiles × inputs\] · \[inputs × outputs\] for each of the n² points. At stride 1, where n = m + 2, there are 2.25
//! (m = 2) or 4 (m = 4) times fewer products than the convolution has. Data gradients at stride 2 have 1.4 or 1.8 times
//! fewer.
//!
//! Each tile's sums run over channels in one fixed order: results do not depend on what other tiles there are.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ops::Range;

use pulp::{Arch, Simd};
use rayon::prelude::*;

use crate::convolution::direct::{Images, ImagesMut};
use crate::convolution::points::{Scheme, TransformKernel, patch_in, patch_out};
use crate::convolution::tile::{InTiles, TileSize, Tiled, product};
use crate::image::plane::{LANES, Plane};

/// Tiles that are worked on together: each weight that is read serves that many.
const TILES: usize = 32;
/// Floats of transformed patches that are worked on together. Where the outputs are more than the inputs, it
/// pays to have all channels at once, so that products need not be added up in memory; where they are fewer, the
/// products are small, and patches had better stay in the second level cache.
const WIDENING: usize = 300 * 1024;
const NARROWING: usize = 80 * 1024;
/// Floats between the images of two points, beyond their size: neighbours must not share a set of a cache.
pub(crate) const APART: usize = 16;

/// A convolution's transformed kernel, and where it goes from and to.
#[derive(Debug, Clone)]
pub(crate) struct Winograd {
    pub scheme: Scheme,
    /// From a bordered plane.
    pub x: Plane,
    pub y: Plane,
    /// In the order in which it is read: `[group, part, point, channel, output]`, where a group has the outputs
    /// of `together` panels (the last one may have fewer) and a part has `depth` channels (likewise). Outputs
    /// beyond the last are zero.
    pub kernel: Vec<f32>,
    pub panels: usize,
    together: usize,
    pub depth: usize,
    /// Applied to whole batches, by [`Self::apply_to_all`].
    pub wide: bool,
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
    /// Transforms a kernel `[Cout, Cin, 3, 3]`; transposed, its outputs are the kernel's inputs and its taps are
    /// flipped.
    pub fn new(
        arch: Arch,
        kernel: &[f32],
        [output, input, area]: [usize; 3],
        transposed: bool,
        [x, y]: [Plane; 2],
        scheme: Scheme,
        wide: bool,
    ) -> Self {
        assert!(area == 9 && kernel.len() == output * input * area, "a kernel [{output}, {input}, 3, 3]");
        let points = scheme.points * scheme.points;
        let (channels, outputs) = if transposed { (output, input) } else { (input, output) };
        let strides = if transposed { (input * area, area) } else { (area, input * area) };
        assert!(x.border() == 1 && [x.channels, y.channels] == [channels, outputs]);
        assert_eq!([x.height, x.width].map(|side| side / scheme.step * scheme.outputs), [y.height, y.width]);
        let panels = outputs.div_ceil(LANES);
        let [_, together] = arch.dispatch(InTiles(TileSize));
        let room = if channels > outputs { NARROWING } else { WIDENING };
        let most = if wide {
            x.stride()
        } else {
            (room / (points * tiles_together(points)) / LANES * LANES).max(2 * LANES)
        };
        let depth = x.stride().div_ceil(x.stride().div_ceil(most)).next_multiple_of(LANES);
        let mut data = vec![0.0; panels * points * channels * LANES];
        data.par_chunks_mut(together * points * channels * LANES).enumerate().for_each(|(group, out)| {
            let outputs = group * together * LANES..outputs.min((group + 1) * together * LANES);
            arch.dispatch(TransformKernel {
                points: scheme.points,
                kernel,
                channels,
                depth,
                outputs,
                strides,
                flip: transposed,
                out,
            });
        });
        Self { scheme, x, y, kernel: data, panels, together, depth, wide }
    }

    /// Tiles of one image.
    pub fn tiles(&self) -> usize {
        self.y.height * self.y.width / (self.scheme.outputs * self.scheme.outputs)
    }

    /// A tile's example, row and column among that example's tiles.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let across = self.y.width / self.scheme.outputs;
        let each = across * (self.y.height / self.scheme.outputs);
        (tile / each, tile % each / across, tile % across)
    }

    /// A tile's example, and where the first pixel that it reads lies in that example's plane.
    #[inline(always)]
    pub fn reads(&self, tile: usize) -> (usize, usize) {
        let ((example, row, column), Scheme { step, first, .. }) = (self.place(tile), self.scheme);
        (example, self.x.raw_offset(row * step + first, column * step + first))
    }

    /// A tile's example, and where the first pixel that it writes lies in that example's plane.
    #[inline(always)]
    pub fn writes(&self, tile: usize) -> (usize, usize) {
        let ((example, row, column), Scheme { outputs, .. }) = (self.place(tile), self.scheme);
        (example, self.y.offset(row * outputs, column * outputs))
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
        assert!(!self.wide, "a wide convolution is applied to whole batches");
        // What the transforms rely on.
        assert!(self.x.len() + (count - 1) * x.stride <= x.data.len(), "input images");
        assert!(self.y.len() + (count - 1) * y.stride <= y.data.len(), "output images");
        let total = count * self.tiles();
        let together = tiles_together(self.scheme.points * self.scheme.points);
        for first in (0..total).step_by(together) {
            let tiles = first..total.min(first + together);
            let (data, y_stride) = (&mut *y.data, y.stride);
            arch.dispatch(InTiles(Block { conv: self, tiles, x: &x, y: data, y_stride, accumulate }));
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

impl Tiled for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const R: usize, const P: usize, const V: usize>(self, simd: S) {
        let Scheme { inputs, outputs, .. } = self.conv.scheme;
        match (inputs, outputs) {
            (6, 4) => self.tiles::<S, R, P, V, 6, 6, 4>(simd),
            (4, 2) => self.tiles::<S, R, P, V, 4, 4, 2>(simd),
            (5, 8) => self.tiles::<S, R, P, V, 5, 9, 8>(simd),
            (3, 4) => self.tiles::<S, R, P, V, 3, 5, 4>(simd),
            other => unreachable!("no scheme of inputs and outputs {other:?}"),
        }
    }
}

impl Block<'_> {
    /// Products of R tiles with P panels of V vectors; N×N points of I×I pixels for O×O results.
    #[inline(always)]
    fn tiles<
        S: Simd,
        const R: usize,
        const P: usize,
        const V: usize,
        const I: usize,
        const N: usize,
        const O: usize,
    >(
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
                let (example, at) = conv.reads(tile);
                let image = at + example * self.x.stride + from;
                let corner = conv.x.raw_offset(I - 1, I - 1) + padded;
                let patch = &self.x.data[image..image + corner];
                for channel in (0..here).step_by(S::F32_LANES) {
                    let out = &mut patches[row * depth + channel..];
                    assert!(out.len() >= (points - 1) * patch_stride + S::F32_LANES);
                    // SAFETY: the patch ends with the padded channels of its last corner, and the room for
                    // every point was just checked.
                    unsafe {
                        let from = patch.as_ptr().add(channel);
                        let strides = (conv.x.row_stride(), conv.x.stride());
                        patch_in::<S, I, N>(simd, from, strides, out.as_mut_ptr(), patch_stride);
                    }
                }
            }
            for group in 0..groups {
                let panel = group * P;
                let present = P.min(conv.panels - panel);
                let out = if parts > 1 { group * group_len } else { 0 };
                let out = &mut products[out..out + group_len];
                let width = present * LANES;
                let outputs = width.min(conv.y.channels - panel * LANES);
                let start = panel * LANES * points * channels + from * points * width;
                let weights = &conv.kernel[start..start + points * here * width];
                for (point, weights) in weights.chunks_exact(here * width).enumerate() {
                    let x = &patches[point * patch_stride..][..rows * depth];
                    let out = &mut out[point * product_stride..][..rows * P * LANES];
                    for (row, (x, out)) in
                        x.chunks_exact(R * depth).zip(out.chunks_exact_mut(R * P * LANES)).enumerate()
                    {
                        let weights = Weights { numbers: weights, channels: here, panels: present, outputs };
                        rows_product::<S, R, P, V>(simd, x, depth, weights, row, out, part > 0);
                    }
                }
                if part + 1 < parts {
                    continue;
                }
                for (row, tile) in self.tiles.clone().enumerate() {
                    let (example, at) = conv.writes(tile);
                    let image = at + example * self.y_stride + panel * LANES;
                    let corner = conv.y.raw_offset(O - 1, O - 1) + present * LANES;
                    let image = &mut self.y[image..image + corner];
                    // Padding beyond the last vector stays zero.
                    for lane in (0..outputs).step_by(S::F32_LANES) {
                        let from = &out[row * P * LANES + lane..];
                        assert!(from.len() >= (points - 1) * product_stride + S::F32_LANES);
                        // SAFETY: the image ends with the last of the tile's results, and the products of every
                        // point were just checked.
                        unsafe {
                            let to = image.as_mut_ptr().add(lane);
                            let strides = (conv.y.row_stride(), conv.y.stride());
                            let from = from.as_ptr();
                            patch_out::<S, N, O>(simd, from, product_stride, to, strides, self.accumulate);
                        }
                    }
                }
            }
        }
        WORKSPACE.set(Workspace { patches, products });
    }
}

/// Tiles that are worked on together: so many that each weight that is read serves several, so few that their
/// points stay in the cache.
const fn tiles_together(points: usize) -> usize {
    if points > 36 { TILES / 2 } else { TILES }
}

/// Weights of one point and some panels, `[channel, output]`.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub numbers: &'a [f32],
    pub channels: usize,
    /// P, or 1 for the last one without a partner.
    pub panels: usize,
    /// Outputs in them: those beyond are padding.
    pub outputs: usize,
}

/// out (+)= x · weights, for R rows of x that are `depth` apart. The weights that follow, those of the next point, are
/// fetched meanwhile, a panel's worth by each of the first blocks of rows.
#[inline(always)]
pub(crate) fn rows_product<S: Simd, const R: usize, const P: usize, const V: usize>(
    simd: S,
    x: &[f32],
    depth: usize,
    weights: Weights<'_>,
    block: usize,
    out: &mut [f32],
    accumulate: bool,
) {
    let Weights { numbers, channels, panels, outputs } = weights;
    assert!(channels <= depth && x.len() == R * depth && out.len() == R * P * LANES);
    assert!(numbers.len() == channels * panels * LANES && (panels == P || panels == 1));
    let ahead = numbers.as_ptr().wrapping_add((panels + block.min(panels - 1)) * channels * LANES);
    let (x, w, y) = (x.as_ptr(), numbers.as_ptr(), out.as_mut_ptr());
    // SAFETY: the lengths of x, weights and out were just checked.
    unsafe {
        if panels == P {
            if P == 1 && outputs <= S::F32_LANES {
                product::<S, R, P, 1>(simd, x, depth, w, channels, y, P * LANES, accumulate, ahead);
            } else {
                product::<S, R, P, V>(simd, x, depth, w, channels, y, P * LANES, accumulate, ahead);
            }
        } else {
            product::<S, R, 1, V>(simd, x, depth, w, channels, y, P * LANES, accumulate, ahead);
        }
    }
}

pub(crate) fn grow(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
}
