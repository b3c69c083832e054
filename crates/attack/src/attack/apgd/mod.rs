//! Auto-PGD (APGD): projected gradient ascent with momentum that sets its own step sizes (Croce and Hein 2020,
//! arXiv 2003.01690), on the cross-entropy, on the DLR loss, on the margin of probabilities, or on the targeted DLR loss
//! for one class after the other. For L1 it takes sparse steps, through larger balls first (Croce and Hein 2021, arXiv 2103.01208).
//!
//! The constants are those of the authors' implementation. An example leaves the batch as soon as it is
//! misclassified; the others take all steps. The point after the last step needs no gradient, so a restart of
//! N iterations costs N gradients and one evaluation; for L1, where each of three balls has a last point, three.

mod schedule;
mod sparsity;
mod state;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use thiserror::Error;

pub use schedule::checkpoints;

use self::schedule::{Phase, phases};
use self::state::State;
use super::driver::{Answer, Schedule, Search, Targets, each_example};
use super::names::{AttackFamily, Counts, boxed};
use super::{Attack, Budget, Norm, Queries, TargetOrder};
use crate::loss::{CrossEntropy, Dlr, Objective, ProbabilityMargin, TargetedDlr};
use crate::random::ExampleRng;

/// The loss that APGD ascends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApgdLoss {
    /// [`CrossEntropy`].
    #[default]
    CrossEntropy,
    /// [`Dlr`]; needs three classes.
    Dlr,
    /// [`ProbabilityMargin`]; needs two classes.
    ProbabilityMargin,
    /// [`TargetedDlr`] for each of so many target classes, one after the other; needs four classes. A model with
    /// fewer other classes has fewer targets.
    TargetedDlr {
        /// Number of targets, at least 1. The standard version has 9.
        targets: usize,
        /// Which of them come first. The standard version has the most likely ones first.
        order: TargetOrder,
    },
}

impl ApgdLoss {
    /// Name of the attack with this loss; it also names the random numbers.
    fn family(self) -> &'static str {
        match self {
            Self::CrossEntropy => "apgd-ce",
            Self::Dlr => "apgd-dlr",
            Self::ProbabilityMargin => "apgd-pma",
            Self::TargetedDlr { order: TargetOrder::Likely, .. } => "apgd-t",
            Self::TargetedDlr { order: TargetOrder::Near, .. } => "apgd-t-malt",
        }
    }

    /// The objective for these examples. It is made anew for each set of examples still under attack.
    fn objective(self, labels: Vec<usize>, targets: Vec<usize>) -> Box<dyn Objective> {
        match self {
            Self::CrossEntropy => Box::new(CrossEntropy { labels }),
            Self::Dlr => Box::new(Dlr { labels }),
            Self::ProbabilityMargin => Box::new(ProbabilityMargin { labels }),
            Self::TargetedDlr { .. } => Box::new(TargetedDlr { labels, targets }),
        }
    }
}

