//! What an MDEQ is made of: sizes, and the sanity of their combination.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::model::ConfigError;
use crate::model::init::Init;
use crate::model::limits::{
    MAX_BRANCHES, MAX_CHANNELS, MAX_NUMBERS, at_most, images_within, parameters_within,
};
use crate::model::normalisation::Normalisation;
use crate::state::Layout;

/// Sizes of an MDEQ. Defaults are those that the paper's models share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MdeqConfig {
    /// Channels C_i of each branch, from fine to coarse. One branch is the single-scale cell.
    pub channels: Vec<usize>,
    /// Channels of the head's bottlenecks (times 4 after expansion), one per branch.
    pub head_channels: Vec<usize>,
    /// Channels after the head's last convolution.
    pub final_channels: usize,
    /// Groups of the group normalisations.
    #[serde(default = "defaults::groups")]
    pub groups: usize,
    /// Expansion E of the blocks' hidden channels.
    #[serde(default = "defaults::expansion")]
    pub expansion: usize,
    /// How often the stem halves the resolution: 0, 1 or 2.
    #[serde(default)]
    pub downsample_times: usize,
    /// Whether the normalisation of the blocks has an affine map.
    #[serde(default = "defaults::yes")]
    pub block_affine: bool,
    /// Whether the normalisation of the fusion paths has an affine map.
    #[serde(default = "defaults::yes")]
    pub fuse_affine: bool,
    /// Whether the normalisation after fusion has an affine map.
    #[serde(default)]
    pub post_affine: bool,
    /// Rate p of the variational dropout in training: in each step and for each example, a channel of a block's second
    /// convolution is dropped with probability p, at every depth alike, and the others are scaled by 1/(1 − p).
    /// Without effect on a model in use, in the inner attack and on the development split.
    #[serde(default)]
    pub dropout: f64,
    /// C, H, W of the images.
    #[serde(default = "defaults::image")]
    pub image: [usize; 3],
    /// Number of classes K.
    #[serde(default = "defaults::classes")]
    pub classes: usize,
    /// What the images are normalised by before anything else, for models that expect it; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalisation: Option<Normalisation>,
}

mod defaults {
    pub fn groups() -> usize {
        8
    }
    pub fn expansion() -> usize {
        5
    }
    pub fn yes() -> bool {
        true
    }
    pub fn image() -> [usize; 3] {
        [3, 32, 32]
    }
    pub fn classes() -> usize {
        10
    }
}

fn wrong<T>(field: &'static str, problem: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError { field, problem: problem.into() })
}

impl MdeqConfig {
    fn new(channels: &[usize], head_channels: &[usize], final_channels: usize) -> Self {
        Self {
            channels: channels.to_vec(),
            head_channels: head_channels.to_vec(),
            final_channels,
            groups: defaults::groups(),
            expansion: defaults::expansion(),
            downsample_times: 0,
            block_affine: true,
            fuse_affine: true,
            post_affine: false,
            dropout: 0.0,
            image: defaults::image(),
            classes: defaults::classes(),
            normalisation: None,
        }
    }

    /// The paper's MDEQ-Large.
    pub fn large() -> Self {
        Self { dropout: 0.22, ..Self::new(&[32, 64, 128, 256], &[14, 28, 56, 112], 1680) }
    }

    /// The paper's MDEQ-XL.
    pub fn xl() -> Self {
        Self { dropout: 0.22, ..Self::new(&[72, 144, 288, 576], &[20, 40, 80, 160], 1800) }
    }

    /// Two branches at half resolution: the size that a CPU can train.
    pub fn small() -> Self {
        Self { groups: 4, expansion: 3, downsample_times: 1, ..Self::new(&[16, 32], &[8, 16], 160) }
    }

    /// One branch: the single-scale cell.
    pub fn single_scale() -> Self {
        Self { groups: 4, expansion: 3, downsample_times: 1, ..Self::new(&[24], &[12], 160) }
    }

