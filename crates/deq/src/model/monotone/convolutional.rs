//! The convolutional monotone DEQ (Winston and Kolter 2020, arXiv 2006.08591, section 4): its state is an image of C channels,
//! and W a convolution.
//!
//! W = (1−m) I − |g| ÂᵀÂ + h (B̂ − B̂ᵀ), Â = A/‖A‖_F and B̂ = B/‖B‖_F 3×3 convolutions without bias, so that the symmetric part of
//! I − W is m I + |g| ÂᵀÂ ⪰ m I. The authors' code keeps a border of one unit around the state, on a torus, and sets it to 0
//! after every step; those units are no part of z here: what is left is convolution with zeros around the state, and
//! Âᵀ the adjoint of an Â whose output is larger than its input by one on each side.
//!
//! Other [parametrisations](super::Parametrisation) have the W of a fully connected model for the matrix of one 3×3 convolution.
//!
//! Authors' names for the same functions: with padding p of the image, stride s and a k×k kernel of U, their torus has
//! ⌊(H + 2p + 2 − k)/s⌋ + 1 rows, and its inner units are U x with stride s and padding p − (s − 1) here: for s > 1 pixels at the
//! rim are not read. Pooling windows begin at the border.

mod weight;
mod cell;
mod config;
pub(super) mod torus;

pub use cell::MonotoneConvCell;
pub(super) use cell::{gram, skew, unit};
pub use config::MonotoneConvConfig;
pub use torus::Frequencies;
pub use weight::{IntervalBoundedConv, NemonConv, WinstonKolterConv};

use burn::module::Module;
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Tensor, activation};

use super::{LinearHead, LinearStem, Splitting};
use crate::model::ConfigError;
use crate::model::deq::{Deq, Head, Stem};
use crate::model::init::{Init, Law};
use crate::model::layers::{Conv2d, Dense, Phase};
use crate::model::normalisation::{Normalisation, normalised};
use equipoise_attack::batch::{Images, Logits};

/// A convolutional monotone DEQ.
pub type MonotoneConv = Deq<MonotoneConvStem, MonotoneConvCell, MonotoneConvHead>;

/// U x + b of the normalised image, U a convolution.
#[derive(Module, Debug)]
pub struct MonotoneConvStem {
    /// U, `[C, Cimage, k, k]`, and b, `[C]`.
    pub injection: Conv2d,
    #[module(skip)]
    padding: isize,
    #[module(skip)]
    image: [usize; 3],
    #[module(skip)]
    normalisation: Option<Normalisation>,
}

impl MonotoneConvStem {
    /// C, H, W of the images.
    pub fn image(&self) -> [usize; 3] {
        self.image
    }

    /// Zeros around the normalised image, or, if negative, how many of its pixels are cut off at each side.
    pub fn padding(&self) -> isize {
        self.padding
    }

    fn convolved(&self, images: Images, weight: Tensor<4>, bias: Option<Tensor<1>>) -> Tensor<2> {
        let (cut, padding) = (self.padding.min(0).unsigned_abs(), self.padding.max(0).unsigned_abs());
        let [n, c, h, w] = images.dims();
        let images = match cut {
            0 => images,
            _ => images.slice([0..n, 0..c, cut..h - cut, cut..w - cut]),
        };
        let options = ConvOptions::new([self.injection.stride(); 2], [padding; 2], [1, 1], 1);
        conv2d(images, weight, bias, options).flatten(1, 3)
    }
}

impl Stem for MonotoneConvStem {
    fn forward(&self, images: Images, _phase: &Phase<'_>) -> Tensor<2> {
        self.affine(normalised(self.normalisation(), images))
    }
}

impl LinearStem for MonotoneConvStem {
    fn normalisation(&self) -> Option<&Normalisation> {
        self.normalisation.as_ref()
    }

    fn affine(&self, normalised: Images) -> Tensor<2> {
        let bias = self.injection.bias.as_ref().map(|bias| bias.val());
        self.convolved(normalised, self.injection.weight.val(), bias)
    }

    fn by_sizes(&self, normalised: Images) -> Tensor<2> {
        self.convolved(normalised, self.injection.weight.val().abs(), None)
    }
}

