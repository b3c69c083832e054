//! The residual block of one branch: h = ReLU(GN1(conv1(z))), h = GN2(m · conv2(h) + injection),
//! out = GN3(ReLU(h + z)), where m is a dropout mask by channel, or 1.
//!
//! Its hidden image has E times the channels and is the largest thing in a cell, so blocks work on as few
//! examples at a time as keep it in the second level cache.

use std::ops::Range;
use std::sync::OnceLock;

use pulp::Arch;
use rayon::prelude::*;

use crate::cell::capture::Capture;
use crate::cell::chunk::CHUNK;
use crate::convolution::wide::Share;
use crate::convolution::{Conv, Counter, Norm, Planes};
use crate::image::layout::{FromChannels, ToChannels};
use crate::image::norm::{CotangentSums, Moments, Normalise, PullBack, RectifyInPlace, Source, Then};
use crate::image::passes::ScaleChannels;
use crate::image::plane::Plane;
use crate::image::stack::{Dense, DenseMut, Stack};
use crate::parameters::BlockParameters;

/// Pixels that are worked on together: as many as amortise reading a wide kernel.
const TOGETHER: usize = 1024;

/// A block in use.
#[derive(Debug)]
pub(crate) struct Block {
    pub conv1: Conv,
    pub gn1: Norm,
    pub conv2: Conv,
    pub gn2: Norm,
    pub gn3: Norm,
    /// The branch, without and with a border.
    pub plain: Plane,
    pub bordered: Plane,
    /// The hidden image.
    pub hidden: Plane,
    hidden_plain: Plane,
    /// Examples that are worked on together.
    pub together: usize,
    /// conv2(ReLU(GN1(conv1(0)))), plain, once it was asked for: solves begin at z = 0, and up to there nothing depends on the
    /// image.
    at_zero: OnceLock<Vec<f32>>,
}

/// What the block keeps of an evaluation.
#[derive(Debug, Clone)]
pub(crate) struct BlockTape {
    /// z, bordered.
    pub z: Stack,
    /// conv1(z), empty if nothing is kept.
    hidden: Stack,
    /// conv2(h) + injection.
    mixed: Stack,
    /// ReLU(h + z).
    residual: Stack,
    /// The dropout mask by channel; means nothing unless `masked`.
    mask: Stack,
    pub masked: bool,
    moments: [Stack; 3],
}

/// What the examples of a chunk bring along.
pub(crate) struct Inputs<'a> {
    pub state: Dense<'a>,
    pub injection: Option<Dense<'a>>,
    pub mask: Option<Dense<'a>>,
}

/// A chunk on its way through a block.
pub(crate) struct ForwardChunk<'a> {
    pub count: usize,
    pub inputs: Inputs<'a>,
    pub tape: &'a mut BlockTape,
    pub scratch: &'a mut BlockScratch,
}

/// A chunk on its way back.
pub(crate) struct BackwardChunk<'a> {
    pub branch: usize,
    pub count: usize,
    pub tape: &'a BlockTape,
    pub scratch: &'a mut BlockScratch,
    pub state: DenseMut<'a>,
    pub injection: Option<DenseMut<'a>>,
    pub capture: Option<&'a mut Capture>,
}

/// Memory to work in.
#[derive(Debug)]
pub(crate) struct BlockScratch {
    /// The hidden image, or its cotangent; bordered.
    hidden: Stack,
    /// The block's output, bordered.
    pub out: Stack,
    /// The cotangent of the block's output, plain.
    pub at: Stack,
    /// The cotangent at the residual, plain.
    residual: Stack,
    /// The cotangent at conv2's output after the mask, then before it; bordered.
    mixed: Stack,
    sums: Vec<f32>,
}

