//! Perturbations drawn for an attack: in a ball, on a sphere, for a whole batch.

use burn::tensor::Device;

use super::budget::{Budget, Norm};
use crate::batch::{Images, from_vec};
use crate::random::ExampleRng;

impl ExampleRng {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{select, to_vec};

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
}
