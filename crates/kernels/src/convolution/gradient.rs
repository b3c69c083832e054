//! Gradients of convolution kernels, summed over a batch: term by term, or at Winograd's points (`point_sums`).
//!
//! The work is cut by the kernel's channels, not by examples: each piece of a kernel is summed over all
//! examples in their order by one task, so the sum does not depend on the number of threads and no partial
//! kernels have to be kept and added.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::convolution::Conv;
use crate::convolution::point_sums;
use crate::convolution::tile::outer;
use crate::image::plane::LANES;
use crate::image::stack::Stack;

/// Pixels whose cotangents stay in the first level cache.
const PIXELS: usize = 192;
/// Input channels of one task.
const INPUTS: usize = 64;
/// Panels of outputs of one task: more at Winograd's points, where patches are transformed for each.
const PANELS: usize = 2;
const PANELS_AT_POINTS: usize = 4;

/// One convolution with its inputs and its output's cotangents, chunk by chunk: `(x, u, examples)`.
pub(crate) struct Job<'a> {
    pub conv: &'a Conv,
    pub chunks: Vec<(&'a Stack, &'a Stack, usize)>,
}

/// A piece of a kernel: some of its inputs, and some panels of its outputs.
pub(crate) struct Piece {
    job: usize,
    pub inputs: Range<usize>,
    pub panels: Range<usize>,
}

/// Panels of outputs that a convolution's pieces have.
fn panels_of_pieces(conv: &Conv) -> usize {
    if conv.gradient_scheme.is_some() { PANELS_AT_POINTS } else { PANELS }
}

/// Adds each job's kernel gradient to `kernels[job.conv.id]`.
pub(crate) fn accumulate(arch: Arch, jobs: &[Job<'_>], kernels: &mut [&mut Vec<f32>]) {
    let mut pieces = Vec::new();
    for (number, job) in jobs.iter().enumerate() {
        let [outputs, inputs, _] = job.conv.shape();
        for input in (0..inputs).step_by(INPUTS) {
            let together = panels_of_pieces(job.conv);
            for panel in (0..outputs.div_ceil(LANES)).step_by(together) {
                let panels = panel..(panel + together).min(outputs.div_ceil(LANES));
                pieces.push(Piece { job: number, inputs: input..(input + INPUTS).min(inputs), panels });
            }
        }
    }
    let sums: Vec<Vec<f32>> =
        pieces.par_iter().with_max_len(1).map(|piece| sum(arch, &jobs[piece.job], piece)).collect();
    let mut by_job: Vec<Vec<(&Piece, Vec<f32>)>> = jobs.iter().map(|_| Vec::new()).collect();
    for (piece, sum) in pieces.iter().zip(sums) {
        by_job[piece.job].push((piece, sum));
    }
    let mut work: Vec<_> = jobs.iter().zip(by_job).collect();
    work.sort_by_key(|(job, _)| job.conv.id);
    let wanted: Vec<usize> = work.iter().map(|(job, _)| job.conv.id).collect();
    let targets = kernels.iter_mut().enumerate().filter(|(id, _)| wanted.binary_search(id).is_ok());
    let work: Vec<_> = work.into_iter().zip(targets).collect();
    work.into_par_iter().for_each(|((job, pieces), (_, kernel))| {
        // The pieces of some outputs: a run of the kernel that no other piece touches.
        let [_, inputs, area] = job.conv.shape();
        let together = panels_of_pieces(job.conv);
        let run = together * LANES * inputs * area;
        kernel.par_chunks_mut(run).enumerate().for_each(|(number, kernel)| {
            for (piece, sum) in pieces.iter().filter(|(piece, _)| piece.panels.start == number * together) {
                scatter(job.conv, piece, sum, kernel);
            }
        });
    });
}

/// The piece's sum over all examples, `[taps, inputs, panels, LANES]`, inputs padded.
fn sum(arch: Arch, job: &Job<'_>, piece: &Piece) -> Vec<f32> {
    if let Some(scheme) = job.conv.gradient_scheme {
        return point_sums::sum(arch, job, scheme, piece);
    }
    let [_, _, area] = job.conv.shape();
    let inputs = piece.inputs.len().next_multiple_of(LANES);
    let mut sum = vec![0.0; area * inputs * piece.panels.len() * LANES];
    let (pixels, _) = job.conv.gradient.only();
    let mut moved = Vec::new();
    for &(x, u, count) in &job.chunks {
        let (x_len, u_len) = (job.conv.planes.x.len(), job.conv.planes.u.len());
        moved.clear();
        for example in 0..count {
            moved.extend(pixels.iter().map(|&(from, to)| (from + example * x_len, to + example * u_len)));
        }
        arch.dispatch(Sum {
            conv: job.conv,
            x: x.images(0).data,
            u: u.images(0).data,
            pixels: &moved,
            piece,
            sum: &mut sum,
        });
    }
    sum
}

/// Adds a piece to the outputs of a kernel `[Cout, Cin, k·k]` that it belongs to.
fn scatter(conv: &Conv, piece: &Piece, sum: &[f32], kernel: &mut [f32]) {
    let [outputs, inputs, area] = conv.shape();
    let columns = piece.panels.len() * LANES;
    let rows = piece.inputs.len().next_multiple_of(LANES);
    let first = piece.panels.start * LANES;
    for column in 0..columns.min(outputs - first) {
        for (row, input) in piece.inputs.clone().enumerate() {
            let at = (column * inputs + input) * area;
            for (tap, weight) in kernel[at..at + area].iter_mut().enumerate() {
                *weight += sum[(tap * rows + row) * columns + column];
            }
        }
    }
}

/// One chunk's share of a piece.
struct Sum<'a> {
    conv: &'a Conv,
    x: &'a [f32],
    u: &'a [f32],
    pixels: &'a [(usize, usize)],
    piece: &'a Piece,
    sum: &'a mut [f32],
}

