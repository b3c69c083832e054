//! The stem: convolutions one after another, each followed by a batch normalisation and a ReLU. In evaluation, with the
//! normalisations folded into the convolutions, and its vector-Jacobian product to the images; in training, with the
//! batch's statistics and the gradients of all parameters.

use std::sync::Arc;

use pulp::Arch;
use rayon::prelude::*;

use crate::batch_norm::{Activations, Finish, Gathered, Normed, Trained, gradients};
use crate::convolution::Counter;
use crate::head::{CHUNK, Layer, SPARE, gate};
use crate::image::layout::{FromChannels, ToChannels};
use crate::image::plane::Plane;
use crate::image::stack::Stack;
use crate::parameters::{BiasedConv, Convolutions, NormedConv, Statistics, StemConv, StemParameters};
use crate::pool::{Pool, Room, chunk};

/// A stem in evaluation, ready to be used. A clone is cheap and shares everything.
///
/// No result depends, to the bit, on which other examples are in the batch or on the number of threads.
#[derive(Debug, Clone)]
pub struct Stem(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    arch: Arch,
    layers: Vec<Layer>,
    spare: Pool<Chunk>,
}

/// The image and what comes after each ReLU, of a few examples; on the way back, cotangents.
type Chunk = Vec<Stack>;

/// What an evaluation leaves for its vector-Jacobian product.
#[derive(Debug)]
pub struct StemTape {
    stem: Stem,
    chunks: Vec<Chunk>,
}

/// The planes of the image and after each convolution.
fn planes<C>(parameters: &StemParameters<C>, channels: impl Fn(&C) -> usize) -> Vec<Plane> {
    let StemParameters { image, convs } = parameters;
    assert!(!convs.is_empty() && parameters.supported(), "convolutions that fit the image");
    let mut planes = vec![Plane::bordered(*image)];
    for StemConv { stride, conv, .. } in convs {
        let Plane { height, width, .. } = planes[planes.len() - 1];
        planes.push(Plane::bordered([channels(conv), height / stride, width / stride]));
    }
    planes
}

/// Numbers of an image in C, H, W order.
fn dense(plane: Plane) -> usize {
    plane.channels * plane.height * plane.width
}

impl Stem {
    /// Prepares a stem.
    ///
    /// # Panics
    ///
    /// If the parameters' shapes contradict each other, or are not [`StemParameters::supported`].
    pub fn new(parameters: &StemParameters<BiasedConv>) -> Self {
        let arch = Arch::new();
        let counter = &mut Counter::new(arch, Convolutions::Direct, usize::MAX);
        let planes = planes(parameters, |conv| conv.bias.len());
        let layers = parameters.convs.iter().zip(planes.windows(2)).map(|(of, pair)| {
            let StemConv { size, stride, conv } = of;
            Layer::new(*size, *stride, conv, pair[0], pair[1], counter)
        });
        Self(Arc::new(Inner { arch, layers: layers.collect(), spare: Pool::of(SPARE) }))
    }

    fn ends(&self) -> [Plane; 2] {
        let layers = &self.0.layers;
        [layers[0].conv.planes.x, layers[layers.len() - 1].conv.planes.y]
    }

    /// Length I of an injection.
    pub fn injection_dim(&self) -> usize {
        dense(self.ends()[1])
    }

    /// Injections `[N, I]` of images `[N, C, H, W]`.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of one number N of examples.
    pub fn forward(&self, images: &[f32], injection: &mut [f32]) {
        self.each(images, injection, |chunk| self.0.spare.put([chunk]));
    }

    /// The same, and the tape of it.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of one number N of examples.
    pub fn linearize(&self, images: &[f32], injection: &mut [f32]) -> StemTape {
        StemTape { stem: self.clone(), chunks: self.each(images, injection, |chunk| chunk) }
    }

