//! The order in which examples are seen: a permutation per epoch, drawn from the seed and the epoch alone.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// A permutation of 0..count for one epoch.
pub fn shuffled(count: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut rng);
    order
}

/// The seed of everything random inside one epoch, so that epochs differ and a resumed one does not.
pub fn epoch_seed(seed: u64, epoch: usize) -> u64 {
    // SplitMix64's finaliser (Steele, Lea and Flood 2014): neighbouring inputs, unrelated outputs.
    let mut z = seed ^ (epoch as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_sees_every_example_once_and_in_its_own_order() {
        let (first, second) = (shuffled(100, 7, 0), shuffled(100, 7, 1));
        assert_ne!(first, second);
        assert_eq!(first, shuffled(100, 7, 0));
        let mut sorted = second;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
