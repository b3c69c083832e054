//! The stem of an MDEQ: what it makes of an image, injected into the finest branch.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use equipoise_kernels::{Stem as Kernels, StemConv, StemParameters, StemPass};

use super::config::MdeqConfig;
use crate::model::deq::{Stem, StemPullBack, StemTrainingPullBack};
use crate::model::init::{Init, Law};
use crate::model::layers::{BatchMoments, BatchNorm, Conv2d, Layer, Phase, conv_bn_relu, sequence};
use crate::model::normalisation::{Normalisation, normalised};
use crate::model::normed::{accumulate_gradients, folded, normed, note_statistics, plain_numbers};
use crate::model::prepared::{Prepared, parameters};
use equipoise_attack::batch::{Images, from_vec, to_vec};
use equipoise_attack::cpu::{numbers_of, plain};

/// Two 3×3 convolutions, each halving the resolution if the configuration says so, and a 1×1 convolution.
#[derive(Module, Debug)]
pub struct MdeqStem {
    /// conv3x3 BN ReLU conv3x3 BN ReLU.
    pub downsample: Vec<Layer>,
    /// conv1x1 BN ReLU; empty when `downsample_times` is 0 and there are at most two branches.
    pub stage0: Vec<Layer>,
    #[module(skip)]
    image: [usize; 3],
    #[module(skip)]
    normalisation: Option<Normalisation>,
    #[module(skip)]
    prepared: Prepared<Kernels>,
}

impl MdeqStem {
    /// A stem with random weights.
    pub fn new(config: &MdeqConfig, init: &mut Init) -> Self {
        let c = config.channels[0];
        let stride = |at| if config.downsample_times >= at { 2 } else { 1 };
        let first = Conv2d::new([config.image[0], c], 3, stride(1), false, Law::FanIn, init);
        let mut downsample = conv_bn_relu(first, init);
        let second = Conv2d::new([c, c], 3, stride(2), false, Law::FanIn, init);
        downsample.extend(conv_bn_relu(second, init));
        let stage0 = if config.downsample_times == 0 && config.branches() <= 2 {
            Vec::new()
        } else {
            conv_bn_relu(Conv2d::new([c, c], 1, 1, false, Law::FanIn, init), init)
        };
        let normalisation = config.normalisation.clone();
        Self { downsample, stage0, image: config.image, normalisation, prepared: Prepared::default() }
    }

    /// Every convolution with the normalisation after it.
    fn layers(&self) -> StemParameters<(&Conv2d, &BatchNorm)> {
        // Each is followed by its normalisation and a ReLU.
        let layers = self.downsample.chunks(3).chain(self.stage0.chunks(3)).map(normed);
        let convs = layers.map(|(conv, norm)| {
            let [.., size, _] = conv.weight.dims();
            StemConv { size, stride: conv.stride(), conv: (conv, norm) }
        });
        StemParameters { image: self.image, convs: convs.collect() }
    }

    /// The numbers of images that the kernels can serve.
    fn served(&self, images: &Images) -> Option<FlexTensor> {
        let [_, image @ ..] = images.dims();
        if image == self.image && self.layers().supported() { plain(images) } else { None }
    }

    /// The kernels for evaluation and the numbers of images, if they can be served.
    fn fused(&self, images: &Images) -> Option<(Arc<Kernels>, FlexTensor)> {
        let numbers = self.served(images)?;
        let make = || Kernels::new(&self.layers().map(|(conv, norm)| folded(conv, norm)));
        Some((self.prepared.get(self, make)?, numbers))
    }
}

impl Stem for MdeqStem {
    /// Fused kernels for plain float32 tensors on the flex CPU device in evaluation, Burn operations otherwise.
    fn forward(&self, images: Images, phase: &Phase<'_>) -> Tensor<2> {
        let images = normalised(self.normalisation.as_ref(), images);
        if let Phase::Evaluate = phase
            && let Some((kernels, numbers)) = self.fused(&images)
        {
            let shape = [images.dims()[0], kernels.injection_dim()];
            let mut injection = vec![0.0; shape[0] * shape[1]];
            kernels.forward(numbers_of(&numbers), &mut injection);
            return from_vec(injection, shape, &images.device());
        }
        let x: Tensor<4> = sequence(&self.downsample, images, phase);
        sequence(&self.stage0, x, phase).flatten(1, 3)
    }

    fn linearize(&self, images: &Images) -> (Tensor<2>, StemPullBack<'_>) {
        let pixels = images;
        let images = &normalised(self.normalisation.as_ref(), pixels.clone());
        let Some((kernels, numbers)) = self.fused(images) else {
            return self.linearize_tracked(pixels);
        };
        let (shape, device) = (images.dims(), images.device());
        let out = [shape[0], kernels.injection_dim()];
        let mut injection = vec![0.0; out[0] * out[1]];
        let tape = kernels.linearize(numbers_of(&numbers), &mut injection);
        let injection = from_vec(injection, out, &device);
        let pull_back = move |cotangent: Tensor<2>| {
            let cotangent = to_vec(cotangent);
            let mut images = vec![0.0; shape.iter().product()];
            tape.pull_back(&cotangent, &mut images);
            let gradient = from_vec(images, shape, &device);
            match &self.normalisation {
                Some(normalisation) => normalisation.pull_back(gradient),
                None => gradient,
            }
        };
        (injection, Box::new(pull_back))
    }

    fn linearize_training(
        &self,
        images: &Images,
        moments: &BatchMoments,
    ) -> (Tensor<2>, StemTrainingPullBack<'_>) {
        let pixels = images;
        let images = &normalised(self.normalisation.as_ref(), pixels.clone());
        let (Some(numbers), Some(_)) = (self.served(images), parameters(self)) else {
            return self.linearize_training_tracked(pixels, moments);
        };
        let device = images.device();
        let layers = self.layers();
        let found = layers.map(|(conv, norm)| plain_numbers(conv, norm));
        let out = [images.dims()[0], found.injection_dim()];
        let mut injection = vec![0.0; out[0] * out[1]];
        let pass = StemPass::forward(&found, numbers_of(&numbers), &mut injection);
        for (layer, statistics) in layers.convs.iter().zip(pass.statistics()) {
            let (conv, norm) = layer.conv;
            note_statistics(conv, norm, statistics, &device, moments);
        }
        let injection = from_vec(injection, out, &device);
        let pull_back = move |cotangent: Tensor<2>, into: &mut GradientsParams| {
            let gradients = pass.pull_back(&to_vec(cotangent));
            for (layer, gradient) in layers.convs.iter().zip(gradients) {
                let (conv, norm) = layer.conv;
                accumulate_gradients(conv, norm, gradient, &device, into);
            }
        };
        (injection, Box::new(pull_back))
    }
}