impl Block {
    pub fn new(shape: [usize; 3], parameters: &BlockParameters, counter: &mut Counter) -> Self {
        let [channels, height, width] = shape;
        let inner = parameters.inner;
        let (plain, bordered) = (Plane::plain(shape), Plane::bordered(shape));
        let hidden = Plane::bordered([inner, height, width]);
        let around = Planes { x: bordered, y: hidden, u: hidden, dx: plain };
        let conv1 = counter.conv(3, 1, &parameters.conv1, around);
        let around = Planes { x: hidden, y: plain, u: bordered, dx: hidden };
        let conv2 = counter.conv(3, 1, &parameters.conv2, around);
        let together = match conv1.is_wide() && conv2.is_wide() {
            true => CHUNK,
            false => (TOGETHER / (height * width)).clamp(1, CHUNK),
        };
        Self {
            conv1,
            gn1: counter.norm(inner, &parameters.gn1),
            conv2,
            gn2: counter.norm(channels, &parameters.gn2),
            gn3: counter.norm(channels, &parameters.gn3),
            plain,
            bordered,
            hidden,
            hidden_plain: Plane::plain([inner, height, width]),
            together,
            at_zero: OnceLock::new(),
        }
    }

    /// Whether it takes whole batches: [`Self::forward_all`] and [`Self::pull_all_back`].
    pub fn is_wide(&self) -> bool {
        self.conv1.is_wide() && self.conv2.is_wide()
    }

    /// A tape for some examples; one that is not kept has room for those that are worked on together.
    pub fn tape(&self, count: usize, keep: bool) -> BlockTape {
        let room = if keep { count } else { self.together.min(count) };
        let moments = |plane: Plane| Stack::new(2 * plane.stride(), room);
        BlockTape {
            z: Stack::of(self.bordered, room),
            hidden: if keep { Stack::of(self.hidden_plain, room) } else { Stack::default() },
            mixed: Stack::of(self.plain, room),
            residual: Stack::of(self.plain, room),
            mask: Stack::new(self.plain.stride(), room),
            masked: false,
            moments: [moments(self.hidden), moments(self.plain), moments(self.plain)],
        }
    }

    pub fn scratch(&self, count: usize) -> BlockScratch {
        let room = self.together.min(count);
        BlockScratch {
            hidden: Stack::of(self.hidden, room),
            out: Stack::of(self.bordered, count),
            at: Stack::of(self.plain, count),
            residual: Stack::of(self.plain, room),
            mixed: Stack::of(self.bordered, room),
            sums: vec![0.0; 2 * self.hidden.stride()],
        }
    }

    /// Evaluates the block for a chunk into the scratch's `out`.
    pub fn forward(&self, arch: Arch, mut chunk: ForwardChunk<'_>) {
        for start in (0..chunk.count).step_by(self.together) {
            let examples = start..chunk.count.min(start + self.together);
            self.enter(arch, examples.clone(), &mut chunk);
            if chunk.is_at_zero(examples.clone()) {
                chunk.mix(examples.clone(), self.at_zero(arch));
            } else {
                self.convolve(arch, examples.clone(), &mut chunk);
            }
            self.leave(arch, examples, &mut chunk);
        }
    }

