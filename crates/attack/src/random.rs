//! Random numbers that belong to an example.
//!
//! Every example has a generator of its own, a function of (seed, purpose, index in the data set, restart)
//! and of nothing else. So the numbers that an example meets depend neither on its batch, nor on the order of
//! the examples, nor on threads, and a run that was interrupted goes on with the same numbers. The generator
//! is ChaCha with 8 rounds, keyed by those four values: its output is the same on every machine.

use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The random numbers of one example.
#[derive(Debug, Clone)]
pub struct ExampleRng(ChaCha8Rng);

impl ExampleRng {
    /// The generator for the example at `index` of its data set. Another `purpose` (such as `pgd start`) or
    /// `restart` gives an independent stream.
    pub fn new(seed: u64, purpose: &str, index: usize, restart: usize) -> Self {
        let words = [seed, fnv1a(purpose.as_bytes()), index as u64, restart as u64];
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// This example's generator for another start of the same attack; 0 is the first, and changes nothing.
    pub fn starting(mut self, start: usize) -> Self {
        self.0.set_stream(start as u64);
        self
    }

    /// A float64 uniform in \[0, 1), a multiple of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A number uniform between `low` and `high`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A standard normal number.
    pub fn normal(&mut self) -> f64 {
        box_muller(1.0 - self.unit(), self.unit())
    }

    /// A Laplace number of scale 1: entries drawn so have a direction uniform on the L1 sphere.
    pub fn laplace(&mut self) -> f64 {
        self.sign() * -libm::log(1.0 - self.unit())
    }

    /// A whole number uniform below `count`, and 0 if that is 0.
    pub fn below(&mut self, count: usize) -> usize {
        // Rounding can reach the end only for counts near 2⁵³.
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// −1 or 1, equally likely.
    pub fn sign(&mut self) -> f64 {
        if self.unit() < 0.5 { -1.0 } else { 1.0 }
    }
}

/// What the random numbers of one answer are drawn by, for a classifier that draws any: the same key, the same numbers.
///
/// Whoever asks says who he is, of which example, and how often he has asked about it, so that no two answers share
/// numbers unless they are meant to, and neither batch nor order nor resumption changes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Seed of the run.
    pub seed: u64,
    /// Who asks, such as `verdict`.
    pub asker: &'static str,
    /// Where the example stands in its data set.
    pub index: usize,
    /// Which of several independent starts of an attack; 0 elsewhere.
    pub start: usize,
    /// How often this was asked before.
    pub draw: usize,
}

impl Key {
    /// The asker of verdicts.
    pub const VERDICT: &'static str = "verdict";

    /// A generator for these numbers.
    pub fn rng(&self) -> ExampleRng {
        let Self { seed, asker, index, start, draw } = *self;
        ExampleRng::new(seed, asker, index, draw).starting(start)
    }

    /// Keys of examples that are asked about for the first time.
    pub fn first(seed: u64, asker: &'static str, indices: &[usize]) -> Vec<Self> {
        indices.iter().map(|&index| Self { seed, asker, index, start: 0, draw: 0 }).collect()
    }
}

/// For whatever else the `rand` crate can draw.
impl RngCore for ExampleRng {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

/// A standard normal number of two uniform ones, the first above 0 (Box and Muller 1958): by `libm`, whose logarithm and cosine are
/// its own and the same on every machine. Those of `std` are the C library's, which differ.
pub fn box_muller(u: f64, v: f64) -> f64 {
    libm::sqrt(-2.0 * libm::log(u)) * libm::cos(std::f64::consts::TAU * v)
}

/// The 64-bit FNV-1a hash: a fixed function of the bytes, unlike the standard library's hashers, which may
/// change from one Rust release to the next.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_has_its_published_values() {
        // Fowler, Noll, Vo: test vectors of the reference implementation.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_stream_never_changes() {
        // Written down once: results of earlier runs can be repeated only while these hold.
        let mut rng = ExampleRng::new(0, "pgd start", 7, 0);
        let first: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(first, STREAM);
    }

    #[test]
    fn each_of_the_four_keys_matters() {
        let first = |seed, purpose, index, restart| ExampleRng::new(seed, purpose, index, restart).next_u64();
        let reference = first(1, "a", 2, 3);
        assert_eq!(reference, first(1, "a", 2, 3));
        let another = ExampleRng::new(1, "a", 2, 3).starting(1).next_u64();
        assert_ne!(reference, another);
        assert_eq!(reference, ExampleRng::new(1, "a", 2, 3).starting(0).next_u64());
        for other in [first(2, "a", 2, 3), first(1, "b", 2, 3), first(1, "a", 3, 3), first(1, "a", 2, 4)] {
            assert_ne!(reference, other);
        }
    }

    #[test]
    fn numbers_below_a_count_reach_all_of_them() {
        let mut rng = ExampleRng::new(1, "below", 0, 0);
        let mut met = [0; 5];
        (0..5000).for_each(|_| met[rng.below(5)] += 1);
        assert!(met.iter().all(|count| (850..1150).contains(count)), "{met:?}");
        assert_eq!((rng.below(1), rng.below(0)), (0, 0));
        let ups = (0..5000).filter(|_| rng.sign() > 0.0).count();
        assert!((2300..2700).contains(&ups), "{ups}");
    }

    #[test]
    fn normal_numbers_are_pinned() {
        // To the bit: starts of attacks, initial weights and the noise of certificates hang on them.
        let found = [(0.5, 0.0), (0.3, 0.1), (1e-9, 0.77)].map(|(u, v)| box_muller(u, v));
        assert_eq!(found, [1.177_410_022_515_474_7, 1.255_396_694_924_721_3, 0.806_882_583_581_953_7]);
    }

    const STREAM: [u64; 3] =
        [8_658_260_561_946_371_721, 6_671_434_634_485_169_791, 5_249_823_534_069_427_917];
}
