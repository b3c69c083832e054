//! The cell: f(z; x) over batches of examples, on all threads.

pub(crate) mod block;
pub(crate) mod fusion;
pub(crate) mod post;
pub(crate) mod layers;
pub(crate) mod chunk;
pub(crate) mod tape;
pub(crate) mod capture;

use std::sync::Arc;

use pulp::Arch;

use crate::cell::capture::Capture;
use crate::cell::chunk::{CHUNK, ChunkTape, Forward, Scratch};
use crate::cell::layers::Layers;
use crate::cell::tape::Tape;
use crate::image::stack::Stack;
use crate::parameters::{CellParameters, Convolutions};
use crate::pool::{Pool, chunk};

/// Kernels of so many weights or more come from memory each time they are used.
const WIDE_FROM: usize = 1 << 21;
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
pub struct Cell(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub layers: Layers,
    /// Memory of chunks whose tapes are kept, of those whose are not, of all, and of parameter gradients.
    pub tapes: Pool<ChunkTape>,
    passing: Pool<ChunkTape>,
    pub scratch: Pool<Scratch>,
    pub captures: Pool<Capture>,
    tape_bytes: usize,
}

impl Cell {
    /// Prepares a cell.
    ///
    /// # Panics
    ///
    /// If the parameters' shapes contradict each other: a branch that is not half as high and wide as the one
    /// before it, groups that do not divide their channels, a kernel of the wrong length, a missing path.
    pub fn new(parameters: &CellParameters, convolutions: Convolutions) -> Self {
        Self::with(parameters, convolutions, Arch::new(), WIDE_FROM)
    }

    /// Prepares a cell for an instruction set, and for kernels that are wide from so many weights on.
    pub(crate) fn with(
        parameters: &CellParameters,
        convolutions: Convolutions,
        arch: Arch,
        wide_from: usize,
    ) -> Self {
        let layers = Layers::new(parameters, convolutions, arch, wide_from);
        let one = layers.new_tape(1, true);
        let tape_bytes = one.stacks().into_iter().map(Stack::bytes).sum();
        Self(Arc::new(Inner {
            layers,
            tape_bytes,
            tapes: Pool::of(SPARE),
            passing: Pool::of(SPARE),
            scratch: Pool::of(SPARE),
            captures: Pool::of(SPARE),
        }))
    }

    /// Length D of a state.
    pub fn state_dim(&self) -> usize {
        self.0.layers.dim
    }

    /// Length I of an injection.
    pub fn injection_dim(&self) -> usize {
        self.0.layers.injection_dim()
    }

    /// Length M of a dropout mask: a factor for each channel of each branch, in this order.
    pub fn mask_dim(&self) -> usize {
        self.0.layers.mask_dim
    }

    /// Bytes that a [`Tape`] takes for each of its examples.
    pub fn tape_bytes(&self) -> usize {
        self.0.tape_bytes
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
        self.0.passing.put(self.evaluate(state, injection, mask, out, false));
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
        Tape::new(self.clone(), self.evaluate(state, injection, mask, out, true))
    }

    /// Evaluates f, and gives the chunks' tapes; only those that are to be kept hold something.
    fn evaluate(
        &self,
        state: &[f32],
        injection: &[f32],
        mask: Option<&[f32]>,
        out: &mut [f32],
        keep: bool,
    ) -> Vec<ChunkTape> {
        let (dim, injected, factors) = (self.state_dim(), self.injection_dim(), self.mask_dim());
        let count = state.len() / dim;
        assert_eq!(state.len(), count * dim, "a state of {dim} numbers per example");
        assert_eq!(out.len(), count * dim, "an output of {dim} numbers for each of {count} examples");
        let what = "an injection of as many numbers per example as branch 0 has";
        assert_eq!(injection.len(), count * injected, "{what}: {injected} for each of {count} examples");
        if let Some(mask) = mask {
            assert_eq!(
                mask.len(),
                count * factors,
                "a mask of {factors} factors for each of {count} examples"
            );
        }
        let Inner { layers, tapes, passing, scratch, .. } = &*self.0;
        let pool = if keep { tapes } else { passing };
        let size = chunk(count, CHUNK);
        let mut chunks: Vec<_> = out
            .chunks_mut(size * dim)
            .enumerate()
            .map(|(number, out)| {
                let examples = number * size..count.min((number + 1) * size);
                let rows = |each: usize| examples.start * each..examples.end * each;
                let tape = pool.take(size, || layers.new_tape(size, keep));
                Forward {
                    count: examples.len(),
                    state: &state[rows(dim)],
                    injection: &injection[rows(injected)],
                    mask: mask.map(|mask| &mask[rows(factors)]),
                    out,
                    tape: ChunkTape { count: examples.len(), ..tape },
                    scratch: scratch.take(size, || layers.new_scratch(size)),
                }
            })
            .collect();
        layers.forward(&mut chunks);
        let (kept, used): (Vec<_>, Vec<_>) =
            chunks.into_iter().map(|chunk| (chunk.tape, chunk.scratch)).unzip();
        scratch.put(used);
        kept
    }
}
