//! The head of an MDEQ: a bottleneck per branch, merged from fine to coarse, pooled, classified.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, activation};
use equipoise_kernels::{Convolutions, Term};

use super::config::MdeqConfig;
use crate::model::deq::{Head, HeadPullBack, HeadTrainingPullBack};
use crate::model::fused::{Fused, Parts, conv_norm, term};
use crate::model::init::{Init, Law};
use crate::model::layers::{BatchMoments, BatchNorm, Conv2d, Dense, Layer, Phase, conv_bn_relu, sequence};
use crate::model::normed::Normed;
use crate::state::Layout;
use equipoise_attack::batch::Logits;

/// Expansion of the bottleneck's output channels.
const EXPANSION: usize = 4;

/// 1×1, 3×3, 1×1 (×4) with batch normalisation without affine map, and a shortcut (He et al. 2016).
#[derive(Module, Debug)]
pub struct Bottleneck {
    /// 1×1.
    pub conv1: Conv2d,
    /// Not affine.
    pub bn1: BatchNorm,
    /// 3×3.
    pub conv2: Conv2d,
    /// Not affine.
    pub bn2: BatchNorm,
    /// 1×1, to four times the channels.
    pub conv3: Conv2d,
    /// Not affine.
    pub bn3: BatchNorm,
    /// The shortcut: conv1x1 BN. Empty where the shape does not change.
    pub downsample: Vec<Layer>,
}

impl Bottleneck {
    fn new(input: usize, planes: usize, init: &mut Init) -> Self {
        let output = planes * EXPANSION;
        let conv = |channels, k, init: &mut Init| Conv2d::new(channels, k, 1, false, Law::FanIn, init);
        let conv1 = conv([input, planes], 1, init);
        let bn1 = BatchNorm::new(planes, false, init);
        let conv2 = conv([planes, planes], 3, init);
        let bn2 = BatchNorm::new(planes, false, init);
        let conv3 = conv([planes, output], 1, init);
        let bn3 = BatchNorm::new(output, false, init);
        let downsample = if input == output {
            Vec::new()
        } else {
            let shortcut = conv([input, output], 1, init);
            vec![Layer::Conv2d(shortcut), Layer::BatchNorm(BatchNorm::new(output, true, init))]
        };
        Self { conv1, bn1, conv2, bn2, conv3, bn3, downsample }
    }

    /// The bottleneck as layers, from one image to another.
    fn layers<'a>(&'a self, x: usize, parts: &mut Parts<'a>) -> usize {
        let h = parts.layer(vec![conv_norm(x, &self.conv1, &self.bn1)], true);
        let h = parts.layer(vec![conv_norm(h, &self.conv2, &self.bn2)], true);
        let shortcut = match &self.downsample[..] {
            [] => Term::same(x),
            layers => term(x, Normed::first_of(layers)),
        };
        parts.layer(vec![conv_norm(h, &self.conv3, &self.bn3), shortcut], true)
    }

    fn forward(&self, x: Tensor<4>, phase: &Phase<'_>) -> Tensor<4> {
        let shortcut = sequence(&self.downsample, x.clone(), phase);
        let h = activation::relu(self.bn1.forward(self.conv1.forward(x), phase));
        let h = activation::relu(self.bn2.forward(self.conv2.forward(h), phase));
        activation::relu(self.bn3.forward(self.conv3.forward(h), phase) + shortcut)
    }
}

/// From a state to logits.
#[derive(Module, Debug)]
pub struct MdeqHead {
    /// One bottleneck per branch, in a list of one as in the state dict.
    pub incre_modules: Vec<Vec<Bottleneck>>,
    /// From each branch to the next coarser: conv3x3 of stride 2 with bias, BN, ReLU.
    pub downsamp_modules: Vec<Vec<Layer>>,
    /// conv1x1 with bias, BN, ReLU.
    pub final_layer: Vec<Layer>,
    /// The linear classifier.
    pub classifier: Dense,
    #[module(skip)]
    layout: Layout,
    #[module(skip)]
    fused: Fused,
}

