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
mod state;

use std::fmt;
use std::ops::ControlFlow;

use thiserror::Error;

use self::state::{Plane, State};
use super::driver::{Schedule, Search, Targets, drive, each_example};
use super::names::{AttackFamily, Counts, boxed};
use super::{Attack, Budget, Examples, Norm, Queries, TargetOrder, Uninterrupted, WhiteBox, insist};
use crate::batch::Images;
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
        /// Examples asked for; 1 where there are none to choose.
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
    /// If the victim has fewer than two classes, or in L1; see [`Attack::check`] and [`Attack::check_norm`].
    pub fn nearest(&self, victim: &dyn WhiteBox, examples: &Examples<'_>, budget: &Budget) -> Nearest {
        insist(self, victim.classes(), budget.norm());
        let schedule = Schedule { exhaustive: true, ..self.schedule(victim.classes(), budget.norm()) };
        // Whoever is misclassified without a perturbation needs none, and is in no search; all others are in every one.
        let mut nearest: Vec<Option<f64>> = vec![None; examples.labels.len()];
        let mut searched = vec![false; examples.labels.len()];
        let found = drive(schedule, victim, (examples, budget), &Uninterrupted, |search| {
            search.rows().into_iter().for_each(|row| searched[row] = true);
            for state in self.walk(search, Goal::LeastPerturbation)? {
                let Some((distance, image)) = state.nearest() else { continue };
                if nearest[state.row].is_none_or(|least| distance < least) {
                    nearest[state.row] = Some(distance);
                    search.keep(state.row, image, true);
                }
            }
            ControlFlow::Continue(())
        });
        let distance = |(nearest, searched)| if searched { nearest } else { Some(0.0) };
        Nearest { images: found.images, distances: nearest.into_iter().zip(searched).map(distance).collect() }
    }

    fn family(&self) -> &'static str {
        if self.config.targets.is_some() { "fab-t" } else { "fab" }
    }

    /// Where a search begins for the example in this row.
    fn start(&self, search: &Search<'_>, row: usize) -> Vec<f32> {
        let clean = search.clean(row);
        if search.is_first() {
            return clean.to_vec();
        }
        let budget = search.budget();
        let noise = search.rng(self.family(), row).on_sphere(budget.norm(), clean.len(), budget.eps() / 2.0);
        clean.iter().zip(noise).map(|(x, noise)| (x + noise).clamp(0.0, 1.0)).collect()
    }

    /// One search. Returns the examples that were in it to the end; breaks if told to stop.
    fn walk(&self, search: &mut Search<'_>, goal: Goal) -> ControlFlow<(), Vec<State>> {
        let (norm, eps) = (search.budget().norm(), search.budget().eps());
        let rows = search.rows().into_iter();
        let mut states: Vec<State> = rows.map(|row| State::new(row, self.start(search, row))).collect();
        for _ in 0..self.config.iterations {
            if states.is_empty() {
                break;
            }
            search.step(states.len())?;
            let planes = self.planes(search, &states, norm);
            let region = search.region();
            each_example(&mut states, planes, |state, plane| {
                if let Some((_, plane)) = plane {
                    state.step(region.clean(state.row), &plane, norm, &self.config);
                }
            });
            let fooled = search.fooled(&points(&states));
            for (state, _) in states.iter_mut().zip(fooled).filter(|(_, fooled)| *fooled) {
                state.fooled(search.clean(state.row), norm, &self.config);
                if let Some((distance, image)) = state.nearest()
                    && goal == Goal::WithinBudget
                    && distance <= eps
                {
                    search.keep(state.row, image, true);
                }
            }
            if goal == Goal::WithinBudget {
                states.retain(|state| search.stands(state.row));
            }
        }
        ControlFlow::Continue(states)
    }

    /// For each example the nearest of the linearised boundaries that a step considers, with its distance.
    fn planes(&self, search: &Search<'_>, states: &[State], norm: Norm) -> Vec<Option<(f64, Plane)>> {
        let labels: Vec<usize> = states.iter().map(|state| search.label(state.row)).collect();
        let mut nearest: Vec<Option<(f64, Plane)>> = vec![None; states.len()];
        let others = search.victim().classes() - 1;
        for place in 0..if self.config.targets.is_some() { 1 } else { others } {
            let aim = |state: &State| match self.config.targets {
                Some(_) => search.target(state.row),
                None => search.rivals(state.row)[place],
            };
            let objective =
                TargetMargin { labels: labels.clone(), targets: states.iter().map(aim).collect() };
            let answers = search.gradients(&points(states), &objective);
            each_example(&mut nearest, answers, |nearest, answer| {
                let plane = Plane::new(answer.value, &answer.gradient);
                let distance = plane.distance(norm);
                if nearest.as_ref().is_none_or(|(least, _)| distance < *least) {
                    *nearest = Some((distance, plane));
                }
            });
        }
        nearest
    }
}

