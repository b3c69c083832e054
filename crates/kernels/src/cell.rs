//! The cell: blocks, fusion, post-fusion, over batches of examples on all threads.
//!
//! A batch is cut into chunks, one task each. Chunks exist so that the wide kernels of the coarse branches,
//! which do not fit into any cache near a core, are read once for several examples; how a batch is cut
//! changes no bit of any example's result.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use pulp::Arch;
use rayon::prelude::*;

use crate::block::{Block, BlockScratch, BlockTape};
use crate::capture::{BlockCapture, Capture, StepCapture};
use crate::fusion::{Path, StepScratch, StepTape};
use crate::layer::Counter;
use crate::layout::{FromChannels, ToChannels};
use crate::parameters::{CellParameters, Convolutions};
use crate::passes::Copy;
use crate::post::{Post, PostScratch, PostTape};
use crate::stack::{Dense, DenseMut, Stack};
use crate::weights::{self, Job};

/// Examples of one chunk, at most.
const CHUNK: usize = 16;
/// Chunks that memory is kept for between calls.
const SPARE: usize = 64;

/// An MDEQ cell with its weights, ready to be evaluated.
///
/// States are flat, `[N, D]`: each example's branches one after another, each in C, H, W order. The injection
/// `[N, I]` enters branch 0 and has its shape. A clone is cheap and shares everything.
///
/// No result depends, to the bit, on which other examples are in the batch or on the number of threads;
/// parameter gradients, which are sums over the batch, depend on the order of its examples.
#[derive(Debug, Clone)]
pub struct Cell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    arch: Arch,
    blocks: Vec<Block>,
    /// `paths[i][j]` leads from branch j to branch i.
    paths: Vec<Vec<Option<Path>>>,
    post: Vec<Post>,
    /// Where each branch begins in a flat state, and its length.
    branches: Vec<(usize, usize)>,
    dim: usize,
    /// Length of a dropout mask: the channels of all branches.
    mask_dim: usize,
    /// The stride of each normalisation's channels.
    norms: Vec<usize>,
    spare_scratch: Mutex<Vec<Scratch>>,
    spare_tapes: Mutex<Vec<ChunkTape>>,
    spare_captures: Mutex<Vec<Capture>>,
}

/// What an evaluation leaves for its vector-Jacobian products.
#[derive(Debug)]
pub struct Tape {
    cell: Cell,
    chunks: Vec<ChunkTape>,
    count: usize,
}

/// The tape of a few examples.
#[derive(Debug)]
struct ChunkTape {
    /// Examples that it has room for, and that it holds.
    capacity: usize,
    count: usize,
    blocks: Vec<BlockTape>,
    paths: Vec<Vec<Vec<StepTape>>>,
    post: Vec<PostTape>,
}

/// One task's memory.
#[derive(Debug)]
struct Scratch {
    capacity: usize,
    /// For evaluations that keep nothing.
    tape: ChunkTape,
    blocks: Vec<BlockScratch>,
    paths: Vec<Vec<Vec<StepScratch>>>,
    post: Vec<PostScratch>,
    /// Outputs of a cell of one branch, plain.
    out: Stack,
}

impl Cell {
    /// Prepares a cell.
    ///
    /// # Panics
    ///
    /// If the parameters' shapes contradict each other: a branch that is not half as high and wide as the one
    /// before it, groups that do not divide their channels, a kernel of the wrong length, a missing path.
    pub fn new(parameters: &CellParameters, convolutions: Convolutions) -> Self {
        Self::with_arch(parameters, convolutions, Arch::new())
    }

