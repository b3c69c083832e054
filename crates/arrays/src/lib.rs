//! Numeric arrays by name, from the files that people have them in: NumPy's [`npy`] and [`npz`], MATLAB's [`mat`].
//!
//! Files come from users: nothing that one claims is trusted with an allocation before it is checked, and an error says
//! what is wrong with the file, without its name.

pub mod mat;
pub mod npy;
pub mod npz;

/// The bits of each value of so many bytes, as the low bits of a word.
fn words(bytes: &[u8], width: usize, big_endian: bool) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(width).map(move |value| {
        let push = |word: u64, &byte: &u8| word << 8 | u64::from(byte);
        if big_endian { value.iter().fold(0, push) } else { value.iter().rev().fold(0, push) }
    })
}

/// A signed integer of so many bytes, given as the low bits of a word.
fn signed(bits: u64, width: usize) -> i128 {
    // The sign bit is shifted to the top and back.
    let unused = 64 - 8 * width as u32;
    ((bits << unused) as i64 >> unused).into()
}

/// What a byte of deflate can become at most.
const MAX_INFLATION: u64 = 1032;

/// Whether so many bytes of deflate can hold so much.
pub fn can_inflate_to(compressed: u64, bytes: u64) -> bool {
    bytes <= compressed.saturating_mul(MAX_INFLATION)
}
