//! Networks in training: batch normalisations use the batch's statistics, and every parameter gets its gradient.
//!
//! Chunks of examples are one task each, and tasks meet where statistics are gathered: once a layer on either way. What a
//! layer does after one meeting and the next layer does before the other is one piece of work.
//!
//! Of every layer its image is kept, and of every convolution with a normalisation its output, which on the way back gives its
//! memory to its cotangent; kernels' gradients are made of the two at the end, all at once.

use std::ops::Range;
use std::sync::Arc;

use pulp::Arch;
use rayon::prelude::*;

use crate::convolution::gradient::{self, Job};
use crate::convolution::{Conv, Counter, Direction, Planes, prepare};
use crate::image::layout::{FromChannels, ToChannels};
use crate::image::norm::Then;
use crate::image::passes::{Copy, Rectify, RectifyVjp};
use crate::image::plane::Plane;
use crate::image::stack::{Dense, DenseMut, Stack};
use crate::network::batch_norm::{BatchNorm, Gathered};
use crate::network::layer::{pull_back, two};
use crate::network::parameters::{
    BatchNormParameters, Map, NetworkParameters, OutputParameters, TrainedConv,
};
use crate::network::places::{self, Places, Route};
use crate::network::plan::{CHUNK, together};
use crate::network::{Output, input_ranges, runs};
use crate::parameters::{Convolutions, Statistics};
use crate::pool::{Pool, Room, chunk};

/// Pieces of memory that are kept between passes.
const SPARE: usize = 64;

/// Memory for passes through a network in training, kept from one to the next. A clone shares it. It may serve one network after
/// another; what does not fit the next one is let go.
#[derive(Debug, Clone)]
pub struct TrainingMemory(Arc<Pool<Chunk>>);

impl Default for TrainingMemory {
    fn default() -> Self {
        Self(Arc::new(Pool::of(SPARE)))
    }
}

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

/// The network in use.
#[derive(Debug)]
struct Trained {
    arch: Arch,
    /// What it is made of, without the numbers.
    skeleton: NetworkParameters<(), ()>,
    /// Where each input begins in a row, and its length.
    inputs: Vec<[usize; 2]>,
    input_dim: usize,
    layers: Vec<Layer>,
    output: Output,
    layout: Layout,
    /// Where the inputs' cotangents are.
    input_cotangents: Vec<usize>,
}

#[derive(Debug)]
struct Layer {
    terms: Vec<Term>,
    rectify: bool,
    /// Of the cotangent.
    route: Route,
    /// So many examples are worked on together.
    together: usize,
    /// Which of the spares has its shape.
    spare: usize,
}

/// A convolution, a normalisation, one after the other, or the image itself.
#[derive(Debug)]
struct Term {
    from: usize,
    conv: Option<Conv>,
    norm: Option<BatchNorm>,
}

/// The images of a few examples.
#[derive(Debug)]
struct Chunk {
    /// For so many there is room.
    room: usize,
    /// What for.
    layout: Layout,
    count: usize,
    /// Of the inputs and layers.
    images: Vec<Stack>,
    /// By place.
    cotangents: Vec<Stack>,
    /// By layer.
    terms: Vec<Vec<AtTerm>>,
    spares: Vec<Stack>,
}

/// What a chunk keeps of a term.
#[derive(Debug)]
struct AtTerm {
    /// A normalised convolution's output; on the way back, the cotangent of any convolution's output.
    y: Stack,
    /// Of a normalisation.
    sums: Stack,
}

/// Of which planes a chunk's images are, and what its layers' terms keep.
#[derive(Debug, Clone, PartialEq)]
struct Layout {
    /// Of the inputs and layers.
    images: Vec<Plane>,
    /// By place.
    cotangents: Vec<Plane>,
    /// Whether there is a convolution, and a normalisation: by layer.
    terms: Vec<Vec<[bool; 2]>>,
    /// One of each shape.
    spares: Vec<Plane>,
}

