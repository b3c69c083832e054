//! Networks in training: batch normalisations use the batch's statistics, and every parameter gets its gradient.
//!
//! Chunks of examples are one task each, and tasks meet where statistics are gathered: once a layer on either way. What a
//! layer does after one meeting and the next layer does before the other is one piece of work.
//!
//! Of every layer its image is kept, and of every convolution with a normalisation its output, which on the way back gives its
//! memory to its cotangent; kernels' gradients are made of the two at the end, all at once.

mod layers;
mod memory;

pub use memory::TrainingMemory;

use pulp::Arch;
use rayon::prelude::*;

use crate::convolution::Direction;
use crate::network::batch_norm::Gathered;
use crate::network::parameters::{BatchNormParameters, NetworkParameters, TrainedConv};
use crate::network::plan::CHUNK;
use crate::network::training::layers::{Term, Trained};
use crate::network::training::memory::Chunk;
use crate::parameters::{Convolutions, Statistics};
use crate::pool::chunk;

/// A network in training; or, in the same shape, the gradients of its parameters.
pub type TrainedNetwork = NetworkParameters<TrainedConv, BatchNormParameters>;

/// The statistics of a batch at every normalisation.
pub type NetworkStatistics = NetworkParameters<Option<Statistics>, Statistics>;

/// A network on its way through a batch in training: evaluated, and ready to be pulled back through.
///
/// No result depends, to the bit, on the number of threads.
#[derive(Debug)]
pub struct NetworkPass {
    network: Trained,
    memory: TrainingMemory,
    chunks: Vec<Chunk>,
    /// By layer and term.
    gathered: Vec<Vec<Option<Gathered>>>,
}

impl NetworkPass {
    /// What comes out `[N, ..]` for rows `[N, ..]`, as [`crate::Network::forward`].
    ///
    /// # Panics
    ///
    /// If the parameters' shapes contradict each other: terms of different shapes, a kernel or an affine map of the wrong
    /// length, an image that is read before it is made, or never; or if the lengths are not those of one number N of examples.
    pub fn forward(
        parameters: &TrainedNetwork,
        convolutions: Convolutions,
        memory: &TrainingMemory,
        input: &[f32],
        output: &mut [f32],
    ) -> Self {
        Self::with(parameters, convolutions, Arch::new(), memory, input, output)
    }

    /// The same with an instruction set.
    pub(crate) fn with(
        parameters: &TrainedNetwork,
        convolutions: Convolutions,
        arch: Arch,
        memory: &TrainingMemory,
        input: &[f32],
        output: &mut [f32],
    ) -> Self {
        let network = Trained::new(parameters, convolutions, arch);
        network.prepare(Direction::Forward, true);
        let (from, to) = (network.inputs.dim, network.output.dim());
        let count = input.len() / from;
        assert_eq!(input.len(), count * from, "{from} numbers for each example");
        assert_eq!(output.len(), count * to, "{to} numbers for each of {count} examples");
        let size = chunk(count, CHUNK);
        let chunks = input.par_chunks(size * from).with_max_len(1).map(|rows| {
            let count = rows.len() / from;
            let mut chunk = memory.0.take(count, || network.layout.chunk(size));
            if chunk.layout != network.layout {
                chunk = network.layout.chunk(size);
            }
            chunk.count = count;
            network.enter(rows, &mut chunk);
            chunk
        });
        let mut chunks: Vec<Chunk> = chunks.collect();
        let mut gathered: Vec<Vec<Option<Gathered>>> = Vec::with_capacity(network.layers.len());
        for number in 0..network.layers.len() {
            each(&mut chunks, |chunk| {
                if let Some(finished) = number.checked_sub(1) {
                    network.finish(finished, chunk, &gathered[finished]);
                }
                network.begin(number, chunk);
            });
            gathered.push(network.gather(number, &chunks));
        }
        let last = network.layers.len() - 1;
        let rows = output.par_chunks_mut(size * to);
        chunks.par_iter_mut().zip(rows).with_max_len(1).for_each(|(chunk, rows)| {
            network.finish(last, chunk, &gathered[last]);
            for (example, row) in rows.chunks_exact_mut(to).enumerate() {
                network.output.leave(network.arch, chunk.images[chunk.images.len() - 1].at(example), row);
            }
        });
        Self { network, memory: memory.clone(), chunks, gathered }
    }

    /// The batch's statistics at every normalisation.
    pub fn statistics(&self) -> NetworkStatistics {
        let of = |term: &Term, gathered: &Option<Gathered>| -> Option<Statistics> {
            Some(term.norm.as_ref()?.statistics(gathered.as_ref()?))
        };
        self.network.like(&self.gathered, of, |term, gathered| {
            of(term, gathered).expect("a normalisation has gathered statistics")
        })
    }

    /// uᵀ ∂output/∂θ for cotangents u `[N, ..]` of what came out, summed over the batch, in the shape of the parameters; and
    /// uᵀ ∂output/∂input `[N, ..]`, if it is wanted.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of the examples that were evaluated.
    pub fn pull_back(mut self, cotangent: &[f32], input: Option<&mut [f32]>) -> TrainedNetwork {
        let Self { network, chunks, gathered, .. } = &mut self;
        let (from, to) = (network.inputs.dim, network.output.dim());
        let count: usize = chunks.iter().map(|chunk| chunk.count).sum();
        let size = chunks.first().map_or(1, |chunk| chunk.count);
        assert_eq!(cotangent.len(), count * to, "as many examples as were evaluated");
        let wanted = input.is_some();
        network.prepare(Direction::Backward, wanted);
        let last = network.layers.len() - 1;
        let rows = cotangent.par_chunks(size * to);
        chunks.par_iter_mut().zip(rows).with_max_len(1).for_each(|(chunk, rows)| {
            for (example, row) in rows.chunks_exact(to).enumerate() {
                let at = chunk.cotangents[network.layers[last].route.at].at_mut(example);
                network.output.enter_backward(network.arch, row, at);
            }
            network.sum(last, chunk, &gathered[last]);
        });
        network.gather_sums(last, chunks, &mut gathered[last]);
        for number in (0..network.layers.len()).rev() {
            each(chunks, |chunk| {
                network.pull(number, chunk, &gathered[number], wanted);
                if let Some(earlier) = number.checked_sub(1) {
                    network.sum(earlier, chunk, &gathered[earlier]);
                }
            });
            if let Some(earlier) = number.checked_sub(1) {
                network.gather_sums(earlier, chunks, &mut gathered[earlier]);
            }
        }
        if let Some(input) = input {
            assert_eq!(input.len(), count * from, "as many examples as were evaluated");
            let rows = input.par_chunks_mut(size * from);
            chunks.par_iter().zip(rows).with_max_len(1).for_each(|(chunk, rows)| network.leave(chunk, rows));
        }
        network.gradients(chunks, gathered, cotangent)
    }
}

impl Drop for NetworkPass {
    fn drop(&mut self) {
        self.memory.0.put(self.chunks.drain(..));
    }
}

/// All chunks, each its own task.
fn each(chunks: &mut [Chunk], step: impl Fn(&mut Chunk) + Send + Sync) {
    chunks.par_iter_mut().with_max_len(1).for_each(step);
}
