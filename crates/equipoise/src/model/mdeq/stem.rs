//! The stem of an MDEQ: what it makes of an image, injected into the finest branch.

use burn::module::Module;
use burn::tensor::Tensor;

use super::config::MdeqConfig;
use crate::batch::Images;
use crate::model::deq::Stem;
use crate::model::init::{Init, Law};
use crate::model::layers::{Conv2d, Layer, Phase, conv_bn_relu, sequence};
use crate::state::Injection;

/// Two 3×3 convolutions, each halving the resolution if the configuration says so, and a 1×1 convolution.
#[derive(Module, Debug)]
pub struct MdeqStem {
    /// conv3x3 BN ReLU conv3x3 BN ReLU.
    pub downsample: Vec<Layer>,
    /// conv1x1 BN ReLU; empty when `downsample_times` is 0 and there are at most two branches.
    pub stage0: Vec<Layer>,
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
        Self { downsample, stage0 }
    }
}

impl Stem for MdeqStem {
    fn forward(&self, images: Images, phase: &Phase<'_>) -> Injection {
        let x: Tensor<4> = sequence(&self.downsample, images, phase);
        sequence(&self.stage0, x, phase).flatten(1, 3)
    }
}
