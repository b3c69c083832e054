//! Auto-PGD (APGD): projected gradient ascent with momentum that sets its own step sizes (Croce and Hein 2020,
//! arXiv 2003.01690), on the cross-entropy, on the DLR loss, or on the targeted DLR loss for one class after
//! the other. For L1 it takes sparse steps, through larger balls first (Croce and Hein 2021, arXiv 2103.01208).
//!
//! The constants are those of the authors' implementation. An example leaves the batch as soon as it is
//! misclassified; the others take all steps. The point after the last step needs no gradient, so a restart of
//! N iterations costs N gradients and one evaluation; for L1, where each of three balls has a last point, three.

mod schedule;
mod sparsity;
mod trail;

use std::fmt;
use std::ops::ControlFlow;

use thiserror::Error;

pub use schedule::checkpoints;

use self::schedule::{Phase, phases};
use self::trail::{Sighting, Trail};
use super::board::{Board, rows};
use super::classes::{at_least, enough_classes};
use super::names::write_name;
use super::pulse::{Count, Pulse};
use super::{Attack, Attempt, Budget, ExampleRng, Norm, Queries, Targets, TooFewClasses, WhiteBox};
use crate::batch::{predictions, to_vec};
use crate::loss::{CrossEntropy, Dlr, Objective, TargetedDlr};

/// The loss that APGD ascends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApgdLoss {
    /// [`CrossEntropy`].
    #[default]
    CrossEntropy,
    /// [`Dlr`]; needs three classes.
    Dlr,
    /// [`TargetedDlr`] for each of so many target classes, from the most likely on a clean image down; needs
    /// four classes. A model with fewer other classes has fewer targets.
    TargetedDlr {
        /// Number of targets, at least 1. The standard version has 9.
        targets: usize,
    },
}

impl ApgdLoss {
    /// Name of the attack with this loss; it also names the random numbers.
    fn family(self) -> &'static str {
        match self {
            Self::CrossEntropy => "apgd-ce",
            Self::Dlr => "apgd-dlr",
            Self::TargetedDlr { .. } => "apgd-t",
        }
    }

    /// The objective for these examples. It is made anew for each set of examples still under attack.
    fn objective(self, labels: Vec<usize>, targets: Vec<usize>) -> Box<dyn Objective> {
        match self {
            Self::CrossEntropy => Box::new(CrossEntropy { labels }),
            Self::Dlr => Box::new(Dlr { labels }),
            Self::TargetedDlr { .. } => Box::new(TargetedDlr { labels, targets }),
        }
    }
}

/// How APGD searches.
#[derive(Debug, Clone, PartialEq)]
pub struct ApgdConfig {
    /// Gradient steps of each restart, at least 1.
    pub iterations: usize,
    /// Independent tries, at least 1, for each target if there are any. Each meets only the examples that
    /// withstood those before it.
    pub restarts: usize,
    /// The loss to ascend.
    pub loss: ApgdLoss,
    /// ρ: the share of a window's steps that must raise the loss, lest the step size be halved.
    pub rho: f64,
    /// Whether an example stops at its first misclassified point. If not, all steps of all restarts are taken
    /// and the point of the highest loss is returned, as adversarial training and diagnostics want it; only
    /// for untargeted losses, since those for several targets cannot be compared.
    pub keep_first: bool,
}

impl Default for ApgdConfig {
    /// APGD-CE of the standard version: 100 iterations, one restart, ρ = 0.75.
    fn default() -> Self {
        Self { iterations: 100, restarts: 1, loss: ApgdLoss::CrossEntropy, rho: 0.75, keep_first: true }
    }
}

/// Why an APGD configuration was refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ApgdError {
    /// No iterations, no tries, or no targets.
    #[error(
        "APGD needs at least one iteration, one restart and one target, and has {iterations}, {restarts} and \
         {targets}: ask for apgd-ce or apgd-t, say"
    )]
    Nothing {
        /// Iterations asked for.
        iterations: usize,
        /// Restarts asked for.
        restarts: usize,
        /// Targets asked for; 1 for an untargeted loss.
        targets: usize,
    },
    /// A share that is none.
    #[error("rho is a share of steps between 0 and 1, and is {0}: the usual one is 0.75")]
    Rho(f64),
    /// The highest of losses that cannot be compared.
    #[error("the losses for several targets cannot be compared: keep_first = false needs an untargeted loss")]
    WorstOfTargets,
}

/// The attack. Deterministic given the run's seed and the example's index.
#[derive(Debug, Clone, PartialEq)]
pub struct Apgd {
    config: ApgdConfig,
}

