//! The state of one example in FAB: a point near the boundary, always drawn back towards the clean image (Croce and Hein
//! 2020, arXiv 1907.02044, algorithm 1).

use super::FabConfig;
use super::projection::onto_plane;
use crate::attack::Norm;

/// The linearised boundary to one class, around the current point.
#[derive(Debug, Clone)]
pub(super) struct Plane {
    /// z_t − z_y at the point.
    pub value: f64,
    /// Its gradient.
    pub slope: Vec<f64>,
}

impl Plane {
    /// From what a victim returned; entries that are not finite are taken as zero.
    pub(super) fn new(value: f32, gradient: &[f32]) -> Self {
        let finite = |entry: f32| if entry.is_finite() { f64::from(entry) } else { 0.0 };
        Self { value: finite(value), slope: gradient.iter().map(|&entry| finite(entry)).collect() }
    }

    /// How far the plane is, leaving the box aside: |z_t − z_y| over the dual norm of the gradient.
    pub(super) fn distance(&self, norm: Norm) -> f64 {
        norm.to_zero(self.value, self.slope.iter().copied())
    }
}

/// One example under attack.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Row of the example in its batch.
    pub row: usize,
    current: Vec<f32>,
    nearest: Option<(f64, Vec<f32>)>,
}

impl State {
    /// An example about to search from `start`.
    pub(super) fn new(row: usize, start: Vec<f32>) -> Self {
        Self { row, current: start, nearest: None }
    }

    /// The point that the victim is to be asked about.
    pub(super) fn current(&self) -> &[f32] {
        &self.current
    }

    /// The nearest misclassified point so far, and its distance from the clean image.
    pub(super) fn nearest(&self) -> Option<(f64, &[f32])> {
        self.nearest.as_ref().map(|(distance, image)| (*distance, image.as_slice()))
    }

    /// Goes to the plane and a little beyond: a mean of the projections of the current point and of the clean
    /// image, the latter weighing the more the nearer it is, and at most `alpha_max`.
    pub(super) fn step(&mut self, clean: &[f32], plane: &Plane, norm: Norm, config: &FabConfig) {
        let float64 = |image: &[f32]| image.iter().map(|&pixel| f64::from(pixel)).collect::<Vec<_>>();
        let (here, origin) = (float64(&self.current), float64(clean));
        let back: f64 = plane.slope.iter().zip(origin.iter().zip(&here)).map(|(w, (o, h))| w * (o - h)).sum();
        let from_here = onto_plane(norm, &here, &plane.slope, plane.value);
        let from_origin = onto_plane(norm, &origin, &plane.slope, plane.value + back);
        let size = |change: &[f64]| {
            let size = match norm {
                Norm::Linf => change.iter().fold(0.0, |largest: f64, d| largest.max(d.abs())),
                Norm::L2 => change.iter().map(|d| d * d).sum::<f64>().sqrt(),
                Norm::L1 => unreachable!("FAB refuses L1"),
            };
            size.max(1e-8)
        };
        let (a, b) = (size(&from_here), size(&from_origin));
        let alpha = (a / (a + b)).min(config.alpha_max);
        for (k, pixel) in self.current.iter_mut().enumerate() {
            let along = here[k] + config.eta * from_here[k];
            let direct = origin[k] + config.eta * from_origin[k];
            *pixel = ((1.0 - alpha) * along + alpha * direct).clamp(0.0, 1.0) as f32;
        }
    }

    /// Takes note that the victim misclassifies the current point, and steps back towards the clean image.
    pub(super) fn fooled(&mut self, clean: &[f32], norm: Norm, config: &FabConfig) {
        let distance = norm.distance(clean, &self.current);
        if self.nearest.as_ref().is_none_or(|(nearest, _)| distance < *nearest) {
            self.nearest = Some((distance, self.current.clone()));
        }
        for (pixel, x) in self.current.iter_mut().zip(clean) {
            *pixel = x + config.beta as f32 * (*pixel - x);
        }
    }
}