/// Target classes of the targeted attacks in the reference implementation.
const USUAL_TARGETS: usize = 9;

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
        /// Examples asked for; 1 for an untargeted loss.
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
        let targets = if let ApgdLoss::TargetedDlr { targets, .. } = loss { targets } else { 1 };
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

    /// One phase for these examples. Returns those that withstood it; breaks if told to stop.
    fn climb(
        &self,
        search: &mut Search<'_>,
        phase: &Phase,
        mut states: Vec<State>,
    ) -> ControlFlow<(), Vec<State>> {
        let Phase { budget, iterations, .. } = phase;
        let keep_first = self.config.keep_first && phase.last;
        let mut checkpoints = phase.checkpoints.iter().peekable();
        let mut last_check = 0;
        for iteration in 0..=*iterations {
            if states.is_empty() {
                break;
            }
            search.step(states.len())?;
            if iteration > 0 {
                let (region, nothing) = (search.region(), vec![(); states.len()]);
                each_example(&mut states, nothing, |state, ()| state.step(region.clean(state.row), budget));
            }
            let answers = self.look(search, &states, iteration < *iterations);
            let fooled = each_example(&mut states, answers, |state, seen| {
                let fooled = seen.fooled;
                state.see(seen);
                fooled
            });
            for (state, _) in states.iter().zip(fooled).filter(|(_, fooled)| *fooled && keep_first) {
                search.keep(state.row, state.current(), true);
            }
            if keep_first {
                states.retain(|state| search.stands(state.row));
            }
            if checkpoints.next_if(|&&at| at == iteration).is_some() {
                let window = iteration - last_check;
                for state in &mut states {
                    state.check(window, self.config.rho, search.clean(state.row), budget);
                }
                last_check = iteration;
            }
        }
        ControlFlow::Continue(states)
    }

    /// What the victim says of the current points.
    fn look(&self, search: &Search<'_>, states: &[State], gradient: bool) -> Vec<Answer> {
        let labels = states.iter().map(|state| search.label(state.row)).collect();
        let objective = self.config.loss.objective(labels, states.iter().map(|state| state.target).collect());
        let points: Vec<(usize, &[f32])> = states.iter().map(|state| (state.row, state.current())).collect();
        if gradient {
            search.gradients(&points, objective.as_ref())
        } else {
            search.values(&points, objective.as_ref())
        }
    }

    fn is_targeted(&self) -> bool {
        matches!(self.config.loss, ApgdLoss::TargetedDlr { .. })
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
            ApgdLoss::ProbabilityMargin => "probability margin".to_owned(),
            ApgdLoss::TargetedDlr { targets, order: TargetOrder::Likely } => {
                format!("DLR of {targets} targets")
            }
            ApgdLoss::TargetedDlr { targets, order: TargetOrder::Near } => {
                format!("DLR of {targets} targets, the nearest first")
            }
        };
        let end = if keep_first { "at the first success" } else { "after all steps" };
        format!("iterations {iterations}, restarts {restarts}, loss {loss}, ρ {rho}, ends {end}")
    }

    fn least_classes(&self) -> usize {
        match self.config.loss {
            ApgdLoss::CrossEntropy | ApgdLoss::ProbabilityMargin => 2,
            ApgdLoss::Dlr => 3,
            ApgdLoss::TargetedDlr { .. } => 4,
        }
    }

    fn to_the_end(&self) -> Option<Arc<dyn Attack>> {
        let apgd = Self::new(ApgdConfig { keep_first: false, ..self.config.clone() });
        apgd.ok().map(|apgd| Arc::new(apgd) as Arc<dyn Attack>)
    }

    fn schedule(&self, classes: usize, norm: Norm) -> Schedule {
        let ApgdConfig { iterations, restarts, loss, keep_first, .. } = self.config;
        let unit = Budget::new(norm, 1.0).expect("a radius of one");
        let ends = phases(iterations, &unit).len();
        let targets = match loss {
            ApgdLoss::TargetedDlr { targets, order } => {
                Some(Targets { count: targets.min(classes - 1), order, classes })
            }
            _ => None,
        };
        let queries = Queries { gradients: iterations, logits: ends };
        Schedule { targets, exhaustive: !keep_first, ..Schedule::new(iterations + ends, restarts, queries) }
    }

    fn search(&self, search: &mut Search<'_>) -> ControlFlow<()> {
        let phases = phases(self.config.iterations, search.budget());
        let first = &phases[0].budget;
        let rows = search.rows().into_iter();
        let mut states: Vec<State> = rows
            .map(|row| {
                let clean = search.clean(row);
                let target = if self.is_targeted() { search.target(row) } else { 0 };
                let start = self.start(clean, search.rng(self.config.loss.family(), row), first);
                State::new(row, target, clean, start, first)
            })
            .collect();
        for (place, phase) in phases.iter().enumerate() {
            if place > 0 {
                let within = |state: State| {
                    let clean = search.clean(state.row);
                    state.within(clean, &phase.budget)
                };
                states = states.into_iter().map(within).collect();
            }
            states = self.climb(search, phase, states)?;
        }
        for state in states {
            let (best, seen) = (state.best(), state.best_seen());
            if self.is_targeted() {
                // Losses for several targets cannot be compared.
                search.keep(state.row, best, seen.fooled);
            } else {
                search.keep_highest(state.row, best, seen.value, seen.fooled);
            }
        }
        ControlFlow::Continue(())
    }
}

/// Names of APGD.
pub(super) const FAMILY: AttackFamily = AttackFamily {
    names: &["apgd-ce", "apgd-dlr", "apgd-t", "apgd-t-malt", "apgd-pma"],
    usage: "apgd-ce, apgd-dlr, apgd-t, apgd-t-malt and apgd-pma, with [-ITERATIONS[xRESTARTS]] such as apgd-ce-50, apgd-dlr-100x5",
    parse: |name| {
        let targeted = |order| ApgdLoss::TargetedDlr { targets: USUAL_TARGETS, order };
        for loss in [
            ApgdLoss::CrossEntropy,
            ApgdLoss::Dlr,
            ApgdLoss::ProbabilityMargin,
            targeted(TargetOrder::Likely),
            targeted(TargetOrder::Near),
        ] {
            let usual = ApgdConfig { loss, ..ApgdConfig::default() };
            if let Some(counts) = Counts::read(name, loss.family(), Some(usual.iterations))? {
                let Counts { steps: iterations, restarts } = counts;
                return Ok(boxed(Apgd::new(ApgdConfig { iterations, restarts, ..usual })));
            }
        }
        Ok(None)
    },
};

impl fmt::Display for Apgd {
    /// `apgd-ce`, `apgd-dlr`, `apgd-pma`, `apgd-t` or `apgd-t-malt`; with another number of iterations `apgd-ce-50`, with restarts
    /// `apgd-ce-100x5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ApgdConfig { iterations: steps, restarts, loss, .. } = self.config;
        let usual = ApgdConfig::default().iterations;
        f.write_str(&Counts { steps, restarts }.name(loss.family(), Some(usual)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_that_lead_nowhere_are_refused() {
        let ok = ApgdConfig::default();
        let targeted = |targets| ApgdLoss::TargetedDlr { targets, order: TargetOrder::Likely };
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
        let targeted = ApgdLoss::TargetedDlr { targets: 9, order: TargetOrder::Near };
        let pma = ApgdLoss::ProbabilityMargin;
        for (loss, needed) in [(ApgdLoss::CrossEntropy, 2), (pma, 2), (ApgdLoss::Dlr, 3), (targeted, 4)] {
            assert_eq!(attack(loss).check(needed), Ok(()));
            assert_eq!(attack(loss).check(needed - 1).unwrap_err().needed, needed);
        }
    }
}
