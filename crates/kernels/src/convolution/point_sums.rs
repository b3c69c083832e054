//! Gradients of three by three kernels of stride 1 with fewer products: Winograd's algorithm transposed.
//!
//! y = Aᵀ\[(G g Gᵀ) ⊙ (Bᵀ d B)\]A is linear in the kernel g, so its gradient is Gᵀ\[(A u Aᵀ) ⊙ (Bᵀ d B)\]G, where
//! what is in brackets can be summed over all tiles of all examples before it is transformed: for each point one
//! matrix product \[inputs × tiles\] · \[tiles × outputs\].
//!
//! Tiles are added one after another, in the order of the batch.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::convolution::Conv;
use crate::convolution::gradient::{Job, Piece, outer_products};
use crate::convolution::points::{Scheme, ToTaps, patch_back, patch_in};
use crate::convolution::winograd::{APART, grow};
use crate::image::plane::LANES;

/// Tiles that are transformed together.
const TILES: usize = 24;
/// Outputs that are multiplied with at a time.
const PAIR: usize = 2 * LANES;

/// Memory to work in.
#[derive(Debug, Default)]
struct Workspace {
    /// Of the inputs, `[point, tile, input]`.
    patches: Vec<f32>,
    /// Of the cotangents, `[point, tile, output]`.
    cotangents: Vec<f32>,
    /// `[point, pair of panels, input, output]`.
    sums: Vec<f32>,
}

thread_local! {
    static WORKSPACE: Cell<Workspace> = Cell::default();
}

/// The piece's sum over all examples, `[taps, inputs, panels, LANES]`, inputs padded.
pub(crate) fn sum(arch: Arch, job: &Job<'_>, scheme: Scheme, piece: &Piece) -> Vec<f32> {
    let inputs = piece.inputs.len().next_multiple_of(LANES);
    let outputs = piece.panels.len() * LANES;
    let points = scheme.points * scheme.points;
    let mut workspace = WORKSPACE.take();
    let Workspace { patches, cotangents, sums } = &mut workspace;
    grow(patches, points * (TILES * inputs + APART));
    grow(cotangents, points * (TILES * outputs + APART));
    let stride = inputs * outputs + APART;
    grow(sums, points * stride);
    sums[..points * stride].fill(0.0);
    for &(x, u, count) in &job.chunks {
        let Conv { planes, .. } = job.conv;
        let (x, u) = (x.images(0), u.images(0));
        let tiles = count * (planes.u.height / scheme.outputs) * (planes.u.width / scheme.outputs);
        for first in (0..tiles).step_by(TILES) {
            arch.dispatch(Tiles {
                conv: job.conv,
                scheme,
                tiles: first..tiles.min(first + TILES),
                x: x.data,
                u: u.data,
                piece,
                patches: &mut *patches,
                cotangents: &mut *cotangents,
                sums: &mut *sums,
            });
        }
    }
    let mut result = vec![0.0; 9 * inputs * outputs];
    for output in (0..outputs).step_by(LANES) {
        let (pair, column) = (output / PAIR, output % PAIR);
        let width = PAIR.min(outputs - pair * PAIR);
        for input in 0..inputs {
            let sums = &sums[pair * PAIR * inputs + input * width + column..];
            let taps = arch.dispatch(ToTaps { points: scheme.points, sums, stride });
            for (tap, values) in taps.iter().enumerate() {
                result[(tap * inputs + input) * outputs + output..][..LANES].copy_from_slice(values);
            }
        }
    }
    WORKSPACE.set(workspace);
    result
}

/// Some tiles' share of a piece.
struct Tiles<'a> {
    conv: &'a Conv,
    scheme: Scheme,
    tiles: Range<usize>,
    x: &'a [f32],
    u: &'a [f32],
    piece: &'a Piece,
    patches: &'a mut [f32],
    cotangents: &'a mut [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.scheme.outputs {
            4 => self.run::<S, 6, 4>(simd),
            _ => self.run::<S, 4, 2>(simd),
        }
    }
}

impl Tiles<'_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize, const O: usize>(self, simd: S) {
        let Self { conv, scheme, tiles, x, u, piece, patches, cotangents, sums } = self;
        let (x_plane, u_plane) = (conv.planes.x, conv.planes.u);
        let inputs = piece.inputs.len().next_multiple_of(LANES);
        let outputs = piece.panels.len() * LANES;
        let (x_stride, u_stride) = (TILES * inputs + APART, TILES * outputs + APART);
        let across = u_plane.width / O;
        let each = across * (u_plane.height / O);
        for (row, tile) in tiles.clone().enumerate() {
            let (example, down, right) = (tile / each, tile % each / across, tile % across);
            let at = x_plane.raw_offset(down * scheme.step, right * scheme.step) + piece.inputs.start;
            let patch = &x[example * x_plane.len() + at..][..x_plane.raw_offset(N - 1, N - 1) + inputs];
            for lane in (0..inputs).step_by(S::F32_LANES) {
                let out = &mut patches[row * inputs + lane..];
                assert!(out.len() >= (N * N - 1) * x_stride + S::F32_LANES);
                // SAFETY: the patch ends with the inputs of its last corner, and the room for every point was just
                // checked.
                unsafe {
                    let from = patch.as_ptr().add(lane);
                    let strides = (x_plane.row_stride(), x_plane.stride());
                    patch_in::<S, N, N>(simd, from, strides, out.as_mut_ptr(), x_stride);
                }
            }
            let at = u_plane.offset(down * O, right * O) + piece.panels.start * LANES;
            let patch = &u[example * u_plane.len() + at..][..u_plane.raw_offset(O - 1, O - 1) + outputs];
            for lane in (0..outputs).step_by(S::F32_LANES) {
                let out = &mut cotangents[row * outputs + lane..];
                assert!(out.len() >= (N * N - 1) * u_stride + S::F32_LANES);
                // SAFETY: as above, for the outputs.
                unsafe {
                    let from = patch.as_ptr().add(lane);
                    let strides = (u_plane.row_stride(), u_plane.stride());
                    patch_back::<S, N, O>(simd, from, strides, out.as_mut_ptr(), u_stride);
                }
            }
        }
        let mut pixels = [(0, 0); TILES];
        for (row, pixel) in pixels.iter_mut().enumerate() {
            *pixel = (row * inputs, row * outputs);
        }
        let pixels = &pixels[..tiles.len()];
        for (point, sums) in sums.chunks_exact_mut(inputs * outputs + APART).take(N * N).enumerate() {
            let sums = &mut sums[..inputs * outputs];
            let x = &patches[point * x_stride..];
            for (pair, sums) in sums.chunks_mut(inputs * PAIR).enumerate() {
                let u = &cotangents[point * u_stride + pair * PAIR..];
                outer_products(simd, x, u, pixels, sums.len() / (inputs * LANES), sums);
            }
        }
    }
}