    /// Prepares a cell for an instruction set.
    pub(crate) fn with_arch(parameters: &CellParameters, convolutions: Convolutions, arch: Arch) -> Self {
        let CellParameters { branches: shapes, blocks, paths, post } = parameters;
        assert!(!shapes.is_empty(), "a cell has at least one branch");
        assert_eq!(blocks.len(), shapes.len(), "one block per branch");
        for pair in shapes.windows(2) {
            let [_, height, width] = pair[1];
            assert_eq!(
                pair[0][1..],
                [2 * height, 2 * width],
                "each branch has half the resolution of the last"
            );
        }
        let fused = if shapes.len() > 1 { shapes.len() } else { 0 };
        assert!(paths.len() == fused && paths.iter().all(|row| row.len() == fused), "one path per pair");
        assert_eq!(post.len(), fused, "one post-fusion per branch");
        let mut counter = Counter::new(arch, convolutions);
        let mut norms = Vec::new();
        let mut note = |norm: &crate::parameters::NormParameters, channels: usize, what: &str| {
            norm.check(channels, what);
            norms.push(channels.next_multiple_of(crate::plane::LANES));
        };
        for (block, shape) in blocks.iter().zip(shapes) {
            note(&block.gn1, block.inner, "gn1");
            note(&block.gn2, shape[0], "gn2");
            note(&block.gn3, shape[0], "gn3");
        }
        for path in paths.iter().flatten().flatten() {
            use crate::parameters::PathParameters::{Down, Up};
            let steps = match path {
                Down(steps) => steps.as_slice(),
                Up(step) => std::slice::from_ref(step),
            };
            for step in steps {
                note(&step.norm, step.outputs, "path");
            }
        }
        for (post, shape) in post.iter().zip(shapes) {
            note(&post.norm, shape[0], "post-fusion");
        }
        let blocks: Vec<Block> =
            shapes.iter().zip(blocks).map(|(&shape, block)| Block::new(shape, block, &mut counter)).collect();
        let paths: Vec<Vec<Option<Path>>> = (0..fused)
            .map(|to| {
                (0..fused)
                    .map(|from| {
                        let path = paths[to][from].as_ref();
                        assert_eq!(path.is_none(), to == from, "a path between every two branches");
                        path.map(|path| Path::new(shapes[from], shapes[to], path, &mut counter))
                    })
                    .collect()
            })
            .collect();
        let post =
            shapes.iter().zip(post).map(|(&shape, post)| Post::new(shape, post, &mut counter)).collect();
        assert_eq!(counter.norms(), norms.len());
        let mut dim = 0;
        let branches = shapes
            .iter()
            .map(|shape| {
                let len = shape.iter().product();
                dim += len;
                (dim - len, len)
            })
            .collect();
        Self(Arc::new(Inner {
            arch,
            blocks,
            paths,
            post,
            branches,
            dim,
            mask_dim: shapes.iter().map(|shape| shape[0]).sum(),
            norms,
            spare_scratch: Mutex::default(),
            spare_tapes: Mutex::default(),
            spare_captures: Mutex::default(),
        }))
    }

    /// Length D of a state.
    pub fn state_dim(&self) -> usize {
        self.0.dim
    }

    /// Length I of an injection.
    pub fn injection_dim(&self) -> usize {
        self.0.branches[0].1
    }

    /// Length M of a dropout mask: a factor for each channel of each branch, in this order.
    pub fn mask_dim(&self) -> usize {
        self.0.mask_dim
    }

    /// out = f(state; injection), all `[N, ..]`.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of one number N of examples.
    pub fn forward(&self, state: &[f32], injection: &[f32], out: &mut [f32]) {
        self.forward_masked(state, injection, None, out);
    }

    /// [`Self::forward`] with the channels of every `conv2` multiplied by a dropout mask `[N, M]`.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of one number N of examples.
    pub fn forward_masked(&self, state: &[f32], injection: &[f32], mask: Option<&[f32]>, out: &mut [f32]) {
        let count = self.count(state, injection, mask, out);
        let size = self.chunk(count);
        out.par_chunks_mut(size * self.0.dim).enumerate().with_max_len(1).for_each(|(number, out)| {
            let first = number * size;
            let here = out.len() / self.0.dim;
            let mut scratch = self.scratch(size);
            let Scratch { tape, blocks, paths, post, out: plain, .. } = &mut scratch;
            let mut work = Work { blocks, paths, post, out: plain };
            self.0.forward(
                here,
                self.rows(state, first, here),
                self.injected(injection, first, here),
                self.masks(mask, first, here),
                out,
                tape,
                &mut work,
            );
            self.return_scratch(scratch);
        });
    }

