//! The head: a bottleneck per branch, merged from fine to coarse, pooled and classified; and its vector-Jacobian
//! product to the state. Parameters are constants, batch normalisations folded into their convolutions.
//!
//! A chunk of examples keeps one image for each ReLU. On the way back, a ReLU's output is replaced by the cotangent of
//! its input as soon as that is known, so that a product takes hardly more memory than an evaluation.

pub(crate) mod training;

use std::sync::Arc;

use pulp::Arch;
use rayon::prelude::*;

use crate::convolution::{Conv, Counter, Planes};
use crate::image::layout::{FromChannels, ToChannels};
use crate::image::passes::{Biased, Copy, Gate};
use crate::image::plane::Plane;
use crate::image::stack::{Dense, DenseMut, Stack};
use crate::parameters::{BiasedConv, BottleneckParameters, Convolutions, HeadParameters};
use crate::pool::{Pool, Room, chunk};

/// Examples of one chunk, at most.
pub(crate) const CHUNK: usize = 8;
/// Chunks that memory is kept for between calls.
pub(crate) const SPARE: usize = 8;

/// An MDEQ head with its weights, ready to be evaluated. A clone is cheap and shares everything.
///
/// No result depends, to the bit, on which other examples are in the batch or on the number of threads.
#[derive(Debug, Clone)]
pub struct Head(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    arch: Arch,
    branches: Vec<Branch>,
    last: Layer,
    /// `[classes, features]` and `[classes]`.
    weight: Vec<f32>,
    bias: Vec<f32>,
    /// Length of a state.
    dim: usize,
    spare: Pool<Chunk>,
}

/// A convolution with a bias.
#[derive(Debug)]
pub(crate) struct Layer {
    pub conv: Conv,
    /// By channel, padded with zeros.
    bias: Vec<f32>,
}

/// A bottleneck, and the way to its branch from the finer one.
#[derive(Debug)]
struct Branch {
    /// Where it begins in a flat state, and its length.
    start: usize,
    len: usize,
    first: Layer,
    second: Layer,
    /// Its bias has the shortcut's added.
    third: Layer,
    /// `None` where the state itself is the shortcut.
    shortcut: Option<Conv>,
    /// `None` in the finest branch.
    down: Option<Layer>,
}

/// What an evaluation leaves for its vector-Jacobian product.
#[derive(Debug)]
pub struct HeadTape {
    head: Head,
    chunks: Vec<Chunk>,
}

/// The images of a few examples.
#[derive(Debug)]
struct Chunk {
    branches: Vec<Images>,
    /// After the last convolution's ReLU.
    last: Stack,
}

/// The images of one branch, all bordered. Named by what they are after an evaluation.
#[derive(Debug)]
struct Images {
    z: Stack,
    /// After the ReLU of each narrow convolution.
    first: Stack,
    second: Stack,
    /// The bottleneck's output.
    own: Stack,
    /// What comes from the finer branch; empty in the finest.
    down: Stack,
    /// The sum of both, then its cotangent.
    sum: Stack,
    /// A cotangent between the narrow convolutions.
    narrow: Stack,
}

impl Layer {
    pub fn new(
        size: usize,
        stride: usize,
        parameters: &BiasedConv,
        x: Plane,
        y: Plane,
        counter: &mut Counter,
    ) -> Self {
        assert_eq!(parameters.bias.len(), y.channels, "one bias for each of {} channels", y.channels);
        let mut bias = parameters.bias.clone();
        bias.resize(y.stride(), 0.0);
        Self { conv: counter.conv(size, stride, &parameters.kernel, Planes { x, y, u: y, dx: x }), bias }
    }

    /// y = ReLU(conv(x) + bias), for `count` examples.
    pub fn rectified(&self, arch: Arch, x: &Stack, y: &mut Stack, count: usize) {
        self.conv.apply(arch, x.images(0), y.images_mut(0), count);
        self.rectify(arch, y, count);
    }

