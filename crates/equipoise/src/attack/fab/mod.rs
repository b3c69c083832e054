//! FAB, the fast adaptive boundary attack: looks for the **nearest** misclassified image by projecting onto the
//! linearised boundary (Croce and Hein 2020, arXiv 1907.02044).
//!
//! It minimises the perturbation and does not use ε; what it finds counts only if it lies within ε. FAB-T
//! takes one target class after the other and needs one gradient per iteration; FAB takes the nearest of all
//! boundaries at each iteration and needs a gradient for each other class. As the loss is a plain difference of
//! logits, a saturated softmax affects neither.
//!
//! As an attack within a budget an example leaves as soon as it is misclassified within ε, which changes neither
//! its outcome nor that of others; [`Fab::nearest`] searches on for the least perturbation. As in the reference
//! implementation there is no final bisection.

mod projection;
mod walk;

use std::fmt;
use std::ops::ControlFlow;

use thiserror::Error;

use self::walk::{Plane, Walk};
use super::board::{Board, rows};
use super::classes::{at_least, enough_classes};
use super::names::write_name;
use super::norms::{UnsupportedNorm, not_l1, right_norm};
use super::pulse::{Count, Pulse, Steady};
use super::{Attack, Attempt, Budget, Norm, Queries, Targets, TooFewClasses, WhiteBox};
use crate::batch::{Images, predictions, to_vec};
use crate::loss::TargetMargin;

/// How FAB searches.
#[derive(Debug, Clone, PartialEq)]
pub struct FabConfig {
    /// Steps of each restart, at least 1.
    pub iterations: usize,
    /// Independent tries, at least 1, for each target if there are any. The first of the first start begins at the clean image, the
    /// others at ε/2 from it in a random direction.
    pub restarts: usize,
    /// So many target classes one after the other, from the most likely on a clean image down (FAB-T), or `None`
    /// for the nearest boundary at each step (FAB). A model with fewer other classes has fewer targets.
    pub targets: Option<usize>,
    /// α_max: the largest weight of the projection of the clean image.
    pub alpha_max: f64,
    /// η: how far to go, in units of the way to the boundary; more than 1 goes beyond it.
    pub eta: f64,
    /// β: how much of the perturbation is left after the step back from a misclassified point.
    pub beta: f64,
}

impl Default for FabConfig {
    /// FAB-T of the standard version: 100 iterations, one restart, nine targets, α_max = 0.1, η = 1.05, β = 0.9.
    fn default() -> Self {
        Self { iterations: 100, restarts: 1, targets: Some(9), alpha_max: 0.1, eta: 1.05, beta: 0.9 }
    }
}

/// Why a FAB configuration was refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FabError {
    /// No iterations, no tries, or no targets.
    #[error(
        "FAB needs at least one iteration, one restart and one target, and has {iterations}, {restarts} and \
         {targets}: ask for fab-t, say"
    )]
    Nothing {
        /// Iterations asked for.
        iterations: usize,
        /// Restarts asked for.
        restarts: usize,
        /// Targets asked for; 1 where there are none to choose.
        targets: usize,
    },
    /// Weights with which the search leads nowhere.
    #[error(
        "FAB needs alpha_max and beta between 0 and 1 and a finite eta of at least 1, and has {alpha_max}, {beta} \
         and {eta}: the usual ones are 0.1, 0.9 and 1.05"
    )]
    Weights {
        /// α_max asked for.
        alpha_max: f64,
        /// η asked for.
        eta: f64,
        /// β asked for.
        beta: f64,
    },
}

/// The nearest misclassified images that were found.
#[derive(Debug, Clone)]
pub struct Nearest {
    /// Images `[N, C, H, W]` in \[0, 1\], however far; the unperturbed image where nothing was found.
    pub images: Images,
    /// Distance of each from its original, in the norm of the budget; `None` where nothing was found, 0 where the
    /// unperturbed image is misclassified.
    pub distances: Vec<Option<f64>>,
}

/// The attack. Deterministic given the run's seed and the example's index.
#[derive(Debug, Clone, PartialEq)]
pub struct Fab {
    config: FabConfig,
}

/// Whether an example that is misclassified within ε goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    WithinBudget,
    LeastPerturbation,
}

