//! The layers of a cell, ready for use, and the way of a batch's chunks through them.
//!
//! Chunks go their way one task each, except through blocks whose kernels are too large to be read by every task:
//! those take the whole batch at once, before the others on the way forward and after them on the way back.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use crate::cell::block::{BackwardChunk, Block, ForwardChunk, Inputs};
use crate::cell::capture::{BlockCapture, Capture, StepCapture};
use crate::cell::chunk::{Backward, ChunkTape, Forward, Scratch};
use crate::cell::fusion::Path;
use crate::cell::post::{Post, PostTape};
use crate::convolution::gradient::Job;
use crate::convolution::{Conv, Counter, Direction, prepare};
use crate::image::layout::{FromChannels, ToChannels};
use crate::image::passes::Copy;
use crate::image::stack::{Dense, DenseMut, Stack};
use crate::parameters::{CellParameters, Convolutions};

/// What stays the same from batch to batch.
#[derive(Debug)]
pub(crate) struct Layers {
    pub arch: Arch,
    blocks: Vec<Block>,
    /// `paths[i][j]` leads from branch j to branch i.
    paths: Vec<Vec<Option<Path>>>,
    post: Vec<Post>,
    branches: Vec<Branch>,
    /// Length of a flat state.
    pub dim: usize,
    /// Length of a dropout mask: the channels of all branches.
    pub mask_dim: usize,
    /// The stride of each normalisation's channels.
    pub norms: Vec<usize>,
}

/// Where a branch lies in a flat state and in a dropout mask.
#[derive(Debug, Clone, Copy)]
struct Branch {
    start: usize,
    len: usize,
    first_channel: usize,
    channels: usize,
}

impl Layers {
    /// Prepares a cell for an instruction set; blocks are for whole batches where a kernel has `wide_from` weights
    /// or more.
    ///
    /// # Panics
    ///
    /// If the parameters' shapes contradict each other.
    pub fn new(
        parameters: &CellParameters,
        convolutions: Convolutions,
        arch: Arch,
        wide_from: usize,
    ) -> Self {
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
        let mut counter = Counter::new(convolutions, wide_from);
        let mut norms = Vec::new();
        let mut note = |norm: &crate::parameters::NormParameters, channels: usize, what: &str| {
            norm.check(channels, what);
            norms.push(channels.next_multiple_of(crate::image::plane::LANES));
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
        let (mut dim, mut mask_dim) = (0, 0);
        let mut branches = Vec::with_capacity(shapes.len());
        for shape in shapes {
            let (channels, len) = (shape[0], shape.iter().product());
            branches.push(Branch { start: dim, len, first_channel: mask_dim, channels });
            dim += len;
            mask_dim += channels;
        }
        let layers = Self { arch, blocks, paths, post, branches, dim, mask_dim, norms };
        prepare(arch, layers.convolutions(), Direction::Forward);
        layers
    }

    /// Length of an injection: it enters branch 0.
    pub fn injection_dim(&self) -> usize {
        self.branches[0].len
    }

    /// A tape for some examples; one that is not kept has room for those that are worked on together.
    pub fn new_tape(&self, count: usize, keep: bool) -> ChunkTape {
        let room = |i: usize| if keep { count } else { self.blocks[i].together.min(count) };
        let path =
            |i: usize, path: &Option<Path>| path.as_ref().map_or(Vec::new(), |path| path.tape(room(i)));
        let row = |(i, row): (usize, &Vec<_>)| row.iter().map(|one| path(i, one)).collect();
        ChunkTape {
            room: count,
            count,
            blocks: self.blocks.iter().map(|block| block.tape(count, keep)).collect(),
            paths: self.paths.iter().enumerate().map(row).collect(),
            post: self.post.iter().enumerate().map(|(i, post)| post.tape(room(i))).collect(),
        }
    }

    pub fn new_scratch(&self, count: usize) -> Scratch {
        let room = |i: usize| self.blocks[i].together.min(count);
        let path =
            |i: usize, path: &Option<Path>| path.as_ref().map_or(Vec::new(), |path| path.scratch(room(i)));
        let row = |(i, row): (usize, &Vec<_>)| row.iter().map(|one| path(i, one)).collect();
        Scratch {
            room: count,
            blocks: self.blocks.iter().map(|block| block.scratch(count)).collect(),
            paths: self.paths.iter().enumerate().map(row).collect(),
            post: self.post.iter().enumerate().map(|(i, post)| post.scratch(room(i))).collect(),
        }
    }

    pub fn new_capture(&self, count: usize) -> Capture {
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
            room: count,
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

    fn dense<'a>(&self, data: &'a [f32], branch: usize) -> Dense<'a> {
        let Branch { start, len, .. } = self.branches[branch];
        Dense { data, stride: self.dim, start, len }
    }

