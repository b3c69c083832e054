//! The multi-tier convolutional monotone DEQ (Winston and Kolter 2020, arXiv 2006.08591, appendix E): its state is an image at
//! several resolutions, each half of the one before.
//!
//! Tier i has C_i channels of H/2ⁱ × W/2ⁱ units z_i. Images enter the first tier, the head reads the last. With 3×3 convolutions
//! A_i and B_i within a tier and N_i, of stride 2, from tier i to the next,
//!
//! > W_ii = (1−m) I − A_iᵀA_i − N_iᵀN_i + B_i − B_iᵀ, W_{i+1,i} = −2 A_{i+1}ᵀ N_i,
//!
//! the last tier without N, and 0 elsewhere: a tier depends on itself and on the one before it. This is monotone whatever A, B and
//! N are. Let 𝒜 be the block lower bidiagonal operator (𝒜z)_i = A_i z_i + N_{i−1} z_{i−1}. Its 𝒜ᵀ𝒜 has the diagonal blocks
//! A_iᵀA_i + N_iᵀN_i, and A_{i+1}ᵀN_i below and N_iᵀA_{i+1} above them. I − W has the same diagonal but for m I and a skew part,
//! twice the block below and none above, whose mean with its transpose are those of 𝒜ᵀ𝒜. So the symmetric part of I − W is
//! m I + 𝒜ᵀ𝒜 ⪰ m I, and all that holds of a monotone DEQ holds of this one.
//!
//! A_i = √|g_i| · its kernel over its Frobenius norm, N_i the same with |γ_i|, and B_i h_i times its. The authors carry a border of
//! one unit around each tier, on a torus, and set it to 0. Here z_i has zeros around it, and what A_i z_i and N_{i−1} z_{i−1}
//! have in common is larger than z_i by one unit on each side: unit p of it is next to unit p − 1 of z_i, and reads units 2p − 2, 2p − 1
//! and 2p of z_{i−1}.

mod cell;
mod config;
mod tori;

pub use cell::{MonotoneDown, MonotoneMultiCell, MonotoneTier};
pub use config::MonotoneMultiConfig;

use super::convolutional::{MonotoneConvHead, MonotoneConvStem};
use crate::model::ConfigError;
use crate::model::deq::Deq;
use crate::model::init::Init;

/// A multi-tier convolutional monotone DEQ.
pub type MonotoneMulti = Deq<MonotoneConvStem, MonotoneMultiCell, MonotoneConvHead>;

impl MonotoneMultiConfig {
    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the configuration contradicts itself; see [`MonotoneMultiConfig::validate`].
    pub fn init(&self, seed: u64, device: &burn::tensor::Device) -> Result<MonotoneMulti, ConfigError> {
        self.validate()?;
        Ok(self.build(&mut Init::new(seed, device)))
    }

    /// A model of sizes that fit together.
    pub(crate) fn build(&self, init: &mut Init) -> MonotoneMulti {
        Deq {
            stem: self.first().stem(init),
            cell: MonotoneMultiCell::new(self, init),
            head: MonotoneConvHead::new(self.last(), self.pool, self.classes, self.splitting, init),
        }
    }
}
