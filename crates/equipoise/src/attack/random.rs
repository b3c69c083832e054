//! Random numbers that belong to an example.
//!
//! Every example has a generator of its own, a function of (seed, purpose, index in the data set, restart)
//! and of nothing else. So the numbers that an example meets depend neither on its batch, nor on the order of
//! the examples, nor on threads, and a run that was interrupted goes on with the same numbers. The generator
//! is ChaCha with 8 rounds, keyed by those four values: its output is the same on every machine.

use burn::tensor::Device;
use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::budget::{Budget, Norm};
use crate::batch::{Images, from_vec};
use crate::normal::box_muller;

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

    /// A perturbation of `size` pixels, uniform in the ball of `budget`: in a cube for L∞; for L2 and L1 a uniform
    /// direction with length ε·u^(1/`size`), u uniform in \[0, 1).
    pub fn in_ball(&mut self, budget: &Budget, size: usize) -> Vec<f32> {
        let eps = budget.eps();
        match budget.norm() {
            Norm::Linf => (0..size).map(|_| self.uniform(-eps, eps) as f32).collect(),
            Norm::L2 => {
                let direction: Vec<f64> = (0..size).map(|_| self.normal()).collect();
                let length = direction.iter().map(|entry| entry * entry).sum::<f64>().sqrt();
                let radius = eps * self.unit().powf(1.0 / size as f64);
                let scaled = |part: f64| if length > 0.0 { (radius * part / length) as f32 } else { 0.0 };
                direction.into_iter().map(scaled).collect()
            }
            Norm::L1 => {
                let radius = eps * self.unit().powf(1.0 / size as f64);
                self.on_sphere(Norm::L1, size, radius)
            }
        }
    }

    /// A perturbation of `size` pixels and length `radius` in the given norm: uniform entries scaled to the
    /// largest for L∞, normal entries scaled to the Euclidean length for L2, Laplace entries to the sum for L1.
    pub fn on_sphere(&mut self, norm: Norm, size: usize, radius: f64) -> Vec<f32> {
        let direction: Vec<f64> = match norm {
            Norm::Linf => (0..size).map(|_| self.uniform(-1.0, 1.0)).collect(),
            Norm::L2 => (0..size).map(|_| self.normal()).collect(),
            Norm::L1 => (0..size).map(|_| self.laplace()).collect(),
        };
        let length = match norm {
            Norm::Linf => direction.iter().fold(0.0, |longest: f64, entry| longest.max(entry.abs())),
            Norm::L2 => direction.iter().map(|entry| entry * entry).sum::<f64>().sqrt(),
            Norm::L1 => direction.iter().map(|entry| entry.abs()).sum(),
        };
        let scale = if length > 0.0 { radius / length } else { 0.0 };
        direction.into_iter().map(|entry| (scale * entry) as f32).collect()
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

/// Noise for a batch of images, each example's from its own [`ExampleRng`].
///
/// `indices` are the examples' places in their data set, `[C, H, W]` the shape of an image; the results have
/// the shape `[N, C, H, W]`.
#[derive(Debug, Clone, Copy)]
pub struct Noise<'a> {
    seed: u64,
    purpose: &'a str,
    restart: usize,
    start: usize,
}

impl<'a> Noise<'a> {
    /// Noise for this purpose and restart.
    pub fn new(seed: u64, purpose: &'a str, restart: usize) -> Self {
        Self { seed, purpose, restart, start: 0 }
    }

    /// The noise of another start of the same attack; 0 is the first.
    pub fn starting(self, start: usize) -> Self {
        Self { start, ..self }
    }

    /// Independent entries, uniform between `low` and `high`.
    pub fn uniform(
        &self,
        indices: &[usize],
        shape: [usize; 3],
        low: f64,
        high: f64,
        device: &Device,
    ) -> Images {
        self.fill(indices, shape, device, |rng, image| {
            image.iter_mut().for_each(|entry| *entry = rng.uniform(low, high) as f32);
        })
    }

    /// Independent standard normal entries.
    pub fn normal(&self, indices: &[usize], shape: [usize; 3], device: &Device) -> Images {
        self.fill(indices, shape, device, |rng, image| {
            image.iter_mut().for_each(|entry| *entry = rng.normal() as f32);
        })
    }

    /// Perturbations uniform in the ball of `budget` ([`ExampleRng::in_ball`]).
    pub fn in_ball(&self, budget: &Budget, indices: &[usize], shape: [usize; 3], device: &Device) -> Images {
        self.fill(indices, shape, device, |rng, image| {
            image.copy_from_slice(&rng.in_ball(budget, image.len()));
        })
    }

