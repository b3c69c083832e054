//! The plainest stem and head: the pixels as they are, and a linear classifier of the state.

use burn::module::Module;
use burn::tensor::Tensor;

use super::deq::{Head, Stem};
use super::layers::{Dense, Phase};
use equipoise_attack::batch::{Images, Logits};

/// The identity: images are their own injection.
#[derive(Module, Debug, Default)]
pub struct FlattenStem {}

impl Stem for FlattenStem {
    fn forward(&self, images: Images, _phase: &Phase<'_>) -> Tensor<2> {
        images.flatten(1, 3)
    }
}

/// A linear classifier of the state.
#[derive(Module, Debug)]
pub struct LinearHead {
    /// `[K, D]` and `[K]`.
    pub classifier: Dense,
}

impl Head for LinearHead {
    fn forward(&self, state: Tensor<2>, _phase: &Phase<'_>) -> Logits {
        self.classifier.forward(state)
    }

    fn classes(&self) -> usize {
        self.classifier.weight.dims()[0]
    }
}
