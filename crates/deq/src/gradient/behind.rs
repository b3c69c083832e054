//! Gradients of a model behind a defence: which there are, where they belong, and what they cost.

use super::{Estimator, EstimatorError, GradientEstimator, Reading, Setting};
use crate::defence::WayBack;
use crate::readout::Readout;
use crate::solve::SolverConfig;
use equipoise_attack::work::Work;

/// What a gradient is of a model behind a defence.
pub enum BehindDefence<'a> {
    /// Reverse mode through the defence.
    Through(WayBack),
    /// What a method makes of the same model with its defence off.
    Off(&'a Estimator),
}

impl Estimator {
    /// The derivative of what is deployed, almost everywhere: behind a defence [`shift`](Self::shift), else
    /// [`through-solver`](Self::through_solver).
    pub fn truth(readout: &Readout) -> Self {
        if readout.defence().is_some() { Self::shift() } else { Self::through_solver() }
    }

    /// Whether this estimator makes sense behind a readout of a model with this forward solver.
    ///
    /// # Errors
    ///
    /// What [`check`](GradientEstimator::check) says; and for one that does not go through the readout's defence, or for
    /// one that goes through a defence where there is none, which ones do.
    pub fn check_behind(&self, readout: &Readout, solver: &SolverConfig) -> Result<(), EstimatorError> {
        let Some(defence) = readout.defence() else { return self.check(solver) };
        match self.behind_defence() {
            Some(BehindDefence::Off(method)) => method.check(solver),
            Some(BehindDefence::Through(way)) => {
                way.check(defence).map_err(|problem| EstimatorError::new(self.spec(), problem))
            }
            None => {
                let spec = self.spec();
                let problem = format!(
                    "it does not go through {readout}; use shift, smooth(C) or lock-in(..), or off({spec}) for the \
                     gradient of the undefended model"
                );
                Err(EstimatorError::new(spec, problem))
            }
        }
    }
}

/// That an estimator is for a defended model.
pub(super) fn only(estimator: &dyn GradientEstimator) -> EstimatorError {
    let problem =
        "it is for a model behind a defence, as with --readouts entropy-reduction; choose another gradient";
    EstimatorError::new(estimator.spec(), problem)
}

/// Work beside the defended answer; beside the undefended solve too, for a method of the undefended model.
pub(super) fn work(estimator: &dyn GradientEstimator, setting: &Setting<'_>) -> Work {
    match (estimator.behind_defence(), setting.readout.defence()) {
        (Some(BehindDefence::Through(way)), Some(defence)) => way.work(defence, &setting.tail),
        (Some(BehindDefence::Off(method)), _) => {
            method.work(&Setting { readout: &Readout::final_state(), ..*setting })
        }
        _ => Work::default(),
    }
}

/// # Panics
///
/// Always: [`Estimator::check_behind`] refuses these estimators where there is no defence.
pub(super) fn unreachable(estimator: &dyn GradientEstimator) -> Reading {
    panic!("{}", only(estimator))
}