    /// out = f(state; injection), and the tape of it.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of one number N of examples.
    pub fn linearize(&self, state: &[f32], injection: &[f32], out: &mut [f32]) -> Tape {
        self.linearize_masked(state, injection, None, out)
    }

    /// [`Self::linearize`] with a dropout mask, as in [`Self::forward_masked`]. The tape keeps it.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of one number N of examples.
    pub fn linearize_masked(
        &self,
        state: &[f32],
        injection: &[f32],
        mask: Option<&[f32]>,
        out: &mut [f32],
    ) -> Tape {
        let count = self.count(state, injection, mask, out);
        let size = self.chunk(count);
        let chunks = out
            .par_chunks_mut(size * self.0.dim)
            .enumerate()
            .with_max_len(1)
            .map(|(number, out)| {
                let first = number * size;
                let here = out.len() / self.0.dim;
                let mut scratch = self.scratch(size);
                let mut tape = self.tape(here);
                let Scratch { blocks, paths, post, out: plain, .. } = &mut scratch;
                let mut work = Work { blocks, paths, post, out: plain };
                self.0.forward(
                    here,
                    self.rows(state, first, here),
                    self.injected(injection, first, here),
                    self.masks(mask, first, here),
                    out,
                    &mut tape,
                    &mut work,
                );
                self.return_scratch(scratch);
                tape
            })
            .collect();
        Tape { cell: self.clone(), chunks, count }
    }

    /// N, from the lengths of the buffers.
    fn count(&self, state: &[f32], injection: &[f32], mask: Option<&[f32]>, out: &[f32]) -> usize {
        let (dim, injected) = (self.state_dim(), self.injection_dim());
        let count = state.len() / dim;
        assert_eq!(state.len(), count * dim, "a state of {dim} numbers per example");
        assert_eq!(out.len(), count * dim, "an output of {dim} numbers for each of {count} examples");
        let what = "an injection of as many numbers per example as branch 0 has";
        assert_eq!(injection.len(), count * injected, "{what}: {injected} for each of {count} examples");
        if let Some(mask) = mask {
            let factors = self.mask_dim();
            assert_eq!(
                mask.len(),
                count * factors,
                "a mask of {factors} factors for each of {count} examples"
            );
        }
        count
    }

    /// Examples per chunk: as many as useful, but every thread gets some.
    fn chunk(&self, count: usize) -> usize {
        count.div_ceil(rayon::current_num_threads()).clamp(1, CHUNK)
    }

    fn rows<'a>(&self, state: &'a [f32], first: usize, count: usize) -> &'a [f32] {
        &state[first * self.0.dim..(first + count) * self.0.dim]
    }

    fn injected<'a>(&self, injection: &'a [f32], first: usize, count: usize) -> &'a [f32] {
        let len = self.injection_dim();
        &injection[first * len..(first + count) * len]
    }

    fn masks<'a>(&self, mask: Option<&'a [f32]>, first: usize, count: usize) -> Option<&'a [f32]> {
        let len = self.mask_dim();
        mask.map(|mask| &mask[first * len..(first + count) * len])
    }

    fn scratch(&self, count: usize) -> Scratch {
        let spare = &mut *self.0.spare_scratch.lock().expect("no task panics while it holds this");
        match spare.iter().position(|scratch| scratch.capacity >= count) {
            Some(at) => spare.swap_remove(at),
            None => self.0.new_scratch(count),
        }
    }

    fn return_scratch(&self, scratch: Scratch) {
        self.0.spare_scratch.lock().expect("no task panics while it holds this").push(scratch);
    }

    fn tape(&self, count: usize) -> ChunkTape {
        let spare = &mut *self.0.spare_tapes.lock().expect("no task panics while it holds this");
        match spare.iter().position(|tape| tape.capacity >= count) {
            Some(at) => ChunkTape { count, ..spare.swap_remove(at) },
            None => self.0.new_tape(count, true),
        }
    }

    fn capture(&self, count: usize) -> Capture {
        let spare = &mut *self.0.spare_captures.lock().expect("no task panics while it holds this");
        match spare.iter().position(|capture| capture.capacity >= count) {
            Some(at) => spare.swap_remove(at),
            None => self.0.new_capture(count),
        }
    }
}

