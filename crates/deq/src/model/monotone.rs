//! The monotone DEQ (Winston and Kolter 2020, arXiv 2006.08591), fully connected or convolutional: its fixed point exists, is
//! the only one, and moves by at most ‖U‖/m times as much as the image, whatever is trained.
//!
//! Fully connected, z* = relu(W z* + U x + b) with W = (1−m) I − AᵀA + B − Bᵀ, so that the symmetric part of I − W is m I + AᵀA ⪰ m I, or
//! one of the other [parametrisations](Parametrisation) of W, among them that of a [network with a Lipschitz bound](Lben). The
//! stem is U x + b of the normalised image, the [cell](MonotoneCell) a step towards z* by one of two [splittings](Splitting), the head linear.

mod splitting;
mod peaceman_rachford;
mod weight;
mod cell;
mod config;
mod boxes;
mod lben;
mod convolutional;
mod multi;

pub use boxes::{BoxCell, BoxHead, BoxStem, Boxed, Contracting, LinearHead, LinearStem};
pub use cell::MonotoneCell;
pub use config::{MonotoneConfig, Parametrisation, Splitting};
pub use convolutional::{
    Frequencies, IntervalBoundedConv, MonotoneConv, MonotoneConvCell, MonotoneConvConfig, MonotoneConvHead,
    MonotoneConvStem, NemonConv, WinstonKolterConv,
};
pub use lben::{Lben, LbenConfig};
pub use multi::{MonotoneDown, MonotoneMulti, MonotoneMultiCell, MonotoneMultiConfig, MonotoneTier};
pub use weight::{IntervalBounded, LEAST_SCALE, LbenCell, LbenWeight, Nemon, WinstonKolter};

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};

use super::ConfigError;
use super::deq::{Deq, Head, Stem};
use super::init::Init;
use super::layers::{Dense, Phase, products};
use super::normalisation::{Normalisation, normalised};
use equipoise_attack::batch::{Images, Logits};

/// A monotone DEQ.
pub type Monotone = Deq<MonotoneStem, MonotoneCell, MonotoneHead>;

/// U x + b of the normalised image.
#[derive(Module, Debug)]
pub struct MonotoneStem {
    /// U, `[D, CHW]`, and b, `[D]`.
    pub injection: Dense,
    #[module(skip)]
    normalisation: Option<Normalisation>,
}

impl Stem for MonotoneStem {
    fn forward(&self, images: Images, _phase: &Phase<'_>) -> Tensor<2> {
        self.affine(normalised(self.normalisation(), images))
    }
}

impl LinearStem for MonotoneStem {
    fn normalisation(&self) -> Option<&Normalisation> {
        self.normalisation.as_ref()
    }

    fn affine(&self, normalised: Images) -> Tensor<2> {
        self.injection.forward(normalised.flatten(1, 3))
    }

    fn by_sizes(&self, normalised: Images) -> Tensor<2> {
        products(normalised.flatten(1, 3), self.injection.weight.val().abs(), None)
    }
}

/// A linear classifier of z.
#[derive(Module, Debug)]
pub struct MonotoneHead {
    /// `[K, D]` and `[K]`.
    pub classifier: Dense,
    #[module(skip)]
    splitting: Splitting,
}

impl Head for MonotoneHead {
    fn forward(&self, state: Tensor<2>, _phase: &Phase<'_>) -> Logits {
        self.classifier.forward(match self.splitting {
            Splitting::ForwardBackward => state,
            Splitting::PeacemanRachford => activation::relu(state),
        })
    }

    fn classes(&self) -> usize {
        self.classifier.weight.lazy_shape()[0]
    }
}

impl LinearHead for MonotoneHead {
    fn features(&self, z: Tensor<2>) -> Tensor<2> {
        z
    }

    fn classifier(&self) -> &Dense {
        &self.classifier
    }
}

impl MonotoneConfig {
    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the configuration contradicts itself; see [`MonotoneConfig::validate`].
    pub fn init(&self, seed: u64, device: &Device) -> Result<Monotone, ConfigError> {
        self.validate()?;
        Ok(self.build(&mut Init::new(seed, device)))
    }

    /// A model of sizes that fit together.
    pub(crate) fn build(&self, init: &mut Init) -> Monotone {
        let pixels = self.image.iter().product();
        Deq {
            stem: MonotoneStem {
                injection: Dense::new(pixels, self.hidden, init),
                normalisation: self.normalisation.clone(),
            },
            cell: self.cell(init),
            head: MonotoneHead {
                classifier: Dense::new(self.hidden, self.classes, init),
                splitting: self.splitting,
            },
        }
    }
}
