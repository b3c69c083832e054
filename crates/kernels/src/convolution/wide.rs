//! Winograd convolutions whose transformed kernels come from memory each time they are used.
//!
//! They are applied to a whole batch at once, and threads share it by outputs instead of examples: each weight is
//! read by one thread, once. That pays for tiles of 4×4 in images that small, with 36 numbers for 9 weights.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::convolution::direct::{Images, ImagesMut};
use crate::convolution::points::{Scheme, patch_in, patch_out};
use crate::convolution::tile::{InTiles, TileSize, Tiled};
use crate::convolution::winograd::{APART, Weights, Winograd, grow, rows_product};
use crate::image::norm::{vectors, vectors_mut};
use crate::image::plane::LANES;

/// Tiles that are worked on together, at most: more would leave the caches.
const TILES: usize = 64;

/// The images of a few examples.
pub(crate) struct Share<'a> {
    pub x: Images<'a>,
    pub y: ImagesMut<'a>,
    pub count: usize,
}

/// Memory that all threads work in.
#[derive(Debug, Default)]
struct Workspace {
    /// Transformed patches, `[block of rows, point, row, channel]`: a row is a tile.
    patches: Vec<f32>,
    /// Results, `[group, tile, pixel, output]`.
    results: Vec<f32>,
}

thread_local! {
    static WORKSPACE: Cell<Workspace> = Cell::default();
    /// Of one group, `[point, tile, output]`.
    static PRODUCTS: Cell<Vec<f32>> = Cell::default();
}

impl Winograd {
    /// y (+)= conv(x) for every example of a batch.
    ///
    /// # Panics
    ///
    /// If an image is too short.
    pub fn apply_to_all(&self, arch: Arch, batch: Vec<Share<'_>>, accumulate: bool) {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for Share { x, y, count } in batch {
            from.extend(x.data.chunks(x.stride).take(count));
            to.extend(y.data.chunks_mut(y.stride).take(count));
        }
        assert_eq!(from.len(), to.len());
        // What the transforms rely on.
        assert!(from.iter().all(|image| image.len() >= self.x.len()), "input images");
        assert!(to.iter().all(|image| image.len() >= self.y.len()), "output images");
        let together = (TILES / self.tiles()).max(1);
        for (from, to) in from.chunks(together).zip(to.chunks_mut(together)) {
            self.apply_to(arch, from, to, accumulate);
        }
    }

    fn apply_to(&self, arch: Arch, from: &[&[f32]], to: &mut [&mut [f32]], accumulate: bool) {
        let [rows, panels] = arch.dispatch(InTiles(TileSize));
        let Scheme { points, outputs, .. } = self.scheme;
        let (points, pixels) = (points * points, outputs * outputs);
        let tiles = from.len() * self.tiles();
        let (blocks, groups) = (tiles.div_ceil(rows), self.panels.div_ceil(panels));
        let block_len = points * (rows * self.depth + APART);
        let group_len = tiles * pixels * panels * LANES;
        let Workspace { mut patches, mut results } = WORKSPACE.take();
        grow(&mut patches, blocks * block_len);
        grow(&mut results, groups * group_len);
        let all = &mut patches[..blocks * block_len];
        all.par_chunks_mut(block_len).with_max_len(1).enumerate().for_each(|(block, patches)| {
            let tiles = block * rows..tiles.min((block + 1) * rows);
            arch.dispatch(Patches { conv: self, from, tiles, rows, patches });
        });
        let patches_of_all = &patches[..blocks * block_len];
        let all = &mut results[..groups * group_len];
        all.par_chunks_mut(group_len).with_max_len(1).enumerate().for_each(|(group, results)| {
            arch.dispatch(InTiles(Group { conv: self, group, tiles, patches: patches_of_all, results }));
        });
        let results_of_all = &results[..groups * group_len];
        to.par_iter_mut().enumerate().for_each(|(example, y)| {
            let (width, results) = (panels * LANES, results_of_all);
            arch.dispatch(Gather { conv: self, example, width, group_len, results, y, accumulate });
        });
        WORKSPACE.set(Workspace { patches, results });
    }
}

/// A block of rows, transformed. Rows beyond the last tile keep what was there; their products are never read.
struct Patches<'a> {
    conv: &'a Winograd,
    from: &'a [&'a [f32]],
    tiles: Range<usize>,
    rows: usize,
    patches: &'a mut [f32],
}

impl WithSimd for Patches<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.conv.scheme.inputs {
            6 => self.run::<S, 6>(simd),
            _ => self.run::<S, 4>(simd),
        }
    }
}