    fn each<T: Send>(
        &self,
        images: &[f32],
        injection: &mut [f32],
        then: impl Fn(Chunk) -> T + Sync,
    ) -> Vec<T> {
        let Inner { arch, layers, .. } = &*self.0;
        let [image, out] = self.ends();
        let count = images.len() / dense(image);
        assert_eq!(images.len(), count * dense(image), "images of {} numbers", dense(image));
        assert_eq!(injection.len(), count * dense(out), "injections of {} numbers", dense(out));
        let size = chunk(count, CHUNK);
        let rows = injection.par_chunks_mut(size * dense(out)).zip(images.par_chunks(size * dense(image)));
        rows.with_max_len(1)
            .map(|(injection, images)| {
                let mut chunk = self.0.chunk();
                let count = images.len() / dense(image);
                for (example, dense) in images.chunks_exact(dense(image)).enumerate() {
                    let out = chunk[0].at_mut(example);
                    arch.dispatch(FromChannels { dense, out, plane: image, add: false });
                }
                for (i, layer) in layers.iter().enumerate() {
                    let (x, y) = chunk.split_at_mut(i + 1);
                    layer.rectified(*arch, &x[i], &mut y[0], count);
                }
                for (example, dense) in injection.chunks_exact_mut(dense(out)).enumerate() {
                    let image = chunk[layers.len()].at(example);
                    arch.dispatch(ToChannels { image, plane: out, dense });
                }
                then(chunk)
            })
            .collect()
    }
}

impl StemTape {
    /// uᵀ ∂injection/∂image `[N, C, H, W]` for cotangents u `[N, I]`.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of the examples that were evaluated.
    pub fn pull_back(mut self, cotangent: &[f32], images: &mut [f32]) {
        let stem = &self.stem;
        let Inner { arch, layers, .. } = &*stem.0;
        let [image, out] = stem.ends();
        let count = images.len() / dense(image);
        let size = chunk(count, CHUNK);
        assert_eq!(self.chunks.len(), count.div_ceil(size), "as many examples as were evaluated");
        assert_eq!(cotangent.len(), count * dense(out), "cotangents of {} numbers", dense(out));
        let rows = images.par_chunks_mut(size * dense(image)).zip(cotangent.par_chunks(size * dense(out)));
        let chunks = std::mem::take(&mut self.chunks);
        chunks.into_par_iter().zip(rows).with_max_len(1).for_each(|(mut chunk, (images, cotangent))| {
            let count = images.len() / dense(image);
            let mut u = Stack::of(out, count);
            for (example, dense) in cotangent.chunks_exact(dense(out)).enumerate() {
                let out_image = u.at_mut(example);
                arch.dispatch(FromChannels { dense, out: out_image, plane: out, add: false });
            }
            for (i, layer) in layers.iter().enumerate().rev() {
                gate(*arch, &mut chunk[i + 1], &u, count);
                u = Stack::of(layer.conv.planes.x, count);
                layer.conv.pull_back(*arch, chunk[i + 1].images(0), u.images_mut(0), count, false);
            }
            for (example, dense) in images.chunks_exact_mut(dense(image)).enumerate() {
                arch.dispatch(ToChannels { image: u.at(example), plane: image, dense });
            }
            stem.0.spare.put([chunk]);
        });
    }
}

impl Room for Chunk {
    fn room(&self) -> usize {
        CHUNK
    }
}

impl Inner {
    fn chunk(&self) -> Chunk {
        self.spare.take(CHUNK, || {
            let first = self.layers[0].conv.planes.x;
            let planes = self.layers.iter().map(|layer| layer.conv.planes.y);
            [first].into_iter().chain(planes).map(|plane| Stack::of(plane, CHUNK)).collect()
        })
    }
}

/// A stem in training on its way through a batch: evaluated, and ready to be pulled back through.
///
/// No result depends, to the bit, on the number of threads.
#[derive(Debug)]
pub struct StemPass {
    arch: Arch,
    layers: Vec<Normed>,
    chunks: Vec<TrainedChunk>,
    gathered: Vec<Gathered>,
}

/// The images of a few examples.
#[derive(Debug)]
struct TrainedChunk {
    count: usize,
    /// What each convolution reads, and what comes out at the end.
    inputs: Vec<Stack>,
    at: Vec<Activations>,
}