/// The parts of a scratch.
struct Work<'a> {
    blocks: &'a mut [BlockScratch],
    paths: &'a mut [Vec<Vec<StepScratch>>],
    post: &'a mut [PostScratch],
    out: &'a mut Stack,
}

impl Inner {
    /// A tape for some examples; one that is not kept has room for those that are worked on together.
    fn new_tape(&self, count: usize, keep: bool) -> ChunkTape {
        let room = |i: usize| if keep { count } else { self.blocks[i].together.min(count) };
        let path =
            |i: usize, path: &Option<Path>| path.as_ref().map_or(Vec::new(), |path| path.tape(room(i)));
        let row = |(i, row): (usize, &Vec<_>)| row.iter().map(|one| path(i, one)).collect();
        ChunkTape {
            capacity: count,
            count,
            blocks: self.blocks.iter().map(|block| block.tape(count, keep)).collect(),
            paths: self.paths.iter().enumerate().map(row).collect(),
            post: self.post.iter().enumerate().map(|(i, post)| post.tape(room(i))).collect(),
        }
    }

    fn new_scratch(&self, count: usize) -> Scratch {
        let room = |i: usize| self.blocks[i].together.min(count);
        let path =
            |i: usize, path: &Option<Path>| path.as_ref().map_or(Vec::new(), |path| path.scratch(room(i)));
        let row = |(i, row): (usize, &Vec<_>)| row.iter().map(|one| path(i, one)).collect();
        Scratch {
            capacity: count,
            tape: self.new_tape(count, false),
            blocks: self.blocks.iter().map(|block| block.scratch(count)).collect(),
            paths: self.paths.iter().enumerate().map(row).collect(),
            post: self.post.iter().enumerate().map(|(i, post)| post.scratch(room(i))).collect(),
            out: if self.post.is_empty() { Stack::of(self.blocks[0].plain, count) } else { Stack::default() },
        }
    }