/// A linear classifier of the means over windows of a state, or of the last units of one that has more.
#[derive(Module, Debug)]
pub struct MonotoneConvHead {
    /// `[K, F]` and `[K]`, F features by channel, row and column of windows.
    pub classifier: Dense,
    #[module(skip)]
    state: [usize; 3],
    #[module(skip)]
    pool: usize,
    #[module(skip)]
    splitting: Splitting,
}

impl MonotoneConvHead {
    pub(super) fn new(
        state: [usize; 3],
        pool: usize,
        classes: usize,
        splitting: Splitting,
        init: &mut Init,
    ) -> Self {
        let [channels, h, w] = state;
        let features = channels * windows(h, pool) * windows(w, pool);
        Self { classifier: Dense::new(features, classes, init), state, pool, splitting }
    }

    /// C, H, W of the state z that it reads.
    pub fn state(&self) -> [usize; 3] {
        self.state
    }

    /// Side of a window.
    pub fn pool(&self) -> usize {
        self.pool
    }

    /// Rows and columns of features: windows, or units where none are averaged.
    pub fn windows(&self) -> [usize; 2] {
        let [_, h, w] = self.state;
        [h, w].map(|side| windows(side, self.pool))
    }
}

/// How many windows of a side fill a side of the state, when they begin one unit before it and may end one after it; of side 1
/// they are the units themselves.
pub(super) fn windows(side: usize, pool: usize) -> usize {
    if pool == 1 { side } else { (side + 2) / pool }
}

impl Head for MonotoneConvHead {
    fn forward(&self, state: Tensor<2>, _phase: &Phase<'_>) -> Logits {
        let last = |state: Tensor<2>, units: [usize; 3]| {
            let (dim, own) = (state.dims()[1], units.iter().product());
            if dim > own { state.narrow(1, dim - own, own) } else { state }
        };
        let state = match self.splitting {
            Splitting::ForwardBackward => last(state, self.state),
            Splitting::PeacemanRachford => {
                activation::relu(torus::inner(&last(state, torus::around(self.state)), self.state))
            }
        };
        self.classifier.forward(self.features(state))
    }

    fn classes(&self) -> usize {
        self.classifier.weight.lazy_shape()[0]
    }
}

impl LinearHead for MonotoneConvHead {
    fn features(&self, z: Tensor<2>) -> Tensor<2> {
        let ([n, _], [c, h, w], pool) = (z.dims(), self.state, self.pool);
        if pool == 1 {
            return z;
        }
        let [rows, columns] = self.windows();
        let padded = z.reshape([n, c, h, w]).pad((1, 1, 1, 1), PadMode::Constant(0.0));
        let filled = padded.slice([0..n, 0..c, 0..rows * pool, 0..columns * pool]);
        let means = filled.reshape([n, c, rows, pool, columns, pool]).mean_dim(5).mean_dim(3);
        means.reshape([n, c * rows * columns])
    }

    fn classifier(&self) -> &Dense {
        &self.classifier
    }
}

impl MonotoneConvConfig {
    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the configuration contradicts itself; see [`MonotoneConvConfig::validate`].
    pub fn init(&self, seed: u64, device: &burn::tensor::Device) -> Result<MonotoneConv, ConfigError> {
        self.validate()?;
        Ok(self.build(&mut Init::new(seed, device)))
    }

    /// A model of sizes that fit together.
    pub(crate) fn build(&self, init: &mut Init) -> MonotoneConv {
        let (stem, cell) = (self.stem(init), self.cell(init));
        let head = MonotoneConvHead::new(self.state(), self.pool, self.classes, self.splitting, init);
        Deq { stem, cell, head }
    }

    pub(super) fn stem(&self, init: &mut Init) -> MonotoneConvStem {
        let channels = [self.image[0], self.channels];
        MonotoneConvStem {
            injection: Conv2d::new(channels, self.kernel, self.stride, true, Law::FanIn, init),
            padding: self.padding,
            image: self.image,
            normalisation: self.normalisation.clone(),
        }
    }
}
