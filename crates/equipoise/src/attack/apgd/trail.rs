//! One example's way through APGD: where it is, where it was best, and how long its next step will be
//! (Croce and Hein 2020, arXiv 2003.01690, algorithm 1; for L1 Croce and Hein 2021, arXiv 2103.01208).

use super::sparsity::Sparsity;
use crate::attack::{Budget, Norm};

/// A point, and what the victim said of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sighting {
    /// The loss; one that is not a number is never the best.
    pub loss: f32,
    /// Whether the victim misclassifies the point.
    pub fooled: bool,
    /// Gradient of the loss; empty after the last step, which needs none.
    pub gradient: Vec<f32>,
}

/// The state of one example. Between two calls of [`Self::see`] comes one of [`Self::step`].
#[derive(Debug, Clone)]
pub(super) struct Trail {
    /// Row of the example in its batch.
    pub row: usize,
    /// Class to be reached, for a targeted loss.
    pub target: usize,
    current: Vec<f32>,
    previous: Vec<f32>,
    gradient: Vec<f32>,
    best: Vec<f32>,
    best_seen: Sighting,
    step_size: f64,
    /// Loss of the last point that was looked at, whether or not the search went on from there.
    last_loss: f32,
    /// Steps since the last checkpoint that raised the loss.
    rises: usize,
    /// Best loss at the last checkpoint, and whether the step was halved there.
    last_check: (f32, bool),
    first: bool,
    /// For L1 alone, whose steps are sparse and without momentum.
    sparsity: Option<Sparsity>,
}

/// Weight of the new direction against the momentum, but for the first step.
const MOMENTUM: f32 = 0.75;

impl Trail {
    /// An example about to search from `start`, with a first step of 2ε; of ε for L1.
    pub(super) fn new(row: usize, target: usize, clean: &[f32], start: Vec<f32>, budget: &Budget) -> Self {
        let sparsity = (budget.norm() == Norm::L1).then(|| Sparsity::new(clean, &start));
        Self {
            row,
            target,
            previous: start.clone(),
            best: start.clone(),
            current: start,
            gradient: Vec::new(),
            best_seen: Sighting { loss: f32::NEG_INFINITY, fooled: false, gradient: Vec::new() },
            step_size: if sparsity.is_some() { budget.eps() } else { 2.0 * budget.eps() },
            last_loss: f32::NEG_INFINITY,
            rises: 0,
            // The first checkpoint has none before it: there only the rises count.
            last_check: (f32::NEG_INFINITY, true),
            first: true,
            sparsity,
        }
    }

    /// The same example about to search within another ball, from the best point so far.
    pub(super) fn within(self, clean: &[f32], budget: &Budget) -> Self {
        let mut start = self.best;
        budget.project_example(clean, &mut start);
        Self::new(self.row, self.target, clean, start, budget)
    }

    /// The point that the victim is to be asked about.
    pub(super) fn current(&self) -> &[f32] {
        &self.current
    }

    /// The point of the highest loss so far.
    pub(super) fn best(&self) -> &[f32] {
        &self.best
    }

    /// What was seen at the best point.
    pub(super) fn best_seen(&self) -> &Sighting {
        &self.best_seen
    }

    /// Takes note of what the victim said of the current point.
    pub(super) fn see(&mut self, seen: Sighting) {
        // The reference implementation has no loss before the first step and compares that step with zero;
        // the paper compares it with the start, and so do we.
        if !self.first && seen.loss > self.last_loss {
            self.rises += 1;
        }
        self.last_loss = seen.loss;
        self.gradient.clone_from(&seen.gradient);
        if seen.loss > self.best_seen.loss || self.best_seen.gradient.is_empty() && self.first {
            self.best.clone_from(&self.current);
            self.best_seen = Sighting { loss: number_or_lowest(seen.loss), ..seen };
        }
        if self.first {
            self.last_check.0 = self.best_seen.loss;
        }
    }