    fn dense<'a>(&self, data: &'a [f32], branch: usize) -> Dense<'a> {
        let (start, len) = self.branches[branch];
        Dense { data, stride: self.dim, start, len }
    }

    fn dense_mut<'a>(&self, data: &'a mut [f32], branch: usize) -> DenseMut<'a> {
        let (start, len) = self.branches[branch];
        DenseMut { data, stride: self.dim, start, len }
    }

    /// Evaluates a chunk.
    #[allow(clippy::too_many_arguments)]
    fn forward(
        &self,
        count: usize,
        state: &[f32],
        injection: &[f32],
        mask: Option<&[f32]>,
        out: &mut [f32],
        tape: &mut ChunkTape,
        work: &mut Work<'_>,
    ) {
        let arch = self.arch;
        let mut first_channel = 0;
        for (i, block) in self.blocks.iter().enumerate() {
            let len = self.branches[0].1;
            let injection = (i == 0).then_some(Dense { data: injection, stride: len, start: 0, len });
            let (start, len) = (first_channel, block.plain.channels);
            let mask = mask.map(|data| Dense { data, stride: self.mask_dim, start, len });
            first_channel += len;
            let state = self.dense(state, i);
            block.forward(arch, count, state, injection, mask, &mut tape.blocks[i], &mut work.blocks[i]);
        }
        if self.post.is_empty() {
            let (plane, bordered) = (self.blocks[0].plain, self.blocks[0].bordered);
            let mut out = self.dense_mut(out, 0);
            for example in 0..count {
                let plain = work.out.at_mut(example);
                let x = work.blocks[0].out.at(example);
                arch.dispatch(Copy { x, plane: bordered, out: plain, out_plane: plane, add: false });
                arch.dispatch(ToChannels { image: plain, plane, dense: out.at(example) });
            }
            return;
        }
        for (i, post) in self.post.iter().enumerate() {
            let Block { plain: plane, bordered, .. } = self.blocks[i];
            for examples in self.together(i, count) {
                let PostTape { rectified: sum, .. } = &mut tape.post[i];
                for example in examples.clone() {
                    let (x, out) = (work.blocks[i].out.at(example), sum.at_mut(example));
                    arch.dispatch(Copy { x, plane: bordered, out, out_plane: plane, add: false });
                }
                for (j, path) in self.paths[i].iter().enumerate() {
                    if let Some(path) = path {
                        let branch = &work.blocks[j].out;
                        let (tape, scratch) = (&mut tape.paths[i][j], &mut work.paths[i][j]);
                        path.forward(arch, examples.clone(), branch, sum, plane, tape, scratch);
                    }
                }
                let out = self.dense_mut(out, i);
                post.forward(arch, examples, &mut tape.post[i], &mut work.post[i], out);
            }
        }
    }

    /// The examples of a chunk, by those that are worked on together in a branch.
    fn together(&self, branch: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
        let together = self.blocks[branch].together;
        (0..count).step_by(together).map(move |first| first..count.min(first + together))
    }

    /// Pulls a chunk's cotangents back.
    #[allow(clippy::too_many_arguments)]
    fn pull_back(
        &self,
        count: usize,
        u: &[f32],
        state: &mut [f32],
        mut injection: Option<&mut [f32]>,
        tape: &ChunkTape,
        work: &mut Work<'_>,
        mut capture: Option<&mut Capture>,
    ) {
        let arch = self.arch;
        if self.post.is_empty() {
            for example in 0..count {
                let (dense, out) = (self.dense(u, 0).at(example), work.blocks[0].at.at_mut(example));
                arch.dispatch(FromChannels { dense, out, plane: self.blocks[0].plain, add: false });
            }
        }
        let mut first_step = 0;
        for (i, post) in self.post.iter().enumerate() {
            let plane = self.blocks[i].plain;
            for examples in self.together(i, count) {
                let (u, tape_of_post) = (self.dense(u, i), &tape.post[i]);
                let (at, work_of_post) = (examples.clone(), &mut work.post[i]);
                post.pull_back(arch, at, u, tape_of_post, work_of_post, i, capture.as_deref_mut());
                let at_sum = &work.post[i].at_sum;
                let mut step = first_step;
                for (j, path) in self.paths[i].iter().enumerate() {
                    // Every branch receives something of the first sum, so that is what sets it.
                    let into = &mut work.blocks[j].at;
                    let Some(path) = path else {
                        for example in examples.clone() {
                            let (x, out) = (at_sum.at(example), into.at_mut(example));
                            arch.dispatch(Copy { x, plane, out, out_plane: plane, add: i > 0 });
                        }
                        continue;
                    };
                    let (tape, scratch) = (&tape.paths[i][j], &mut work.paths[i][j]);
                    let capture = capture.as_deref_mut().map(|capture| (capture, step));
                    let at = examples.clone();
                    path.pull_back(arch, at, at_sum, plane, into, i > 0, tape, scratch, capture);
                    step += path.steps.len();
                }
            }
            first_step += self.paths[i].iter().flatten().map(|path| path.steps.len()).sum::<usize>();
        }
        for (i, block) in self.blocks.iter().enumerate() {
            let len = self.branches[0].1;
            let injection = match i {
                0 => injection.take().map(|data| DenseMut { data, stride: len, start: 0, len }),
                _ => None,
            };
            let state = self.dense_mut(state, i);
            let (tape, scratch) = (&tape.blocks[i], &mut work.blocks[i]);
            block.pull_back(arch, i, count, tape, scratch, state, injection, capture.as_deref_mut());
        }
    }

    fn new_capture(&self, count: usize) -> Capture {
        let block = |block: &Block| BlockCapture {
            at_hidden: Stack::of(block.hidden, count),
            hidden: Stack::of(block.hidden, count),
            at_mixed: Stack::of(block.bordered, count),
            out: Stack::of(block.bordered, count),
        };
        let mut steps = Vec::new();
        for path in self.paths.iter().flatten().flatten() {
            for (number, step) in path.steps.iter().enumerate() {
                let planes = step.conv.planes;
                let input = if number == 0 { Stack::default() } else { Stack::of(planes.x, count) };
                steps.push(StepCapture { input, at: Stack::of(planes.u, count) });
            }
        }
        Capture {
            capacity: count,
            blocks: self.blocks.iter().map(block).collect(),
            steps,
            post: self
                .blocks
                .iter()
                .take(self.post.len())
                .map(|block| Stack::of(block.plain, count))
                .collect(),
            norms: self.norms.iter().map(|stride| Stack::new(2 * stride, count)).collect(),
        }
    }

    /// Every convolution with its inputs and cotangents.
    fn jobs<'a>(&'a self, tapes: &'a [ChunkTape], captures: &'a [Capture]) -> Vec<Job<'a>> {
        let both = || tapes.iter().zip(captures);
        let mut jobs = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            let chunks =
                both().map(|(tape, c)| (&tape.blocks[i].z, &c.blocks[i].at_hidden, tape.count)).collect();
            jobs.push(Job { conv: &block.conv1, chunks });
            let chunks =
                both().map(|(tape, c)| (&c.blocks[i].hidden, &c.blocks[i].at_mixed, tape.count)).collect();
            jobs.push(Job { conv: &block.conv2, chunks });
        }
        let mut at = 0;
        for row in &self.paths {
            for (j, path) in row.iter().enumerate() {
                for (number, step) in path.iter().flat_map(|path| &path.steps).enumerate() {
                    let input = |c: &'a Capture| match number {
                        0 => &c.blocks[j].out,
                        _ => &c.steps[at].input,
                    };
                    let chunks = both().map(|(tape, c)| (input(c), &c.steps[at].at, tape.count)).collect();
                    jobs.push(Job { conv: &step.conv, chunks });
                    at += 1;
                }
            }
        }
        for (i, post) in self.post.iter().enumerate() {
            let chunks = both().map(|(tape, c)| (&tape.post[i].rectified, &c.post[i], tape.count)).collect();
            jobs.push(Job { conv: &post.conv, chunks });
        }
        jobs
    }
}

