//! The multiscale DEQ (Bai, Koltun and Kolter 2020), with as many branches as wanted.
//!
//! Branch i works at C_i channels and at 1/2^i of the injection's resolution. The cell applies one residual
//! [`Block`] to each branch, then sums each branch with all others brought to its shape
//! ([`FusePath`]), then mixes channels once more. With one branch the block alone is left:
//! the single-scale cell. Names are those of a released state dict.

mod block;
mod cell;
mod config;
mod fused;
mod fusion;
mod head;
mod stem;

pub use block::Block;
pub use cell::MdeqCell;
pub use config::MdeqConfig;
pub use fusion::{FusePath, PostFuse};
pub use head::MdeqHead;
pub use stem::MdeqStem;

pub use equipoise_kernels::Convolutions;

use burn::tensor::Device;

use super::ConfigError;
use super::deq::Deq;
use super::init::Init;

/// A multiscale DEQ.
pub type Mdeq = Deq<MdeqStem, MdeqCell, MdeqHead>;

impl MdeqConfig {
    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the configuration contradicts itself; see [`MdeqConfig::validate`].
    pub fn init(&self, seed: u64, device: &Device) -> Result<Mdeq, ConfigError> {
        self.validate()?;
        Ok(self.build(&mut Init::new(seed, device)))
    }

    /// A model of sizes that fit together.
    pub(crate) fn build(&self, init: &mut Init) -> Mdeq {
        Deq {
            stem: MdeqStem::new(self, init),
            cell: MdeqCell::new(self, init),
            head: MdeqHead::new(self, init),
        }
    }
}