/// The current points, as the victim is asked about them.
fn points(states: &[State]) -> Vec<(usize, &[f32])> {
    states.iter().map(|state| (state.row, state.current())).collect()
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

    fn norms(&self) -> &'static [Norm] {
        &[Norm::Linf, Norm::L2]
    }

    fn schedule(&self, classes: usize, _norm: Norm) -> Schedule {
        let FabConfig { iterations, restarts, targets, .. } = self.config;
        let (rounds, each) = match targets {
            Some(most) => (most.min(classes - 1), 1),
            None => (1, classes - 1),
        };
        let queries = Queries { gradients: iterations * each, logits: iterations };
        let targets = Targets { count: rounds, order: TargetOrder::Likely, classes };
        Schedule { targets: Some(targets), ..Schedule::new(iterations, restarts, queries) }
    }

    /// The unperturbed image remains where nothing is found within ε.
    fn search(&self, search: &mut Search<'_>) -> ControlFlow<()> {
        self.walk(search, Goal::WithinBudget)?;
        ControlFlow::Continue(())
    }
}

/// Names of FAB.
pub(super) const FAMILY: AttackFamily = AttackFamily {
    names: &["fab", "fab-t"],
    usage: "fab-t and fab, with [-ITERATIONS[xRESTARTS]] such as fab-t-50, fab-100x5",
    parse: |name| {
        let usual = FabConfig::default();
        // The longer name first: `fab` is how both begin.
        for (family, targets) in [("fab-t", usual.targets), ("fab", None)] {
            if let Some(counts) = Counts::read(name, family, Some(usual.iterations))? {
                let Counts { steps: iterations, restarts } = counts;
                return Ok(boxed(Fab::new(FabConfig { iterations, restarts, targets, ..usual })));
            }
        }
        Ok(None)
    },
};

impl fmt::Display for Fab {
    /// `fab-t` or `fab`; with another number of iterations `fab-t-50`, with restarts `fab-100x5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FabConfig { iterations: steps, restarts, .. } = self.config;
        let usual = FabConfig::default().iterations;
        f.write_str(&Counts { steps, restarts }.name(self.family(), Some(usual)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::{Classifier, Question, ValueAndGradient};
    use crate::batch::Logits;
    use crate::loss::Objective;

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
        let examples = Examples { images: &images, labels: &[0], indices: &[3], seed: 7, start: 0 };
        let schedule = Schedule { restarts: 3, ..attack.schedule(10, Norm::Linf) };
        for norm in [Norm::Linf, Norm::L2] {
            let budget = Budget::new(norm, 0.2).unwrap();
            let start = |number| {
                let mut search = Search::new(schedule, &Silent, (&examples, &budget), &Uninterrupted);
                search.begin(number, vec![0]);
                attack.start(&search, 0)
            };
            assert_eq!(start(3 * 5), [0.5; 48], "the first for the sixth target");
            assert!((norm.distance(&[0.5; 48], &start(1)) - 0.1).abs() < 1e-6);
            assert_eq!(start(1), start(1));
            assert_ne!(start(1), start(2));
            assert_ne!(start(1), start(3 + 1), "another target, another start");
        }
    }

    /// A victim that is not asked.
    struct Silent;

    impl Classifier for Silent {
        fn classes(&self) -> usize {
            10
        }

        fn answer(&self, _: &Question<'_>) -> Logits {
            unreachable!("a start asks nothing")
        }
    }

    impl WhiteBox for Silent {
        fn differentiate(&self, _: &Question<'_>, _: &dyn Objective) -> ValueAndGradient {
            unreachable!("a start asks nothing")
        }
    }

    #[test]
    fn two_classes_suffice() {
        let attack = Fab::new(FabConfig::default()).unwrap();
        assert_eq!(attack.check(2), Ok(()));
        assert!(attack.check(1).is_err());
    }
}