impl WithSimd for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { conv, x, u, pixels, piece, sum } = self;
        let (_, taps) = conv.gradient.only();
        let rows = piece.inputs.len().next_multiple_of(LANES);
        let panels = piece.panels.len();
        let u = &u[piece.panels.start * LANES..];
        for pixels in pixels.chunks(PIXELS) {
            for (tap, sum) in taps.iter().zip(sum.chunks_exact_mut(rows * panels * LANES)) {
                outer_products(simd, &x[tap + piece.inputs.start..], u, pixels, panels, sum);
            }
        }
    }
}

/// sum\[i\]\[n\] += Σ over pixels (p, q) of x\[p + i\] · u\[q + n\], for all rows i and the columns n of one or two
/// panels.
#[inline(always)]
pub(crate) fn outer_products<S: Simd>(
    simd: S,
    x: &[f32],
    u: &[f32],
    pixels: &[(usize, usize)],
    panels: usize,
    sum: &mut [f32],
) {
    match (S::F32_LANES, panels) {
        (16, 2) => rows::<S, 8, 2, 1>(simd, x, u, pixels, sum),
        (16, _) => rows::<S, 8, 1, 1>(simd, x, u, pixels, sum),
        (8, 2) => rows::<S, 2, 2, 2>(simd, x, u, pixels, sum),
        (8, _) => rows::<S, 4, 1, 2>(simd, x, u, pixels, sum),
        (4, 2) => rows::<S, 1, 2, 4>(simd, x, u, pixels, sum),
        (4, _) => rows::<S, 2, 1, 4>(simd, x, u, pixels, sum),
        (_, 2) => rows::<S, 1, 2, 16>(simd, x, u, pixels, sum),
        _ => rows::<S, 1, 1, 16>(simd, x, u, pixels, sum),
    }
}

/// M rows at a time: the one call of the unsafe tile.
#[allow(unsafe_code)]
#[inline(always)]
fn rows<S: Simd, const M: usize, const P: usize, const V: usize>(
    simd: S,
    x: &[f32],
    u: &[f32],
    pixels: &[(usize, usize)],
    sum: &mut [f32],
) {
    let (mut from, mut to) = (0, 0);
    for &(x, u) in pixels {
        from = from.max(x);
        to = to.max(u);
    }
    assert!(from + sum.len() / (P * LANES) <= x.len() && to + P * LANES <= u.len());
    for (tile, sum) in sum.chunks_exact_mut(M * P * LANES).enumerate() {
        let x = &x[tile * M..];
        // SAFETY: the largest offsets were just checked, for the last row; `sum` is borrowed exclusively.
        unsafe { outer::<S, M, P, V>(simd, x.as_ptr(), u.as_ptr(), pixels, sum.as_mut_ptr()) }
    }
}