impl Layout {
    /// Zeros for so many examples.
    fn chunk(&self, room: usize) -> Chunk {
        let stacks = |planes: &[Plane]| planes.iter().map(|&plane| Stack::of(plane, room)).collect();
        let inputs = self.images.len() - self.terms.len();
        let terms = self.terms.iter().zip(&self.images[inputs..]).map(|(terms, &plane)| {
            let at = |&[conv, norm]: &[bool; 2]| AtTerm {
                y: if conv { Stack::of(plane, room) } else { Stack::default() },
                sums: if norm { Stack::new(2 * plane.stride(), room) } else { Stack::default() },
            };
            terms.iter().map(at).collect()
        });
        Chunk {
            room,
            layout: self.clone(),
            count: room,
            images: stacks(&self.images),
            cotangents: stacks(&self.cotangents),
            terms: terms.collect(),
            spares: stacks(&self.spares),
        }
    }
}

impl Room for Chunk {
    fn room(&self) -> usize {
        self.room
    }
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
        let (from, to) = (network.input_dim, network.output.dim());
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
        let (from, to) = (network.input_dim, network.output.dim());
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

impl Trained {
    fn new(parameters: &TrainedNetwork, convolutions: Convolutions, arch: Arch) -> Self {
        let planes: Vec<Plane> =
            parameters.shapes(|conv| conv.outputs).into_iter().map(Plane::bordered).collect();
        let mut places = Places::default();
        // Every image is read, or this panics.
        places::images(&parameters.layers, &planes, &mut Places::default());
        let (routes, input_cotangents) = places::cotangents(&parameters.layers, &planes, &mut places);
        let counter = &mut Counter::new(convolutions, usize::MAX);
        let mut spares: Vec<Plane> = Vec::new();
        let layers = parameters.layers.iter().zip(&planes[parameters.inputs.len()..]).zip(routes);
        let layers = layers.map(|((of, &plane), route)| {
            let terms = of.terms.iter().map(|term| {
                let (from, x) = (term.from, planes[term.from]);
                match &term.map {
                    Map::Same => Term { from, conv: None, norm: None },
                    Map::Norm(norm) => Term { from, conv: None, norm: Some(BatchNorm::new(plane, norm)) },
                    Map::Conv { size, stride, conv } => {
                        let between = Planes { x, y: plane, u: plane, dx: x };
                        Term {
                            from,
                            conv: Some(counter.conv(*size, *stride, &conv.kernel, between)),
                            norm: conv.norm.as_ref().map(|norm| BatchNorm::new(plane, norm)),
                        }
                    }
                }
            });
            let terms = terms.collect();
            let spare = spares.iter().position(|&spare| spare == plane).unwrap_or_else(|| {
                spares.push(plane);
                spares.len() - 1
            });
            Layer { terms, rectify: of.rectify, route, together: together(plane), spare }
        });
        let layers: Vec<Layer> = layers.collect();
        let kept = |term: &Term| [term.conv.is_some(), term.norm.is_some()];
        let terms = layers.iter().map(|layer| layer.terms.iter().map(kept).collect()).collect();
        let (inputs, input_dim) = input_ranges(&parameters.inputs);
        Self {
            arch,
            skeleton: parameters.map(|_| (), |_| ()),
            inputs,
            input_dim,
            output: Output::new(&parameters.output, planes[planes.len() - 1]),
            layout: Layout { images: planes, cotangents: places.planes, terms, spares },
            layers,
            input_cotangents,
        }
    }

    /// The shape of the network, with something for each convolution and each normalisation by itself.
    fn like<T, C, N>(
        &self,
        by_term: &[Vec<T>],
        mut conv: impl FnMut(&Term, &T) -> C,
        mut norm: impl FnMut(&Term, &T) -> N,
    ) -> NetworkParameters<C, N> {
        let terms = self.layers.iter().zip(by_term).flat_map(|(layer, of)| layer.terms.iter().zip(of));
        let (mut convs, mut norms) = (Vec::new(), Vec::new());
        for (term, of) in terms {
            match (&term.conv, &term.norm) {
                (Some(_), _) => convs.push(conv(term, of)),
                (None, Some(_)) => norms.push(norm(term, of)),
                (None, None) => {}
            }
        }
        let (mut convs, mut norms) = (convs.into_iter(), norms.into_iter());
        let next = "a term has the map that its layer was made from";
        self.skeleton.map(|_| convs.next().expect(next), |_| norms.next().expect(next))
    }

