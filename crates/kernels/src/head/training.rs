//! The head in training: batch normalisations use the batch's statistics, and every parameter gets its gradient.
//!
//! All branches take the same steps at once, so that the tasks meet only three times before the branches are merged,
//! and once for each branch while they are.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use crate::batch_norm::{Activations, Finish, Gathered, Normed, Trained, gradients};
use crate::convolution::Counter;
use crate::head::CHUNK;
use crate::image::layout::{FromChannels, ToChannels};
use crate::image::passes::{Copy, RectifyVjp};
use crate::image::plane::Plane;
use crate::image::stack::{Dense, DenseMut, Stack};
use crate::parameters::{BottleneckParameters, Convolutions, HeadParameters, NormedConv, Statistics};
use crate::pool::chunk;

/// An MDEQ head on its way through a batch: evaluated, and ready to be pulled back through.
///
/// No result depends, to the bit, on the number of threads.
#[derive(Debug)]
pub struct HeadPass {
    arch: Arch,
    branches: Vec<Branch>,
    last: Normed,
    /// `[classes, features]`.
    weight: Vec<f32>,
    classes: usize,
    /// Length of a state.
    dim: usize,
    chunks: Vec<Chunk>,
    /// By convolution.
    gathered: Vec<Gathered>,
}

/// Gradients of a head's parameters, summed over the batch.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadGradients {
    /// In the order of [`HeadParameters::convs`].
    pub convs: Vec<NormedConv>,
    /// Of the classifier's weights `[K, C]` and biases `[K]`.
    pub classifier: (Vec<f32>, Vec<f32>),
}

/// A bottleneck, and the way to its branch from the finer one.
#[derive(Debug)]
struct Branch {
    /// Where it begins in a flat state, and its length.
    start: usize,
    len: usize,
    plane: Plane,
    first: Normed,
    second: Normed,
    third: Normed,
    /// `None` where the state itself is the shortcut.
    shortcut: Option<Normed>,
    /// `None` in the finest branch.
    down: Option<Normed>,
}

/// The convolutions of a branch, in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    First,
    Second,
    Third,
    Shortcut,
    Down,
}

const PARTS: [Part; 5] = [Part::First, Part::Second, Part::Third, Part::Shortcut, Part::Down];

/// The images of a few examples.
#[derive(Debug)]
struct Chunk {
    count: usize,
    branches: Vec<Images>,
    last: Activations,
    /// After the last ReLU.
    features: Stack,
    /// Their means over pixels, one plane of one pixel each.
    pooled: Stack,
    logits: Vec<f32>,
}

/// Those of one branch.
#[derive(Debug)]
struct Images {
    z: Stack,
    /// The cotangent of z.
    at_z: Stack,
    first: Activations,
    /// After the ReLU of each narrow convolution.
    hidden: [Stack; 2],
    second: Activations,
    third: Activations,
    shortcut: Option<Activations>,
    /// The bottleneck's output.
    own: Stack,
    down: Option<Activations>,
    /// The bottleneck's output and what comes from the finer branch.
    sum: Stack,
    /// The cotangent of the sum.
    at_sum: Stack,
}

impl Branch {
    fn new(
        shape: [usize; 3],
        start: usize,
        parameters: &BottleneckParameters<NormedConv>,
        down: Option<(&NormedConv, Plane)>,
        counter: &mut Counter,
    ) -> Self {
        let [_, height, width] = shape;
        let BottleneckParameters { conv1, conv2, conv3, shortcut } = parameters;
        let z = Plane::bordered(shape);
        let narrow = Plane::bordered([conv1.outputs, height, width]);
        let wide = Plane::bordered([conv3.outputs, height, width]);
        assert!(shortcut.is_some() || z.channels == wide.channels, "a shortcut where the shape changes");
        // In the order of `HeadParameters::convs`.
        Self {
            start,
            len: shape.iter().product(),
            plane: z,
            first: Normed::new(1, 1, conv1, [z, narrow], counter),
            second: Normed::new(3, 1, conv2, [narrow, narrow], counter),
            third: Normed::new(1, 1, conv3, [narrow, wide], counter),
            shortcut: shortcut.as_ref().map(|shortcut| Normed::new(1, 1, shortcut, [z, wide], counter)),
            down: down.map(|(down, from)| Normed::new(3, 2, down, [from, wide], counter)),
        }
    }