    fn rectify(&self, arch: Arch, y: &mut Stack, count: usize) {
        for example in 0..count {
            let (image, plane) = (y.at_mut(example), self.conv.planes.y);
            arch.dispatch(Biased { image, plane, bias: &self.bias });
        }
    }
}

impl Branch {
    fn new(
        shape: [usize; 3],
        start: usize,
        parameters: &BottleneckParameters<BiasedConv>,
        down: Option<(&BiasedConv, Plane)>,
        counter: &mut Counter,
    ) -> Self {
        let [_, height, width] = shape;
        let BottleneckParameters { conv1, conv2, conv3, shortcut } = parameters;
        let z = Plane::bordered(shape);
        let narrow = Plane::bordered([conv1.bias.len(), height, width]);
        let wide = Plane::bordered([conv3.bias.len(), height, width]);
        let mut third = Layer::new(1, 1, conv3, narrow, wide, counter);
        let shortcut = shortcut.as_ref().map(|shortcut| {
            let Layer { conv, bias } = Layer::new(1, 1, shortcut, z, wide, counter);
            third.bias.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
            conv
        });
        assert!(shortcut.is_some() || z.channels == wide.channels, "a shortcut where the shape changes");
        Self {
            start,
            len: shape.iter().product(),
            first: Layer::new(1, 1, conv1, z, narrow, counter),
            second: Layer::new(3, 1, conv2, narrow, narrow, counter),
            third,
            shortcut,
            down: down.map(|(down, from)| Layer::new(3, 2, down, from, wide, counter)),
        }
    }

    fn state_plane(&self) -> Plane {
        self.first.conv.planes.x
    }

    fn wide(&self) -> Plane {
        self.third.conv.planes.y
    }

    fn images(&self) -> Images {
        let (z, narrow, wide) = (self.state_plane(), self.first.conv.planes.y, self.wide());
        Images {
            z: Stack::of(z, CHUNK),
            first: Stack::of(narrow, CHUNK),
            second: Stack::of(narrow, CHUNK),
            own: Stack::of(wide, CHUNK),
            down: if self.down.is_some() { Stack::of(wide, CHUNK) } else { Stack::default() },
            sum: Stack::of(wide, CHUNK),
            narrow: Stack::of(narrow, CHUNK),
        }
    }

    /// Evaluates the branch, given the finer one's sum.
    fn forward(
        &self,
        arch: Arch,
        count: usize,
        state: Dense<'_>,
        finer: Option<&Stack>,
        images: &mut Images,
    ) {
        let Images { z, first, second, own, down, sum, .. } = images;
        let (plane, wide) = (self.state_plane(), self.wide());
        for example in 0..count {
            let (dense, out) = (state.at(example), z.at_mut(example));
            arch.dispatch(FromChannels { dense, out, plane, add: false });
        }
        self.first.rectified(arch, z, first, count);
        self.second.rectified(arch, first, second, count);
        match &self.shortcut {
            Some(shortcut) => shortcut.apply(arch, z.images(0), own.images_mut(0), count),
            None => copy(arch, wide, z, own, count, false),
        }
        self.third.conv.accumulate(arch, second.images(0), own.images_mut(0), count);
        self.third.rectify(arch, own, count);
        copy(arch, wide, own, sum, count, false);
        if let (Some(layer), Some(finer)) = (&self.down, finer) {
            layer.rectified(arch, finer, down, count);
            copy(arch, wide, down, sum, count, true);
        }
    }

    /// Pulls the cotangent of the sum back to the state, and to the finer branch's sum.
    fn pull_back(
        &self,
        arch: Arch,
        count: usize,
        mut state: DenseMut<'_>,
        finer: Option<&mut Stack>,
        images: &mut Images,
    ) {
        let Images { z, first, second, own, down, sum, narrow } = images;
        if let (Some(layer), Some(finer)) = (&self.down, finer) {
            gate(arch, down, sum, count);
            layer.conv.pull_back(arch, down.images(0), finer.images_mut(0), count, false);
        }
        gate(arch, own, sum, count);
        self.third.conv.pull_back(arch, own.images(0), narrow.images_mut(0), count, false);
        gate(arch, second, narrow, count);
        self.second.conv.pull_back(arch, second.images(0), narrow.images_mut(0), count, false);
        gate(arch, first, narrow, count);
        self.first.conv.pull_back(arch, first.images(0), z.images_mut(0), count, false);
        match &self.shortcut {
            Some(shortcut) => shortcut.pull_back(arch, own.images(0), z.images_mut(0), count, true),
            None => copy(arch, self.wide(), own, z, count, true),
        }
        for example in 0..count {
            let (image, dense) = (z.at(example), state.at(example));
            arch.dispatch(ToChannels { image, plane: self.state_plane(), dense });
        }
    }
}