    /// Makes everything ready that depends on the weights alone; on the way back, of inputs only if that is wanted.
    fn prepare(&self, direction: Direction, inputs: bool) {
        let terms = self.layers.iter().flat_map(|layer| &layer.terms);
        let wanted = terms.filter(|term| inputs || term.from >= self.inputs.len());
        prepare(self.arch, wanted.filter_map(|term| term.conv.as_ref()), direction);
    }

    /// The inputs of some examples, in the order of planes.
    fn enter(&self, rows: &[f32], chunk: &mut Chunk) {
        for (&[start, len], (images, &plane)) in
            self.inputs.iter().zip(chunk.images.iter_mut().zip(&self.layout.images))
        {
            let rows = Dense { data: rows, stride: self.input_dim, start, len };
            for example in 0..chunk.count {
                let (dense, out) = (rows.at(example), images.at_mut(example));
                self.arch.dispatch(FromChannels { dense, out, plane, add: false });
            }
        }
    }

    /// A layer's convolutions that are normalised, and each example's statistics.
    fn begin(&self, number: usize, chunk: &mut Chunk) {
        let layer = &self.layers[number];
        let Chunk { count, images, terms, .. } = chunk;
        for examples in runs(*count, layer.together) {
            for (term, AtTerm { y, sums }) in layer.terms.iter().zip(&mut terms[number]) {
                let Some(norm) = &term.norm else { continue };
                let x = &images[term.from];
                if let Some(conv) = &term.conv {
                    let (x, y) = (x.images(examples.start), y.images_mut(examples.start));
                    conv.apply(self.arch, x, y, examples.len());
                }
                let x = if term.conv.is_some() { &*y } else { x };
                for example in examples.clone() {
                    norm.moments(self.arch, x.at(example), sums.at_mut(example));
                }
            }
        }
    }

    fn gather(&self, number: usize, chunks: &[Chunk]) -> Vec<Option<Gathered>> {
        let terms = self.layers[number].terms.iter().enumerate();
        terms.map(|(at, term)| Some(term.norm.as_ref()?.gather(sums(chunks, number, at)))).collect()
    }

    /// A layer's image.
    fn finish(&self, number: usize, chunk: &mut Chunk, gathered: &[Option<Gathered>]) {
        let layer = &self.layers[number];
        let Chunk { count, images, terms, .. } = chunk;
        let (earlier, later) = images.split_at_mut(self.inputs.len() + number);
        let (image, plane) = (&mut later[0], self.layout.images[self.inputs.len() + number]);
        // A normalisation that comes last takes the rest of the sum and the ReLU in its pass.
        let last = layer.terms.iter().rposition(|term| term.norm.is_some());
        let beside = match (&layer.terms[..], last) {
            ([a, b], Some(last)) if layer.rectify => {
                let other = if last == 0 { b } else { a };
                other.is_same().then_some(1 - last)
            }
            _ => None,
        };
        for examples in runs(*count, layer.together) {
            let mut begun = false;
            for (at, term) in layer.terms.iter().enumerate() {
                if Some(at) == last || Some(at) == beside {
                    continue;
                }
                let x = &earlier[term.from];
                match (&term.norm, &gathered[at], &term.conv) {
                    (Some(norm), Some(gathered), conv) => {
                        let x = if conv.is_some() { &terms[number][at].y } else { x };
                        let then = if begun { Then::Accumulate } else { Then::Store };
                        for example in examples.clone() {
                            norm.normalise(self.arch, gathered, x.at(example), image.at_mut(example), then);
                        }
                    }
                    (_, _, Some(conv)) => {
                        let (x, y) = (x.images(examples.start), image.images_mut(examples.start));
                        match begun {
                            true => conv.accumulate(self.arch, x, y, examples.len()),
                            false => conv.apply(self.arch, x, y, examples.len()),
                        }
                    }
                    _ => copy(self.arch, plane, x, image, begun, examples.clone()),
                }
                begun = true;
            }
            for example in examples {
                let Some(at) = last else {
                    if layer.rectify {
                        self.arch.dispatch(Rectify(image.at_mut(example)));
                    }
                    continue;
                };
                let term = &layer.terms[at];
                let x = if term.conv.is_some() { &terms[number][at].y } else { &earlier[term.from] };
                let then = match (beside, begun, layer.rectify) {
                    (Some(other), ..) => {
                        Then::AddRectify(earlier[layer.terms[other].from].at(example), plane)
                    }
                    (None, true, true) => Then::AccumulateRectify,
                    (None, true, false) => Then::Accumulate,
                    (None, false, true) => Then::Rectify,
                    (None, false, false) => Then::Store,
                };
                if let (Some(norm), Some(gathered)) = (&term.norm, &gathered[at]) {
                    norm.normalise(self.arch, gathered, x.at(example), image.at_mut(example), then);
                }
            }
        }
    }