    /// Moves on: z = P(x + η·s), x⁺ = P(x + a(z − x) + (1 − a)(x − x₋)), where s is the direction of steepest
    /// ascent, x₋ the point before, and a = 1 at the first step, else 0.75. For L1 s is sparse, and a = 1.
    pub(super) fn step(&mut self, clean: &[f32], budget: &Budget) {
        let mut ahead = std::mem::take(&mut self.gradient);
        match &self.sparsity {
            None => budget.ascent_example(&mut ahead, self.step_size),
            Some(sparsity) => sparsity.ascend(&mut ahead, self.step_size),
        }
        for (z, x) in ahead.iter_mut().zip(&self.current) {
            *z += x;
        }
        budget.project_example(clean, &mut ahead);
        if self.sparsity.is_some() {
            self.current = ahead;
            self.first = false;
            return;
        }
        let a = if self.first { 1.0 } else { MOMENTUM };
        for ((z, x), before) in ahead.iter_mut().zip(&self.current).zip(&self.previous) {
            *z = x + a * (*z - x) + (1.0 - a) * (x - before);
        }
        budget.project_example(clean, &mut ahead);
        self.previous = std::mem::replace(&mut self.current, ahead);
        self.first = false;
    }

    /// Reconsiders the step size at the end of a window of `window` steps: it is halved if at most ρ·`window` of
    /// them raised the loss, or if it was not halved at the last checkpoint and the best loss has not risen
    /// since. Then the search restarts from the best point; the momentum keeps the point before. For L1 see
    /// [`Sparsity::check`]; there the search restarts where the number of changed pixels has fallen.
    pub(super) fn check(&mut self, window: usize, rho: f64, clean: &[f32], budget: &Budget) {
        if let Some(sparsity) = &mut self.sparsity {
            let (step_size, fallen) = sparsity.check(clean, &self.best, self.step_size, budget.eps());
            self.step_size = step_size;
            if fallen {
                self.restart();
            }
            return;
        }
        let (last_best, halved) = self.last_check;
        let swings = self.rises as f64 <= rho * window as f64;
        let stuck = !halved && last_best >= self.best_seen.loss;
        let halve = swings || stuck;
        if halve {
            self.step_size /= 2.0;
            self.restart();
        }
        self.last_check = (self.best_seen.loss, halve);
        self.rises = 0;
    }

    /// Goes back to the best point.
    fn restart(&mut self) {
        self.current.clone_from(&self.best);
        self.gradient.clone_from(&self.best_seen.gradient);
    }
}