impl MdeqHead {
    /// A head with random weights.
    pub fn new(config: &MdeqConfig, init: &mut Init) -> Self {
        let widths: Vec<usize> = config.head_channels.iter().map(|c| c * EXPANSION).collect();
        let incre_modules = config
            .channels
            .iter()
            .zip(&config.head_channels)
            .map(|(&c, &planes)| vec![Bottleneck::new(c, planes, init)])
            .collect();
        let downsamp_modules = widths
            .windows(2)
            .map(|pair| conv_bn_relu(Conv2d::new([pair[0], pair[1]], 3, 2, true, Law::FanIn, init), init))
            .collect();
        let last = widths[widths.len() - 1];
        let conv = Conv2d::new([last, config.final_channels], 1, 1, true, Law::FanIn, init);
        Self {
            incre_modules,
            downsamp_modules,
            final_layer: conv_bn_relu(conv, init),
            classifier: Dense::new(config.final_channels, config.classes, init),
            layout: config.layout(),
            // Most of its products are in convolutions of stride 2 and of one by one.
            fused: Fused::new(&[config.layout().dim()], Convolutions::Direct),
        }
    }
}

impl MdeqHead {
    /// Its modules, layer by layer: the branches are its inputs.
    fn parts(&self) -> Parts<'_> {
        let branches = self.layout.branches().to_vec();
        let coarsest = branches[branches.len() - 1];
        let window = [coarsest[1], coarsest[2]];
        let mut parts = Parts::to_logits(branches, window, &self.classifier);
        let mut finer = None;
        for (branch, bottleneck) in self.incre_modules.iter().enumerate() {
            let own = bottleneck[0].layers(branch, &mut parts);
            finer = Some(match finer {
                None => own,
                Some(finer) => {
                    let down = Normed::first_of(&self.downsamp_modules[branch - 1]);
                    let down = parts.layer(vec![term(finer, down)], true);
                    parts.layer(vec![Term::same(own), Term::same(down)], false)
                }
            });
        }
        let merged = finer.expect("a state has at least one branch");
        parts.layer(vec![term(merged, Normed::first_of(&self.final_layer))], true);
        parts
    }
}

impl Head for MdeqHead {
    /// Fused kernels for plain float32 tensors on the flex CPU device in evaluation, Burn operations otherwise.
    fn forward(&self, state: Tensor<2>, phase: &Phase<'_>) -> Logits {
        if let Phase::Evaluate = phase
            && let Some(logits) = self.fused.forward(self, &state, || self.parts())
        {
            return logits;
        }
        let mut branches = self.layout.split(&state).into_iter().zip(&self.incre_modules);
        let (finest, bottleneck) = branches.next().expect("a state has at least one branch");
        let mut y = bottleneck[0].forward(finest, phase);
        for ((branch, bottleneck), down) in branches.zip(&self.downsamp_modules) {
            y = bottleneck[0].forward(branch, phase) + sequence(down, y, phase);
        }
        let y = sequence(&self.final_layer, y, phase);
        let [n, c, h, w] = y.dims();
        self.classifier.forward(y.reshape([n, c, h * w]).mean_dim(2).reshape([n, c]))
    }

    fn linearize(&self, state: &Tensor<2>) -> (Logits, HeadPullBack<'_>) {
        match self.fused.linearize(self, state, || self.parts()) {
            Some(linear) => linear,
            None => self.linearize_tracked(state),
        }
    }

    fn linearize_training(
        &self,
        state: &Tensor<2>,
        moments: &BatchMoments,
    ) -> (Logits, HeadTrainingPullBack<'_>) {
        let Some((logits, pass)) = self.fused.train(self, state, moments, || self.parts()) else {
            return self.linearize_training_tracked(state, moments);
        };
        let pull_back = move |cotangent: Logits, into: &mut GradientsParams| {
            let state = pass.pull_back_to_input(cotangent, into);
            // What the cell keeps of its pass, which is larger, comes into its place.
            self.fused.release();
            state
        };
        (logits, Box::new(pull_back))
    }

    fn classes(&self) -> usize {
        self.classifier.weight.dims()[0]
    }
}