    /// Two narrow branches for 8×8 digits.
    pub fn digits() -> Self {
        Self { groups: 4, expansion: 2, image: [1, 8, 8], ..Self::new(&[12, 16], &[4, 8], 64) }
    }

    /// A configuration by the name that commands use.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "mdeq-large" => Self::large(),
            "mdeq-xl" => Self::xl(),
            "mdeq-small" => Self::small(),
            "single-scale" => Self::single_scale(),
            "mdeq-digits" => Self::digits(),
            _ => return None,
        })
    }

    /// The names that [`Self::named`] knows.
    pub const NAMES: [&'static str; 5] =
        ["mdeq-large", "mdeq-xl", "mdeq-small", "single-scale", "mdeq-digits"];

    /// Number of branches.
    pub fn branches(&self) -> usize {
        self.channels.len()
    }

    /// The shapes of the state's branches. Call [`Self::validate`] first.
    pub fn layout(&self) -> Layout {
        let [_, height, width] = self.image;
        let shape = |(i, &c): (usize, &usize)| {
            let shift = self.downsample_times + i;
            [c, height >> shift, width >> shift]
        };
        Layout::new(self.channels.iter().enumerate().map(shape).collect())
    }

    /// Whether the sizes fit together and are within the [limits](crate::model::limits).
    ///
    /// # Errors
    ///
    /// Names the first field that does not fit, and what it must satisfy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.channels.is_empty() || self.channels.contains(&0) {
            return wrong("channels", "at least one branch, each with at least one channel");
        }
        if self.head_channels.len() != self.channels.len() || self.head_channels.contains(&0) {
            let problem = format!(
                "{} entries for {} branches; give each branch one positive number",
                self.head_channels.len(),
                self.channels.len()
            );
            return wrong("head_channels", problem);
        }
        at_most("channels", self.branches(), MAX_BRANCHES)?;
        for &channels in &self.channels {
            at_most("channels", channels, MAX_CHANNELS)?;
            at_most("expansion", self.expansion.saturating_mul(channels), MAX_CHANNELS)?;
        }
        for &channels in &self.head_channels {
            // Four times as many come out of a bottleneck.
            at_most("head_channels", channels, MAX_CHANNELS / 4)?;
        }
        at_most("final_channels", self.final_channels, MAX_CHANNELS)?;
        images_within(self.image, self.classes)?;
        if self.groups == 0 || self.expansion == 0 || self.final_channels == 0 {
            return wrong("groups, expansion, final_channels", "must be at least 1");
        }
        if self.branches() > 1 && self.groups < 2 {
            return wrong("groups", "at least 2: the normalisation after fusion has half as many");
        }
        if let Some(c) = self.channels.iter().find(|&&c| c % self.groups != 0) {
            return wrong("channels", format!("{c} is not divisible by the {} groups", self.groups));
        }
        if !self.groups.is_multiple_of(2) && self.branches() > 1 {
            return wrong(
                "groups",
                format!("{} is odd; the normalisation after fusion halves it", self.groups),
            );
        }
        if self.downsample_times > 2 {
            return wrong("downsample_times", format!("{} is not 0, 1 or 2", self.downsample_times));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong("dropout", format!("{} is not in [0, 1)", self.dropout));
        }
        if self.classes < 2 {
            return wrong("classes", format!("{} classes; at least 2 are needed", self.classes));
        }
        let factor = 1 << (self.downsample_times + self.branches() - 1);
        let [c, h, w] = self.image;
        if c == 0 || h == 0 || w == 0 || h % factor != 0 || w % factor != 0 {
            let problem = format!(
                "{c}×{h}×{w}: height and width must be positive multiples of {factor} for {} branches and \
                 downsample_times {}",
                self.branches(),
                self.downsample_times
            );
            return wrong("image", problem);
        }
        at_most("channels times image", self.layout().dim(), MAX_NUMBERS)?;
        self.normalisation.iter().try_for_each(|normalisation| normalisation.validate(c))?;
        parameters_within(&self.build(&mut Init::shapes(&Device::flex())))
    }
}