impl Patches<'_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { conv, from, tiles, rows, patches } = self;
        let (plane, depth) = (conv.x, conv.depth);
        let stride = rows * depth + APART;
        for (row, tile) in tiles.enumerate() {
            let (example, start) = conv.reads(tile);
            let patch = &from[example][start..start + plane.raw_offset(N - 1, N - 1) + plane.stride()];
            for channel in (0..plane.stride()).step_by(S::F32_LANES) {
                let out = &mut patches[row * depth + channel..];
                assert!(out.len() >= (N * N - 1) * stride + S::F32_LANES);
                // SAFETY: the patch ends with the channels of its last corner, and the room for every point was
                // just checked.
                unsafe {
                    let from = patch.as_ptr().add(channel);
                    let strides = (plane.row_stride(), plane.stride());
                    patch_in::<S, N, N>(simd, from, strides, out.as_mut_ptr(), stride);
                }
            }
        }
    }
}

/// All results of a group of outputs.
struct Group<'a> {
    conv: &'a Winograd,
    group: usize,
    tiles: usize,
    patches: &'a [f32],
    results: &'a mut [f32],
}

impl Tiled for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const R: usize, const P: usize, const V: usize>(self, simd: S) {
        match self.conv.scheme.outputs {
            4 => self.tiles::<S, R, P, V, 6, 4>(simd),
            _ => self.tiles::<S, R, P, V, 4, 2>(simd),
        }
    }
}

impl Group<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const P: usize, const V: usize, const N: usize, const M: usize>(
        self,
        simd: S,
    ) {
        let Self { conv, group, tiles, patches, results } = self;
        let (channels, depth, points) = (conv.x.channels, conv.depth, N * N);
        let present = P.min(conv.panels - group * P);
        let width = present * LANES;
        let start = group * P * LANES * points * channels;
        let weights = &conv.kernel[start..start + points * channels * width];
        let rows = tiles.next_multiple_of(R);
        let stride = rows * P * LANES + APART;
        let mut products = PRODUCTS.take();
        grow(&mut products, points * stride);
        for (point, weights) in weights.chunks_exact(channels * width).enumerate() {
            let out = &mut products[point * stride..][..rows * P * LANES];
            for (block, out) in out.chunks_exact_mut(R * P * LANES).enumerate() {
                let x = &patches[(block * points + point) * (R * depth + APART)..][..R * depth];
                let weights = Weights { numbers: weights, channels, panels: present, outputs: width };
                rows_product::<S, R, P, V>(simd, x, depth, weights, block, out, false);
            }
        }
        for (row, result) in results.chunks_exact_mut(M * M * P * LANES).take(tiles).enumerate() {
            for lane in (0..width).step_by(S::F32_LANES) {
                let from = &products[row * P * LANES + lane..];
                assert!(from.len() >= (points - 1) * stride + S::F32_LANES);
                assert!(lane + S::F32_LANES <= P * LANES);
                // SAFETY: the products of every point were just checked, and a result has room for M×M pixels.
                unsafe {
                    let to = result.as_mut_ptr().add(lane);
                    let strides = (M * P * LANES, P * LANES);
                    patch_out::<S, N, M>(simd, from.as_ptr(), stride, to, strides, false);
                }
            }
        }
        PRODUCTS.set(products);
    }
}

/// An example's results, from all groups.
struct Gather<'a> {
    conv: &'a Winograd,
    example: usize,
    /// Outputs of a group.
    width: usize,
    group_len: usize,
    results: &'a [f32],
    y: &'a mut [f32],
    accumulate: bool,
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { conv, example, width, group_len, results, y, accumulate } = self;
        let (plane, side) = (conv.y, conv.scheme.outputs);
        for tile in 0..conv.tiles() {
            let (_, first) = conv.writes(tile);
            for pixel in 0..side * side {
                let to = &mut y[first + plane.raw_offset(pixel / side, pixel % side)..][..plane.stride()];
                let at = ((example * conv.tiles() + tile) * side * side + pixel) * width;
                for (to, group) in to.chunks_mut(width).zip(results.chunks_exact(group_len)) {
                    let from = &group[at..at + to.len()];
                    if accumulate {
                        for (to, from) in vectors_mut::<S>(to).iter_mut().zip(vectors::<S>(from)) {
                            *to = simd.add_f32s(*to, *from);
                        }
                    } else {
                        to.copy_from_slice(from);
                    }
                }
            }
        }
    }
}