/// out = x, or out += x.
fn copy(arch: Arch, plane: Plane, x: &Stack, out: &mut Stack, count: usize, add: bool) {
    for example in 0..count {
        let (x, out) = (x.at(example), out.at_mut(example));
        arch.dispatch(Copy { x, plane, out, out_plane: plane, add });
    }
}

/// Replaces a ReLU's output by the cotangent of its input.
pub(crate) fn gate(arch: Arch, output: &mut Stack, u: &Stack, count: usize) {
    for example in 0..count {
        arch.dispatch(Gate { output: output.at_mut(example), u: u.at(example) });
    }
}

impl Head {
    /// Prepares a head.
    ///
    /// # Panics
    ///
    /// If the parameters' shapes contradict each other: a branch that is not half as high and wide as the one
    /// before it, a kernel of the wrong length, a missing convolution.
    pub fn new(parameters: &HeadParameters<BiasedConv>) -> Self {
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
            let down = branches.last().map(|finer| (&down[i - 1], finer.wide()));
            let branch = Branch::new(shape, dim, bottleneck, down, counter);
            dim += branch.len;
            branches.push(branch);
        }
        let x = branches[shapes.len() - 1].wide();
        let y = Plane::plain([last.bias.len(), x.height, x.width]);
        let last = Layer::new(1, 1, last, x, y, counter);
        let (weight, bias) = classifier.clone();
        assert_eq!(weight.len(), bias.len() * y.channels, "a weight for each class and feature");
        Self(Arc::new(Inner { arch, branches, last, weight, bias, dim, spare: Pool::of(SPARE) }))
    }

    /// Number of classes K.
    pub fn classes(&self) -> usize {
        self.0.bias.len()
    }

    /// Logits `[N, K]` of states `[N, D]`.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of one number N of examples.
    pub fn forward(&self, state: &[f32], logits: &mut [f32]) {
        self.each(state, logits, |chunk| self.0.spare.put([chunk]));
    }

    /// The same, and the tape of it.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of one number N of examples.
    pub fn linearize(&self, state: &[f32], logits: &mut [f32]) -> HeadTape {
        HeadTape { head: self.clone(), chunks: self.each(state, logits, |chunk| chunk) }
    }

    fn each<T: Send>(&self, state: &[f32], logits: &mut [f32], then: impl Fn(Chunk) -> T + Sync) -> Vec<T> {
        let inner = &*self.0;
        let classes = self.classes();
        let count = state.len() / inner.dim;
        assert_eq!(state.len(), count * inner.dim, "a state of {} numbers per example", inner.dim);
        assert_eq!(logits.len(), count * classes, "{classes} logits for each of {count} examples");
        let size = chunk(count, CHUNK);
        let rows = logits.par_chunks_mut(size * classes).zip(state.par_chunks(size * inner.dim));
        rows.with_max_len(1)
            .map(|(logits, state)| {
                let mut chunk = inner.chunk();
                inner.forward(state, logits, &mut chunk);
                then(chunk)
            })
            .collect()
    }
}

