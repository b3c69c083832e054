//! Projected gradient descent (PGD): steepest ascent on a loss, projected back onto the budget after each step
//! (Madry et al. 2018, arXiv 1706.06083).
//!
//! Every gradient comes with the logits at its point, so whether that point is already misclassified is known
//! for free. An example that is leaves the batch at once and its image is kept; the work goes to those that
//! still resist. The last iterate of the last restart is not looked at by the attack: whoever runs it
//! evaluates the returned image anyway.

use std::fmt;

use thiserror::Error;

use super::budget::{Budget, Norm};
use super::norms::{UnsupportedNorm, not_l1, right_norm};
use super::pulse::{Count, Pulse, Steady};
use super::random::Noise;
use super::{Attack, Attempt, Carried, Queries, Targets, WhiteBox};
use crate::batch::{Images, predictions, put_rows, select};
use crate::loss::{CrossEntropy, Margin, Objective};

/// The loss that PGD ascends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PgdLoss {
    /// [`CrossEntropy`].
    #[default]
    CrossEntropy,
    /// [`Margin`].
    Margin,
}

impl PgdLoss {
    /// The objective for these examples. It is made anew for each set of examples still under attack.
    fn objective(self, labels: Vec<usize>) -> Box<dyn Objective> {
        match self {
            Self::CrossEntropy => Box::new(CrossEntropy { labels }),
            Self::Margin => Box::new(Margin { labels }),
        }
    }
}

/// How PGD searches.
#[derive(Debug, Clone, PartialEq)]
pub struct PgdConfig {
    /// Gradient steps of each restart, at least 1.
    pub steps: usize,
    /// Length of a step, in units of pixel intensity and of the budget's norm. `None` is ε/4: 2/255 at 8/255.
    pub step_size: Option<f64>,
    /// Independent tries, at least 1. Each meets only the examples that withstood those before it.
    pub restarts: usize,
    /// Whether to start uniformly in the ball, clipped to \[0, 1\], rather than at the image itself.
    pub random_start: bool,
    /// The loss to ascend.
    pub objective: PgdLoss,
    /// Whether an example stops at its first misclassified iterate. If not, all steps are taken and the last
    /// iterate is returned whatever the others did, as in the textbook and in adversarial training.
    pub keep_first: bool,
    /// Whether each step's solve may continue from the fixed point of the step before, where the victim can. An
    /// example then stops only at an image that a cold forward pass misclassifies too.
    pub warm_start: bool,
}

impl Default for PgdConfig {
    /// PGD-10 with a uniform start and steps of ε/4, on the cross-entropy.
    fn default() -> Self {
        Self {
            steps: 10,
            step_size: None,
            restarts: 1,
            random_start: true,
            objective: PgdLoss::CrossEntropy,
            keep_first: true,
            warm_start: false,
        }
    }
}

/// Why a PGD configuration was refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PgdError {
    /// No steps, or no tries.
    #[error(
        "PGD needs at least one step and one restart, and has {steps} and {restarts}: ask for pgd-10, say"
    )]
    Nothing {
        /// Steps asked for.
        steps: usize,
        /// Restarts asked for.
        restarts: usize,
    },
    /// A step size that leads nowhere.
    #[error("the step size of PGD must be finite and positive, and is {0}: leave it out for eps/4")]
    StepSize(f64),
}

/// The attack. Deterministic given the run's seed and the example's index.
#[derive(Debug, Clone, PartialEq)]
pub struct Pgd {
    config: PgdConfig,
}

