//! Random intermediate states (Yang, Li, Pang and Liu, ICML 2023, section 3.3): in training, a pass reads the best of the first
//! k states of a solve, k drawn anew for each example and pass.
//!
//! The deployed tail follows as ever. Evaluation, and what watches training, takes all steps. In the authors' release one k is
//! drawn for the whole batch; here each example has its own, keyed by (seed, step, example, role), so that it depends neither
//! on the batch nor on an interruption.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

use equipoise_attack::attack::{Classifier, Question, ValueAndGradient, WhiteBox};
use equipoise_attack::batch::{Images, Logits};
use equipoise_attack::loss::Objective;
use equipoise_attack::random::{ExampleRng, Key};
use equipoise_attack::work::Work;
use equipoise_deq::gradient::Estimator;
use equipoise_deq::model::equilibrium::Equilibrium;
use equipoise_deq::readout::Readout;
use equipoise_deq::victim::{Deployment, Victim};

/// Which states are drawn from, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomStates {
    /// The least k; the greatest is the deployed solver's number of steps.
    #[serde(default = "one")]
    pub least: usize,
    /// Whether the inner attack draws too, at each of its questions, as in the authors' release.
    #[serde(default = "yes")]
    pub in_attack: bool,
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

impl Default for RandomStates {
    fn default() -> Self {
        Self { least: one(), in_attack: yes() }
    }
}

/// A training step: what draws are keyed by, beside the example and the role.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub seed: u64,
    pub number: usize,
}

impl RandomStates {
    /// k of each example, uniform up to `most`.
    pub(super) fn draw(
        &self,
        most: usize,
        step: Step,
        role: &str,
        indices: impl IntoIterator<Item = usize>,
    ) -> Vec<usize> {
        let purpose = format!("random state, {role}");
        let drawn = indices.into_iter().map(|index| {
            let mut rng = ExampleRng::new(step.seed, &purpose, index, step.number);
            self.least + rng.below(most - self.least + 1)
        });
        drawn.collect()
    }
}

/// A model whose every answer is drawn so: what the inner attack of a step meets.
pub(super) struct Drawn<'a> {
    victim: Victim<'a>,
    states: RandomStates,
    most: usize,
    step: Step,
    /// The examples, for questions without keys.
    indices: &'a [usize],
    asked: Cell<usize>,
}

impl<'a> Drawn<'a> {
    pub(super) fn new(
        model: &'a dyn Equilibrium,
        deployment: &'a Deployment,
        estimator: Estimator,
        states: RandomStates,
        step: Step,
        indices: &'a [usize],
    ) -> Self {
        let victim = Victim::new(model, deployment, Readout::final_state(), estimator);
        Self { victim, states, most: deployment.solver.steps, step, indices, asked: Cell::new(0) }
    }

    /// k of each example of a question: those of one question are of one asker and number.
    fn drawn(&self, keys: &[Key]) -> Vec<usize> {
        let each = keys.iter().flat_map(|key| {
            let role = format!("{} {}", key.asker, key.draw);
            self.states.draw(self.most, self.step, &role, [key.index])
        });
        each.collect()
    }

    /// Keys of a question about all examples in order.
    fn keys(&self) -> Vec<Key> {
        let draw = self.asked.replace(self.asked.get() + 1);
        let key = |&index: &usize| Key { seed: self.step.seed, asker: "training", index, start: 0, draw };
        self.indices.iter().map(key).collect()
    }
}

impl Classifier for Drawn<'_> {
    fn classes(&self) -> usize {
        self.victim.classes()
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        self.victim.logits_within(question.images, &self.drawn(question.keys))
    }

    fn logits(&self, images: &Images) -> Logits {
        self.answer(&Question { images, keys: &self.keys() })
    }

    fn work(&self) -> Work {
        self.victim.work()
    }
}

impl WhiteBox for Drawn<'_> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        self.victim.differentiate_within(question.images, objective, &self.drawn(question.keys))
    }

    fn value_and_gradient(&self, images: &Images, objective: &dyn Objective) -> ValueAndGradient {
        self.differentiate(&Question { images, keys: &self.keys() }, objective)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_uniform_and_belong_to_seed_step_example_and_role() {
        let states = RandomStates::default();
        let draw = |seed, number, role: &str, from: usize| {
            states.draw(8, Step { seed, number }, role, from..from + 4000)
        };
        let drawn = draw(1, 5, "main", 0);
        for k in 1..=8 {
            let count = drawn.iter().filter(|&&drawn| drawn == k).count();
            assert!((420..580).contains(&count), "{k}: {count} of 4000");
        }
        assert_eq!(drawn[1000..], draw(1, 5, "main", 1000)[..3000]);
        for other in [draw(2, 5, "main", 0), draw(1, 6, "main", 0), draw(1, 5, "clean", 0)] {
            let same = drawn.iter().zip(other).filter(|(a, b)| **a == *b).count();
            assert!((420..580).contains(&same), "{same}");
        }
        let late = RandomStates { least: 6, ..states }.draw(8, Step { seed: 1, number: 0 }, "main", 0..100);
        assert!(late.iter().all(|k| (6..=8).contains(k)));
    }
}