    fn dense_mut<'a>(&self, data: &'a mut [f32], branch: usize) -> DenseMut<'a> {
        let Branch { start, len, .. } = self.branches[branch];
        DenseMut { data, stride: self.dim, start, len }
    }

    /// The examples of a chunk, by those that are worked on together in a branch.
    fn together(&self, branch: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
        let together = self.blocks[branch].together;
        (0..count).step_by(together).map(move |first| first..count.min(first + together))
    }

    /// The blocks that are for whole batches, or those that are not.
    fn blocks(&self, wide: bool) -> impl Iterator<Item = (usize, &Block)> {
        self.blocks.iter().enumerate().filter(move |(_, block)| block.is_wide() == wide)
    }

    /// Evaluates the cell.
    pub fn forward(&self, chunks: &mut [Forward<'_>]) {
        for (i, block) in self.blocks(true) {
            let mut batch: Vec<_> = chunks.iter_mut().map(|chunk| self.forward_chunk(i, chunk)).collect();
            block.forward_all(self.arch, &mut batch);
        }
        chunks.par_iter_mut().with_max_len(1).for_each(|chunk| {
            for (i, block) in self.blocks(false) {
                block.forward(self.arch, self.forward_chunk(i, chunk));
            }
            self.fuse(chunk);
        });
    }

    /// What a chunk brings to a block.
    fn forward_chunk<'a>(&self, i: usize, chunk: &'a mut Forward<'_>) -> ForwardChunk<'a> {
        let len = self.injection_dim();
        let Branch { first_channel, channels, .. } = self.branches[i];
        let mask = |data| Dense { data, stride: self.mask_dim, start: first_channel, len: channels };
        ForwardChunk {
            count: chunk.count,
            inputs: Inputs {
                state: self.dense(chunk.state, i),
                injection: (i == 0).then_some(Dense { data: chunk.injection, stride: len, start: 0, len }),
                mask: chunk.mask.map(mask),
            },
            tape: &mut chunk.tape.blocks[i],
            scratch: &mut chunk.scratch.blocks[i],
        }
    }

    /// From the outputs of a chunk's blocks to its output.
    fn fuse(&self, chunk: &mut Forward<'_>) {
        let Forward { count, out, tape, scratch, .. } = chunk;
        let arch = self.arch;
        if self.post.is_empty() {
            let mut out = self.dense_mut(out, 0);
            for example in 0..*count {
                let (image, plane) = (scratch.blocks[0].out.at(example), self.blocks[0].bordered);
                arch.dispatch(ToChannels { image, plane, dense: out.at(example) });
            }
        }
        for (i, post) in self.post.iter().enumerate() {
            let Block { plain: plane, bordered, .. } = self.blocks[i];
            for examples in self.together(i, *count) {
                let PostTape { rectified: sum, .. } = &mut tape.post[i];
                for example in examples.clone() {
                    let (x, out) = (scratch.blocks[i].out.at(example), sum.at_mut(example));
                    arch.dispatch(Copy { x, plane: bordered, out, out_plane: plane, add: false });
                }
                for (j, path) in self.paths[i].iter().enumerate() {
                    if let Some(path) = path {
                        let branch = &scratch.blocks[j].out;
                        let (tape, scratch) = (&mut tape.paths[i][j], &mut scratch.paths[i][j]);
                        path.forward(arch, examples.clone(), branch, sum, plane, tape, scratch);
                    }
                }
                let out = self.dense_mut(out, i);
                post.forward(arch, examples, &mut tape.post[i], &mut scratch.post[i], out);
            }
        }
    }

    /// All convolutions, in any order.
    fn convolutions(&self) -> impl Iterator<Item = &Conv> {
        let blocks = self.blocks.iter().flat_map(|block| [&block.conv1, &block.conv2]);
        let paths = self.paths.iter().flatten().flatten().flat_map(|path| &path.steps).map(|step| &step.conv);
        blocks.chain(paths).chain(self.post.iter().map(|post| &post.conv))
    }

    /// Pulls cotangents back.
    pub fn pull_back(&self, chunks: &mut [Backward<'_>]) {
        // All of them the first time, none later.
        prepare(self.arch, self.convolutions(), Direction::Backward);
        chunks.par_iter_mut().with_max_len(1).for_each(|chunk| {
            self.pull_back_fusion(chunk);
            for (i, block) in self.blocks(false) {
                block.pull_back(self.arch, self.backward_chunk(i, chunk));
            }
        });
        for (i, block) in self.blocks(true) {
            let mut batch: Vec<_> = chunks.iter_mut().map(|chunk| self.backward_chunk(i, chunk)).collect();
            block.pull_all_back(self.arch, &mut batch);
        }
    }

    /// What a chunk brings to a block on the way back.
    fn backward_chunk<'a>(&self, i: usize, chunk: &'a mut Backward<'_>) -> BackwardChunk<'a> {
        let len = self.injection_dim();
        let injection = if i == 0 { chunk.injection.as_deref_mut() } else { None };
        BackwardChunk {
            branch: i,
            count: chunk.tape.count,
            tape: &chunk.tape.blocks[i],
            scratch: &mut chunk.scratch.blocks[i],
            state: self.dense_mut(chunk.state, i),
            injection: injection.map(|data| DenseMut { data, stride: len, start: 0, len }),
            capture: chunk.capture.as_mut(),
        }
    }

    /// From the cotangents of a chunk's output to those of its blocks' outputs.
    fn pull_back_fusion(&self, chunk: &mut Backward<'_>) {
        let Backward { u, tape, scratch, capture, .. } = chunk;
        let arch = self.arch;
        if self.post.is_empty() {
            for example in 0..tape.count {
                let (dense, out) = (self.dense(u, 0).at(example), scratch.blocks[0].at.at_mut(example));
                arch.dispatch(FromChannels { dense, out, plane: self.blocks[0].plain, add: false });
            }
        }
        let mut first_step = 0;
        for (i, post) in self.post.iter().enumerate() {
            let plane = self.blocks[i].plain;
            for examples in self.together(i, tape.count) {
                let (at, u) = (examples.clone(), self.dense(u, i));
                post.pull_back(arch, at, u, &tape.post[i], &mut scratch.post[i], i, capture.as_mut());
                let at_sum = &scratch.post[i].at_sum;
                let mut step = first_step;
                for (j, path) in self.paths[i].iter().enumerate() {
                    // Every branch receives something of the first sum, so that is what sets it.
                    let into = &mut scratch.blocks[j].at;
                    let Some(path) = path else {
                        for example in examples.clone() {
                            let (x, out) = (at_sum.at(example), into.at_mut(example));
                            arch.dispatch(Copy { x, plane, out, out_plane: plane, add: i > 0 });
                        }
                        continue;
                    };
                    let (tape, scratch) = (&tape.paths[i][j], &mut scratch.paths[i][j]);
                    let capture = capture.as_mut().map(|capture| (capture, step));
                    let at = examples.clone();
                    path.pull_back(arch, at, at_sum, plane, into, i > 0, tape, scratch, capture);
                    step += path.steps.len();
                }
            }
            first_step += self.paths[i].iter().flatten().map(|path| path.steps.len()).sum::<usize>();
        }
    }

    /// Every convolution with its inputs and cotangents.
    pub fn jobs<'a>(&'a self, tapes: &'a [ChunkTape], captures: &'a [Capture]) -> Vec<Job<'a>> {
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