    /// Evaluates the block for a whole batch: convolution by convolution, for kernels that are too large to be read
    /// by every thread.
    pub fn forward_all(&self, arch: Arch, chunks: &mut [ForwardChunk<'_>]) {
        chunks.par_iter_mut().for_each(|chunk| self.enter(arch, 0..chunk.count, chunk));
        if chunks.iter().all(|chunk| chunk.is_at_zero(0..chunk.count)) {
            let mixed = self.at_zero(arch);
            chunks.par_iter_mut().for_each(|chunk| chunk.mix(0..chunk.count, mixed));
        } else {
            self.convolve_all(arch, chunks);
        }
        chunks.par_iter_mut().for_each(|chunk| self.leave(arch, 0..chunk.count, chunk));
    }

    /// Both convolutions of examples that are worked on together, with what is between them.
    fn convolve(&self, arch: Arch, examples: Range<usize>, chunk: &mut ForwardChunk<'_>) {
        let (start, here) = (examples.start, examples.len());
        let ForwardChunk { tape, scratch, .. } = &mut *chunk;
        self.conv1.apply(arch, tape.z.images(start), scratch.hidden.images_mut(start), here);
        self.rectify(arch, examples, chunk);
        let ForwardChunk { tape, scratch, .. } = chunk;
        self.conv2.apply(arch, scratch.hidden.images(start), tape.mixed.images_mut(start), here);
    }

    /// The same of a whole batch.
    fn convolve_all(&self, arch: Arch, chunks: &mut [ForwardChunk<'_>]) {
        let batch = chunks.iter_mut().map(|chunk| Share {
            x: chunk.tape.z.images(0),
            y: chunk.scratch.hidden.images_mut(0),
            count: chunk.count,
        });
        self.conv1.apply_to_all(arch, batch.collect(), false);
        chunks.par_iter_mut().for_each(|chunk| self.rectify(arch, 0..chunk.count, chunk));
        let batch = chunks.iter_mut().map(|chunk| Share {
            x: chunk.scratch.hidden.images(0),
            y: chunk.tape.mixed.images_mut(0),
            count: chunk.count,
        });
        self.conv2.apply_to_all(arch, batch.collect(), false);
    }

    /// conv2's output at z = 0, the same for every image.
    fn at_zero(&self, arch: Arch) -> &[f32] {
        if let Some(mixed) = self.at_zero.get() {
            return mixed;
        }
        let (mut tape, mut scratch) = (self.tape(1, false), self.scratch(1));
        let state = Dense { data: &[], stride: 0, start: 0, len: 0 };
        let inputs = Inputs { state, injection: None, mask: None };
        let mut chunk = ForwardChunk { count: 1, inputs, tape: &mut tape, scratch: &mut scratch };
        if self.is_wide() {
            self.convolve_all(arch, std::slice::from_mut(&mut chunk));
        } else {
            self.convolve(arch, 0..1, &mut chunk);
        }
        // Not made under the lock: a thread that waits for others meanwhile may be given a task that asks for it, too.
        self.at_zero.get_or_init(|| tape.mixed.at(0).to_vec())
    }

    /// z, in the order of planes.
    fn enter(&self, arch: Arch, examples: Range<usize>, chunk: &mut ForwardChunk<'_>) {
        let ForwardChunk { inputs, tape, .. } = chunk;
        tape.masked = inputs.mask.is_some();
        for example in examples {
            let (dense, out) = (inputs.state.at(example), tape.z.at_mut(example));
            arch.dispatch(FromChannels { dense, out, plane: self.bordered, add: false });
        }
    }

    /// ReLU(GN1(conv1(z))), in place.
    fn rectify(&self, arch: Arch, examples: Range<usize>, chunk: &mut ForwardChunk<'_>) {
        let ForwardChunk { tape, scratch, .. } = chunk;
        let BlockTape { hidden: kept, moments: [first, ..], .. } = &mut **tape;
        for example in examples {
            let image = scratch.hidden.at_mut(example);
            self.gn1.norm.moments(arch, self.hidden, image, first.at_mut(example));
            let map = self.gn1.norm.map(first.at(example));
            let keep = (!kept.is_empty()).then(|| kept.at_mut(example));
            arch.dispatch(RectifyInPlace { plane: self.hidden, image, map: &map, keep });
        }
    }

    /// From conv2's output to the block's.
    fn leave(&self, arch: Arch, examples: Range<usize>, chunk: &mut ForwardChunk<'_>) {
        let ForwardChunk { inputs, tape, scratch, .. } = chunk;
        let BlockTape { z, mixed, residual, mask: factors, moments: [_, second, third], .. } = &mut **tape;
        let plane = self.plain;
        for example in examples {
            if let Some(mask) = &inputs.mask {
                let factors = factors.at_mut(example);
                factors[..plane.channels].copy_from_slice(mask.at(example));
                arch.dispatch(ScaleChannels { image: mixed.at_mut(example), plane, factors });
            }
            if let Some(injection) = &inputs.injection {
                let out = mixed.at_mut(example);
                arch.dispatch(FromChannels { dense: injection.at(example), out, plane, add: true });
            }
            self.gn2.norm.moments(arch, plane, mixed.at(example), second.at_mut(example));
            let map = self.gn2.norm.map(second.at(example));
            arch.dispatch(Normalise {
                x: mixed.at(example),
                plane,
                map: &map,
                out: residual.at_mut(example),
                out_plane: plane,
                then: Then::AddRectify(z.at(example), self.bordered),
            });
            self.gn3.norm.moments(arch, plane, residual.at(example), third.at_mut(example));
            self.output(arch, residual.at(example), third.at(example), scratch.out.at_mut(example));
        }
    }

    /// GN3: the block's output, bordered, from its residual.
    fn output(&self, arch: Arch, residual: &[f32], moments: &[f32], out: &mut [f32]) {
        let map = self.gn3.norm.map(moments);
        let (plane, out_plane) = (self.plain, self.bordered);
        arch.dispatch(Normalise { x: residual, plane, map: &map, out, out_plane, then: Then::Store });
    }

    /// Pulls the cotangents in the scratch's `at` back to the state, and to the injection if it is wanted;
    /// `capture` gets what parameter gradients need.
    pub fn pull_back(&self, arch: Arch, mut chunk: BackwardChunk<'_>) {
        for start in (0..chunk.count).step_by(self.together) {
            let examples = start..chunk.count.min(start + self.together);
            let here = examples.len();
            self.pull_back_output(arch, examples.clone(), &mut chunk);
            let BlockScratch { hidden, mixed, .. } = &mut *chunk.scratch;
            self.conv2.pull_back(arch, mixed.images(start), hidden.images_mut(start), here, false);
            self.pull_back_rectified(arch, examples.clone(), &mut chunk);
            let BlockScratch { hidden, residual, .. } = &mut *chunk.scratch;
            self.conv1.pull_back(arch, hidden.images(start), residual.images_mut(start), here, true);
            self.pull_back_state(arch, examples, &mut chunk);
        }
    }

    /// [`Self::pull_back`] for a whole batch, convolution by convolution.
    pub fn pull_all_back(&self, arch: Arch, chunks: &mut [BackwardChunk<'_>]) {
        chunks.par_iter_mut().for_each(|chunk| self.pull_back_output(arch, 0..chunk.count, chunk));
        let batch = chunks.iter_mut().map(|BackwardChunk { scratch, count, .. }| {
            let BlockScratch { hidden, mixed, .. } = &mut **scratch;
            Share { x: mixed.images(0), y: hidden.images_mut(0), count: *count }
        });
        self.conv2.pull_all_back(arch, batch.collect(), false);
        chunks.par_iter_mut().for_each(|chunk| self.pull_back_rectified(arch, 0..chunk.count, chunk));
        let batch = chunks.iter_mut().map(|BackwardChunk { scratch, count, .. }| {
            let BlockScratch { hidden, residual, .. } = &mut **scratch;
            Share { x: hidden.images(0), y: residual.images_mut(0), count: *count }
        });
        self.conv1.pull_all_back(arch, batch.collect(), true);
        chunks.par_iter_mut().for_each(|chunk| self.pull_back_state(arch, 0..chunk.count, chunk));
    }

    /// From the block's output to conv2's, and to z through the residual.
    fn pull_back_output(&self, arch: Arch, examples: Range<usize>, chunk: &mut BackwardChunk<'_>) {
        let BackwardChunk { tape, scratch, injection, capture, .. } = chunk;
        let BlockTape { mixed, residual, mask, masked, moments: [_, second, third], .. } = *tape;
        let plane = self.plain;
        for example in examples {
            let BlockScratch { at, residual: at_residual, mixed: at_mixed, sums, .. } = &mut **scratch;
            let sums = &mut sums[..2 * plane.stride()];
            let (u, x) = (at.at_mut(example), residual.at(example));
            let moments = Moments::of(third.at(example));
            let (u_plane, x_plane) = (plane, plane);
            arch.dispatch(CotangentSums { u, u_plane, x, x_plane, moments, rectified: None, sums });
            if let Some(capture) = capture.as_deref_mut() {
                capture.norm(&self.gn3, example, third.at(example), sums);
            }
            arch.dispatch(PullBack {
                u: Source::At(at.at(example), plane),
                x,
                x_plane,
                moments,
                coefficients: &self.gn3.norm.pullback(plane, third.at(example), sums),
                out: at_residual.at_mut(example),
                out_plane: plane,
                rectified: true,
            });
            let (u, x) = (at_residual.at_mut(example), mixed.at(example));
            let moments = Moments::of(second.at(example));
            arch.dispatch(CotangentSums { u, u_plane, x, x_plane, moments, rectified: None, sums });
            if let Some(capture) = capture.as_deref_mut() {
                capture.norm(&self.gn2, example, second.at(example), sums);
            }
            arch.dispatch(PullBack {
                u: Source::At(at_residual.at(example), plane),
                x,
                x_plane,
                moments,
                coefficients: &self.gn2.norm.pullback(plane, second.at(example), sums),
                out: at_mixed.at_mut(example),
                out_plane: self.bordered,
                rectified: false,
            });
            if let Some(injection) = injection {
                let (image, dense) = (at_mixed.at(example), injection.at(example));
                arch.dispatch(ToChannels { image, plane: self.bordered, dense });
            }
            if *masked {
                let (image, factors) = (at_mixed.at_mut(example), mask.at(example));
                arch.dispatch(ScaleChannels { image, plane: self.bordered, factors });
            }
        }
    }

    /// From the rectified hidden image to conv1's output.
    fn pull_back_rectified(&self, arch: Arch, examples: Range<usize>, chunk: &mut BackwardChunk<'_>) {
        let BackwardChunk { branch, tape, scratch, capture, .. } = chunk;
        let BlockTape { hidden: kept, residual, moments: [first, _, third], .. } = *tape;
        for example in examples {
            let BlockScratch { hidden, sums, .. } = &mut **scratch;
            let map = self.gn1.norm.map(first.at(example));
            let (x, x_plane) = (kept.at(example), self.hidden_plain);
            let moments = Moments::of(first.at(example));
            arch.dispatch(CotangentSums {
                u: hidden.at_mut(example),
                u_plane: self.hidden,
                x,
                x_plane,
                moments,
                rectified: Some(&map),
                sums,
            });
            if let Some(capture) = capture.as_deref_mut() {
                capture.norm(&self.gn1, example, first.at(example), sums);
            }
            arch.dispatch(PullBack {
                u: Source::Output,
                x,
                x_plane,
                moments,
                coefficients: &self.gn1.norm.pullback(self.hidden, first.at(example), sums),
                out: hidden.at_mut(example),
                out_plane: self.hidden,
                rectified: false,
            });
            if let Some(capture) = capture.as_deref_mut() {
                let captured = &mut capture.blocks[*branch];
                captured.at_hidden.at_mut(example).copy_from_slice(hidden.at(example));
                captured.at_mixed.at_mut(example).copy_from_slice(scratch.mixed.at(example));
                arch.dispatch(Normalise {
                    x,
                    plane: x_plane,
                    map: &map,
                    out: captured.hidden.at_mut(example),
                    out_plane: self.hidden,
                    then: Then::Rectify,
                });
                let out = captured.out.at_mut(example);
                self.output(arch, residual.at(example), third.at(example), out);
            }
        }
    }

    /// z's cotangent, in the order of states.
    fn pull_back_state(&self, arch: Arch, examples: Range<usize>, chunk: &mut BackwardChunk<'_>) {
        for example in examples {
            let (image, dense) = (chunk.scratch.residual.at(example), chunk.state.at(example));
            arch.dispatch(ToChannels { image, plane: self.plain, dense });
        }
    }
}

impl ForwardChunk<'_> {
    /// Whether z = 0 for these examples, and nothing is kept of what leads to conv2's output.
    fn is_at_zero(&self, examples: Range<usize>) -> bool {
        let zero = |example: usize| self.inputs.state.at(example).iter().all(|z| z.to_bits() == 0);
        self.tape.hidden.is_empty() && examples.into_iter().all(zero)
    }

    /// The same output of conv2 for all of these examples.
    fn mix(&mut self, examples: Range<usize>, mixed: &[f32]) {
        for example in examples {
            self.tape.mixed.at_mut(example).copy_from_slice(mixed);
        }
    }
}

impl BlockTape {
    pub fn stacks(&self) -> Vec<&Stack> {
        let Self { z, hidden, mixed, residual, mask, masked: _, moments: [first, second, third] } = self;
        vec![z, hidden, mixed, residual, mask, first, second, third]
    }

    pub fn stacks_mut(&mut self) -> Vec<&mut Stack> {
        let Self { z, hidden, mixed, residual, mask, masked: _, moments: [first, second, third] } = self;
        vec![z, hidden, mixed, residual, mask, first, second, third]
    }
}