    fn images(&self, count: usize) -> Images {
        let (narrow, wide) = (self.first.plane(), self.third.plane());
        let activations = |normed: &Option<Normed>| normed.as_ref().map(|normed| normed.activations(count));
        Images {
            z: Stack::of(self.plane, count),
            at_z: Stack::of(self.plane, count),
            first: self.first.activations(count),
            hidden: [Stack::of(narrow, count), Stack::of(narrow, count)],
            second: self.second.activations(count),
            third: self.third.activations(count),
            shortcut: activations(&self.shortcut),
            own: Stack::of(wide, count),
            down: activations(&self.down),
            sum: Stack::of(wide, count),
            at_sum: Stack::of(wide, count),
        }
    }

    fn part(&self, part: Part) -> Option<&Normed> {
        match part {
            Part::First => Some(&self.first),
            Part::Second => Some(&self.second),
            Part::Third => Some(&self.third),
            Part::Shortcut => self.shortcut.as_ref(),
            Part::Down => self.down.as_ref(),
        }
    }
}

impl Images {
    fn part(&self, part: Part) -> Option<&Activations> {
        match part {
            Part::First => Some(&self.first),
            Part::Second => Some(&self.second),
            Part::Third => Some(&self.third),
            Part::Shortcut => self.shortcut.as_ref(),
            Part::Down => self.down.as_ref(),
        }
    }

    /// What a convolution reads; not that of [`Part::Down`], which reads the finer branch's sum.
    fn input(&self, part: Part) -> &Stack {
        match part {
            Part::First | Part::Shortcut | Part::Down => &self.z,
            Part::Second => &self.hidden[0],
            Part::Third => &self.hidden[1],
        }
    }
}

impl HeadPass {
    /// Logits `[N, K]` of states `[N, D]`.
    ///
    /// # Panics
    ///
    /// If the parameters' shapes contradict each other: a branch that is not half as high and wide as the one
    /// before it, a kernel of the wrong length, a missing convolution; or if the lengths are not those of one
    /// number N of examples.
    pub fn forward(parameters: &HeadParameters<NormedConv>, state: &[f32], logits: &mut [f32]) -> Self {
        let HeadParameters { branches: shapes, bottlenecks, down, last, classifier } = parameters;
        assert!(!shapes.is_empty(), "a head has at least one branch");
        assert_eq!(bottlenecks.len(), shapes.len(), "one bottleneck per branch");
        assert_eq!(down.len() + 1, shapes.len(), "one way down from each branch but the last");
        let arch = Arch::new();
        // Most of its products are in convolutions of stride 2 and of one by one.
        let counter = &mut Counter::new(arch, Convolutions::Direct, usize::MAX);
        let mut branches: Vec<Branch> = Vec::with_capacity(shapes.len());
        let mut dim = 0;
        for (i, (&shape, bottleneck)) in shapes.iter().zip(bottlenecks).enumerate() {
            let down = branches.last().map(|finer| (&down[i - 1], finer.third.plane()));
            let branch = Branch::new(shape, dim, bottleneck, down, counter);
            dim += branch.len;
            branches.push(branch);
        }
        let x = branches[shapes.len() - 1].third.plane();
        let y = Plane::plain([last.outputs, x.height, x.width]);
        let last = Normed::new(1, 1, last, [x, y], counter);
        let (weight, bias) = classifier;
        let classes = bias.len();
        assert_eq!(weight.len(), classes * y.channels, "a weight for each class and feature");
        let count = state.len() / dim;
        assert_eq!(state.len(), count * dim, "a state of {dim} numbers per example");
        assert_eq!(logits.len(), count * classes, "{classes} logits for each of {count} examples");

        let size = chunk(count, CHUNK);
        let numbers: Vec<usize> =
            (0..count).step_by(size.max(1)).map(|first| size.min(count - first)).collect();
        let chunks = numbers.into_par_iter().with_max_len(1).map(|count| Chunk {
            count,
            branches: branches.iter().map(|branch| branch.images(count)).collect(),
            last: last.activations(count),
            features: Stack::of(y, count),
            pooled: Stack::new(y.stride(), count),
            logits: vec![0.0; count * classes],
        });
        let gathered = vec![Gathered::default(); last.conv.id + 1];
        let mut pass = Self {
            arch,
            chunks: chunks.collect(),
            branches,
            last,
            weight: weight.clone(),
            classes,
            dim,
            gathered,
        };
        pass.evaluate(state, bias);
        let found = pass.chunks.iter().flat_map(|chunk| &chunk.logits);
        logits.iter_mut().zip(found).for_each(|(to, from)| *to = *from);
        pass
    }

