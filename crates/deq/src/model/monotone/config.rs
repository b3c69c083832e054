//! What a monotone DEQ is made of: its size, how monotone it is, and the step of its cell.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::model::ConfigError;
use crate::model::init::Init;
use crate::model::limits::{MAX_CHANNELS, at_most, images_within, parameters_within};
use crate::model::normalisation::Normalisation;

/// Sizes of a monotone DEQ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonotoneConfig {
    /// Length D of the state.
    pub hidden: usize,
    /// What W is made of.
    #[serde(default, skip_serializing_if = "Parametrisation::is_usual")]
    pub parametrisation: Parametrisation,
    /// m > 0: the symmetric part of I − W is at least m I. The fixed point moves by at most ‖U‖/m times as much as the image. Of the
    /// other parametrisations it says the same in their norms, and is below 1 for `interval-bounded`.
    pub monotonicity: f64,
    /// α in (0, 1\], the cell's step. Every α has the same fixed point; solvers reach it by plain iteration where
    /// ‖(1−α) I + α W‖ < 1, which small ones fulfil: all below 2m/‖I − W‖²; with `nemon` all up to 1/(1 − min W_ii), with
    /// `interval-bounded` all up to 1. Of Peaceman-Rachford splitting every one does, but with `nemon` up to the same bound.
    pub step: f64,
    /// Which map has the fixed point: what an iteration of the cell is.
    #[serde(default, skip_serializing_if = "Splitting::is_usual")]
    pub splitting: Splitting,
    /// C, H, W of the images.
    pub image: [usize; 3],
    /// Number of classes K.
    #[serde(default = "classes")]
    pub classes: usize,
    /// What the images are normalised by before anything else, for models that expect it; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalisation: Option<Normalisation>,
}

/// What W is made of: what holds for every value of its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parametrisation {
    /// The symmetric part of I − W is at least m I: see [`WinstonKolter`](super::WinstonKolter).
    #[default]
    WinstonKolter,
    /// W's matrix measure in a weighted ℓ∞ norm is at most 1−m: see [`Nemon`](super::Nemon).
    Nemon,
    /// The spectral radius of |W| is at most 1−m: see [`IntervalBounded`](super::IntervalBounded).
    IntervalBounded,
}

impl Parametrisation {
    pub(super) fn is_usual(&self) -> bool {
        *self == Self::WinstonKolter
    }

    /// Whether boxes of states contract, whatever the parameters are: what certified training and its bounds need.
    pub fn has_boxes(self) -> bool {
        match self {
            Self::WinstonKolter => false,
            Self::Nemon | Self::IntervalBounded => true,
        }
    }

    /// Whether it can be had with such an m.
    pub(super) fn within(self, monotonicity: f64) -> Result<(), ConfigError> {
        if self == Self::IntervalBounded && monotonicity >= 1.0 {
            let problem = format!("{monotonicity} is not in (0, 1): |W| is scaled to at most 1−m");
            return Err(ConfigError { field: "monotonicity", problem });
        }
        Ok(())
    }

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::WinstonKolter => "winston-kolter",
            Self::Nemon => "nemon",
            Self::IntervalBounded => "interval-bounded",
        }
    }
}

/// Maps that have the same z*. The step α is that of either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Splitting {
    /// Forward-backward: relu((1−α) z + α (W z + x)), which contracts for small α.
    #[default]
    ForwardBackward,
    /// Peaceman-Rachford, whose state is u with z = relu(u): fewer steps for any α, and an inverse whenever the weights have
    /// changed, of D rows or, of a convolution, of as many as there are channels at each frequency.
    PeacemanRachford,
}

impl Splitting {
    pub(super) fn is_usual(&self) -> bool {
        *self == Self::ForwardBackward
    }
}

pub(super) fn classes() -> usize {
    10
}

impl MonotoneConfig {
    /// 40 units for 8×8 digits.
    pub fn digits() -> Self {
        Self {
            hidden: 40,
            parametrisation: Parametrisation::WinstonKolter,
            monotonicity: 1.0,
            step: 0.2,
            splitting: Splitting::ForwardBackward,
            image: [1, 8, 8],
            classes: classes(),
            normalisation: None,
        }
    }

    /// Whether the sizes fit together and are within the [limits](crate::model::limits).
    ///
    /// # Errors
    ///
    /// Names the first field that does not fit, and what it must satisfy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |field, problem: String| Err(ConfigError { field, problem });
        if self.hidden == 0 {
            return wrong("hidden", "0 units; at least 1 is needed".into());
        }
        at_most("hidden", self.hidden, MAX_CHANNELS)?;
        images_within(self.image, self.classes)?;
        dynamics(self.monotonicity, self.step, self.classes, self.image)?;
        self.parametrisation.within(self.monotonicity)?;
        self.normalisation.iter().try_for_each(|normalisation| normalisation.validate(self.image[0]))?;
        parameters_within(&self.build(&mut Init::shapes(&Device::flex())))
    }
}

/// What every monotone DEQ's numbers must satisfy.
pub(super) fn dynamics(
    monotonicity: f64,
    step: f64,
    classes: usize,
    image: [usize; 3],
) -> Result<(), ConfigError> {
    let wrong = |field, problem: String| Err(ConfigError { field, problem });
    if !(monotonicity > 0.0 && monotonicity <= 1e6) {
        return wrong("monotonicity", format!("{monotonicity} is not in (0, 1000000]"));
    }
    if !(step > 0.0 && step <= 1.0) {
        return wrong("step", format!("{step} is not in (0, 1]"));
    }
    if classes < 2 {
        return wrong("classes", format!("{classes} classes; at least 2 are needed"));
    }
    if image.contains(&0) {
        let [c, h, w] = image;
        return wrong("image", format!("{c}×{h}×{w}: no side may be 0"));
    }
    Ok(())
}
