//! Wide residual networks (Zagoruyko and Komodakis 2016), a feedforward baseline; WRN-34-10 above all.
//!
//! Three stages of pre-activation blocks at full, half and quarter resolution. Names are those of the TRADES
//! code's state dict, so one field is in camel case.

#![allow(non_snake_case)]

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use equipoise_kernels::{Convolutions, Term};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::feedforward::{
    Feedforward, FeedforwardPullBack, FeedforwardTrainingPullBack, baseline, check_images, pooled,
};
use super::fused::{Fused, Parts, conv, conv_norm};
use super::init::{Init, Law};
use super::layers::{BatchMoments, BatchNorm, Conv2d, Dense, Phase};
use super::limits::{MAX_CHANNELS, at_most, parameters_within};
use super::normalisation::{Normalisation, normalised};
use equipoise_attack::batch::{Images, Logits};

/// Side of the window of the final pooling: all of the last stage for images of 29 to 32 pixels.
const WINDOW: usize = 8;

/// Channels of the stem, and of the first stage for width 1.
const BASE: usize = 16;

/// The most layers.
const MAX_DEPTH: usize = 1_000;

/// Sizes of a wide residual network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WideResNetConfig {
    /// Widening factor k: stages have 16k, 32k and 64k channels. The usual model has 10.
    #[serde(default = "usual_width")]
    pub width: usize,
    /// Number of layers, 6n + 4. The usual model has 34.
    #[serde(default = "usual_depth")]
    pub depth: usize,
    /// C, H, W of the images, H and W up to 60.
    #[serde(default = "super::feedforward::cifar_image")]
    pub image: [usize; 3],
    /// Number of classes K.
    #[serde(default = "super::feedforward::cifar_classes")]
    pub classes: usize,
    /// What the images are normalised by before anything else, for models that expect it; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalisation: Option<Normalisation>,
}

fn usual_width() -> usize {
    10
}

fn usual_depth() -> usize {
    34
}

impl WideResNetConfig {
    /// Depth 34 and a widening factor, for 32×32 colour images of 10 classes.
    pub fn new(width: usize) -> Self {
        Self {
            width,
            depth: usual_depth(),
            image: super::feedforward::cifar_image(),
            classes: super::feedforward::cifar_classes(),
            normalisation: None,
        }
    }

    /// Whether the sizes fit together and are within the [limits](super::limits).
    ///
    /// # Errors
    ///
    /// Names the first field that does not fit, and what it must satisfy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.depth < 10 || !(self.depth - 4).is_multiple_of(6) {
            let problem = format!("{} is not 6n + 4 with n at least 1, such as 34", self.depth);
            return Err(ConfigError { field: "depth", problem });
        }
        at_most("depth", self.depth, MAX_DEPTH)?;
        // The last stage has four times as many channels as the first.
        at_most("width", self.width, MAX_CHANNELS / (4 * BASE))?;
        check_images(self.width, self.image, self.classes, (2, WINDOW), self.normalisation.as_ref())?;
        parameters_within(&self.build(&mut Init::shapes(&Device::flex())))
    }

    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the sizes do not fit; see [`Self::validate`].
    pub fn init(&self, init: &mut Init) -> Result<WideResNet, ConfigError> {
        self.validate()?;
        Ok(self.build(init))
    }

    /// A model of sizes that fit together.
    pub(crate) fn build(&self, init: &mut Init) -> WideResNet {
        let blocks = (self.depth - 4) / 6;
        let widths = [1, 2, 4].map(|factor| BASE * self.width * factor);
        let stage = |from: usize, to: usize, stride: usize, init: &mut Init| Stage {
            layer: (0..blocks)
                .map(|k| {
                    if k == 0 {
                        WideBlock::new([from, to], stride, init)
                    } else {
                        WideBlock::new([to, to], 1, init)
                    }
                })
                .collect(),
        };
        WideResNet {
            conv1: Conv2d::new([self.image[0], BASE], 3, 1, false, Law::FanIn, init),
            block1: stage(BASE, widths[0], 1, init),
            block2: stage(widths[0], widths[1], 2, init),
            block3: stage(widths[1], widths[2], 2, init),
            bn1: BatchNorm::new(widths[2], true, init),
            fc: Dense::new(widths[2], self.classes, init),
            image: self.image,
            normalisation: self.normalisation.clone(),
            fused: Fused::new(&self.image, Convolutions::Winograd),
        }
    }
}

