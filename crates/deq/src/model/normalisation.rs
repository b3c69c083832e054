//! Normalisation of images by the mean and deviation of each channel, inside of the model.
//!
//! A model that expects normalised images gets them from images in \[0, 1\]: attacks stay in pixel space, and every
//! gradient passes through (x − μ) / σ.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use equipoise_attack::batch::Images;

/// (x − μ) / σ, channel by channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// μ of each channel, on the scale of \[0, 1\].
    pub mean: Vec<f32>,
    /// σ of each channel.
    pub std: Vec<f32>,
}

impl Normalisation {
    /// The names of the usual ones.
    pub const NAMES: [&'static str; 5] = ["cifar10", "cifar10-per-image", "imagenet", "mnist", "half"];

    /// A usual one by name, for images with so many channels: `cifar10` (deviation over all pixels), `cifar10-per-image`
    /// (mean deviation within an image, as much training code has it) and `imagenet` for colour, `mnist` for one channel,
    /// and `half` for any, which maps \[0, 1\] to \[−1, 1\].
    pub fn named(name: &str, channels: usize) -> Option<Self> {
        let (mean, std): (Vec<f32>, Vec<f32>) = match (name, channels) {
            ("cifar10", 3) => (vec![0.4914, 0.4822, 0.4465], vec![0.2470, 0.2435, 0.2616]),
            ("cifar10-per-image", 3) => (vec![0.4914, 0.4822, 0.4465], vec![0.2023, 0.1994, 0.2010]),
            ("imagenet", 3) => (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]),
            ("mnist", 1) => (vec![0.1307], vec![0.3081]),
            ("half", _) => (vec![0.5; channels], vec![0.5; channels]),
            _ => return None,
        };
        Some(Self { mean, std })
    }

    /// The usual ones for images with so many channels, with their names.
    pub fn usual(channels: usize) -> Vec<(&'static str, Self)> {
        Self::NAMES.into_iter().filter_map(|name| Some((name, Self::named(name, channels)?))).collect()
    }

    /// Whether it is one of images with so many channels.
    ///
    /// # Errors
    ///
    /// Says what is wrong with which channel.
    pub fn validate(&self, channels: usize) -> Result<(), ConfigError> {
        let wrong = |problem: String| Err(ConfigError { field: "normalisation", problem });
        if self.mean.len() != channels || self.std.len() != channels {
            return wrong(format!(
                "{} means and {} deviations for images of {channels} channels: give one of each per channel",
                self.mean.len(),
                self.std.len()
            ));
        }
        let sound = |(mean, std): (&f32, &f32)| mean.is_finite() && std.is_finite() && *std > 0.0;
        match self.mean.iter().zip(&self.std).position(|pair| !sound(pair)) {
            None => Ok(()),
            Some(at) => wrong(format!(
                "channel {at} has mean {} and deviation {}: both must be finite, and the deviation positive",
                self.mean[at], self.std[at]
            )),
        }
    }

    /// Images `[N, C, H, W]` in \[0, 1\], normalised.
    pub fn apply(&self, images: Images) -> Images {
        let (mean, std) = (self.channels(&self.mean, &images), self.channels(&self.std, &images));
        (images - mean) / std
    }

    /// A gradient with respect to normalised images as one with respect to images.
    pub fn pull_back(&self, gradient: Images) -> Images {
        let std = self.channels(&self.std, &gradient);
        gradient / std
    }

    /// `[1, C, 1, 1]` beside some images.
    fn channels(&self, values: &[f32], images: &Images) -> Tensor<4> {
        let data = TensorData::new(values.to_vec(), [1, values.len(), 1, 1]);
        let values = Tensor::from_data(data, &images.device());
        if images.is_autodiff() { values.autodiff() } else { values }
    }
}

/// An optional normalisation of images.
pub(super) fn normalised(normalisation: Option<&Normalisation>, images: Images) -> Images {
    match normalisation {
        Some(normalisation) => normalisation.apply(images),
        None => images,
    }
}
