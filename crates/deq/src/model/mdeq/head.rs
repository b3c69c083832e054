//! The head of an MDEQ: a bottleneck per branch, merged from fine to coarse, pooled, classified.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, activation};
use equipoise_kernels::{BiasedConv, BottleneckParameters, Head as Kernels, HeadParameters, HeadPass};

use super::config::MdeqConfig;
use crate::model::deq::{Head, HeadPullBack, HeadTrainingPullBack};
use crate::model::init::{Init, Law};
use crate::model::layers::{BatchMoments, BatchNorm, Conv2d, Dense, Layer, Phase, conv_bn_relu, sequence};
use crate::model::normed::{accumulate_gradients, folded, normed, note_statistics, plain_numbers};
use crate::model::parameters::accumulate;
use crate::model::prepared::{Prepared, parameters};
use crate::state::Layout;
use equipoise_attack::batch::{Logits, from_vec, to_vec};
use equipoise_attack::cpu::{numbers_of, plain};

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

    /// Every convolution with the normalisation after it.
    fn layers(&self) -> BottleneckParameters<(&Conv2d, &BatchNorm)> {
        let Self { conv1, bn1, conv2, bn2, conv3, bn3, downsample } = self;
        let shortcut = (!downsample.is_empty()).then(|| normed(downsample));
        BottleneckParameters { conv1: (conv1, bn1), conv2: (conv2, bn2), conv3: (conv3, bn3), shortcut }
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
    prepared: Prepared<Kernels>,
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
            prepared: Prepared::default(),
        }
    }
}

impl MdeqHead {
    /// The fused kernels for a state, and its numbers, if it is plain and so are the parameters.
    fn fused(&self, state: &Tensor<2>) -> Option<(Arc<Kernels>, FlexTensor)> {
        let plain = plain(state)?;
        Some((self.prepared.get(self, || Kernels::new(&self.numbers()))?, plain))
    }

    /// The head as plain numbers, batch normalisations folded.
    fn numbers(&self) -> HeadParameters<BiasedConv> {
        self.layers().map(|(conv, norm)| folded(conv, norm))
    }

    /// Every convolution with the normalisation after it.
    fn layers(&self) -> HeadParameters<(&Conv2d, &BatchNorm)> {
        HeadParameters {
            branches: self.layout.branches().to_vec(),
            bottlenecks: self.incre_modules.iter().map(|list| list[0].layers()).collect(),
            down: self.downsamp_modules.iter().map(|list| normed(list)).collect(),
            last: normed(&self.final_layer),
            classifier: (to_vec(self.classifier.weight.val()), to_vec(self.classifier.bias.val())),
        }
    }
}

impl Head for MdeqHead {
    /// Fused kernels for plain float32 tensors on the flex CPU device in evaluation, Burn operations otherwise.
    fn forward(&self, state: Tensor<2>, phase: &Phase<'_>) -> Logits {
        if let Phase::Evaluate = phase
            && let Some((kernels, plain)) = self.fused(&state)
        {
            let shape = [state.dims()[0], kernels.classes()];
            let mut logits = vec![0.0; shape[0] * shape[1]];
            kernels.forward(numbers_of(&plain), &mut logits);
            return from_vec(logits, shape, &state.device());
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
        let Some((kernels, numbers)) = self.fused(state) else {
            return self.linearize_tracked(state);
        };
        let (shape, device) = (state.dims(), state.device());
        let mut logits = vec![0.0; shape[0] * kernels.classes()];
        let tape = kernels.linearize(numbers_of(&numbers), &mut logits);
        let logits = from_vec(logits, [shape[0], kernels.classes()], &device);
        let pull_back = move |cotangent: Logits| {
            let cotangent = to_vec(cotangent);
            let mut state = vec![0.0; shape[0] * shape[1]];
            tape.pull_back(&cotangent, &mut state);
            from_vec(state, shape, &device)
        };
        (logits, Box::new(pull_back))
    }

    fn linearize_training(
        &self,
        state: &Tensor<2>,
        moments: &BatchMoments,
    ) -> (Logits, HeadTrainingPullBack<'_>) {
        let (Some(numbers), Some(_)) = (plain(state), parameters(self)) else {
            return self.linearize_training_tracked(state, moments);
        };
        let (shape, device) = (state.dims(), state.device());
        let layers = self.layers();
        let mut logits = vec![0.0; shape[0] * self.classes()];
        let found = layers.map(|(conv, norm)| plain_numbers(conv, norm));
        let pass = HeadPass::forward(&found, numbers_of(&numbers), &mut logits);
        let logits = from_vec(logits, [shape[0], self.classes()], &device);
        for ((conv, norm), statistics) in layers.convs().into_iter().zip(pass.statistics()) {
            note_statistics(conv, norm, statistics, &device, moments);
        }
        let pull_back = move |cotangent: Logits, into: &mut GradientsParams| {
            let mut state = vec![0.0; shape[0] * shape[1]];
            let gradients = pass.pull_back(&to_vec(cotangent), &mut state);
            for ((conv, norm), gradient) in layers.convs().into_iter().zip(gradients.convs) {
                accumulate_gradients(conv, norm, gradient, &device, into);
            }
            let (weight, bias) = (&self.classifier.weight, &self.classifier.bias);
            let (dw, db) = gradients.classifier;
            accumulate(into, weight.id, from_vec(dw, weight.dims(), &device));
            accumulate(into, bias.id, from_vec(db, bias.dims(), &device));
            from_vec(state, shape, &device)
        };
        (logits, Box::new(pull_back))
    }

    fn classes(&self) -> usize {
        self.classifier.weight.dims()[0]
    }
}