    /// The batch's statistics, in the order of [`HeadParameters::convs`].
    pub fn statistics(&self) -> Vec<Statistics> {
        let of = |normed: &Normed| normed.statistics(&self.gathered[normed.conv.id]);
        let parts =
            self.branches.iter().flat_map(|branch| PARTS.into_iter().filter_map(|part| branch.part(part)));
        parts.chain([&self.last]).map(of).collect()
    }

    fn evaluate(&mut self, state: &[f32], bias: &[f32]) {
        let Self { arch, branches, last, weight, dim, chunks, gathered, .. } = self;
        let (arch, dim, branches, last) = (*arch, *dim, &*branches, &*last);
        let size = chunks.first().map_or(1, |chunk| chunk.count) * dim;
        chunks.par_iter_mut().zip(state.par_chunks(size)).with_max_len(1).for_each(|(chunk, data)| {
            let count = chunk.count;
            for (branch, images) in branches.iter().zip(&mut chunk.branches) {
                let dense = Dense { data, stride: dim, start: branch.start, len: branch.len };
                for example in 0..count {
                    let (dense, out) = (dense.at(example), images.z.at_mut(example));
                    arch.dispatch(FromChannels { dense, out, plane: branch.plane, add: false });
                }
                branch.first.convolve(arch, &images.z, &mut images.first, count);
                if let (Some(shortcut), Some(at)) = (&branch.shortcut, &mut images.shortcut) {
                    shortcut.convolve(arch, &images.z, at, count);
                }
            }
        });
        let all = 0..branches.len();
        gather(branches, chunks, gathered, all.clone(), Part::First);
        gather(branches, chunks, gathered, all.clone(), Part::Shortcut);
        each(branches, chunks, |branch, images, count| {
            let Images { first, hidden: [hidden, _], second, .. } = images;
            let of = &gathered[branch.first.conv.id];
            branch.first.normalise(arch, of, &first.y, hidden, Finish::Rectify, count);
            branch.second.convolve(arch, hidden, second, count);
        });
        gather(branches, chunks, gathered, all.clone(), Part::Second);
        each(branches, chunks, |branch, images, count| {
            let Images { second, hidden: [_, hidden], third, .. } = images;
            let of = &gathered[branch.second.conv.id];
            branch.second.normalise(arch, of, &second.y, hidden, Finish::Rectify, count);
            branch.third.convolve(arch, hidden, third, count);
        });
        gather(branches, chunks, gathered, all.clone(), Part::Third);
        each(branches, chunks, |branch, images, count| {
            let Images { z, third, shortcut, own, sum, .. } = images;
            let other = match (&branch.shortcut, shortcut) {
                (Some(normed), Some(at)) => {
                    // The cotangent's memory is free so far.
                    let of = &gathered[normed.conv.id];
                    normed.normalise(arch, of, &at.y, &mut at.u, Finish::Store, count);
                    &at.u
                }
                _ => &*z,
            };
            let of = &gathered[branch.third.conv.id];
            branch.third.normalise(arch, of, &third.y, own, Finish::AddRectify(other), count);
            copy(arch, branch.third.plane(), own, sum, count, false);
        });
        for i in all {
            chunks.par_iter_mut().with_max_len(1).for_each(|chunk| {
                let count = chunk.count;
                let (here, coarser) = chunk.branches[i..].split_first_mut().expect("branch i is there");
                if let (Some(normed), Some(at)) = (&branches[i].down, &mut here.down) {
                    let of = &gathered[normed.conv.id];
                    normed.normalise(arch, of, &at.y, &mut at.u, Finish::Rectify, count);
                    copy(arch, normed.plane(), &at.u, &mut here.sum, count, true);
                }
                let next = branches.get(i + 1).and_then(|branch| branch.down.as_ref());
                match (next, coarser.first_mut().and_then(|images| images.down.as_mut())) {
                    (Some(normed), Some(at)) => normed.convolve(arch, &here.sum, at, count),
                    _ => last.convolve(arch, &here.sum, &mut chunk.last, count),
                }
            });
            gather(branches, chunks, gathered, i + 1..(i + 2).min(branches.len()), Part::Down);
        }
        let found = last.gather(chunks.iter().map(|chunk| (&chunk.last, chunk.count)));
        gathered[last.conv.id] = found;
        let plane = last.plane();
        let share = 1.0 / (plane.height * plane.width) as f32;
        chunks.par_iter_mut().with_max_len(1).for_each(|chunk| {
            let Chunk { count, last: at, features, pooled, logits, .. } = chunk;
            last.normalise(arch, &gathered[last.conv.id], &at.y, features, Finish::Rectify, *count);
            for (example, logits) in logits.chunks_exact_mut(bias.len()).enumerate() {
                let pooled = pooled.at_mut(example);
                for pixel in features.at(example).chunks_exact(plane.stride()) {
                    pooled.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
                }
                pooled.iter_mut().for_each(|sum| *sum *= share);
                for ((logit, bias), weight) in logits.iter_mut().zip(bias).zip(weight.chunks(plane.channels))
                {
                    let terms = weight.iter().zip(&*pooled).map(|(w, x)| f64::from(*w) * f64::from(*x));
                    *logit = (terms.sum::<f64>() + f64::from(*bias)) as f32;
                }
            }
        });
    }

