//! What a model that draws random numbers is worth: the expected accuracy of one draw, and of all of them.

use serde::{Deserialize, Serialize};

use crate::accuracy::{Interval, wilson_interval};

/// A share of images, or a mean of shares, with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// In \[0, 1\].
    pub value: f64,
    /// 95% interval over images.
    pub interval: Interval,
}

impl Rate {
    /// A count of images, with its Wilson interval.
    pub fn of(correct: usize, count: usize) -> Self {
        let value = if count == 0 { 0.0 } else { correct as f64 / count as f64 };
        Self { value, interval: wilson_interval(correct, count) }
    }

    /// The mean over images of shares, with a normal interval: its variance is that over images.
    pub fn mean(shares: impl ExactSizeIterator<Item = f64> + Clone) -> Self {
        let count = shares.len();
        if count == 0 {
            return Self::of(0, 0);
        }
        let n = count as f64;
        let mean = shares.clone().sum::<f64>() / n;
        let variance = shares.map(|share| (share - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let half = 1.959_963_984_540_054 * (variance / n).sqrt();
        Self { value: mean, interval: [(mean - half).max(0.0), (mean + half).min(1.0)] }
    }
}

/// What one draw is worth behind a readout: all outcomes of every image, clean and where an attack on the mean loss ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RandomnessResult {
    /// What a verdict was: `one-shot`, `any-of-10`, `fixed-seed`.
    pub protocol: String,
    /// Deviation of the noise that is added to every image, in units of pixel intensity.
    pub noise: Option<f64>,
    /// Draws whose mean attacks followed; all outcomes where these are listed.
    pub mean_of: usize,
    /// The attack, with its gradient.
    pub attack: String,
    /// Outcomes of each image that were scored.
    pub outcomes: usize,
    /// Whether these are all that there are, each as likely; fresh draws if not.
    pub exact: bool,
    /// Expected accuracy of one draw on unperturbed images.
    pub clean_expected: Rate,
    /// Expected accuracy of one draw where the attack ends.
    pub expected: Rate,
    /// Images that every outcome has right there.
    pub every: Rate,
    /// Images that more than half of the outcomes have right there.
    pub majority: Rate,
}
