//! What a multi-tier convolutional monotone DEQ is made of: the channels of its tiers beside what one of a single tier has.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::model::ConfigError;
use crate::model::init::Init;
use crate::model::limits::{MAX_BRANCHES, MAX_CHANNELS, MAX_NUMBERS, MAX_SIDE, at_most, parameters_within};
use crate::model::monotone::config::{Parametrisation, Splitting};
use crate::model::monotone::convolutional::{MonotoneConvConfig, windows};
use crate::model::normalisation::Normalisation;

/// Sizes of a multi-tier convolutional monotone DEQ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonotoneMultiConfig {
    /// Channels C_i of each tier, from the one that images enter on. Each has half the rows and columns of the one before.
    pub channels: Vec<usize>,
    /// Side k of the kernel of U, which makes the injection.
    pub kernel: usize,
    /// Stride of U.
    pub stride: usize,
    /// Zeros around the normalised image, or, if negative, how many of its pixels are cut off at each side. A side of the
    /// first tier has ⌊(side + 2·padding − k)/stride⌋ + 1 units.
    pub padding: isize,
    /// Side of the windows of the last tier whose means the head sees, one beside the other from one unit before it on, where it
    /// is 0; what fills no window is not seen. 1 for the tier itself.
    pub pool: usize,
    /// m > 0: the symmetric part of I − W is at least m I. The fixed point moves by at most ‖U‖/m times as much as the image.
    pub monotonicity: f64,
    /// α in (0, 1\], the cell's step. Every α has the same fixed point; solvers reach it by plain iteration where
    /// ‖(1−α) I + α W‖ < 1, which small ones fulfil: all below 2m/‖I − W‖². Of Peaceman-Rachford splitting every one does.
    pub step: f64,
    /// Which map has the fixed point: what an iteration of the cell is. That of Peaceman-Rachford splitting has a border of
    /// one unit around each tier.
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

fn classes() -> usize {
    10
}

impl MonotoneMultiConfig {
    /// 4, 8 and 8 channels of 8×8, 4×4 and 2×2 units for 8×8 digits.
    pub fn digits() -> Self {
        Self {
            channels: vec![4, 8, 8],
            kernel: 3,
            stride: 1,
            padding: 1,
            pool: 1,
            monotonicity: 1.0,
            step: 0.2,
            splitting: Splitting::ForwardBackward,
            image: [1, 8, 8],
            classes: classes(),
            normalisation: None,
        }
    }

    /// The first tier alone, and how images enter it.
    pub(super) fn first(&self) -> MonotoneConvConfig {
        MonotoneConvConfig {
            channels: self.channels.first().copied().unwrap_or(0),
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            pool: 1,
            parametrisation: Parametrisation::WinstonKolter,
            monotonicity: self.monotonicity,
            step: self.step,
            splitting: self.splitting,
            image: self.image,
            classes: self.classes,
            normalisation: self.normalisation.clone(),
        }
    }

    /// C, H, W of each tier.
    pub fn tiers(&self) -> Vec<[usize; 3]> {
        let [_, h, w] = self.first().state();
        self.channels.iter().enumerate().map(|(tier, &c)| [c, h >> tier, w >> tier]).collect()
    }

    /// C, H, W of the tier that the head reads.
    pub(super) fn last(&self) -> [usize; 3] {
        self.tiers().pop().unwrap_or_default()
    }

    /// Whether the sizes fit together and are within the [limits](crate::model::limits).
    ///
    /// # Errors
    ///
    /// Names the first field that does not fit, and what it must satisfy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |field, problem: String| Err(ConfigError { field, problem });
        let count = self.channels.len();
        if count < 2 {
            let problem =
                format!("{count} tiers; at least 2 are needed, one alone is a model of kind monotone-conv");
            return wrong("channels", problem);
        }
        at_most("channels", count, MAX_BRANCHES)?;
        self.channels.iter().try_for_each(|&channels| at_most("channels", channels, MAX_CHANNELS))?;
        if self.channels.contains(&0) {
            return wrong("channels", "0 in a tier; at least 1 is needed".into());
        }
        self.first().validate()?;
        let [_, h, w] = self.first().state();
        if h % (1 << (count - 1)) != 0 || w % (1 << (count - 1)) != 0 {
            let problem = format!(
                "{count} tiers, the first of {h}×{w} units, which cannot be halved {} times without a rest: give fewer tiers, or \
                 another kernel, stride or padding",
                count - 1
            );
            return wrong("channels", problem);
        }
        at_most("channels", self.tiers().iter().map(|[c, h, w]| c * (h + 2) * (w + 2)).sum(), MAX_NUMBERS)?;
        let [_, h, w] = self.last();
        at_most("pool", self.pool, MAX_SIDE)?;
        if self.pool == 0 {
            return wrong("pool", "0; at least 1 is needed".into());
        }
        if windows(h, self.pool) * windows(w, self.pool) == 0 {
            let problem = format!(
                "{} is larger than the last tier of {h}×{w} units and its border: give at most {}",
                self.pool,
                h.min(w) + 2
            );
            return wrong("pool", problem);
        }
        parameters_within(&self.build(&mut Init::shapes(&Device::flex())))
    }
}
