//! Feedforward networks: a list of layers, each a sum of convolutions, normalised or unchanged images, with a ReLU or
//! without.
//!
//! Here they are evaluated, with vector-Jacobian products to their inputs; parameters are constants, and normalisations are
//! folded in. Of an evaluation only the signs of what went into the ReLUs is kept, a bit for each number. `training` is the
//! other way of going through them: with the batch's statistics, and gradients of all parameters.

pub(crate) mod parameters;
mod places;
mod layer;
mod plan;
mod classifier;
mod batch_norm;
pub(crate) mod training;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use pulp::Arch;
use rayon::prelude::*;

use crate::convolution::wide::Share;
use crate::convolution::{Conv, Counter, Direction, prepare};
use crate::image::layout::{FromChannels, ToChannels};
use crate::image::plane::Plane;
use crate::image::stack::{Dense, DenseMut, Stack};
use crate::network::classifier::Classifier;
use crate::network::layer::{Kept, Layer, Mapping, two};
use crate::network::parameters::{NetworkParameters, OutputParameters};
use crate::network::places::Step;
use crate::network::plan::{CHUNK, Phase, Place, Plan, Stage};
use crate::parameters::Convolutions;
use crate::pool::{Pool, Room, chunk};

/// Kernels of so many weights or more come from memory each time they are used.
const WIDE_FROM: usize = 1 << 21;
/// Examples that are in memory at the same time: enough for wide kernels, and a whole chunk for every thread.
const WAVE: usize = 64;
/// Pieces of memory that are kept between calls.
const SPARE: usize = 64;

/// A feedforward network with its weights, ready to be evaluated. A clone is cheap and shares everything.
///
/// An example is a row of numbers: the network's input images one after another, each in C, H, W order.
///
/// No result depends, to the bit, on which other examples are in the batch or on the number of threads.
#[derive(Debug, Clone)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    arch: Arch,
    plan: Plan,
    inputs: Inputs,
    output: Output,
    memory: Pool<Memory>,
    kept: Pool<ChunkKept>,
}

/// What is made of the last image.
#[derive(Debug)]
enum Output {
    Image(Plane),
    Logits(Classifier),
}

/// What an evaluation leaves for its vector-Jacobian product.
#[derive(Debug)]
pub struct NetworkTape {
    network: Network,
    chunks: Vec<ChunkKept>,
    /// Examples of a wave and of a chunk.
    wave: usize,
    chunk: usize,
}

/// The images of a few examples, by place.
#[derive(Debug)]
struct Memory {
    room: usize,
    images: Vec<Stack>,
}

/// What is kept of a few examples.
#[derive(Debug)]
struct ChunkKept {
    room: usize,
    layers: Kept,
}

/// A few examples on their way.
struct Chunk<'a> {
    count: usize,
    input: &'a [f32],
    output: &'a mut [f32],
    memory: Memory,
    kept: Option<ChunkKept>,
}

impl Room for Memory {
    fn room(&self) -> usize {
        self.room
    }
}

impl Room for ChunkKept {
    fn room(&self) -> usize {
        self.room
    }
}

/// The images that an example's row is made of, one after another.
#[derive(Debug)]
struct Inputs {
    /// Where each begins, and its length.
    ranges: Vec<[usize; 2]>,
    /// Length of a row.
    dim: usize,
}

impl Inputs {
    fn new(shapes: &[[usize; 3]]) -> Self {
        let mut dim = 0;
        let ranges = shapes.iter().map(|shape| {
            let (start, len) = (dim, shape.iter().product());
            dim += len;
            [start, len]
        });
        let ranges = ranges.collect();
        Self { ranges, dim }
    }

    /// From rows to one of the inputs of some examples, in the order of planes.
    fn enter(
        &self,
        arch: Arch,
        input: usize,
        rows: &[f32],
        (plane, images): (Plane, &mut Stack),
        examples: Range<usize>,
    ) {
        let [start, len] = self.ranges[input];
        let rows = Dense { data: rows, stride: self.dim, start, len };
        for example in examples {
            let (dense, out) = (rows.at(example), images.at_mut(example));
            arch.dispatch(FromChannels { dense, out, plane, add: false });
        }
    }

    /// Back from the planes to the rows.
    fn leave(
        &self,
        arch: Arch,
        input: usize,
        (plane, images): (Plane, &Stack),
        rows: &mut [f32],
        examples: Range<usize>,
    ) {
        let [start, len] = self.ranges[input];
        let mut rows = DenseMut { data: rows, stride: self.dim, start, len };
        for example in examples {
            let (image, dense) = (images.at(example), rows.at(example));
            arch.dispatch(ToChannels { image, plane, dense });
        }
    }
}

