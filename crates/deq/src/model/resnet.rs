//! ResNet-18 for small images (He et al. 2016), a feedforward baseline.
//!
//! The CIFAR form: a 3×3 stem without pooling, four stages of two basic blocks each, global average pooling, a
//! linear classifier. Names are those of the TRADES code's state dict.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use equipoise_kernels::{Convolutions, Term};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::feedforward::{
    Feedforward, FeedforwardPullBack, FeedforwardTrainingPullBack, baseline, check_images, pooled,
};
use super::fused::{Fused, Parts, conv_norm, term};
use super::init::{Init, Law};
use super::layers::{BatchMoments, BatchNorm, Conv2d, Dense, Layer, Phase, sequence};
use super::limits::{MAX_CHANNELS, at_most, parameters_within};
use super::normalisation::{Normalisation, normalised};
use super::normed::Normed;
use equipoise_attack::batch::{Images, Logits};

/// Side of the window of the final pooling: all of the last stage for images of 25 to 32 pixels.
const WINDOW: usize = 4;

/// Blocks per stage.
const BLOCKS: usize = 2;

/// Sizes of a ResNet-18.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNet18Config {
    /// Channels of the first stage; the others have 2, 4 and 8 times as many. The usual model has 64.
    #[serde(default = "usual_width")]
    pub width: usize,
    /// C, H, W of the images, H and W up to 56.
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
    64
}

impl ResNet18Config {
    /// The usual model of some width, for 32×32 colour images of 10 classes.
    pub fn new(width: usize) -> Self {
        Self {
            width,
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
        // The last stage has eight times as many channels.
        at_most("width", self.width, MAX_CHANNELS / 8)?;
        check_images(self.width, self.image, self.classes, (3, WINDOW), self.normalisation.as_ref())?;
        parameters_within(&self.build(&mut Init::shapes(&Device::flex())))
    }

    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the sizes do not fit; see [`Self::validate`].
    pub fn init(&self, init: &mut Init) -> Result<ResNet18, ConfigError> {
        self.validate()?;
        Ok(self.build(init))
    }

    /// A model of sizes that fit together.
    pub(crate) fn build(&self, init: &mut Init) -> ResNet18 {
        let widths = [1, 2, 4, 8].map(|factor| self.width * factor);
        let stage = |from: usize, to: usize, init: &mut Init| {
            let block = |k, init: &mut Init| {
                let (input, stride) = if k == 0 { (from, if from == to { 1 } else { 2 }) } else { (to, 1) };
                BasicBlock::new([input, to], stride, init)
            };
            (0..BLOCKS).map(|k| block(k, init)).collect()
        };
        ResNet18 {
            conv1: Conv2d::new([self.image[0], widths[0]], 3, 1, false, Law::FanIn, init),
            bn1: BatchNorm::new(widths[0], true, init),
            layer1: stage(widths[0], widths[0], init),
            layer2: stage(widths[0], widths[1], init),
            layer3: stage(widths[1], widths[2], init),
            layer4: stage(widths[2], widths[3], init),
            linear: Dense::new(widths[3], self.classes, init),
            image: self.image,
            normalisation: self.normalisation.clone(),
            fused: Fused::new(&self.image, Convolutions::Winograd),
        }
    }
}

/// ReLU(BN(conv(ReLU(BN(conv(x))))) + shortcut(x)).
#[derive(Module, Debug)]
pub struct BasicBlock {
    /// 3×3, of the block's stride.
    pub conv1: Conv2d,
    /// After `conv1`.
    pub bn1: BatchNorm,
    /// 3×3.
    pub conv2: Conv2d,
    /// After `conv2`.
    pub bn2: BatchNorm,
    /// conv1x1 BN; empty where the shape does not change.
    pub shortcut: Vec<Layer>,
}

impl BasicBlock {
    fn new([input, output]: [usize; 2], stride: usize, init: &mut Init) -> Self {
        Self {
            conv1: Conv2d::new([input, output], 3, stride, false, Law::FanIn, init),
            bn1: BatchNorm::new(output, true, init),
            conv2: Conv2d::new([output, output], 3, 1, false, Law::FanIn, init),
            bn2: BatchNorm::new(output, true, init),
            shortcut: if stride == 1 && input == output {
                Vec::new()
            } else {
                let conv = Conv2d::new([input, output], 1, stride, false, Law::FanIn, init);
                vec![Layer::Conv2d(conv), Layer::BatchNorm(BatchNorm::new(output, true, init))]
            },
        }
    }

    fn forward(&self, x: Tensor<4>, phase: &Phase<'_>) -> Tensor<4> {
        let shortcut = sequence(&self.shortcut, x.clone(), phase);
        let h = activation::relu(self.bn1.forward(self.conv1.forward(x), phase));
        activation::relu(self.bn2.forward(self.conv2.forward(h), phase) + shortcut)
    }

    /// The block as layers, from one image to another.
    fn layers<'a>(&'a self, x: usize, network: &mut Parts<'a>) -> usize {
        let h = network.layer(vec![conv_norm(x, &self.conv1, &self.bn1)], true);
        let shortcut = match &self.shortcut[..] {
            [] => Term::same(x),
            layers => term(x, Normed::first_of(layers)),
        };
        network.layer(vec![conv_norm(h, &self.conv2, &self.bn2), shortcut], true)
    }
}

/// A ResNet-18.
#[derive(Module, Debug)]
pub struct ResNet18 {
    /// 3×3.
    pub conv1: Conv2d,
    /// After `conv1`.
    pub bn1: BatchNorm,
    /// At full resolution.
    pub layer1: Vec<BasicBlock>,
    /// At half resolution.
    pub layer2: Vec<BasicBlock>,
    /// At a quarter.
    pub layer3: Vec<BasicBlock>,
    /// At an eighth.
    pub layer4: Vec<BasicBlock>,
    /// The classifier.
    pub linear: Dense,
    #[module(skip)]
    image: [usize; 3],
    #[module(skip)]
    normalisation: Option<Normalisation>,
    #[module(skip)]
    fused: Fused,
}

impl ResNet18 {
    fn blocks(&self) -> impl Iterator<Item = &BasicBlock> {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().flatten()
    }

    /// The network's modules, layer by layer.
    fn parts(&self) -> Parts<'_> {
        let mut network = baseline(self.image, (3, WINDOW), &self.linear);
        let x = network.layer(vec![conv_norm(0, &self.conv1, &self.bn1)], true);
        self.blocks().fold(x, |x, block| block.layers(x, &mut network));
        network
    }
}

impl Feedforward for ResNet18 {
    /// Fused kernels for plain float32 tensors on the flex CPU device in evaluation, Burn operations otherwise.
    fn forward(&self, images: Images, phase: &Phase<'_>) -> Logits {
        let images = normalised(self.normalisation.as_ref(), images);
        if let Phase::Evaluate = phase
            && let Some(logits) = self.fused.forward(self, &images, || self.parts())
        {
            return logits;
        }
        let x = activation::relu(self.bn1.forward(self.conv1.forward(images), phase));
        let x = self.blocks().fold(x, |x, block| block.forward(x, phase));
        self.linear.forward(pooled(x, WINDOW))
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
        self.linear.weight.dims()[0]
    }
}