    /// The way back through a layer's ReLU, and each example's sums for its normalisations.
    fn sum(&self, number: usize, chunk: &mut Chunk, gathered: &[Option<Gathered>]) {
        let layer = &self.layers[number];
        let Chunk { count, images, cotangents, terms, .. } = chunk;
        // A normalisation by itself finds out again what its ReLU let through.
        let alone = layer.rectify && layer.terms.len() == 1 && layer.terms[0].norm.is_some();
        let of_layer = &mut cotangents[layer.route.at];
        for example in 0..*count {
            let u = of_layer.at_mut(example);
            if layer.rectify && !alone {
                let output = images[self.inputs.len() + number].at(example);
                self.arch.dispatch(RectifyVjp { output, u });
            }
            for ((term, at), gathered) in layer.terms.iter().zip(&mut terms[number]).zip(gathered) {
                if let (Some(norm), Some(gathered)) = (&term.norm, gathered) {
                    let AtTerm { y, sums } = at;
                    let x = if term.conv.is_some() { &*y } else { &images[term.from] };
                    norm.sum(self.arch, gathered, u, x.at(example), alone, sums.at_mut(example));
                }
            }
        }
    }

    fn gather_sums(&self, number: usize, chunks: &[Chunk], gathered: &mut [Option<Gathered>]) {
        for (at, (term, gathered)) in self.layers[number].terms.iter().zip(gathered).enumerate() {
            if let (Some(norm), Some(gathered)) = (&term.norm, gathered) {
                norm.gather_sums(gathered, sums(chunks, number, at));
            }
        }
    }

    /// The way back through a layer's terms, to inputs only if that is wanted.
    fn pull(&self, number: usize, chunk: &mut Chunk, gathered: &[Option<Gathered>], wanted: bool) {
        let (arch, layer) = (self.arch, &self.layers[number]);
        let plane = self.layout.images[self.inputs.len() + number];
        let Chunk { count, images, cotangents, terms, spares, .. } = chunk;
        let spare = &mut spares[layer.spare];
        for step in &layer.route.steps {
            let (term, at) = (&layer.terms[step.map], &mut terms[number][step.map]);
            let wanted = wanted || term.from >= self.inputs.len();
            for examples in runs(*count, layer.together) {
                if let (Some(norm), Some(gathered)) = (&term.norm, &gathered[step.map]) {
                    let x = if term.conv.is_some() { &at.y } else { &images[term.from] };
                    let u = &cotangents[layer.route.at];
                    for example in examples.clone() {
                        let out = spare.at_mut(example);
                        norm.pull_back(arch, gathered, u.at(example), x.at(example), out);
                    }
                } else if term.conv.is_some() {
                    copy(arch, plane, &cotangents[layer.route.at], spare, false, examples.clone());
                }
                if !wanted {
                    continue;
                }
                match (&term.conv, &term.norm) {
                    (Some(conv), _) => {
                        pull_back(arch, conv, spare, &mut cotangents[step.at], step.add, examples)
                    }
                    (None, Some(_)) => copy(arch, plane, spare, &mut cotangents[step.at], step.add, examples),
                    (None, None) => {
                        let (u, to) = two(cotangents, layer.route.at, step.at);
                        copy(arch, plane, u, to, step.add, examples);
                    }
                }
            }
            if term.conv.is_some() {
                std::mem::swap(&mut at.y, spare);
            }
        }
    }