    /// uᵀ ∂logits/∂state `[N, D]` for cotangents u `[N, K]`, and uᵀ ∂logits/∂θ summed over the batch.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of the examples that were evaluated.
    pub fn pull_back(mut self, cotangent: &[f32], state: &mut [f32]) -> HeadGradients {
        let Self { arch, branches, last, weight, classes, dim, chunks, gathered } = &mut self;
        let (arch, classes, dim, branches, last) = (*arch, *classes, *dim, &*branches, &*last);
        let count: usize = chunks.iter().map(|chunk| chunk.count).sum();
        assert_eq!(state.len(), count * dim, "as many examples as were evaluated");
        assert_eq!(cotangent.len(), count * classes, "{classes} cotangents for each of {count} examples");
        let size = chunks.first().map_or(1, |chunk| chunk.count);
        let plane = last.plane();
        let share = 1.0 / (plane.height * plane.width) as f32;
        let classifier = classifier_gradients(chunks, cotangent, classes, plane.channels);

        let of = &gathered[last.conv.id];
        let rows = cotangent.par_chunks(size * classes);
        chunks.par_iter_mut().zip(rows).with_max_len(1).for_each(|(chunk, cotangent)| {
            let Chunk { last: at, pooled, count, .. } = chunk;
            for (example, cotangent) in cotangent.chunks_exact(classes).enumerate() {
                let pooled = pooled.at_mut(example);
                pooled.fill(0.0);
                for (u, weight) in cotangent.iter().zip(weight.chunks(plane.channels)) {
                    pooled.iter_mut().zip(weight).for_each(|(sum, w)| *sum += u * share * w);
                }
                for pixel in at.u.at_mut(example).chunks_exact_mut(plane.stride()) {
                    pixel.copy_from_slice(pooled);
                }
            }
            last.sum(arch, of, at, true, *count);
        });
        last.gather_sums(&mut gathered[last.conv.id], chunks.iter().map(|chunk| (&chunk.last, chunk.count)));
        for i in (0..branches.len()).rev() {
            chunks.par_iter_mut().with_max_len(1).for_each(|chunk| {
                let count = chunk.count;
                let (here, coarser) = chunk.branches[i..].split_first_mut().expect("branch i is there");
                let next = branches.get(i + 1).and_then(|branch| branch.down.as_ref());
                let (normed, at) = match (next, coarser.first_mut().and_then(|images| images.down.as_mut())) {
                    (Some(normed), Some(at)) => (normed, at),
                    _ => (last, &mut chunk.last),
                };
                normed.pull_back(arch, &gathered[normed.conv.id], at, count);
                normed.pull_input(arch, at, &mut here.at_sum, count, false);
                let Images { own, third, shortcut, down, at_sum, .. } = here;
                let wide = branches[i].third.plane();
                if let (Some(normed), Some(at)) = (&branches[i].down, down) {
                    copy(arch, wide, at_sum, &mut at.u, count, false);
                    normed.sum(arch, &gathered[normed.conv.id], at, true, count);
                }
                for example in 0..count {
                    arch.dispatch(RectifyVjp { output: own.at(example), u: at_sum.at_mut(example) });
                }
                copy(arch, wide, at_sum, &mut third.u, count, false);
                branches[i].third.sum(arch, &gathered[branches[i].third.conv.id], third, false, count);
                if let (Some(normed), Some(at)) = (&branches[i].shortcut, shortcut) {
                    copy(arch, wide, at_sum, &mut at.u, count, false);
                    normed.sum(arch, &gathered[normed.conv.id], at, false, count);
                }
            });
            for part in [Part::Down, Part::Third, Part::Shortcut] {
                gather_sums(branches, chunks, gathered, i..i + 1, part);
            }
        }
        let all = 0..branches.len();
        each(branches, chunks, |branch, images, count| {
            let Images { third, second, .. } = images;
            branch.third.pull_back(arch, &gathered[branch.third.conv.id], third, count);
            branch.third.pull_input(arch, third, &mut second.u, count, false);
            branch.second.sum(arch, &gathered[branch.second.conv.id], second, true, count);
        });
        gather_sums(branches, chunks, gathered, all.clone(), Part::Second);
        each(branches, chunks, |branch, images, count| {
            let Images { second, first, .. } = images;
            branch.second.pull_back(arch, &gathered[branch.second.conv.id], second, count);
            branch.second.pull_input(arch, second, &mut first.u, count, false);
            branch.first.sum(arch, &gathered[branch.first.conv.id], first, true, count);
        });
        gather_sums(branches, chunks, gathered, all, Part::First);
        chunks.par_iter_mut().zip(state.par_chunks_mut(size * dim)).with_max_len(1).for_each(
            |(chunk, data)| {
                let count = chunk.count;
                for (branch, images) in branches.iter().zip(&mut chunk.branches) {
                    let Images { first, shortcut, at_z, at_sum, .. } = images;
                    branch.first.pull_back(arch, &gathered[branch.first.conv.id], first, count);
                    branch.first.pull_input(arch, first, at_z, count, false);
                    match (&branch.shortcut, shortcut) {
                        (Some(normed), Some(at)) => {
                            normed.pull_back(arch, &gathered[normed.conv.id], at, count);
                            normed.pull_input(arch, at, at_z, count, true);
                        }
                        _ => copy(arch, branch.plane, at_sum, at_z, count, true),
                    }
                    let mut dense = DenseMut { data, stride: dim, start: branch.start, len: branch.len };
                    for example in 0..count {
                        let (image, dense) = (at_z.at(example), dense.at(example));
                        arch.dispatch(ToChannels { image, plane: branch.plane, dense });
                    }
                }
            },
        );
        HeadGradients { convs: gradients(arch, trained(branches, last, chunks), gathered), classifier }
    }
}