impl HeadTape {
    /// uᵀ ∂logits/∂state `[N, D]` for cotangents u `[N, K]`.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of the examples that were evaluated.
    pub fn pull_back(mut self, cotangent: &[f32], state: &mut [f32]) {
        let inner = &*self.head.0;
        let (dim, classes) = (inner.dim, inner.bias.len());
        let count = state.len() / dim;
        let size = chunk(count, CHUNK);
        assert_eq!(self.chunks.len(), count.div_ceil(size), "as many examples as were evaluated");
        assert_eq!(cotangent.len(), count * classes, "{classes} cotangents for each of {count} examples");
        let rows = state.par_chunks_mut(size * dim).zip(cotangent.par_chunks(size * classes));
        let chunks = std::mem::take(&mut self.chunks);
        chunks.into_par_iter().zip(rows).with_max_len(1).for_each(|(mut chunk, (state, cotangent))| {
            inner.pull_back(cotangent, state, &mut chunk);
            inner.spare.put([chunk]);
        });
    }
}

impl Drop for HeadTape {
    fn drop(&mut self) {
        self.head.0.spare.put(self.chunks.drain(..));
    }
}

impl Room for Chunk {
    fn room(&self) -> usize {
        CHUNK
    }
}

impl Inner {
    fn chunk(&self) -> Chunk {
        self.spare.take(CHUNK, || Chunk {
            branches: self.branches.iter().map(Branch::images).collect(),
            last: Stack::of(self.last.conv.planes.y, CHUNK),
        })
    }

    fn forward(&self, state: &[f32], logits: &mut [f32], chunk: &mut Chunk) {
        let Chunk { branches: images, last } = chunk;
        let count = state.len() / self.dim;
        for (i, branch) in self.branches.iter().enumerate() {
            let (finer, here) = images.split_at_mut(i);
            let finer = finer.last().map(|finer| &finer.sum);
            let state = Dense { data: state, stride: self.dim, start: branch.start, len: branch.len };
            branch.forward(self.arch, count, state, finer, &mut here[0]);
        }
        self.last.rectified(self.arch, &images[images.len() - 1].sum, last, count);
        let plane = self.last.conv.planes.y;
        let features = plane.channels;
        let share = 1.0 / (plane.height * plane.width) as f32;
        let mut pooled = vec![0.0; plane.stride()];
        for (example, logits) in logits.chunks_exact_mut(self.bias.len()).enumerate() {
            pooled.fill(0.0);
            for pixel in last.at(example).chunks_exact(plane.stride()) {
                pooled.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
            }
            for ((logit, bias), weight) in logits.iter_mut().zip(&self.bias).zip(self.weight.chunks(features))
            {
                let terms = weight.iter().zip(&pooled).map(|(w, x)| f64::from(*w) * f64::from(x * share));
                *logit = (terms.sum::<f64>() + f64::from(*bias)) as f32;
            }
        }
    }

    fn pull_back(&self, cotangent: &[f32], state: &mut [f32], chunk: &mut Chunk) {
        let Chunk { branches: images, last } = chunk;
        let count = state.len() / self.dim;
        let plane = self.last.conv.planes.y;
        let share = 1.0 / (plane.height * plane.width) as f32;
        let mut pooled = vec![0.0; plane.stride()];
        for (example, cotangent) in cotangent.chunks_exact(self.bias.len()).enumerate() {
            pooled.fill(0.0);
            for (u, weight) in cotangent.iter().zip(self.weight.chunks(plane.channels)) {
                pooled.iter_mut().zip(weight).for_each(|(sum, w)| *sum += u * share * w);
            }
            for pixel in last.at_mut(example).chunks_exact_mut(plane.stride()) {
                let pixel = pixel.iter_mut().zip(&pooled);
                pixel.for_each(|(x, u)| *x = if *x <= 0.0 { 0.0 } else { *u });
            }
        }
        let coarsest = images.len() - 1;
        let sum = images[coarsest].sum.images_mut(0);
        self.last.conv.pull_back(self.arch, last.images(0), sum, count, false);
        for (i, branch) in self.branches.iter().enumerate().rev() {
            let (finer, here) = images.split_at_mut(i);
            let finer = finer.last_mut().map(|finer| &mut finer.sum);
            let state = DenseMut { data: state, stride: self.dim, start: branch.start, len: branch.len };
            branch.pull_back(self.arch, count, state, finer, &mut here[0]);
        }
    }
}