impl Apgd {
    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ApgdError`] if there is nothing to do, if ρ is not a share, or if the worst loss over several targets is
    /// asked for.
    pub fn new(config: ApgdConfig) -> Result<Self, ApgdError> {
        let ApgdConfig { iterations, restarts, loss, rho, keep_first } = config;
        let targets = if let ApgdLoss::TargetedDlr { targets } = loss { targets } else { 1 };
        if iterations == 0 || restarts == 0 || targets == 0 {
            return Err(ApgdError::Nothing { iterations, restarts, targets });
        }
        if !(0.0..=1.0).contains(&rho) {
            return Err(ApgdError::Rho(rho));
        }
        if !keep_first && matches!(loss, ApgdLoss::TargetedDlr { .. }) {
            return Err(ApgdError::WorstOfTargets);
        }
        Ok(Self { config })
    }

    /// The configuration.
    pub fn config(&self) -> &ApgdConfig {
        &self.config
    }

    /// The start of one example: on the boundary of the ball in a uniform (L∞) or normal (L2) direction, clipped
    /// to \[0, 1\]. For L1 it is the image with standard normal noise, projected: few pixels remain changed.
    fn start(&self, clean: &[f32], mut rng: ExampleRng, budget: &Budget) -> Vec<f32> {
        let mut image = match budget.norm() {
            Norm::L1 => clean.iter().map(|_| rng.normal() as f32).collect(),
            norm => rng.on_sphere(norm, clean.len(), budget.eps()),
        };
        for (pixel, x) in image.iter_mut().zip(clean) {
            *pixel += x;
        }
        budget.project_example(clean, &mut image);
        image
    }

    /// One phase for the examples of these trails. Returns those that withstood it; breaks if told to stop.
    fn climb(
        &self,
        victim: &dyn WhiteBox,
        targets: &Targets<'_>,
        phase: &Phase,
        (board, count): (&mut Board, &mut Count<'_>),
        mut trails: Vec<Trail>,
    ) -> ControlFlow<(), Vec<Trail>> {
        let Phase { budget, iterations, .. } = phase;
        let keep_first = self.config.keep_first && phase.last;
        let mut checkpoints = phase.checkpoints.iter().peekable();
        let mut last_check = 0;
        for iteration in 0..=*iterations {
            if trails.is_empty() {
                break;
            }
            count.step(trails.len())?;
            if iteration > 0 {
                for trail in &mut trails {
                    trail.step(board.clean(trail.row), budget);
                }
            }
            let sightings = self.look(victim, targets, board, &trails, iteration < *iterations);
            for (trail, seen) in trails.iter_mut().zip(sightings) {
                let fooled = seen.fooled;
                trail.see(seen);
                if fooled && keep_first {
                    board.keep(trail.row, trail.current(), true);
                }
            }
            if keep_first {
                trails.retain(|trail| !board.claimed(trail.row));
            }
            if checkpoints.next_if(|&&at| at == iteration).is_some() {
                let window = iteration - last_check;
                for trail in &mut trails {
                    trail.check(window, self.config.rho, board.clean(trail.row), budget);
                }
                last_check = iteration;
            }
        }
        ControlFlow::Continue(trails)
    }

    /// Target classes to be tried one after the other; 1 without.
    fn rounds(&self, classes: usize) -> usize {
        match self.config.loss {
            ApgdLoss::TargetedDlr { targets } => targets.min(classes - 1),
            _ => 1,
        }
    }

    /// What the victim says of the current points.
    fn look(
        &self,
        victim: &dyn WhiteBox,
        targets: &Targets<'_>,
        board: &Board,
        trails: &[Trail],
        gradient: bool,
    ) -> Vec<Sighting> {
        let labels: Vec<usize> = trails.iter().map(|trail| targets.labels[trail.row]).collect();
        let aims = trails.iter().map(|trail| trail.target).collect();
        let objective = self.config.loss.objective(labels.clone(), aims);
        let images = board.batch(trails.iter().map(Trail::current));
        let (logits, values, gradients) = if gradient {
            let answer = victim.value_and_gradient(&images, objective.as_ref());
            (answer.logits, answer.values, to_vec(answer.gradient))
        } else {
            let logits = victim.logits(&images);
            (logits.clone(), objective.values(logits), Vec::new())
        };
        let mut gradients = rows(&gradients, board.size());
        to_vec(values)
            .into_iter()
            .zip(predictions(&logits))
            .zip(labels)
            .map(|((loss, class), label)| Sighting {
                loss,
                fooled: class != Some(label),
                gradient: gradients.next().map(<[f32]>::to_vec).unwrap_or_default(),
            })
            .collect()
    }
}

impl Attack for Apgd {
    fn name(&self) -> String {
        self.to_string()
    }

    fn settings(&self) -> String {
        let ApgdConfig { iterations, restarts, loss, rho, keep_first } = self.config;
        let loss = match loss {
            ApgdLoss::CrossEntropy => "cross-entropy".to_owned(),
            ApgdLoss::Dlr => "DLR".to_owned(),
            ApgdLoss::TargetedDlr { targets } => format!("DLR of {targets} targets"),
        };
        let end = if keep_first { "at the first success" } else { "after all steps" };
        format!("iterations {iterations}, restarts {restarts}, loss {loss}, ρ {rho}, ends {end}")
    }

    fn check(&self, classes: usize) -> Result<(), TooFewClasses> {
        let needed = match self.config.loss {
            ApgdLoss::CrossEntropy => 2,
            ApgdLoss::Dlr => 3,
            ApgdLoss::TargetedDlr { .. } => 4,
        };
        at_least(needed, self.config.loss.family(), classes)
    }

    fn queries(&self, classes: usize, norm: Norm) -> Queries {
        let searches = self.rounds(classes) * self.config.restarts;
        let look = usize::from(matches!(self.config.loss, ApgdLoss::TargetedDlr { .. }));
        let unit = Budget::new(norm, 1.0).expect("a radius of one");
        let ends = phases(self.config.iterations, &unit).len();
        Queries { gradients: searches * self.config.iterations, logits: look + searches * ends }
    }

    fn attempt_with(
        &self,
        victim: &dyn WhiteBox,
        targets: &Targets<'_>,
        budget: &Budget,
        pulse: &dyn Pulse,
    ) -> Attempt {
        enough_classes(self, victim.classes());
        let mut board = Board::new(targets);
        // The loss of the image that each row holds now.
        let mut worst = vec![f32::NEG_INFINITY; targets.labels.len()];
        let goals = match self.config.loss {
            ApgdLoss::TargetedDlr { .. } => Some(board.goals(victim, targets)),
            _ => None,
        };
        let rounds = self.rounds(victim.classes());
        let phases = phases(self.config.iterations, budget);
        let steps = self.config.iterations + phases.len();
        let mut count = Count::new(pulse, rounds * self.config.restarts * steps, targets.labels.len());
        for round in 0..rounds {
            for restart in 0..self.config.restarts {
                let stream = round * self.config.restarts + restart;
                let rows = if self.config.keep_first { board.standing() } else { board.rows() };
                let first = &phases[0].budget;
                let mut trails: Vec<Trail> = rows
                    .into_iter()
                    .map(|row| {
                        let target = goals.as_ref().map_or(0, |goals| goals[row][round]);
                        let clean = board.clean(row);
                        let rng = targets.rng(self.config.loss.family(), row, stream);
                        let start = self.start(clean, rng, first);
                        Trail::new(row, target, clean, start, first)
                    })
                    .collect();
                count.skip_to(stream * steps);
                for (place, phase) in phases.iter().enumerate() {
                    if place > 0 {
                        let anew = |trail: Trail| {
                            let clean = board.clean(trail.row);
                            trail.within(clean, &phase.budget)
                        };
                        trails = trails.into_iter().map(anew).collect();
                    }
                    let climbed = self.climb(victim, targets, phase, (&mut board, &mut count), trails);
                    let ControlFlow::Continue(withstood) = climbed else { return board.finish() };
                    trails = withstood;
                }
                for trail in trails {
                    let seen = trail.best_seen();
                    if goals.is_some() || seen.loss >= worst[trail.row] {
                        worst[trail.row] = seen.loss;
                        board.keep(trail.row, trail.best(), seen.fooled);
                    }
                }
            }
        }
        board.finish()
    }
}

impl fmt::Display for Apgd {
    /// `apgd-ce`, `apgd-dlr` or `apgd-t`; with another number of iterations `apgd-ce-50`, with restarts
    /// `apgd-ce-100x5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = ApgdConfig::default().iterations;
        write_name(f, self.config.loss.family(), (self.config.iterations, usual), self.config.restarts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_that_lead_nowhere_are_refused() {
        let ok = ApgdConfig::default();
        let targeted = |targets| ApgdLoss::TargetedDlr { targets };
        assert!(Apgd::new(ApgdConfig { iterations: 0, ..ok.clone() }).is_err());
        assert!(Apgd::new(ApgdConfig { restarts: 0, ..ok.clone() }).is_err());
        assert!(Apgd::new(ApgdConfig { loss: targeted(0), ..ok.clone() }).is_err());
        for rho in [-0.1, 1.1, f64::NAN] {
            assert!(Apgd::new(ApgdConfig { rho, ..ok.clone() }).is_err());
        }
        assert!(Apgd::new(ApgdConfig { keep_first: false, ..ok.clone() }).is_ok());
        let worst = ApgdConfig { keep_first: false, loss: targeted(9), ..ok };
        assert_eq!(Apgd::new(worst), Err(ApgdError::WorstOfTargets));
    }

    #[test]
    fn the_losses_need_their_classes() {
        let attack = |loss| Apgd::new(ApgdConfig { loss, ..ApgdConfig::default() }).unwrap();
        let targeted = ApgdLoss::TargetedDlr { targets: 9 };
        for (loss, needed) in [(ApgdLoss::CrossEntropy, 2), (ApgdLoss::Dlr, 3), (targeted, 4)] {
            assert_eq!(attack(loss).check(needed), Ok(()));
            assert_eq!(attack(loss).check(needed - 1).unwrap_err().needed, needed);
        }
    }
}
