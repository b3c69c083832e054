//! The stem of an MDEQ: what it makes of an image, injected into the finest branch.

use burn::module::Module;
use burn::tensor::Tensor;
use equipoise_kernels::Convolutions;

use super::config::MdeqConfig;
use crate::model::deq::{Stem, StemPullBack, StemTrainingPullBack};
use crate::model::fused::{Fused, Parts, term};
use crate::model::init::{Init, Law};
use crate::model::layers::{BatchMoments, Conv2d, Layer, Phase, conv_bn_relu, sequence};
use crate::model::normalisation::{Normalisation, normalised};
use crate::model::normed::Normed;
use equipoise_attack::batch::Images;

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
    fused: Fused,
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
        // A solver carries rounding on, and a stem is a small part of the work.
        let fused = Fused::new(&config.image, Convolutions::Direct);
        Self { downsample, stage0, image: config.image, normalisation, fused }
    }

    /// Its modules, layer by layer: each convolution is followed by its normalisation and a ReLU.
    fn parts(&self) -> Parts<'_> {
        let mut parts = Parts::to_image(vec![self.image]);
        let convs = self.downsample.chunks(3).chain(self.stage0.chunks(3)).map(Normed::first_of);
        convs.fold(0, |x, conv| parts.layer(vec![term(x, conv)], true));
        parts
    }
}

impl Stem for MdeqStem {
    /// Fused kernels for plain float32 tensors on the flex CPU device in evaluation, Burn operations otherwise.
    fn forward(&self, images: Images, phase: &Phase<'_>) -> Tensor<2> {
        let images = normalised(self.normalisation.as_ref(), images);
        if let Phase::Evaluate = phase
            && let Some(injection) = self.fused.forward(self, &images, || self.parts())
        {
            return injection;
        }
        let x: Tensor<4> = sequence(&self.downsample, images, phase);
        sequence(&self.stage0, x, phase).flatten(1, 3)
    }

    fn linearize(&self, images: &Images) -> (Tensor<2>, StemPullBack<'_>) {
        let normalisation = self.normalisation.as_ref();
        let fused = self.fused.linearize_images(self, images, normalisation, || self.parts());
        fused.unwrap_or_else(|| self.linearize_tracked(images))
    }

    fn linearize_training(
        &self,
        images: &Images,
        moments: &BatchMoments,
    ) -> (Tensor<2>, StemTrainingPullBack<'_>) {
        let normalisation = self.normalisation.as_ref();
        let fused = self.fused.train_images(self, images, normalisation, moments, || self.parts());
        fused.unwrap_or_else(|| self.linearize_training_tracked(images, moments))
    }
}