fn number_or_lowest(loss: f32) -> f32 {
    if loss.is_nan() { f32::NEG_INFINITY } else { loss }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::Norm;

    const CLEAN: [f32; 2] = [0.5, 0.5];

    fn budget() -> Budget {
        Budget::new(Norm::Linf, 0.1).unwrap()
    }

    fn seen(loss: f32) -> Sighting {
        Sighting { loss, fooled: false, gradient: vec![1.0, -1.0] }
    }

    /// A trail that has met these losses, one step before each but the first.
    fn trail(losses: &[f32]) -> Trail {
        let mut trail = Trail::new(0, 0, &CLEAN, CLEAN.to_vec(), &budget());
        for (k, &loss) in losses.iter().enumerate() {
            if k > 0 {
                trail.step(&CLEAN, &budget());
            }
            trail.see(seen(loss));
        }
        trail
    }

    #[test]
    fn the_first_step_is_twice_eps_and_has_no_momentum() {
        let mut trail = trail(&[0.0]);
        assert_eq!(trail.step_size, 0.2);
        trail.step_size = 0.04;
        trail.step(&CLEAN, &budget());
        for (x, expected) in trail.current().iter().zip([0.54, 0.46]) {
            assert!((x - expected).abs() < 1e-6, "{x}");
        }
        // Then 0.75 of the step of 0.04, and 0.25 of the last move of 0.04.
        trail.see(seen(1.0));
        trail.step(&CLEAN, &budget());
        for (x, expected) in trail.current().iter().zip([0.58, 0.42]) {
            assert!((x - expected).abs() < 1e-6, "{x}");
        }
        trail.see(Sighting { gradient: vec![-1.0, 0.0], ..seen(2.0) });
        trail.step(&CLEAN, &budget());
        for (x, expected) in trail.current().iter().zip([0.58 - 0.03 + 0.01, 0.42 - 0.01]) {
            assert!((x - expected).abs() < 1e-6, "{x}");
        }
    }

    #[test]
    fn few_rises_halve_the_step() {
        // Three rises in a window of four are at most 0.75·4; four are not.
        let mut swinging = trail(&[0.0, 1.0, 2.0, 1.5, 3.0]);
        swinging.check(4, 0.75, &CLEAN, &budget());
        assert_eq!(swinging.step_size, 0.1);
        let mut rising = trail(&[0.0, 1.0, 2.0, 3.0, 4.0]);
        rising.check(4, 0.75, &CLEAN, &budget());
        assert_eq!(rising.step_size, 0.2);
    }

    #[test]
    fn no_progress_halves_the_step_unless_it_was_just_halved() {
        let mut trail = trail(&[9.0, 0.0, 1.0, 2.0]);
        trail.last_check = (9.0, false);
        trail.check(2, 0.75, &CLEAN, &budget());
        assert_eq!(trail.step_size, 0.1, "not halved before, and the best loss is still that of the start");
        // Again rises only, again below the best loss: but it was halved the last time.
        for loss in [3.0, 4.0] {
            trail.step(&CLEAN, &budget());
            trail.see(seen(loss));
        }
        trail.check(2, 0.75, &CLEAN, &budget());
        assert_eq!(trail.step_size, 0.1);
        for loss in [5.0, 6.0] {
            trail.step(&CLEAN, &budget());
            trail.see(seen(loss));
        }
        trail.check(2, 0.75, &CLEAN, &budget());
        assert_eq!(trail.step_size, 0.05, "not halved the last time");
    }

    #[test]
    fn after_halving_the_search_goes_on_from_the_best_point() {
        let mut trail = trail(&[0.0, 5.0, 1.0]);
        let best = trail.best().to_vec();
        assert_ne!(trail.current(), CLEAN);
        trail.gradient = vec![7.0, 7.0];
        trail.check(2, 0.75, &CLEAN, &budget());
        assert_eq!(trail.current(), best);
        assert_eq!(trail.gradient, [1.0, -1.0]);
        assert_eq!(trail.best_seen().loss, 5.0);
        // The next loss is still compared with that of the point before the restart.
        trail.step(&CLEAN, &budget());
        trail.see(seen(2.0));
        assert_eq!(trail.rises, 1);
    }

    #[test]
    fn in_l1_the_search_goes_back_to_the_best_point_when_its_pixels_become_fewer() {
        let l1 = Budget::new(Norm::L1, 0.3).unwrap();
        let start = vec![0.6, 0.6];
        let mut trail = Trail::new(0, 0, &CLEAN, start.clone(), &l1);
        assert_eq!(trail.step_size, 0.3);
        trail.see(Sighting { gradient: vec![2.0, 0.0], ..seen(1.0) });
        // The only pixel with a slope, by all of ε; the projection takes 0.1 from each.
        trail.step(&CLEAN, &l1);
        for (x, expected) in trail.current().iter().zip([0.8, 0.5]) {
            assert!((x - expected).abs() < 1e-6, "{x}");
        }
        let sparse = trail.current().to_vec();
        trail.see(seen(2.0));
        trail.step(&CLEAN, &l1);
        trail.see(seen(0.0));
        trail.check(1, 0.75, &CLEAN, &l1);
        assert_eq!((trail.current(), trail.step_size), (sparse.as_slice(), 0.3));
        trail.step(&CLEAN, &l1);
        trail.see(seen(0.0));
        let here = trail.current().to_vec();
        trail.check(1, 0.75, &CLEAN, &l1);
        assert_eq!((trail.current(), trail.step_size), (here.as_slice(), 0.3 / 1.5));
        // Within a smaller ball it begins anew from the best point.
        let smaller = trail.within(&CLEAN, &Budget::new(Norm::L1, 0.1).unwrap());
        assert!((smaller.current()[0] - 0.6).abs() < 1e-6 && smaller.current()[1] == 0.5);
        assert_eq!((smaller.step_size, smaller.best_seen().loss), (0.1, f32::NEG_INFINITY));
    }

    #[test]
    fn losses_that_are_not_numbers_are_never_the_best() {
        let mut trail = trail(&[f32::NAN, f32::NAN]);
        assert_eq!(trail.best_seen().loss, f32::NEG_INFINITY);
        trail.check(1, 0.75, &CLEAN, &budget());
        trail.step(&CLEAN, &budget());
        trail.see(seen(-3.0));
        assert_eq!(trail.best_seen().loss, -3.0);
    }
}