impl Fab {
    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`FabError`] if there is nothing to do, or if the weights lead nowhere.
    pub fn new(config: FabConfig) -> Result<Self, FabError> {
        let FabConfig { iterations, restarts, targets, alpha_max, eta, beta } = config;
        let targets = targets.unwrap_or(1);
        if iterations == 0 || restarts == 0 || targets == 0 {
            return Err(FabError::Nothing { iterations, restarts, targets });
        }
        let share = 0.0..=1.0;
        if !(share.contains(&alpha_max) && share.contains(&beta) && eta.is_finite() && eta >= 1.0) {
            return Err(FabError::Weights { alpha_max, eta, beta });
        }
        Ok(Self { config })
    }

    /// The configuration.
    pub fn config(&self) -> &FabConfig {
        &self.config
    }

    /// The nearest misclassified images, found by taking every step of every restart for every target. The
    /// budget's norm measures them; its ε only sets how far from the clean image later restarts begin.
    ///
    /// # Panics
    ///
    /// If the victim has fewer than two classes; see [`Attack::check`].
    pub fn nearest(&self, victim: &dyn WhiteBox, targets: &Targets<'_>, budget: &Budget) -> Nearest {
        let (attempt, distances) = self.search(victim, targets, budget, Goal::LeastPerturbation, &Steady);
        Nearest { images: attempt.images, distances }
    }

    fn family(&self) -> &'static str {
        if self.config.targets.is_some() { "fab-t" } else { "fab" }
    }

    fn search(
        &self,
        victim: &dyn WhiteBox,
        targets: &Targets<'_>,
        budget: &Budget,
        goal: Goal,
        pulse: &dyn Pulse,
    ) -> (Attempt, Vec<Option<f64>>) {
        enough_classes(self, victim.classes());
        right_norm(self, budget);
        let mut board = Board::new(targets);
        let goals = board.goals(victim, targets);
        // Whoever is misclassified without a perturbation needs none.
        let clean = board.standing();
        let mut distances = vec![Some(0.0); targets.labels.len()];
        clean.iter().for_each(|&row| distances[row] = None);
        let others = victim.classes() - 1;
        let rounds = self.rounds(victim.classes());
        let steps = self.config.iterations;
        let mut count = Count::new(pulse, rounds * self.config.restarts * steps, targets.labels.len());
        for round in 0..rounds {
            for restart in 0..self.config.restarts {
                let stream = round * self.config.restarts + restart;
                let rows = if goal == Goal::WithinBudget { board.standing() } else { clean.clone() };
                let walks = rows
                    .into_iter()
                    .map(|row| {
                        let start = self.start(board.clean(row), targets, row, (restart, stream), budget);
                        Walk::new(row, start)
                    })
                    .collect();
                // The classes whose boundaries a step considers.
                let classes = if self.config.targets.is_some() { round..round + 1 } else { 0..others };
                count.skip_to(stream * steps);
                let walked = self.walk(
                    victim,
                    targets,
                    budget,
                    (&mut board, goal, &mut count),
                    walks,
                    (&goals, classes),
                );
                let ControlFlow::Continue(searching) = walked else { return (board.finish(), distances) };
                for walk in searching {
                    let Some((distance, image)) = walk.nearest() else { continue };
                    if goal == Goal::LeastPerturbation && distances[walk.row].is_none_or(|d| distance < d) {
                        distances[walk.row] = Some(distance);
                        board.keep(walk.row, image, true);
                    }
                }
            }
        }
        (board.finish(), distances)
    }

    /// Target classes to be tried one after the other; 1 without.
    fn rounds(&self, classes: usize) -> usize {
        self.config.targets.map_or(1, |most| most.min(classes - 1))
    }

    /// Where a restart begins.
    fn start(
        &self,
        clean: &[f32],
        targets: &Targets<'_>,
        row: usize,
        (restart, stream): (usize, usize),
        budget: &Budget,
    ) -> Vec<f32> {
        if restart == 0 && targets.start == 0 {
            return clean.to_vec();
        }
        let mut rng = targets.rng(self.family(), row, stream);
        let noise = rng.on_sphere(budget.norm(), clean.len(), budget.eps() / 2.0);
        clean.iter().zip(noise).map(|(x, noise)| (x + noise).clamp(0.0, 1.0)).collect()
    }

    /// One restart for the examples of these walks. Returns those that are still searching; breaks if told to
    /// stop.
    fn walk(
        &self,
        victim: &dyn WhiteBox,
        targets: &Targets<'_>,
        budget: &Budget,
        (board, goal, count): (&mut Board, Goal, &mut Count<'_>),
        mut walks: Vec<Walk>,
        (goals, classes): (&[Vec<usize>], std::ops::Range<usize>),
    ) -> ControlFlow<(), Vec<Walk>> {
        let norm = budget.norm();
        for _ in 0..self.config.iterations {
            if walks.is_empty() {
                break;
            }
            count.step(walks.len())?;
            let labels: Vec<usize> = walks.iter().map(|walk| targets.labels[walk.row]).collect();
            let mut nearest: Vec<Option<(f64, Plane)>> = vec![None; walks.len()];
            let images = board.batch(walks.iter().map(Walk::current));
            for place in classes.clone() {
                let aims = walks.iter().map(|walk| goals[walk.row][place]).collect();
                let objective = TargetMargin { labels: labels.clone(), targets: aims };
                let answer = victim.value_and_gradient(&images, &objective);
                let (values, gradients) = (to_vec(answer.values), to_vec(answer.gradient));
                for ((nearest, value), gradient) in
                    nearest.iter_mut().zip(values).zip(rows(&gradients, board.size()))
                {
                    let plane = Plane::new(value, gradient);
                    let distance = plane.distance(norm);
                    if nearest.as_ref().is_none_or(|(least, _)| distance < *least) {
                        *nearest = Some((distance, plane));
                    }
                }
            }
            for (walk, plane) in walks.iter_mut().zip(nearest) {
                if let Some((_, plane)) = plane {
                    walk.step(board.clean(walk.row), &plane, norm, &self.config);
                }
            }
            let answers = predictions(&victim.logits(&board.batch(walks.iter().map(Walk::current))));
            for ((walk, answer), label) in walks.iter_mut().zip(answers).zip(labels) {
                if answer != Some(label) {
                    walk.fooled(board.clean(walk.row), norm, &self.config);
                    if let Some((distance, image)) = walk.nearest()
                        && goal == Goal::WithinBudget
                        && distance <= budget.eps()
                    {
                        board.keep(walk.row, image, true);
                    }
                }
            }
            if goal == Goal::WithinBudget {
                walks.retain(|walk| !board.claimed(walk.row));
            }
        }
        ControlFlow::Continue(walks)
    }
}

