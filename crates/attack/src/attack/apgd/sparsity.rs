//! Steps of APGD in L1: which pixels they change (Croce and Hein 2021, arXiv 2103.01208).
//!
//! Steepest ascent in L1 changes one pixel, and the box soon stops it. A step instead changes a share of the pixels,
//! those of the largest slope, all by the same amount. The share follows the best point so far: two thirds of the
//! pixels that it changes. While their number falls the search has not settled on its pixels, and steps stay long.

use crate::attack::budget::finite_or;

/// Pixels that a step changes, as a share of those that the best point changes.
const SHARE: f64 = 1.0 / 1.5;
/// The number of changed pixels has fallen if it is less than this share of the one before.
const FALLEN: f64 = 0.95;
/// What a step is divided by where the number has not fallen.
const SHORTENING: f64 = 1.5;
/// The shortest step, as a share of ε. The longest is ε.
const SHORTEST: f64 = 0.1;

/// The state of one example.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sparsity {
    /// Pixels changed by the best point, at the last checkpoint.
    changed: usize,
}

impl Sparsity {
    /// For a search from `start`.
    pub(super) fn new(clean: &[f32], start: &[f32]) -> Self {
        Self { changed: changed(clean, start) }
    }

    /// Replaces a gradient by a step of L1 length `step` along it. Entries that are not numbers are taken as zero,
    /// and a gradient of zero gives no step.
    pub(super) fn ascend(&self, gradient: &mut [f32], step: f64) {
        for entry in gradient.iter_mut() {
            *entry = finite_or(*entry, 0.0);
        }
        let mut sizes: Vec<f32> = gradient.iter().map(|entry| entry.abs()).collect();
        let pixels = sizes.len();
        let share = SHARE * self.changed as f64 / pixels as f64;
        let rank = (((1.0 - share) * pixels as f64) as usize).min(pixels.saturating_sub(1));
        if pixels == 0 {
            return;
        }
        // Pixels of equal slope are taken together.
        let least = *sizes.select_nth_unstable_by(rank, f32::total_cmp).1;
        let taken = |entry: f32| entry != 0.0 && entry.abs() >= least;
        let count = gradient.iter().filter(|&&entry| taken(entry)).count();
        for entry in gradient {
            *entry = if taken(*entry) { ((step / count as f64) as f32).copysign(*entry) } else { 0.0 };
        }
    }

    /// Reconsiders the step size at a checkpoint, given the best point: ε where the number of changed pixels has
    /// fallen, else 1.5 times shorter, down to a tenth of ε. Returns it, and whether the number has fallen.
    pub(super) fn check(&mut self, clean: &[f32], best: &[f32], step: f64, eps: f64) -> (f64, bool) {
        let now = changed(clean, best);
        let fallen = (now as f64) < FALLEN * self.changed as f64;
        self.changed = now;
        (if fallen { eps } else { (step / SHORTENING).max(SHORTEST * eps) }, fallen)
    }
}

/// The number of pixels that differ.
fn changed(clean: &[f32], image: &[f32]) -> usize {
    clean.iter().zip(image).filter(|(x, pixel)| x != pixel).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_changes_two_thirds_of_the_changed_pixels_by_the_same_amount() {
        let sparsity = Sparsity { changed: 3 };
        let mut step = [0.1, -5.0, 0.0, 3.0, f32::NAN, 2.0];
        sparsity.ascend(&mut step, 0.5);
        assert_eq!(step, [0.0, -0.25, 0.0, 0.25, 0.0, 0.0]);
        // Where nothing is changed yet, the steepest pixel; equal ones together; never one without a slope.
        for (gradient, expected) in [
            ([0.1, -5.0, 0.0], [0.0, -0.5, 0.0]),
            ([4.0, -4.0, 1.0], [0.25, -0.25, 0.0]),
            ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ] {
            let mut step: [f32; 3] = gradient;
            Sparsity { changed: 0 }.ascend(&mut step, 0.5);
            assert_eq!(step, expected);
        }
        let mut step = [0.0, 1e-30, 0.0];
        Sparsity { changed: 3 }.ascend(&mut step, 0.5);
        assert_eq!(step, [0.0, 0.5, 0.0]);
    }

    #[test]
    fn steps_stay_long_while_the_number_of_changed_pixels_falls() {
        let clean = [0.5; 20];
        let best = |pixels: usize| {
            let mut best = clean;
            best[..pixels].fill(0.75);
            best
        };
        let mut sparsity = Sparsity::new(&clean, &best(20));
        assert_eq!(sparsity.check(&clean, &best(19), 6.0, 12.0), (4.0, false));
        assert_eq!(sparsity.check(&clean, &best(18), 6.0, 12.0), (12.0, true));
        assert_eq!(sparsity.changed, 18);
        assert_eq!(sparsity.check(&clean, &best(20), 1.3, 12.0), (12.0 * SHORTEST, false));
        let mut nothing = Sparsity::new(&clean, &clean);
        assert_eq!(nothing.check(&clean, &clean, 12.0, 12.0), (8.0, false));
    }
}