/// Every convolution with what it read.
fn trained<'a>(branches: &'a [Branch], last: &'a Normed, chunks: &'a [Chunk]) -> Vec<Trained<'a>> {
    let mut trained = Vec::new();
    for (i, branch) in branches.iter().enumerate() {
        for part in PARTS {
            let Some(normed) = branch.part(part) else { continue };
            let chunks = chunks.iter().filter_map(|chunk| {
                let images = &chunk.branches[i];
                let input = match part {
                    Part::Down => &chunk.branches[i - 1].sum,
                    part => images.input(part),
                };
                Some((input, images.part(part)?, chunk.count))
            });
            trained.push(Trained { normed, chunks: chunks.collect() });
        }
    }
    let coarsest = branches.len() - 1;
    let chunks = chunks.iter().map(|chunk| (&chunk.branches[coarsest].sum, &chunk.last, chunk.count));
    trained.push(Trained { normed: last, chunks: chunks.collect() });
    trained
}

/// Gradients of the classifier's weights and biases.
fn classifier_gradients(
    chunks: &[Chunk],
    cotangent: &[f32],
    classes: usize,
    features: usize,
) -> (Vec<f32>, Vec<f32>) {
    let (mut weight, mut bias) = (vec![0.0; classes * features], vec![0.0; classes]);
    let pooled = chunks.iter().flat_map(|chunk| (0..chunk.count).map(|example| chunk.pooled.at(example)));
    for (pooled, cotangent) in pooled.zip(cotangent.chunks_exact(classes)) {
        for ((u, weight), bias) in cotangent.iter().zip(weight.chunks_exact_mut(features)).zip(&mut bias) {
            weight.iter_mut().zip(pooled).for_each(|(sum, x)| *sum += u * x);
            *bias += u;
        }
    }
    (weight, bias)
}

