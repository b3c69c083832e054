//! Feedforward networks in evaluation over the fused kernels of `equipoise-kernels`.
//!
//! They serve plain float32 images of the model's own size on the flex CPU device. Whatever is tracked by autodiff, on
//! another device, in another precision or of another size goes through Burn operations instead.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::module::Module;
use equipoise_kernels::{BiasedConv, Convolutions, Map, Network, NetworkParameters, OutputParameters, Term};

use super::feedforward::FeedforwardPullBack;
use super::layers::{BatchNorm, Conv2d, Dense};
use super::normalisation::{Normalisation, normalised};
use super::normed::folded;
use super::prepared::Prepared;
use equipoise_attack::batch::{Images, Logits, from_vec, to_vec};
use equipoise_attack::cpu::{numbers_of, plain};

/// The kernels of a network, made when they are first used, and again when its parameters have changed.
#[derive(Debug, Clone)]
pub struct Fused {
    /// C, H, W of the images that they are for.
    image: [usize; 3],
    prepared: Prepared<Network>,
}

impl Fused {
    /// For images of this size.
    pub fn new(image: [usize; 3]) -> Self {
        Self { image, prepared: Prepared::default() }
    }

    /// The kernels and the numbers of images, if they can be served.
    fn serve(
        &self,
        module: &impl Module,
        images: &Images,
        layers: impl FnOnce() -> NetworkParameters,
    ) -> Option<(Arc<Network>, FlexTensor)> {
        let [_, image @ ..] = images.dims();
        let numbers = if image == self.image { plain(images)? } else { return None };
        let make = || Network::new(&layers(), Convolutions::Winograd);
        Some((self.prepared.get(module, make)?, numbers))
    }

    /// The logits of normalised images, if they can be served.
    pub fn forward(
        &self,
        module: &impl Module,
        images: &Images,
        layers: impl FnOnce() -> NetworkParameters,
    ) -> Option<Logits> {
        let (network, numbers) = self.serve(module, images, layers)?;
        let shape = [images.dims()[0], network.output_dim()];
        let mut logits = vec![0.0; shape[0] * shape[1]];
        network.forward(numbers_of(&numbers), &mut logits);
        Some(from_vec(logits, shape, &images.device()))
    }

    /// The logits of images that are normalised first, and the way back to what they were before, if they can be served.
    pub fn linearize<'a>(
        &self,
        module: &impl Module,
        images: &Images,
        normalisation: Option<&'a Normalisation>,
        layers: impl FnOnce() -> NetworkParameters,
    ) -> Option<(Logits, FeedforwardPullBack<'a>)> {
        let images = normalised(normalisation, images.clone());
        let (network, numbers) = self.serve(module, &images, layers)?;
        let (shape, device) = (images.dims(), images.device());
        let out = [shape[0], network.output_dim()];
        let mut logits = vec![0.0; out[0] * out[1]];
        let tape = network.linearize(numbers_of(&numbers), &mut logits);
        let logits = from_vec(logits, out, &device);
        let pull_back = move |cotangent: Logits| {
            let mut images = vec![0.0; shape.iter().product()];
            tape.pull_back(&to_vec(cotangent), &mut images);
            let gradient = from_vec(images, shape, &device);
            match normalisation {
                Some(normalisation) => normalisation.pull_back(gradient),
                None => gradient,
            }
        };
        Some((logits, Box::new(pull_back)))
    }
}

/// A network without layers, of normalised images. It halves the resolution so many times, then pools within a window.
pub fn network(image: [usize; 3], (halvings, window): (u32, usize), classifier: &Dense) -> NetworkParameters {
    let (weight, bias) = (to_vec(classifier.weight.val()), to_vec(classifier.bias.val()));
    let [_, height, width] = image;
    let window = [height, width].map(|side| side.div_ceil(1 << halvings).min(window));
    NetworkParameters::new(vec![image], OutputParameters::Logits { window, weight, bias })
}

/// A convolution with the batch normalisation after it.
pub fn conv_norm(from: usize, conv: &Conv2d, norm: &BatchNorm) -> Term {
    Term::conv(from, size(conv), conv.stride(), folded(conv, norm))
}

/// A convolution without a bias.
pub fn conv(from: usize, conv: &Conv2d) -> Term {
    let bias = vec![0.0; conv.weight.dims()[0]];
    Term::conv(from, size(conv), conv.stride(), BiasedConv { kernel: to_vec(conv.weight.val()), bias })
}

/// A batch normalisation by itself.
pub fn norm(from: usize, norm: &BatchNorm) -> Term {
    let (scale, shift) = norm.running_map();
    Term { from, map: Map::Affine { scale: to_vec(scale), shift: to_vec(shift) } }
}

fn size(conv: &Conv2d) -> usize {
    conv.weight.dims()[2]
}
