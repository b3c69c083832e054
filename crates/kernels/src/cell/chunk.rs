//! A few examples on their way through a cell, or back: what they bring, and the memory that they take.
//!
//! A batch is cut into chunks, one task each. How it is cut changes no bit of any example's result.

use crate::cell::block::{BlockScratch, BlockTape};
use crate::cell::capture::Capture;
use crate::cell::fusion::{StepScratch, StepTape};
use crate::cell::post::{PostScratch, PostTape};
use crate::image::stack::Stack;
use crate::pool::Room;

/// Examples of one chunk, at most: the kernels of coarse branches, which do not fit into any cache near a core, serve
/// several.
pub(crate) const CHUNK: usize = 16;

/// On the way through.
pub(crate) struct Forward<'a> {
    pub count: usize,
    pub state: &'a [f32],
    pub injection: &'a [f32],
    pub mask: Option<&'a [f32]>,
    pub out: &'a mut [f32],
    pub tape: ChunkTape,
    pub scratch: Scratch,
}

/// On the way back.
pub(crate) struct Backward<'a> {
    pub u: &'a [f32],
    pub state: &'a mut [f32],
    pub injection: Option<&'a mut [f32]>,
    pub tape: &'a ChunkTape,
    pub scratch: Scratch,
    pub capture: Option<Capture>,
}

/// What is kept of the way through.
#[derive(Debug)]
pub(crate) struct ChunkTape {
    /// Examples that it has room for, and that it holds.
    pub room: usize,
    pub count: usize,
    pub blocks: Vec<BlockTape>,
    pub paths: Vec<Vec<Vec<StepTape>>>,
    pub post: Vec<PostTape>,
}

/// Memory to work in.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub room: usize,
    pub blocks: Vec<BlockScratch>,
    pub paths: Vec<Vec<Vec<StepScratch>>>,
    pub post: Vec<PostScratch>,
}

impl ChunkTape {
    pub fn stacks(&self) -> Vec<&Stack> {
        let Self { blocks, paths, post, .. } = self;
        let blocks = blocks.iter().flat_map(BlockTape::stacks);
        let paths = paths.iter().flatten().flatten().flat_map(StepTape::stacks);
        blocks.chain(paths).chain(post.iter().flat_map(PostTape::stacks)).collect()
    }

    pub fn stacks_mut(&mut self) -> Vec<&mut Stack> {
        let Self { blocks, paths, post, .. } = self;
        let blocks = blocks.iter_mut().flat_map(BlockTape::stacks_mut);
        let paths = paths.iter_mut().flatten().flatten().flat_map(StepTape::stacks_mut);
        blocks.chain(paths).chain(post.iter_mut().flat_map(PostTape::stacks_mut)).collect()
    }
}

impl Room for ChunkTape {
    fn room(&self) -> usize {
        self.room
    }
}

impl Room for Scratch {
    fn room(&self) -> usize {
        self.room
    }
}