impl Tape {
    /// Number N of examples.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// state = uᵀ ∂f/∂z, `[N, D]`, and, if wanted, injection = uᵀ ∂f/∂(injection), `[N, I]`.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of the tape's examples.
    pub fn vjp(&self, u: &[f32], state: &mut [f32], injection: Option<&mut [f32]>) {
        self.run(u, state, injection, false);
    }

    /// [`Self::vjp`], and uᵀ ∂f/∂θ summed over the batch, added to `into`.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of the tape's examples, or `into` not of the cell's shapes.
    pub fn vjp_parameters(
        &self,
        u: &[f32],
        state: &mut [f32],
        injection: &mut [f32],
        into: &mut CellParameters,
    ) {
        let captures = self.run(u, state, Some(injection), true);
        let cell = &*self.cell.0;
        let (mut kernels, mut norms) = into.parts_mut();
        weights::accumulate(cell.arch, &cell.jobs(&self.chunks, &captures), &mut kernels);
        for (id, norm) in norms.iter_mut().enumerate() {
            let Some((weight, bias)) = &mut norm.affine else { continue };
            for (tape, capture) in self.chunks.iter().zip(&captures) {
                for example in 0..tape.count {
                    let (dw, db) = capture.norms[id].at(example).split_at(cell.norms[id]);
                    weight.iter_mut().zip(dw).for_each(|(sum, term)| *sum += term);
                    bias.iter_mut().zip(db).for_each(|(sum, term)| *sum += term);
                }
            }
        }
        // Kept for the next time: fresh memory costs more than what is written to it.
        let mut spare = cell.spare_captures.lock().expect("no task panics while it holds this");
        let room = SPARE.saturating_sub(spare.len());
        spare.extend(captures.into_iter().take(room));
    }