/// conv(ReLU(BN(conv(ReLU(BN(x)))))) + x. Where the number of channels changes, the shortcut is a 1×1
/// convolution of ReLU(BN(x)) instead of x.
#[derive(Module, Debug)]
pub struct WideBlock {
    /// Before `conv1`.
    pub bn1: BatchNorm,
    /// 3×3, of the block's stride.
    pub conv1: Conv2d,
    /// Before `conv2`.
    pub bn2: BatchNorm,
    /// 3×3.
    pub conv2: Conv2d,
    /// 1×1; absent where the number of channels does not change.
    pub convShortcut: Option<Conv2d>,
}

impl WideBlock {
    fn new([input, output]: [usize; 2], stride: usize, init: &mut Init) -> Self {
        Self {
            bn1: BatchNorm::new(input, true, init),
            conv1: Conv2d::new([input, output], 3, stride, false, Law::FanIn, init),
            bn2: BatchNorm::new(output, true, init),
            conv2: Conv2d::new([output, output], 3, 1, false, Law::FanIn, init),
            convShortcut: (input != output)
                .then(|| Conv2d::new([input, output], 1, stride, false, Law::FanIn, init)),
        }
    }

    fn forward(&self, x: Tensor<4>, phase: &Phase<'_>) -> Tensor<4> {
        let h = activation::relu(self.bn1.forward(x.clone(), phase));
        let shortcut = match &self.convShortcut {
            Some(conv) => conv.forward(h.clone()),
            None => x,
        };
        let h = activation::relu(self.bn2.forward(self.conv1.forward(h), phase));
        self.conv2.forward(h) + shortcut
    }

    /// The block as layers, from one image to another.
    fn layers<'a>(&'a self, x: usize, network: &mut Parts<'a>) -> usize {
        let h = network.layer(vec![Term::norm(x, &self.bn1)], true);
        let shortcut = match &self.convShortcut {
            Some(shortcut) => conv(h, shortcut),
            None => Term::same(x),
        };
        let h = network.layer(vec![conv_norm(h, &self.conv1, &self.bn2)], true);
        network.layer(vec![conv(h, &self.conv2), shortcut], false)
    }
}

/// Blocks at one resolution.
#[derive(Module, Debug)]
pub struct Stage {
    /// The blocks.
    pub layer: Vec<WideBlock>,
}

/// A wide residual network.
#[derive(Module, Debug)]
pub struct WideResNet {
    /// 3×3.
    pub conv1: Conv2d,
    /// At full resolution.
    pub block1: Stage,
    /// At half resolution.
    pub block2: Stage,
    /// At a quarter.
    pub block3: Stage,
    /// After the last block.
    pub bn1: BatchNorm,
    /// The classifier.
    pub fc: Dense,
    #[module(skip)]
    image: [usize; 3],
    #[module(skip)]
    normalisation: Option<Normalisation>,
    #[module(skip)]
    fused: Fused,
}

impl WideResNet {
    fn blocks(&self) -> impl Iterator<Item = &WideBlock> {
        [&self.block1, &self.block2, &self.block3].into_iter().flat_map(|stage| &stage.layer)
    }

    /// The network's modules, layer by layer.
    fn parts(&self) -> Parts<'_> {
        let mut network = baseline(self.image, (2, WINDOW), &self.fc);
        let x = network.layer(vec![conv(0, &self.conv1)], false);
        let x = self.blocks().fold(x, |x, block| block.layers(x, &mut network));
        network.layer(vec![Term::norm(x, &self.bn1)], true);
        network
    }
}

impl Feedforward for WideResNet {
    /// Fused kernels for plain float32 tensors on the flex CPU device in evaluation, Burn operations otherwise.
    fn forward(&self, images: Images, phase: &Phase<'_>) -> Logits {
        let images = normalised(self.normalisation.as_ref(), images);
        if let Phase::Evaluate = phase
            && let Some(logits) = self.fused.forward(self, &images, || self.parts())
        {
            return logits;
        }
        let x = self.blocks().fold(self.conv1.forward(images), |x, block| block.forward(x, phase));
        self.fc.forward(pooled(activation::relu(self.bn1.forward(x, phase)), WINDOW))
    }

    fn linearize(&self, images: &Images) -> (Logits, FeedforwardPullBack<'_>) {
        let normalisation = self.normalisation.as_ref();
        let fused = self.fused.linearize_images(self, images, normalisation, || self.parts());
        fused.unwrap_or_else(|| self.linearize_tracked(images))
    }

    fn linearize_training(
        &self,
        images: &Images,
        moments: &BatchMoments,
    ) -> (Logits, FeedforwardTrainingPullBack<'_>) {
        let normalisation = self.normalisation.as_ref();
        let fused = self.fused.train_images(self, images, normalisation, moments, || self.parts());
        fused.unwrap_or_else(|| self.linearize_training_tracked(images, moments))
    }

    fn classes(&self) -> usize {
        self.fc.weight.dims()[0]
    }
}
