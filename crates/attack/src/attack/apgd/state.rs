//! The state of one example in APGD: where it is, where it was best, and how long its next step will be
//! (Croce and Hein 2020, arXiv 2003.01690, algorithm 1; for L1 Croce and Hein 2021, arXiv 2103.01208).

use super::sparsity::Sparsity;
use crate::attack::{Answer, Budget, Norm};

/// One example under attack. Between two calls of [`Self::see`] comes one of [`Self::step`].
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Row of the example in its batch.
    pub row: usize,
    /// Class to be reached, for a targeted loss.
    pub target: usize,
    current: Vec<f32>,
    previous: Vec<f32>,
    gradient: Vec<f32>,
    best: Vec<f32>,
    best_seen: Answer,
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

impl State {
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
            best_seen: Answer { value: f32::NEG_INFINITY, fooled: false, gradient: Vec::new() },
            step_size: if sparsity.is_some() { budget.eps() } else { 2.0 * budget.eps() },
            last_loss: f32::NEG_INFINITY,
            rises: 0,
            // The first checkpoint has none before it: there only the rises count.
            last_check: (f32::NEG_INFINITY, true),
            first: true,
            sparsity,
        }
    }

    /// This example about to search within another ball, from the best point so far.
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
    pub(super) fn best_seen(&self) -> &Answer {
        &self.best_seen
    }

    /// Takes note of what the victim said of the current point.
    pub(super) fn see(&mut self, seen: Answer) {
        // The reference implementation has no loss before the first step and compares that step with zero;
        // the paper compares it with the start, and so do we.
        if !self.first && seen.value > self.last_loss {
            self.rises += 1;
        }
        self.last_loss = seen.value;
        self.gradient.clone_from(&seen.gradient);
        if seen.value > self.best_seen.value || self.best_seen.gradient.is_empty() && self.first {
            self.best.clone_from(&self.current);
            self.best_seen = Answer { value: number_or_lowest(seen.value), ..seen };
        }
        if self.first {
            self.last_check.0 = self.best_seen.value;
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
        let stuck = !halved && last_best >= self.best_seen.value;
        let halve = swings || stuck;
        if halve {
            self.step_size /= 2.0;
            self.restart();
        }
        self.last_check = (self.best_seen.value, halve);
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

    fn seen(loss: f32) -> Answer {
        Answer { value: loss, fooled: false, gradient: vec![1.0, -1.0] }
    }

    /// An example that has met these losses, one step before each but the first.
    fn state(losses: &[f32]) -> State {
        let mut state = State::new(0, 0, &CLEAN, CLEAN.to_vec(), &budget());
        for (k, &loss) in losses.iter().enumerate() {
            if k > 0 {
                state.step(&CLEAN, &budget());
            }
            state.see(seen(loss));
        }
        state
    }

    #[test]
    fn the_first_step_is_twice_eps_and_has_no_momentum() {
        let mut state = state(&[0.0]);
        assert_eq!(state.step_size, 0.2);
        state.step_size = 0.04;
        state.step(&CLEAN, &budget());
        for (x, expected) in state.current().iter().zip([0.54, 0.46]) {
            assert!((x - expected).abs() < 1e-6, "{x}");
        }
        // Then 0.75 of the step of 0.04, and 0.25 of the last move of 0.04.
        state.see(seen(1.0));
        state.step(&CLEAN, &budget());
        for (x, expected) in state.current().iter().zip([0.58, 0.42]) {
            assert!((x - expected).abs() < 1e-6, "{x}");
        }
        state.see(Answer { gradient: vec![-1.0, 0.0], ..seen(2.0) });
        state.step(&CLEAN, &budget());
        for (x, expected) in state.current().iter().zip([0.58 - 0.03 + 0.01, 0.42 - 0.01]) {
            assert!((x - expected).abs() < 1e-6, "{x}");
        }
    }

    #[test]
    fn few_rises_halve_the_step() {
        // Three rises in a window of four are at most 0.75·4; four are not.
        let mut swinging = state(&[0.0, 1.0, 2.0, 1.5, 3.0]);
        swinging.check(4, 0.75, &CLEAN, &budget());
        assert_eq!(swinging.step_size, 0.1);
        let mut rising = state(&[0.0, 1.0, 2.0, 3.0, 4.0]);
        rising.check(4, 0.75, &CLEAN, &budget());
        assert_eq!(rising.step_size, 0.2);
    }

    #[test]
    fn no_progress_halves_the_step_unless_it_was_just_halved() {
        let mut state = state(&[9.0, 0.0, 1.0, 2.0]);
        state.last_check = (9.0, false);
        state.check(2, 0.75, &CLEAN, &budget());
        assert_eq!(state.step_size, 0.1, "not halved before, and the best loss is still that of the start");
        // Again rises only, again below the best loss: but it was halved the last time.
        for loss in [3.0, 4.0] {
            state.step(&CLEAN, &budget());
            state.see(seen(loss));
        }
        state.check(2, 0.75, &CLEAN, &budget());
        assert_eq!(state.step_size, 0.1);
        for loss in [5.0, 6.0] {
            state.step(&CLEAN, &budget());
            state.see(seen(loss));
        }
        state.check(2, 0.75, &CLEAN, &budget());
        assert_eq!(state.step_size, 0.05, "not halved the last time");
    }

    #[test]
    fn after_halving_the_search_goes_on_from_the_best_point() {
        let mut state = state(&[0.0, 5.0, 1.0]);
        let best = state.best().to_vec();
        assert_ne!(state.current(), CLEAN);
        state.gradient = vec![7.0, 7.0];
        state.check(2, 0.75, &CLEAN, &budget());
        assert_eq!(state.current(), best);
        assert_eq!(state.gradient, [1.0, -1.0]);
        assert_eq!(state.best_seen().value, 5.0);
        // The next loss is still compared with that of the point before the restart.
        state.step(&CLEAN, &budget());
        state.see(seen(2.0));
        assert_eq!(state.rises, 1);
    }

    #[test]
    fn in_l1_the_search_goes_back_to_the_best_point_when_its_pixels_become_fewer() {
        let l1 = Budget::new(Norm::L1, 0.3).unwrap();
        let start = vec![0.6, 0.6];
        let mut state = State::new(0, 0, &CLEAN, start.clone(), &l1);
        assert_eq!(state.step_size, 0.3);
        state.see(Answer { gradient: vec![2.0, 0.0], ..seen(1.0) });
        // The only pixel with a slope, by all of ε; the projection takes 0.1 from each.
        state.step(&CLEAN, &l1);
        for (x, expected) in state.current().iter().zip([0.8, 0.5]) {
            assert!((x - expected).abs() < 1e-6, "{x}");
        }
        let sparse = state.current().to_vec();
        state.see(seen(2.0));
        state.step(&CLEAN, &l1);
        state.see(seen(0.0));
        state.check(1, 0.75, &CLEAN, &l1);
        assert_eq!((state.current(), state.step_size), (sparse.as_slice(), 0.3));
        state.step(&CLEAN, &l1);
        state.see(seen(0.0));
        let here = state.current().to_vec();
        state.check(1, 0.75, &CLEAN, &l1);
        assert_eq!((state.current(), state.step_size), (here.as_slice(), 0.3 / 1.5));
        // Within a smaller ball it begins anew from the best point.
        let smaller = state.within(&CLEAN, &Budget::new(Norm::L1, 0.1).unwrap());
        assert!((smaller.current()[0] - 0.6).abs() < 1e-6 && smaller.current()[1] == 0.5);
        assert_eq!((smaller.step_size, smaller.best_seen().value), (0.1, f32::NEG_INFINITY));
    }

    #[test]
    fn losses_that_are_not_numbers_are_never_the_best() {
        let mut state = state(&[f32::NAN, f32::NAN]);
        assert_eq!(state.best_seen().value, f32::NEG_INFINITY);
        state.check(1, 0.75, &CLEAN, &budget());
        state.step(&CLEAN, &budget());
        state.see(seen(-3.0));
        assert_eq!(state.best_seen().value, -3.0);
    }
}