impl StemPass {
    /// Injections `[N, I]` of images `[N, C, H, W]`.
    ///
    /// # Panics
    ///
    /// If the parameters' shapes contradict each other, or are not [`StemParameters::supported`]; if the lengths are
    /// not those of one number N of examples.
    pub fn forward(parameters: &StemParameters<NormedConv>, images: &[f32], injection: &mut [f32]) -> Self {
        let arch = Arch::new();
        let counter = &mut Counter::new(arch, Convolutions::Direct, usize::MAX);
        let planes = planes(parameters, |conv| conv.outputs);
        let layers = parameters.convs.iter().zip(planes.windows(2)).map(|(of, pair)| {
            let StemConv { size, stride, conv } = of;
            Normed::new(*size, *stride, conv, [pair[0], pair[1]], counter)
        });
        let layers: Vec<Normed> = layers.collect();
        let (image, out) = (planes[0], planes[layers.len()]);
        let count = images.len() / dense(image);
        assert_eq!(images.len(), count * dense(image), "images of {} numbers", dense(image));
        assert_eq!(injection.len(), count * dense(out), "injections of {} numbers", dense(out));
        let size = chunk(count, CHUNK);
        let chunks = images.par_chunks(size * dense(image)).with_max_len(1).map(|images| {
            let count = images.len() / dense(image);
            let mut chunk = TrainedChunk {
                count,
                inputs: planes.iter().map(|&plane| Stack::of(plane, count)).collect(),
                at: layers.iter().map(|layer| layer.activations(count)).collect(),
            };
            for (example, dense) in images.chunks_exact(dense(image)).enumerate() {
                let out = chunk.inputs[0].at_mut(example);
                arch.dispatch(FromChannels { dense, out, plane: image, add: false });
            }
            chunk
        });
        let mut chunks: Vec<TrainedChunk> = chunks.collect();
        let mut gathered = Vec::with_capacity(layers.len());
        for (i, layer) in layers.iter().enumerate() {
            chunks.par_iter_mut().with_max_len(1).for_each(|chunk| {
                layer.convolve(arch, &chunk.inputs[i], &mut chunk.at[i], chunk.count);
            });
            let found = layer.gather(chunks.iter().map(|chunk| (&chunk.at[i], chunk.count)));
            chunks.par_iter_mut().with_max_len(1).for_each(|TrainedChunk { count, inputs, at }| {
                layer.normalise(arch, &found, &at[i].y, &mut inputs[i + 1], Finish::Rectify, *count);
            });
            gathered.push(found);
        }
        let rows = injection.par_chunks_mut(size * dense(out));
        chunks.par_iter().zip(rows).with_max_len(1).for_each(|(chunk, injection)| {
            for (example, dense) in injection.chunks_exact_mut(dense(out)).enumerate() {
                let image = chunk.inputs[layers.len()].at(example);
                arch.dispatch(ToChannels { image, plane: out, dense });
            }
        });
        Self { arch, layers, chunks, gathered }
    }

    /// The batch's statistics, by convolution.
    pub fn statistics(&self) -> Vec<Statistics> {
        self.layers.iter().zip(&self.gathered).map(|(layer, gathered)| layer.statistics(gathered)).collect()
    }

    /// uᵀ ∂injection/∂θ for cotangents u `[N, I]`, summed over the batch, by convolution.
    ///
    /// # Panics
    ///
    /// If the length is not that of the examples that were evaluated.
    pub fn pull_back(mut self, cotangent: &[f32]) -> Vec<NormedConv> {
        let Self { arch, layers, chunks, gathered } = &mut self;
        let arch = *arch;
        let last = layers.len() - 1;
        let out = layers[last].plane();
        let count: usize = chunks.iter().map(|chunk| chunk.count).sum();
        assert_eq!(cotangent.len(), count * dense(out), "cotangents of {} numbers", dense(out));
        let size = chunks.first().map_or(1, |chunk| chunk.count);
        let rows = cotangent.par_chunks(size * dense(out));
        chunks.par_iter_mut().zip(rows).with_max_len(1).for_each(|(chunk, cotangent)| {
            for (example, dense) in cotangent.chunks_exact(dense(out)).enumerate() {
                let image = chunk.at[last].u.at_mut(example);
                arch.dispatch(FromChannels { dense, out: image, plane: out, add: false });
            }
        });
        for (i, layer) in layers.iter().enumerate().rev() {
            let of = &gathered[i];
            chunks.par_iter_mut().with_max_len(1).for_each(|chunk| {
                layer.sum(arch, of, &mut chunk.at[i], true, chunk.count);
            });
            layer.gather_sums(&mut gathered[i], chunks.iter().map(|chunk| (&chunk.at[i], chunk.count)));
            let of = &gathered[i];
            chunks.par_iter_mut().with_max_len(1).for_each(|TrainedChunk { count, at, .. }| {
                let (finer, here) = at.split_at_mut(i);
                layer.pull_back(arch, of, &mut here[0], *count);
                if let Some(finer) = finer.last_mut() {
                    layer.pull_input(arch, &here[0], &mut finer.u, *count, false);
                }
            });
        }
        let trained = layers.iter().enumerate().map(|(i, normed)| {
            let chunks = chunks.iter().map(|chunk| (&chunk.inputs[i], &chunk.at[i], chunk.count));
            Trained { normed, chunks: chunks.collect() }
        });
        gradients(arch, trained.collect(), gathered)
    }
}
