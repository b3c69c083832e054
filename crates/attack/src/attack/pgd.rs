//! Projected gradient descent (PGD): steepest ascent on a loss, projected back onto the budget after each step
//! (Madry et al. 2018, arXiv 1706.06083).
//!
//! Every gradient comes with the logits at its point, so whether that point is already misclassified is known
//! for free. An example that is leaves the batch at once and its image is kept; the work goes to those that
//! still resist. The last iterate of the last restart is not looked at by the attack: whoever runs it
//! evaluates the returned image anyway.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use thiserror::Error;

use super::budget::{Budget, Norm};
use super::driver::{Answer, Schedule, Search, drive, each_example};
use super::names::{AttackFamily, Counts, boxed};
use super::{Attack, Attempt, Examples, Uninterrupted, WarmStart, WhiteBox, insist};
use crate::batch::{Images, to_vec};
use crate::loss::{CrossEntropy, Margin, Objective, ProbabilityMargin};

/// The loss that PGD ascends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PgdLoss {
    /// [`CrossEntropy`].
    #[default]
    CrossEntropy,
    /// [`Margin`].
    Margin,
    /// [`ProbabilityMargin`].
    ProbabilityMargin,
}

impl PgdLoss {
    /// The objective for these examples. It is made anew for each set of examples still under attack.
    fn objective(self, labels: Vec<usize>) -> Box<dyn Objective> {
        match self {
            Self::CrossEntropy => Box::new(CrossEntropy { labels }),
            Self::Margin => Box::new(Margin { labels }),
            Self::ProbabilityMargin => Box::new(ProbabilityMargin { labels }),
        }
    }