    /// The tape of some examples, in the given order.
    ///
    /// # Panics
    ///
    /// If a row is not below [`Self::len`].
    pub fn select(&self, rows: &[usize]) -> Self {
        let size = self.cell.chunk(rows.len());
        let place = |row: usize| {
            let mut row = row;
            for chunk in &self.chunks {
                if row < chunk.count {
                    return (chunk, row);
                }
                row -= chunk.count;
            }
            panic!("row {row} of a tape of {} examples", self.count)
        };
        let chunks = rows
            .par_chunks(size)
            .map(|rows| {
                let mut tape = self.cell.tape(rows.len());
                for (to, &row) in rows.iter().enumerate() {
                    let (chunk, from) = place(row);
                    for (target, source) in tape.blocks.iter_mut().zip(&chunk.blocks) {
                        target.masked = source.masked;
                    }
                    for (target, source) in tape.stacks_mut().into_iter().zip(chunk.stacks()) {
                        target.at_mut(to).copy_from_slice(source.at(from));
                    }
                }
                tape
            })
            .collect();
        Self { cell: self.cell.clone(), chunks, count: rows.len() }
    }

    fn run(
        &self,
        u: &[f32],
        state: &mut [f32],
        injection: Option<&mut [f32]>,
        capture: bool,
    ) -> Vec<Capture> {
        let cell = &*self.cell.0;
        let (dim, injected) = (self.cell.state_dim(), self.cell.injection_dim());
        assert_eq!(
            u.len(),
            self.count * dim,
            "a cotangent of {dim} numbers for each of {} examples",
            self.count
        );
        assert_eq!(state.len(), u.len(), "a result as long as the cotangent");
        let mut work = Vec::with_capacity(self.chunks.len());
        let (mut state, mut injection) = (state, injection);
        if let Some(injection) = &injection {
            let what = "an injection of as many numbers per example as branch 0 has";
            assert_eq!(injection.len(), self.count * injected, "{what}");
        }
        let mut u = u;
        for tape in &self.chunks {
            let (here, rest) = u.split_at(tape.count * dim);
            u = rest;
            let (at_state, rest) = state.split_at_mut(tape.count * dim);
            state = rest;
            let at_injection = injection.take().map(|all| {
                let (here, rest) = all.split_at_mut(tape.count * injected);
                injection = Some(rest);
                here
            });
            work.push((tape, here, at_state, at_injection));
        }
        let captures: Vec<Option<Capture>> = work
            .into_par_iter()
            .with_max_len(1)
            .map(|(tape, u, state, injection)| {
                let mut scratch = self.cell.scratch(tape.count);
                let mut capture = capture.then(|| self.cell.capture(tape.count));
                let Scratch { blocks, paths, post, out, .. } = &mut scratch;
                let mut work = Work { blocks, paths, post, out };
                cell.pull_back(tape.count, u, state, injection, tape, &mut work, capture.as_mut());
                self.cell.return_scratch(scratch);
                capture
            })
            .collect();
        captures.into_iter().flatten().collect()
    }
}

impl Drop for Tape {
    /// Keeps the memory for the next one.
    fn drop(&mut self) {
        if let Ok(mut spare) = self.cell.0.spare_tapes.lock() {
            let room = SPARE.saturating_sub(spare.len());
            spare.extend(self.chunks.drain(..).take(room));
        }
    }
}

impl ChunkTape {
    fn stacks(&self) -> Vec<&Stack> {
        let Self { blocks, paths, post, .. } = self;
        let blocks = blocks.iter().flat_map(BlockTape::stacks);
        let paths = paths.iter().flatten().flatten().flat_map(StepTape::stacks);
        blocks.chain(paths).chain(post.iter().flat_map(PostTape::stacks)).collect()
    }

    fn stacks_mut(&mut self) -> Vec<&mut Stack> {
        let Self { blocks, paths, post, .. } = self;
        let blocks = blocks.iter_mut().flat_map(BlockTape::stacks_mut);
        let paths = paths.iter_mut().flatten().flatten().flat_map(StepTape::stacks_mut);
        blocks.chain(paths).chain(post.iter_mut().flat_map(PostTape::stacks_mut)).collect()
    }
}