/// All branches of all chunks.
fn each(branches: &[Branch], chunks: &mut [Chunk], step: impl Fn(&Branch, &mut Images, usize) + Sync) {
    chunks.par_iter_mut().with_max_len(1).for_each(|chunk| {
        for (branch, images) in branches.iter().zip(&mut chunk.branches) {
            step(branch, images, chunk.count);
        }
    });
}

/// Gathers the statistics of one part of some branches.
fn gather(branches: &[Branch], chunks: &[Chunk], into: &mut [Gathered], which: Range<usize>, part: Part) {
    for i in which {
        let Some(normed) = branches[i].part(part) else { continue };
        let images = chunks.iter().filter_map(|chunk| Some((chunk.branches[i].part(part)?, chunk.count)));
        into[normed.conv.id] = normed.gather(images);
    }
}

/// Gathers the sums over cotangents.
fn gather_sums(
    branches: &[Branch],
    chunks: &[Chunk],
    into: &mut [Gathered],
    which: Range<usize>,
    part: Part,
) {
    for i in which {
        let Some(normed) = branches[i].part(part) else { continue };
        let images = chunks.iter().filter_map(|chunk| Some((chunk.branches[i].part(part)?, chunk.count)));
        normed.gather_sums(&mut into[normed.conv.id], images);
    }
}

/// out = x, or out += x.
fn copy(arch: Arch, plane: Plane, x: &Stack, out: &mut Stack, count: usize, add: bool) {
    for example in 0..count {
        let (x, out) = (x.at(example), out.at_mut(example));
        arch.dispatch(Copy { x, plane, out, out_plane: plane, add });
    }
}