impl Pgd {
    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`PgdError`] if there are no steps or no restarts, or if the step size is not finite and positive.
    pub fn new(config: PgdConfig) -> Result<Self, PgdError> {
        if config.steps == 0 || config.restarts == 0 {
            return Err(PgdError::Nothing { steps: config.steps, restarts: config.restarts });
        }
        match config.step_size {
            Some(size) if !(size.is_finite() && size > 0.0) => Err(PgdError::StepSize(size)),
            _ => Ok(Self { config }),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &PgdConfig {
        &self.config
    }

    /// One try from a given start `[N, C, H, W]`, which is projected onto the budget first. For comparison
    /// with other codes: draw the start as they do. Restarts and random start are left aside.
    pub fn run_from(
        &self,
        victim: &dyn WhiteBox,
        targets: &Targets<'_>,
        budget: &Budget,
        start: &Images,
    ) -> Attempt {
        let start = budget.project(targets.images, start);
        self.search(victim, targets, budget, (1, &Steady), |_, rows| select(&start, rows))
    }

    /// All steps of ascent on an objective of these images, from a given start that is projected onto the budget
    /// first: the inner maximisation of adversarial training on a loss of its own. Returns the last iterate,
    /// `[N, C, H, W]`. Restarts, random start and the configured loss are left aside.
    pub fn ascend(
        &self,
        victim: &dyn WhiteBox,
        images: &Images,
        budget: &Budget,
        start: &Images,
        objective: &dyn Objective,
    ) -> Images {
        right_norm(self, budget);
        let step_size = self.config.step_size.unwrap_or(budget.eps() / 4.0);
        (0..self.config.steps).fold(budget.project(images, start), |current, _| {
            let gradient = victim.value_and_gradient(&current, objective).gradient;
            budget.project(images, &(current + budget.ascent_step(&gradient, step_size)))
        })
    }

    /// The search from the points that `start(restart, rows)` gives.
    fn search(
        &self,
        victim: &dyn WhiteBox,
        targets: &Targets<'_>,
        budget: &Budget,
        (restarts, pulse): (usize, &dyn Pulse),
        start: impl Fn(usize, &[usize]) -> Images,
    ) -> Attempt {
        right_norm(self, budget);
        let step_size = self.config.step_size.unwrap_or(budget.eps() / 4.0);
        let mut attempt = Attempt::nothing(targets);
        let mut standing: Vec<usize> = (0..targets.labels.len()).collect();
        let mut count = Count::new(pulse, restarts * self.config.steps, standing.len());
        for restart in 0..restarts {
            if standing.is_empty() {
                break;
            }
            let mut current = start(restart, &standing);
            let mut clean = select(targets.images, &standing);
            let mut carried = Carried::default();
            for _ in 0..self.config.steps {
                if count.step(standing.len()).is_break() {
                    return attempt;
                }
                let objective = self.config.objective.objective(labels_of(targets, &standing));
                let answer = if self.config.warm_start {
                    victim.value_and_gradient_from(&current, objective.as_ref(), &mut carried)
                } else {
                    victim.value_and_gradient(&current, objective.as_ref())
                };
                let mut gradient = answer.gradient;
                if self.config.keep_first {
                    let mut answers = predictions(&answer.logits);
                    if self.config.warm_start {
                        verify(victim, &current, &mut answers, &labels_of(targets, &standing));
                    }
                    let kept = attempt.keep_fooled(targets, &mut standing, &current, &answers);
                    if standing.is_empty() {
                        break;
                    }
                    if kept.len() < current.dims()[0] {
                        current = select(&current, &kept);
                        clean = select(&clean, &kept);
                        gradient = select(&gradient, &kept);
                        carried.select(&kept);
                    }
                }
                current = budget.project(&clean, &(current + budget.ascent_step(&gradient, step_size)));
            }
            if standing.is_empty() {
                break;
            }
            attempt.images = put_rows(&attempt.images, &standing, &current);
            if restart + 1 < restarts {
                let answers = predictions(&victim.logits(&current));
                attempt.keep_fooled(targets, &mut standing, &current, &answers);
            }
        }
        attempt
    }
}

impl Attempt {
    /// Stores the images of those `standing` examples whose answers are wrong or none, and lets them leave. Returns
    /// which rows of `current` remain.
    fn keep_fooled(
        &mut self,
        targets: &Targets<'_>,
        standing: &mut Vec<usize>,
        current: &Images,
        answers: &[Option<usize>],
    ) -> Vec<usize> {
        let (kept, fooled): (Vec<usize>, Vec<usize>) =
            (0..standing.len()).partition(|&k| answers[k] == Some(targets.labels[standing[k]]));
        if !fooled.is_empty() {
            let rows: Vec<usize> = fooled.iter().map(|&k| standing[k]).collect();
            self.images = put_rows(&self.images, &rows, &select(current, &fooled));
            rows.iter().for_each(|&row| self.claimed[row] = true);
            *standing = kept.iter().map(|&k| standing[k]).collect();
        }
        kept
    }
}

/// Replaces wrong answers of a continued solve by those of the deployed forward pass.
fn verify(victim: &dyn WhiteBox, current: &Images, answers: &mut [Option<usize>], labels: &[usize]) {
    let wrong: Vec<usize> = (0..labels.len()).filter(|&k| answers[k] != Some(labels[k])).collect();
    if !wrong.is_empty() {
        let cold = predictions(&victim.logits(&select(current, &wrong)));
        wrong.iter().zip(cold).for_each(|(&k, answer)| answers[k] = answer);
    }
}

impl Attack for Pgd {
    fn name(&self) -> String {
        self.to_string()
    }

    fn settings(&self) -> String {
        let PgdConfig { steps, step_size, restarts, random_start, objective, keep_first, warm_start } =
            &self.config;
        let step = step_size.map_or("ε/4".to_owned(), |size| size.to_string());
        let start = if *random_start { "random" } else { "at the image" };
        let loss = match objective {
            PgdLoss::CrossEntropy => "cross-entropy",
            PgdLoss::Margin => "margin",
        };
        let end = if *keep_first { "at the first success" } else { "after all steps" };
        let solves = if *warm_start { "warm" } else { "cold" };
        format!(
            "steps {steps}, step size {step}, restarts {restarts}, start {start}, loss {loss}, ends {end}, solves {solves}"
        )
    }

    fn check_norm(&self, norm: Norm) -> Result<(), UnsupportedNorm> {
        not_l1(self, norm)
    }

    fn draws_start(&self) -> bool {
        self.config.random_start
    }

    fn queries(&self, _classes: usize, _norm: Norm) -> Queries {
        let PgdConfig { steps, restarts, .. } = self.config;
        // Each restart but the last looks at its last point.
        Queries { gradients: steps * restarts, logits: restarts - 1 }
    }

    fn attempt_with(
        &self,
        victim: &dyn WhiteBox,
        targets: &Targets<'_>,
        budget: &Budget,
        pulse: &dyn Pulse,
    ) -> Attempt {
        let [_, channels, height, width] = targets.images.dims();
        self.search(victim, targets, budget, (self.config.restarts, pulse), |restart, rows| {
            let clean = select(targets.images, rows);
            if !self.config.random_start {
                return clean;
            }
            let indices: Vec<usize> = rows.iter().map(|&row| targets.indices[row]).collect();
            let noise = Noise::new(targets.seed, "pgd start", restart).starting(targets.start).in_ball(
                budget,
                &indices,
                [channels, height, width],
                &clean.device(),
            );
            budget.project(&clean, &(clean.clone() + noise))
        })
    }
}

impl fmt::Display for Pgd {
    /// `pgd-10`, with restarts `pgd-10x5`, on the margin `pgd-10-margin`, warm-started `pgd-10-warm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pgd-{}", self.config.steps)?;
        if self.config.restarts > 1 {
            write!(f, "x{}", self.config.restarts)?;
        }
        match self.config.objective {
            PgdLoss::CrossEntropy => {}
            PgdLoss::Margin => write!(f, "-margin")?,
        }
        if self.config.warm_start { write!(f, "-warm") } else { Ok(()) }
    }
}

fn labels_of(targets: &Targets<'_>, rows: &[usize]) -> Vec<usize> {
    rows.iter().map(|&row| targets.labels[row]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_that_lead_nowhere_are_refused() {
        let ok = PgdConfig::default();
        assert!(Pgd::new(PgdConfig { steps: 0, ..ok.clone() }).is_err());
        assert!(Pgd::new(PgdConfig { restarts: 0, ..ok.clone() }).is_err());
        for size in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Pgd::new(PgdConfig { step_size: Some(size), ..ok.clone() }).is_err());
        }
        assert!(Pgd::new(ok).is_ok());
    }

    #[test]
    fn names_say_what_was_done() {
        let name = |steps, restarts, objective| {
            Pgd::new(PgdConfig { steps, restarts, objective, ..PgdConfig::default() }).unwrap().name()
        };
        assert_eq!(name(10, 1, PgdLoss::CrossEntropy), "pgd-10");
        assert_eq!(name(10, 5, PgdLoss::CrossEntropy), "pgd-10x5");
        assert_eq!(name(10, 1, PgdLoss::Margin), "pgd-10-margin");
        assert_eq!(name(50, 2, PgdLoss::Margin), "pgd-50x2-margin");
    }
}
