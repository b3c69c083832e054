//! A network in training, in use: what each layer does between two meetings of the tasks.

use std::ops::Range;

use pulp::Arch;

use crate::convolution::gradient::{self, Job};
use crate::convolution::{Conv, Counter, Direction, Planes, prepare};
use crate::image::norm::Then;
use crate::image::passes::{Copy, Rectify, RectifyVjp};
use crate::image::plane::Plane;
use crate::image::stack::Stack;
use crate::network::batch_norm::{BatchNorm, Gathered};
use crate::network::layer::{pull_back, two};
use crate::network::parameters::{
    BatchNormParameters, Map, NetworkParameters, OutputParameters, TrainedConv,
};
use crate::network::places::{self, Places, Route};
use crate::network::plan::together;
use crate::network::training::TrainedNetwork;
use crate::network::training::memory::{AtTerm, Chunk, Layout};
use crate::network::{Inputs, Output, runs};
use crate::parameters::Convolutions;

/// The network in use.
#[derive(Debug)]
pub(crate) struct Trained {
    pub arch: Arch,
    /// What it is made of, without the numbers.
    skeleton: NetworkParameters<(), ()>,
    pub inputs: Inputs,
    pub layers: Vec<Layer>,
    pub output: Output,
    pub layout: Layout,
    /// Where the inputs' cotangents are.
    input_cotangents: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct Layer {
    terms: Vec<Term>,
    rectify: bool,
    /// Of the cotangent.
    pub route: Route,
    /// So many examples are worked on together.
    together: usize,
    /// Which of the spares has its shape.
    spare: usize,
}

/// A convolution, a normalisation, one after the other, or the image itself.
#[derive(Debug)]
pub(crate) struct Term {
    from: usize,
    conv: Option<Conv>,
    pub norm: Option<BatchNorm>,
}

impl Trained {
    pub fn new(parameters: &TrainedNetwork, convolutions: Convolutions, arch: Arch) -> Self {
        let planes: Vec<Plane> =
            parameters.shapes(|conv| conv.outputs).into_iter().map(Plane::bordered).collect();
        let mut places = Places::default();
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
        Self {
            arch,
            skeleton: parameters.map(|_| (), |_| ()),
            inputs: Inputs::new(&parameters.inputs),
            output: Output::new(&parameters.output, planes[planes.len() - 1]),
            layout: Layout { images: planes, cotangents: places.planes, terms, spares },
            layers,
            input_cotangents,
        }
    }

