//! What an evaluation of a cell leaves for its vector-Jacobian products.

use rayon::prelude::*;

use crate::cell::capture::Capture;
use crate::cell::chunk::{Backward, CHUNK, ChunkTape};
use crate::cell::{Cell, Inner};
use crate::convolution::gradient;
use crate::parameters::CellParameters;
use crate::pool::chunk;

/// An evaluation of N examples.
#[derive(Debug)]
pub struct Tape {
    cell: Cell,
    chunks: Vec<ChunkTape>,
    count: usize,
}

impl Tape {
    pub(crate) fn new(cell: Cell, chunks: Vec<ChunkTape>) -> Self {
        let count = chunks.iter().map(|chunk| chunk.count).sum();
        Self { cell, chunks, count }
    }

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
        let layers = &self.cell.0.layers;
        let (mut kernels, mut norms) = into.parts_mut();
        gradient::accumulate(layers.arch, &layers.jobs(&self.chunks, &captures), &mut kernels);
        for (id, norm) in norms.iter_mut().enumerate() {
            let Some((weight, bias)) = &mut norm.affine else { continue };
            for (tape, capture) in self.chunks.iter().zip(&captures) {
                for example in 0..tape.count {
                    let (dw, db) = capture.norms[id].at(example).split_at(layers.norms[id]);
                    weight.iter_mut().zip(dw).for_each(|(sum, term)| *sum += term);
                    bias.iter_mut().zip(db).for_each(|(sum, term)| *sum += term);
                }
            }
        }
        self.cell.0.captures.put(captures);
    }

    fn run(
        &self,
        u: &[f32],
        state: &mut [f32],
        mut injection: Option<&mut [f32]>,
        capture: bool,
    ) -> Vec<Capture> {
        let (dim, injected) = (self.cell.state_dim(), self.cell.injection_dim());
        let count = self.count;
        assert_eq!(u.len(), count * dim, "a cotangent of {dim} numbers for each of {count} examples");
        assert_eq!(state.len(), u.len(), "a result as long as the cotangent");
        if let Some(injection) = &injection {
            let what = "an injection of as many numbers per example as branch 0 has";
            assert_eq!(injection.len(), count * injected, "{what}");
        }
        let Inner { layers, scratch, captures, .. } = &*self.cell.0;
        let (mut u, mut state) = (u, state);
        let mut chunks = Vec::with_capacity(self.chunks.len());
        for tape in &self.chunks {
            let room = tape.count;
            chunks.push(Backward {
                u: u.split_off(..room * dim).expect("as many as the examples have"),
                state: state.split_off_mut(..room * dim).expect("as many as the examples have"),
                injection: injection
                    .as_mut()
                    .map(|all| all.split_off_mut(..room * injected).expect("as many as the examples have")),
                tape,
                scratch: scratch.take(room, || layers.new_scratch(room)),
                capture: capture.then(|| captures.take(room, || layers.new_capture(room))),
            });
        }
        layers.pull_back(&mut chunks);
        let (used, captures): (Vec<_>, Vec<_>) =
            chunks.into_iter().map(|chunk| (chunk.scratch, chunk.capture)).unzip();
        scratch.put(used);
        captures.into_iter().flatten().collect()
    }

    /// The tape of some examples, in the given order.
    ///
    /// # Panics
    ///
    /// If a row is not below [`Self::len`].
    pub fn select(&self, rows: &[usize]) -> Self {
        let Inner { layers, tapes, .. } = &*self.cell.0;
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
            .par_chunks(chunk(rows.len(), CHUNK))
            .map(|rows| {
                let tape = tapes.take(rows.len(), || layers.new_tape(rows.len(), true));
                let mut tape = ChunkTape { count: rows.len(), ..tape };
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
}

impl Drop for Tape {
    /// Keeps the memory for the next one.
    fn drop(&mut self) {
        self.cell.0.tapes.put(self.chunks.drain(..));
    }
}
