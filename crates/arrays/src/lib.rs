//! Numeric arrays by name, from the files that people have them in: NumPy's [`npy`] and [`npz`], MATLAB's [`mat`].
//!
//! Files come from users: nothing that one claims is trusted with an allocation before it is checked, and an error says
//! what is wrong with the file, without its name.

pub mod mat;
pub mod npy;
pub mod npz;

/// What a byte of deflate can become at most.
const MAX_INFLATION: u64 = 1032;

/// Whether so many bytes of deflate can hold so much.
pub fn can_inflate_to(compressed: u64, bytes: u64) -> bool {
    bytes <= compressed.saturating_mul(MAX_INFLATION)
}
