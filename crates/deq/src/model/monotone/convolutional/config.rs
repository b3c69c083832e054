//! What a convolutional monotone DEQ is made of: the sizes of its state, how monotone it is, and the step of its cell.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::windows;
use crate::model::ConfigError;
use crate::model::init::Init;
use crate::model::limits::{MAX_CHANNELS, MAX_NUMBERS, MAX_SIDE, at_most, images_within, parameters_within};
use crate::model::monotone::config::{Parametrisation, Splitting, dynamics};
use crate::model::normalisation::Normalisation;

/// Sizes of a convolutional monotone DEQ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonotoneConvConfig {
    /// Channels C of the state.
    pub channels: usize,
    /// Side k of the kernel of U, which makes the injection.
    pub kernel: usize,
    /// Stride of U.
    pub stride: usize,
    /// Zeros around the normalised image, or, if negative, how many of its pixels are cut off at each side. A side of the
    /// state has ⌊(side + 2·padding − k)/stride⌋ + 1 units.
    pub padding: isize,
    /// Side of the windows whose means the head sees, one beside the other from one unit before the state on, where it is 0;
    /// what fills no window is not seen. 1 for the state itself.
    pub pool: usize,
    /// What W is made of.
    #[serde(default, skip_serializing_if = "Parametrisation::is_usual")]
    pub parametrisation: Parametrisation,
    /// m > 0: the symmetric part of I − W is at least m I. The fixed point moves by at most ‖U‖/m times as much as the image. Of the
    /// other parametrisations it says the same in their norms, and is below 1 for `interval-bounded`.
    pub monotonicity: f64,
    /// α in (0, 1\], the cell's step. Every α has the same fixed point; solvers reach it by plain iteration where
    /// ‖(1−α) I + α W‖ < 1, which small ones fulfil: all below 2m/‖I − W‖²; with `nemon` all up to 1/(1 − min W_ii), with
    /// `interval-bounded` all up to 1. Of Peaceman-Rachford splitting every one does.
    pub step: f64,
    /// Which map has the fixed point: what an iteration of the cell is. That of Peaceman-Rachford splitting has a border of
    /// one unit around the state, and is for `winston-kolter` alone.
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

impl MonotoneConvConfig {
    /// 8 channels of 4×4 units for 8×8 digits.
    pub fn digits() -> Self {
        Self {
            channels: 8,
            kernel: 3,
            stride: 2,
            padding: 1,
            pool: 2,
            parametrisation: Parametrisation::WinstonKolter,
            monotonicity: 1.0,
            step: 0.2,
            splitting: Splitting::ForwardBackward,
            image: [1, 8, 8],
            classes: classes(),
            normalisation: None,
        }
    }

    /// Units along a side of so many pixels; 0 if the kernel does not fit into it.
    fn units(&self, pixels: usize) -> usize {
        let reach = pixels as i128 + 2 * self.padding as i128 - self.kernel as i128;
        usize::try_from(reach).map_or(0, |reach| reach / self.stride + 1)
    }

    /// C, H, W of the state z.
    pub fn state(&self) -> [usize; 3] {
        [self.channels, self.units(self.image[1]), self.units(self.image[2])]
    }

    /// How many numbers the classifier sees.
    pub fn features(&self) -> usize {
        let [channels, h, w] = self.state();
        channels * windows(h, self.pool) * windows(w, self.pool)
    }

    /// Whether the sizes fit together and are within the [limits](crate::model::limits).
    ///
    /// # Errors
    ///
    /// Names the first field that does not fit, and what it must satisfy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |field, problem: String| Err(ConfigError { field, problem });
        let positive = [
            ("channels", self.channels),
            ("kernel", self.kernel),
            ("stride", self.stride),
            ("pool", self.pool),
        ];
        if let Some((field, _)) = positive.into_iter().find(|(_, size)| *size == 0) {
            return wrong(field, "0; at least 1 is needed".into());
        }
        at_most("channels", self.channels, MAX_CHANNELS)?;
        at_most("kernel", self.kernel, MAX_SIDE)?;
        at_most("stride", self.stride, MAX_SIDE)?;
        at_most("pool", self.pool, MAX_SIDE)?;
        images_within(self.image, self.classes)?;
        dynamics(self.monotonicity, self.step, self.classes, self.image)?;
        self.parametrisation.within(self.monotonicity)?;
        if self.parametrisation != Parametrisation::WinstonKolter
            && self.splitting != Splitting::ForwardBackward
        {
            let problem = format!(
                "peaceman-rachford is for convolutions, and W of `{}` differs from unit to unit: use forward-backward, or \
                 winston-kolter",
                self.parametrisation.name()
            );
            return wrong("splitting", problem);
        }
        if self.padding >= self.kernel as isize {
            let problem = format!(
                "{} zeros around the image, and a kernel of {}: units at the border would see no pixel; at most {}",
                self.padding,
                self.kernel,
                self.kernel - 1
            );
            return wrong("padding", problem);
        }
        at_most("padding", self.padding.unsigned_abs(), MAX_SIDE)?;
        let [_, rows, columns] = self.image;
        let [_, h, w] = self.state();
        if h == 0 || w == 0 {
            let problem = format!(
                "{} does not fit into an image of {rows}×{columns} with padding {}: the state would have no units",
                self.kernel, self.padding
            );
            return wrong("kernel", problem);
        }
        if self.features() == 0 {
            let problem = format!(
                "{} is larger than the state of {h}×{w} units and its border: give at most {}",
                self.pool,
                h.min(w) + 2
            );
            return wrong("pool", problem);
        }
        at_most("channels", self.channels * (h + 2) * (w + 2), MAX_NUMBERS)?;
        self.normalisation.iter().try_for_each(|normalisation| normalisation.validate(self.image[0]))?;
        parameters_within(&self.build(&mut Init::shapes(&Device::flex())))
    }
}
