//! Reverse mode through a defence that changes its input, the input's change held fixed: the derivative of what is deployed.
//!
//! See [`defence`](crate::defence). The sign of the entropy's gradient has slope 0, so that x_s = x + δ_s with δ_s constant
//! is the deployed function nearly everywhere; what it hides is how δ_s answers x from one sign to the next.

use super::{
    BehindDefence, Cotangents, Estimator, EstimatorError, EstimatorKind, GradientEstimator, Reading, Setting,
    Solved, behind,
};
use crate::defence::WayBack;
use crate::solve::SolverConfig;
use equipoise_attack::work::Work;

pub(super) const KIND: EstimatorKind = EstimatorKind {
    name: "shift",
    usage: "shift",
    parse: |spec| spec.settings(&[]).map(|_| Estimator::shift()),
};

/// The derivative of the defended function.
pub(super) struct Shift;

impl GradientEstimator for Shift {
    fn spec(&self) -> String {
        "shift".to_owned()
    }

    fn check(&self, _: &SolverConfig) -> Result<(), EstimatorError> {
        Err(behind::only(self))
    }

    fn work(&self, setting: &Setting<'_>) -> Work {
        behind::work(self, setting)
    }

    fn behind_defence(&self) -> Option<BehindDefence<'_>> {
        Some(BehindDefence::Through(WayBack::SHIFT))
    }

    fn pull_back(&self, _: &mut Solved<'_>, _: f64, _: &mut Cotangents) -> Reading {
        behind::unreachable(self)
    }
}