    /// What a name ends with, and the loss in words.
    fn named(self) -> (&'static str, &'static str) {
        match self {
            Self::CrossEntropy => ("", "cross-entropy"),
            Self::Margin => ("-margin", "margin"),
            Self::ProbabilityMargin => ("-pma", "probability margin"),
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

    /// One search from a given start `[N, C, H, W]`, which is projected onto the budget first. For comparison
    /// with other codes: draw the start as they do. Restarts and random start are left aside.
    pub fn run_from(
        &self,
        victim: &dyn WhiteBox,
        examples: &Examples<'_>,
        budget: &Budget,
        start: &Images,
    ) -> Attempt {
        insist(self, victim.classes(), budget.norm());
        let schedule = Schedule { restarts: 1, ..self.schedule(victim.classes(), budget.norm()) };
        let start = to_vec(budget.project(examples.images, start));
        drive(schedule, victim, (examples, budget), &Uninterrupted, |search| {
            let size = search.size();
            self.climb(search, |_, row| start[row * size..][..size].to_vec())
        })
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
        insist(self, victim.classes(), budget.norm());
        let step_size = self.step_size(budget);
        (0..self.config.steps).fold(budget.project(images, start), |current, _| {
            let gradient = victim.value_and_gradient(&current, objective).gradient;
            budget.project(images, &(current + budget.ascent_step(&gradient, step_size)))
        })
    }

    fn step_size(&self, budget: &Budget) -> f64 {
        self.config.step_size.unwrap_or(budget.eps() / 4.0)
    }

    /// One search from the images that `start` gives for the examples' rows.
    fn climb(
        &self,
        search: &mut Search<'_>,
        start: impl Fn(&Search<'_>, usize) -> Vec<f32>,
    ) -> ControlFlow<()> {
        let step_size = self.step_size(search.budget());
        let mut points: Vec<(usize, Vec<f32>)> =
            search.rows().into_iter().map(|row| (row, start(search, row))).collect();
        let mut warm_start = WarmStart::default();
        for _ in 0..self.config.steps {
            if points.is_empty() {
                break;
            }
            search.step(points.len())?;
            let mut answers = self.look(search, &points, &mut warm_start);
            if self.config.keep_first {
                let stays: Vec<usize> = (0..points.len()).filter(|&k| !answers[k].fooled).collect();
                for ((row, image), _) in points.iter().zip(&answers).filter(|(_, answer)| answer.fooled) {
                    search.keep(*row, image, true);
                }
                if stays.len() < points.len() {
                    points.retain(|(row, _)| search.stands(*row));
                    answers.retain(|answer| !answer.fooled);
                    warm_start.select(&stays);
                }
            }
            let region = search.region();
            each_example(&mut points, answers, |(row, image), answer| {
                let mut ahead = answer.gradient;
                region.budget().ascent_example(&mut ahead, step_size);
                image.iter_mut().zip(ahead).for_each(|(pixel, step)| *pixel += step);
                region.project(*row, image);
            });
        }
        for (row, image) in points {
            search.keep_unseen(row, &image);
        }
        ControlFlow::Continue(())
    }

    /// What the victim says of the current points.
    fn look(
        &self,
        search: &Search<'_>,
        points: &[(usize, Vec<f32>)],
        warm_start: &mut WarmStart,
    ) -> Vec<Answer> {
        let objective =
            self.config.objective.objective(points.iter().map(|&(row, _)| search.label(row)).collect());
        let points: Vec<(usize, &[f32])> =
            points.iter().map(|(row, image)| (*row, image.as_slice())).collect();
        if !self.config.warm_start {
            return search.gradients(&points, objective.as_ref());
        }
        let victim = search.victim();
        let answer = search
            .ask(&points, |question| victim.differentiate_from(question, objective.as_ref(), warm_start));
        let mut answers = search.answers(&points, answer);
        if self.config.keep_first {
            // Wrong answers of a continued solve are replaced by those of the deployed forward pass.
            let wrong: Vec<usize> = (0..points.len()).filter(|&k| answers[k].fooled).collect();
            if !wrong.is_empty() {
                let cold = search.fooled(&wrong.iter().map(|&k| points[k]).collect::<Vec<_>>());
                wrong.into_iter().zip(cold).for_each(|(k, fooled)| answers[k].fooled = fooled);
            }
        }
        answers
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
        let (_, loss) = objective.named();
        let end = if *keep_first { "at the first success" } else { "after all steps" };
        let solves = if *warm_start { "warm" } else { "cold" };
        format!(
            "steps {steps}, step size {step}, restarts {restarts}, start {start}, loss {loss}, ends {end}, solves {solves}"
        )
    }

    fn least_classes(&self) -> usize {
        1
    }

    fn norms(&self) -> &'static [Norm] {
        &[Norm::Linf, Norm::L2]
    }

    fn draws_start(&self) -> bool {
        self.config.random_start
    }

    fn to_the_end(&self) -> Option<Arc<dyn Attack>> {
        Some(Arc::new(Self { config: PgdConfig { keep_first: false, ..self.config.clone() } }))
    }

    fn schedule(&self, _classes: usize, _norm: Norm) -> Schedule {
        Schedule::of_gradients(self.config.steps, self.config.restarts)
    }

    fn search(&self, search: &mut Search<'_>) -> ControlFlow<()> {
        self.climb(search, |search, row| {
            let mut image = search.clean(row).to_vec();
            if self.config.random_start {
                let noise = search.rng("pgd start", row).in_ball(search.budget(), image.len());
                image.iter_mut().zip(noise).for_each(|(pixel, noise)| *pixel += noise);
                search.project(row, &mut image);
            }
            image
        })
    }
}

/// Names of PGD.
pub(super) const FAMILY: AttackFamily = AttackFamily {
    names: &["pgd-10"],
    usage: "pgd-STEPS[xRESTARTS][-margin|-pma][-warm] such as pgd-10, pgd-50x5, pgd-10-margin",
    parse: |name| {
        let (rest, warm_start) = name.strip_suffix("-warm").map_or((name, false), |rest| (rest, true));
        let losses = [PgdLoss::Margin, PgdLoss::ProbabilityMargin].into_iter();
        let named = losses.filter_map(|loss| Some((rest.strip_suffix(loss.named().0)?, loss))).next();
        let (rest, objective) = named.unwrap_or((rest, PgdLoss::CrossEntropy));
        let counts = Counts::read(rest, "pgd", None)?;
        Ok(counts.and_then(|Counts { steps, restarts }| {
            boxed(Pgd::new(PgdConfig { steps, restarts, objective, warm_start, ..PgdConfig::default() }))
        }))
    },
};

impl fmt::Display for Pgd {
    /// `pgd-10`, with restarts `pgd-10x5`, on a margin `pgd-10-margin` or `pgd-10-pma`, warm-started `pgd-10-warm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PgdConfig { steps, restarts, .. } = self.config;
        f.write_str(&Counts { steps, restarts }.name("pgd", None))?;
        f.write_str(self.config.objective.named().0)?;
        if self.config.warm_start { write!(f, "-warm") } else { Ok(()) }
    }
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
        assert_eq!(name(10, 1, PgdLoss::ProbabilityMargin), "pgd-10-pma");
    }
}