impl Output {
    fn new(parameters: &OutputParameters, last: Plane) -> Self {
        match parameters {
            OutputParameters::Image => Self::Image(last),
            OutputParameters::Logits { window, weight, bias } => {
                Self::Logits(Classifier::new(last, *window, weight, bias))
            }
        }
    }

    /// Numbers of an example.
    fn dim(&self) -> usize {
        match self {
            Self::Image(plane) => plane.channels * plane.height * plane.width,
            Self::Logits(classifier) => classifier.classes(),
        }
    }

    /// From the last image to what comes out.
    fn leave(&self, arch: Arch, image: &[f32], out: &mut [f32]) {
        match self {
            Self::Image(plane) => arch.dispatch(ToChannels { image, plane: *plane, dense: out }),
            Self::Logits(classifier) => classifier.forward(image, out),
        }
    }

    /// From cotangents of what came out to those of the last image.
    fn enter_backward(&self, arch: Arch, u: &[f32], out: &mut [f32]) {
        match self {
            Self::Image(plane) => {
                arch.dispatch(FromChannels { dense: u, out, plane: *plane, add: false });
            }
            Self::Logits(classifier) => classifier.pull_back(u, out),
        }
    }
}

impl Network {
    /// Prepares a network.
    ///
    /// # Panics
    ///
    /// If the parameters' shapes contradict each other: terms of different shapes, a kernel or bias of the wrong length, an
    /// image that is read before it is made, or never.
    pub fn new(parameters: &NetworkParameters, convolutions: Convolutions) -> Self {
        Self::with(parameters, convolutions, Arch::new(), WIDE_FROM)
    }

    /// Prepares a network for an instruction set, and for kernels that are wide from so many weights on.
    pub(crate) fn with(
        parameters: &NetworkParameters,
        convolutions: Convolutions,
        arch: Arch,
        wide_from: usize,
    ) -> Self {
        let plan = Plan::new(parameters, &mut Counter::new(convolutions, wide_from));
        let output = Output::new(&parameters.output, plan.layers[plan.layers.len() - 1].plane);
        let inputs = Inputs::new(&parameters.inputs);
        let (memory, kept) = (Pool::of(SPARE), Pool::of(SPARE));
        let inner = Inner { arch, plan, inputs, output, memory, kept };
        prepare(arch, inner.convolutions(), Direction::Forward);
        Self(Arc::new(inner))
    }

    /// Length of an example's row.
    pub fn input_dim(&self) -> usize {
        self.0.inputs.dim
    }

    /// Length of what comes out: the number of classes, or that of the numbers of the last image.
    pub fn output_dim(&self) -> usize {
        self.0.output.dim()
    }

    /// What comes out `[N, ..]` for rows `[N, ..]`.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of one number N of examples.
    pub fn forward(&self, input: &[f32], output: &mut [f32]) {
        self.evaluate(input, output, false);
    }

    /// The same, and the tape of it.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of one number N of examples.
    pub fn linearize(&self, input: &[f32], output: &mut [f32]) -> NetworkTape {
        self.evaluate(input, output, true)
    }

    fn evaluate(&self, input: &[f32], output: &mut [f32], keep: bool) -> NetworkTape {
        let inner = &*self.0;
        let (from, to) = (self.input_dim(), self.output_dim());
        let count = input.len() / from;
        assert_eq!(input.len(), count * from, "{from} numbers for each example");
        assert_eq!(output.len(), count * to, "{to} numbers for each of {count} examples");
        let wave = WAVE.max(CHUNK * rayon::current_num_threads());
        let size = chunk(count.min(wave), CHUNK);
        let mut tape = NetworkTape { network: self.clone(), chunks: Vec::new(), wave, chunk: size };
        for (input, output) in input.chunks(wave * from).zip(output.chunks_mut(wave * to)) {
            let rows = input.chunks(size * from).zip(output.chunks_mut(size * to));
            let chunks = rows.map(|(input, output)| Chunk {
                count: input.len() / from,
                input,
                output,
                memory: inner.memory.take(size, || inner.new_memory(size)),
                kept: keep.then(|| inner.kept.take(size, || inner.new_kept(size))),
            });
            let mut chunks: Vec<Chunk<'_>> = chunks.collect();
            inner.forward(&mut chunks);
            for chunk in chunks {
                inner.memory.put([chunk.memory]);
                tape.chunks.extend(chunk.kept);
            }
        }
        tape
    }
}