    /// The inputs' cotangents, in the order of rows.
    fn leave(&self, chunk: &Chunk, rows: &mut [f32]) {
        for ((&[start, len], &at), &plane) in
            self.inputs.iter().zip(&self.input_cotangents).zip(&self.layout.images)
        {
            let mut rows = DenseMut { data: &mut *rows, stride: self.input_dim, start, len };
            for example in 0..chunk.count {
                let (image, dense) = (chunk.cotangents[at].at(example), rows.at(example));
                self.arch.dispatch(ToChannels { image, plane, dense });
            }
        }
    }

    fn gradients(
        &self,
        chunks: &[Chunk],
        gathered: &[Vec<Option<Gathered>>],
        cotangent: &[f32],
    ) -> TrainedNetwork {
        let mut jobs = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            for (at, term) in layer.terms.iter().enumerate() {
                let Some(conv) = &term.conv else { continue };
                let chunks = chunks
                    .iter()
                    .map(|chunk| (&chunk.images[term.from], &chunk.terms[number][at].y, chunk.count));
                jobs.push(Job { conv, chunks: chunks.collect() });
            }
        }
        let zeros = |job: &Job<'_>| vec![0.0; job.conv.shape().iter().product()];
        let mut kernels: Vec<Vec<f32>> = jobs.iter().map(zeros).collect();
        gradient::accumulate(self.arch, &jobs, &mut kernels.iter_mut().collect::<Vec<_>>());
        let mut kernels = kernels.into_iter();
        let of = |term: &Term, gathered: &Option<Gathered>| -> Option<BatchNormParameters> {
            Some(term.norm.as_ref()?.gradients(gathered.as_ref()?))
        };
        let mut gradients = self.like(
            gathered,
            |term, gathered| TrainedConv {
                outputs: term.conv.as_ref().map_or(0, |conv| conv.planes.y.channels),
                kernel: kernels.next().expect("a gradient for each convolution"),
                norm: of(term, gathered),
            },
            |term, gathered| of(term, gathered).expect("a normalisation has gathered statistics"),
        );
        if let (OutputParameters::Logits { weight, bias, .. }, Output::Logits(classifier)) =
            (&mut gradients.output, &self.output)
        {
            let last = self.layout.images.len() - 1;
            let images = chunks.iter().flat_map(|chunk| (0..chunk.count).map(|at| chunk.images[last].at(at)));
            (*weight, *bias) = classifier.gradients(images.zip(cotangent.chunks_exact(bias.len())));
        }
        gradients
    }
}

impl Term {
    fn is_same(&self) -> bool {
        self.conv.is_none() && self.norm.is_none()
    }
}

/// All chunks, each its own task.
fn each(chunks: &mut [Chunk], step: impl Fn(&mut Chunk) + Send + Sync) {
    chunks.par_iter_mut().with_max_len(1).for_each(step);
}

/// Every example's sums at a term, in order.
fn sums(chunks: &[Chunk], number: usize, term: usize) -> impl Iterator<Item = &[f32]> + Clone {
    chunks.iter().flat_map(move |chunk| (0..chunk.count).map(move |at| chunk.terms[number][term].sums.at(at)))
}

/// out = x, or out += x, of some examples.
fn copy(arch: Arch, plane: Plane, x: &Stack, out: &mut Stack, add: bool, examples: Range<usize>) {
    for example in examples {
        let (x, out) = (x.at(example), out.at_mut(example));
        arch.dispatch(Copy { x, plane, out, out_plane: plane, add });
    }
}