    /// Lets each example's generator fill its image.
    fn fill(
        &self,
        indices: &[usize],
        [channels, height, width]: [usize; 3],
        device: &Device,
        draw: impl Fn(&mut ExampleRng, &mut [f32]),
    ) -> Images {
        let size = channels * height * width;
        let mut values = vec![0.0; indices.len() * size];
        for (image, &index) in values.chunks_exact_mut(size.max(1)).zip(indices) {
            let rng = ExampleRng::new(self.seed, self.purpose, index, self.restart);
            draw(&mut rng.starting(self.start), image);
        }
        from_vec(values, [indices.len(), channels, height, width], device)
    }
}

/// The 64-bit FNV-1a hash: a fixed function of the bytes, unlike the standard library's hashers, which may
/// change from one Rust release to the next.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{select, to_vec};

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
    fn a_perturbation_on_the_sphere_has_its_length() {
        let mut rng = ExampleRng::new(1, "sphere", 0, 0);
        for (norm, radius) in [(Norm::Linf, 0.1), (Norm::L2, 2.0), (Norm::L1, 12.0)] {
            let perturbation = rng.on_sphere(norm, 48, radius);
            assert!((norm.distance(&[0.0; 48], &perturbation) / radius - 1.0).abs() < 1e-6);
            assert!(perturbation.iter().any(|&entry| entry > 0.0) && perturbation.iter().any(|&e| e < 0.0));
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
    fn noise_does_not_depend_on_the_batch() {
        let device = Device::default();
        let noise = Noise::new(5, "test", 1);
        let budget = Budget::new(Norm::L2, 0.5).unwrap();
        let many = noise.in_ball(&budget, &[4, 9, 2], [3, 4, 4], &device);
        let one = noise.in_ball(&budget, &[9], [3, 4, 4], &device);
        assert_eq!(to_vec(select(&many, &[1])), to_vec(one));
    }

    #[test]
    fn noise_has_the_right_distribution() {
        let device = Device::default();
        let n = 20_000;
        let indices: Vec<usize> = (0..n).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let square = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64;
        let numbers = |images: Images| to_vec(images).into_iter().map(f64::from).collect::<Vec<_>>();
        let noise = Noise::new(3, "moments", 0);

        let uniform = numbers(noise.uniform(&indices, [1, 1, 1], -2.0, 2.0, &device));
        assert!(mean(&uniform).abs() < 0.03 && (square(&uniform) - 4.0 / 3.0).abs() < 0.03);
        let normal = numbers(noise.normal(&indices, [1, 1, 1], &device));
        assert!(mean(&normal).abs() < 0.03 && (square(&normal) - 1.0).abs() < 0.04);

        // In a ball of dimension d the squared radius has mean ε²·d/(d+2).
        let budget = Budget::new(Norm::L2, 2.0).unwrap();
        let ball = numbers(noise.in_ball(&budget, &indices, [3, 1, 1], &device));
        let radii: Vec<f64> =
            ball.chunks(3).map(|row| row.iter().map(|v| v * v).sum::<f64>().sqrt()).collect();
        assert!(radii.iter().all(|&radius| radius <= 2.0 + 1e-6));
        assert!((square(&radii) - 4.0 * 3.0 / 5.0).abs() < 0.03, "{}", square(&radii));
        // In the L1 ball the size has mean ε·d/(d+1), and each entry a share 1/d of it.
        let budget = Budget::new(Norm::L1, 2.0).unwrap();
        let ball = numbers(noise.in_ball(&budget, &indices, [3, 1, 1], &device));
        let sizes: Vec<f64> = ball.chunks(3).map(|row| row.iter().map(|v| v.abs()).sum()).collect();
        assert!(sizes.iter().all(|&size| size <= 2.0 + 1e-6));
        assert!((mean(&sizes) - 1.5).abs() < 0.01, "{}", mean(&sizes));
        let first: Vec<f64> = ball.chunks(3).map(|row| row[0].abs()).collect();
        assert!(mean(&ball).abs() < 0.02 && (mean(&first) - 0.5).abs() < 0.02, "{}", mean(&first));
    }

    const STREAM: [u64; 3] =
        [8_658_260_561_946_371_721, 6_671_434_634_485_169_791, 5_249_823_534_069_427_917];
}