impl NetworkTape {
    /// uᵀ ∂output/∂input for cotangents u of what came out.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of the examples that were evaluated.
    pub fn pull_back(mut self, cotangent: &[f32], input: &mut [f32]) {
        let inner = &*self.network.0;
        let (to, from) = (self.network.input_dim(), self.network.output_dim());
        let count = input.len() / to;
        assert_eq!(input.len(), count * to, "{to} numbers for each example");
        assert_eq!(cotangent.len(), count * from, "{from} cotangents for each of {count} examples");
        let (wave, size) = (self.wave, self.chunk);
        let whole = (count / wave * wave.div_ceil(size)) + (count % wave).div_ceil(size);
        assert_eq!(self.chunks.len(), whole, "as many examples as were evaluated");
        inner.prepare_backward();
        let mut kept = self.chunks.drain(..);
        for (input, output) in cotangent.chunks(wave * from).zip(input.chunks_mut(wave * to)) {
            let rows = input.chunks(size * from).zip(output.chunks_mut(size * to));
            let chunks = rows.map(|(input, output)| Chunk {
                count: input.len() / from,
                input,
                output,
                memory: inner.memory.take(size, || inner.new_memory(size)),
                kept: kept.next(),
            });
            let mut chunks: Vec<Chunk<'_>> = chunks.collect();
            inner.backward(&mut chunks);
            for chunk in chunks {
                inner.memory.put([chunk.memory]);
                inner.kept.put(chunk.kept);
            }
        }
    }
}

impl Drop for NetworkTape {
    fn drop(&mut self) {
        self.network.0.kept.put(self.chunks.drain(..));
    }
}

impl Inner {
    fn new_memory(&self, room: usize) -> Memory {
        let image = |place: &Place| Stack::of(place.plane, place.room.min(room));
        Memory { room, images: self.plan.places.iter().map(image).collect() }
    }

    fn new_kept(&self, room: usize) -> ChunkKept {
        ChunkKept {
            room,
            layers: self.plan.layers.iter().map(|layer| vec![0; room * layer.kept()]).collect(),
        }
    }

    fn convolutions(&self) -> impl Iterator<Item = &Conv> {
        self.plan.layers.iter().flat_map(|layer| &layer.maps).filter_map(|map| match map {
            Mapping::Conv(conv) => Some(&**conv),
            Mapping::Same(_) | Mapping::Scale(..) => None,
        })
    }

    /// All of them the first time, none later.
    fn prepare_backward(&self) {
        prepare(self.arch, self.convolutions(), Direction::Backward);
    }