impl Attack for Fab {
    fn name(&self) -> String {
        self.to_string()
    }

    fn settings(&self) -> String {
        let FabConfig { iterations, restarts, targets, alpha_max, eta, beta } = self.config;
        let targets = targets.map_or("none".to_owned(), |targets| targets.to_string());
        format!(
            "iterations {iterations}, restarts {restarts}, targets {targets}, α_max {alpha_max}, η {eta}, β {beta}"
        )
    }

    fn check(&self, classes: usize) -> Result<(), TooFewClasses> {
        at_least(2, self.family(), classes)
    }

    fn check_norm(&self, norm: Norm) -> Result<(), UnsupportedNorm> {
        not_l1(self, norm)
    }

    fn queries(&self, classes: usize, _norm: Norm) -> Queries {
        let steps = self.rounds(classes) * self.config.restarts * self.config.iterations;
        let each = if self.config.targets.is_some() { 1 } else { classes - 1 };
        Queries { gradients: steps * each, logits: 1 + steps }
    }

    /// The unperturbed image is returned where nothing was found within ε.
    fn attempt_with(
        &self,
        victim: &dyn WhiteBox,
        targets: &Targets<'_>,
        budget: &Budget,
        pulse: &dyn Pulse,
    ) -> Attempt {
        self.search(victim, targets, budget, Goal::WithinBudget, pulse).0
    }
}

impl fmt::Display for Fab {
    /// `fab-t` or `fab`; with another number of iterations `fab-t-50`, with restarts `fab-100x5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = FabConfig::default().iterations;
        write_name(f, self.family(), (self.config.iterations, usual), self.config.restarts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_that_lead_nowhere_are_refused() {
        let ok = FabConfig::default();
        for bad in [
            FabConfig { iterations: 0, ..ok.clone() },
            FabConfig { restarts: 0, ..ok.clone() },
            FabConfig { targets: Some(0), ..ok.clone() },
            FabConfig { alpha_max: 1.5, ..ok.clone() },
            FabConfig { eta: 0.9, ..ok.clone() },
            FabConfig { eta: f64::NAN, ..ok.clone() },
            FabConfig { beta: -0.1, ..ok.clone() },
        ] {
            assert!(Fab::new(bad.clone()).is_err(), "{bad:?}");
        }
        assert!(Fab::new(FabConfig { targets: None, ..ok }).is_ok());
    }

    #[test]
    fn later_restarts_begin_half_of_eps_away() {
        let attack = Fab::new(FabConfig::default()).unwrap();
        let images = crate::batch::from_vec(vec![0.5; 48], [1, 3, 4, 4], &burn::tensor::Device::default());
        let targets = Targets { images: &images, labels: &[0], indices: &[3], seed: 7, start: 0 };
        for norm in [Norm::Linf, Norm::L2] {
            let budget = Budget::new(norm, 0.2).unwrap();
            let start = |counts| attack.start(&[0.5; 48], &targets, 0, counts, &budget);
            assert_eq!(start((0, 5)), [0.5; 48]);
            assert!((norm.distance(&[0.5; 48], &start((1, 1))) - 0.1).abs() < 1e-6);
            assert_eq!(start((1, 1)), start((1, 1)));
            assert_ne!(start((1, 1)), start((2, 2)));
            assert_ne!(start((1, 1)), start((1, 3)), "another target, another start");
        }
    }

    #[test]
    fn two_classes_suffice() {
        let attack = Fab::new(FabConfig::default()).unwrap();
        assert_eq!(attack.check(2), Ok(()));
        assert!(attack.check(1).is_err());
    }
}