    /// The shape of the network, with something for each convolution and each normalisation by itself.
    pub fn like<T, C, N>(
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
    pub fn prepare(&self, direction: Direction, inputs: bool) {
        let terms = self.layers.iter().flat_map(|layer| &layer.terms);
        let wanted = terms.filter(|term| inputs || term.from >= self.inputs.ranges.len());
        prepare(self.arch, wanted.filter_map(|term| term.conv.as_ref()), direction);
    }

    /// The inputs of some examples, in the order of planes.
    pub fn enter(&self, rows: &[f32], chunk: &mut Chunk) {
        let Chunk { count, images, .. } = chunk;
        for (input, &plane) in self.layout.images[..self.inputs.ranges.len()].iter().enumerate() {
            self.inputs.enter(self.arch, input, rows, (plane, &mut images[input]), 0..*count);
        }
    }

    /// A layer's convolutions that are normalised, and each example's statistics.
    pub fn begin(&self, number: usize, chunk: &mut Chunk) {
        let layer = &self.layers[number];
        let Chunk { count, images, terms, .. } = chunk;
        for examples in runs(*count, layer.together) {
            for (term, AtTerm { y, sums }) in layer.terms.iter().zip(&mut terms[number]) {
                let Some(norm) = &term.norm else { continue };
                if let Some(conv) = &term.conv {
                    let (x, y) = (&images[term.from], &mut *y);
                    let (x, y) = (x.images(examples.start), y.images_mut(examples.start));
                    conv.apply(self.arch, x, y, examples.len());
                }
                let x = term.normalised(y, images);
                for example in examples.clone() {
                    norm.moments(self.arch, x.at(example), sums.at_mut(example));
                }
            }
        }
    }

    pub fn gather(&self, number: usize, chunks: &[Chunk]) -> Vec<Option<Gathered>> {
        let terms = self.layers[number].terms.iter().enumerate();
        terms.map(|(at, term)| Some(term.norm.as_ref()?.gather(sums(chunks, number, at)))).collect()
    }

    /// A layer's image.
    pub fn finish(&self, number: usize, chunk: &mut Chunk, gathered: &[Option<Gathered>]) {
        let layer = &self.layers[number];
        let Chunk { count, images, terms, .. } = chunk;
        let (earlier, later) = images.split_at_mut(self.inputs.ranges.len() + number);
        let (image, plane) = (&mut later[0], self.layout.images[self.inputs.ranges.len() + number]);
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
                    (Some(norm), Some(gathered), _) => {
                        let x = term.normalised(&terms[number][at].y, earlier);
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
                let x = term.normalised(&terms[number][at].y, earlier);
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
    pub fn sum(&self, number: usize, chunk: &mut Chunk, gathered: &[Option<Gathered>]) {
        let layer = &self.layers[number];
        let Chunk { count, images, cotangents, terms, .. } = chunk;
        // A normalisation by itself finds out again what its ReLU let through.
        let alone = layer.rectify && layer.terms.len() == 1 && layer.terms[0].norm.is_some();
        let of_layer = &mut cotangents[layer.route.at];
        for example in 0..*count {
            let u = of_layer.at_mut(example);
            if layer.rectify && !alone {
                let output = images[self.inputs.ranges.len() + number].at(example);
                self.arch.dispatch(RectifyVjp { output, u });
            }
            for ((term, at), gathered) in layer.terms.iter().zip(&mut terms[number]).zip(gathered) {
                if let (Some(norm), Some(gathered)) = (&term.norm, gathered) {
                    let AtTerm { y, sums } = at;
                    let x = term.normalised(y, images);
                    norm.sum(self.arch, gathered, u, x.at(example), alone, sums.at_mut(example));
                }
            }
        }
    }

    pub fn gather_sums(&self, number: usize, chunks: &[Chunk], gathered: &mut [Option<Gathered>]) {
        for (at, (term, gathered)) in self.layers[number].terms.iter().zip(gathered).enumerate() {
            if let (Some(norm), Some(gathered)) = (&term.norm, gathered) {
                norm.gather_sums(gathered, sums(chunks, number, at));
            }
        }
    }

    /// The way back through a layer's terms, to inputs only if that is wanted.
    pub fn pull(&self, number: usize, chunk: &mut Chunk, gathered: &[Option<Gathered>], wanted: bool) {
        let (arch, layer) = (self.arch, &self.layers[number]);
        let plane = self.layout.images[self.inputs.ranges.len() + number];
        let Chunk { count, images, cotangents, terms, spares, .. } = chunk;
        let spare = &mut spares[layer.spare];
        for step in &layer.route.steps {
            let (term, at) = (&layer.terms[step.map], &mut terms[number][step.map]);
            let wanted = wanted || term.from >= self.inputs.ranges.len();
            for examples in runs(*count, layer.together) {
                if let (Some(norm), Some(gathered)) = (&term.norm, &gathered[step.map]) {
                    let x = term.normalised(&at.y, images);
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
    pub fn leave(&self, chunk: &Chunk, rows: &mut [f32]) {
        for (input, &at) in self.input_cotangents.iter().enumerate() {
            let images = (self.layout.images[input], &chunk.cotangents[at]);
            self.inputs.leave(self.arch, input, images, rows, 0..chunk.count);
        }
    }

    pub fn gradients(
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
    /// What its normalisation reads: its convolution's output y, or an earlier image.
    fn normalised<'a>(&self, y: &'a Stack, images: &'a [Stack]) -> &'a Stack {
        if self.conv.is_some() { y } else { &images[self.from] }
    }

    fn is_same(&self) -> bool {
        self.conv.is_none() && self.norm.is_none()
    }
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