    /// From the input's rows to the output's.
    fn forward(&self, chunks: &mut [Chunk<'_>]) {
        for phase in &self.plan.phases {
            match phase {
                Phase::All(layer) => self.forward_all(*layer, chunks),
                Phase::Each(stages) => chunks.par_iter_mut().with_max_len(1).for_each(|chunk| {
                    stages.iter().for_each(|stage| self.forward_stage(stage, chunk));
                }),
            }
        }
    }

    fn forward_stage(&self, stage: &Stage, chunk: &mut Chunk<'_>) {
        for examples in runs(chunk.count, stage.together) {
            if stage.first {
                self.enter(chunk, examples.clone());
            }
            for number in stage.layers.clone() {
                let layer = &self.plan.layers[number];
                for &step in &layer.forward {
                    layer.add_term(self.arch, step, &mut chunk.memory.images, examples.clone());
                }
                self.finish(number, chunk, examples.clone());
            }
            if stage.last {
                self.leave(chunk, examples);
            }
        }
    }

    fn finish(&self, number: usize, chunk: &mut Chunk<'_>, examples: Range<usize>) {
        let kept = chunk.kept.as_mut().map(|kept| &mut kept.layers[number][..]);
        self.plan.layers[number].finish(self.arch, &mut chunk.memory.images, kept, examples);
    }

    /// A layer that takes the whole batch.
    fn forward_all(&self, number: usize, chunks: &mut [Chunk<'_>]) {
        let layer = &self.plan.layers[number];
        for &step in &layer.forward {
            match wide(layer, step) {
                Some(conv) => conv.apply_to_all(self.arch, shares(chunks, step.at, layer.image), step.add),
                None => chunks.par_iter_mut().for_each(|chunk| {
                    layer.add_term(self.arch, step, &mut chunk.memory.images, 0..chunk.count);
                }),
            }
        }
        chunks.par_iter_mut().for_each(|chunk| self.finish(number, chunk, 0..chunk.count));
    }

    /// The inputs, in the order of planes.
    fn enter(&self, chunk: &mut Chunk<'_>, examples: Range<usize>) {
        for (input, &[image, _]) in self.plan.inputs.iter().enumerate() {
            let (plane, images) = (self.plan.places[image].plane, &mut chunk.memory.images[image]);
            self.inputs.enter(self.arch, input, chunk.input, (plane, images), examples.clone());
        }
    }

    fn leave(&self, chunk: &mut Chunk<'_>, examples: Range<usize>) {
        let images = &chunk.memory.images[self.plan.layers[self.plan.layers.len() - 1].image];
        let each = chunk.output.len() / chunk.count;
        for example in examples {
            let out = &mut chunk.output[example * each..][..each];
            self.output.leave(self.arch, images.at(example), out);
        }
    }

    /// From cotangents of the output's rows to those of the input's.
    fn backward(&self, chunks: &mut [Chunk<'_>]) {
        for phase in self.plan.phases.iter().rev() {
            match phase {
                Phase::All(layer) => self.backward_all(*layer, chunks),
                Phase::Each(stages) => chunks.par_iter_mut().with_max_len(1).for_each(|chunk| {
                    stages.iter().rev().for_each(|stage| self.backward_stage(stage, chunk));
                }),
            }
        }
    }

    fn backward_stage(&self, stage: &Stage, chunk: &mut Chunk<'_>) {
        for examples in runs(chunk.count, stage.together) {
            if stage.last {
                self.enter_backward(chunk, examples.clone());
            }
            for number in stage.layers.clone().rev() {
                self.gate(number, chunk, examples.clone());
                let layer = &self.plan.layers[number];
                for &step in &layer.backward {
                    layer.pull_term_back(self.arch, step, &mut chunk.memory.images, examples.clone());
                }
            }
            if stage.first {
                self.leave_backward(chunk, examples);
            }
        }
    }

    fn gate(&self, number: usize, chunk: &mut Chunk<'_>, examples: Range<usize>) {
        let kept = chunk.kept.as_ref().expect("on the way back there is what was kept");
        let kept = &kept.layers[number];
        self.plan.layers[number].gate(self.arch, &mut chunk.memory.images, kept, examples);
    }

    /// A layer that takes the whole batch.
    fn backward_all(&self, number: usize, chunks: &mut [Chunk<'_>]) {
        let layer = &self.plan.layers[number];
        chunks.par_iter_mut().for_each(|chunk| self.gate(number, chunk, 0..chunk.count));
        for &step in &layer.backward {
            match wide(layer, step) {
                Some(conv) => {
                    conv.pull_all_back(self.arch, shares(chunks, layer.cotangent, step.at), step.add);
                }
                None => chunks.par_iter_mut().for_each(|chunk| {
                    layer.pull_term_back(self.arch, step, &mut chunk.memory.images, 0..chunk.count);
                }),
            }
        }
    }

    fn enter_backward(&self, chunk: &mut Chunk<'_>, examples: Range<usize>) {
        let images = &mut chunk.memory.images[self.plan.layers[self.plan.layers.len() - 1].cotangent];
        let each = chunk.input.len() / chunk.count;
        for example in examples {
            let u = &chunk.input[example * each..][..each];
            self.output.enter_backward(self.arch, u, images.at_mut(example));
        }
    }

    /// The inputs' cotangents, in the order of rows.
    fn leave_backward(&self, chunk: &mut Chunk<'_>, examples: Range<usize>) {
        for (input, &[_, cotangent]) in self.plan.inputs.iter().enumerate() {
            let (plane, images) = (self.plan.places[cotangent].plane, &chunk.memory.images[cotangent]);
            self.inputs.leave(self.arch, input, (plane, images), chunk.output, examples.clone());
        }
    }
}

/// Runs of so many examples.
fn runs(count: usize, together: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(together).map(move |first| first..count.min(first + together))
}

/// The convolution of a step, if it takes whole batches.
fn wide(layer: &Layer, step: Step) -> Option<&Conv> {
    match &layer.maps[step.map] {
        Mapping::Conv(conv) if conv.is_wide() => Some(conv),
        _ => None,
    }
}

/// The images of all chunks at two places.
fn shares<'a>(chunks: &'a mut [Chunk<'_>], from: usize, to: usize) -> Vec<Share<'a>> {
    let share = |chunk: &'a mut Chunk<'_>| {
        let (x, y) = two(&mut chunk.memory.images, from, to);
        Share { x: x.images(0), y: y.images_mut(0), count: chunk.count }
    };
    chunks.iter_mut().map(share).collect()
}
