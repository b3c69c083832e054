//! The loss read at the end of each segment of a defence, in the place of the answer.
//!
//! Lowering the entropy hardens whatever class leads after the first segment; this gradient makes another one lead there. The
//! attack's own objective is read at h(f(z; x_s)), z the last state of segment s, times a weight for each segment, and
//! pulled back as `shift` or `smooth` does. Values and logits stay those of the deployed answer.

use super::{
    BehindDefence, Cotangents, Estimator, EstimatorError, EstimatorKind, GradientEstimator, Reading, Setting,
    Solved, Spec, SpecError, behind,
};
use crate::defence::{ReadAt, WayBack};
use crate::solve::SolverConfig;
use equipoise_attack::work::Work;

pub(super) const KIND: EstimatorKind =
    EstimatorKind { name: "lock-in", usage: "lock-in(W,W,..,METHOD)", parse };

/// A loss at the segments' ends.
pub(super) struct LockIn {
    weights: Vec<f64>,
    /// `shift` or `smooth`.
    method: Estimator,
}

const WRONG: &str =
    "`lock-in` takes a weight for each segment, and then shift or smooth(C), as in lock-in(1,0,0,0,shift)";

fn parse(spec: &Spec<'_>) -> Result<Estimator, SpecError> {
    let mut parts = spec.parts("lock-in(1,0,0,0)")?;
    let method = match parts.pop_if(|last| last.parse::<f64>().is_err()) {
        None => Estimator::shift(),
        Some(last) => last.parse().map_err(|_| spec.error(WRONG))?,
    };
    let weights: Result<Vec<f64>, _> = parts.iter().map(|part| part.parse()).collect();
    let weights = weights.map_err(|_| spec.error(WRONG))?;
    Estimator::lock_in(weights, method).map_err(|error| spec.error(error.problem()))
}

impl LockIn {
    pub(super) fn new(weights: Vec<f64>, method: Estimator) -> Result<Self, EstimatorError> {
        let lock_in = Self { weights, method };
        let sound = lock_in.weights.iter().all(|weight| weight.is_finite());
        if !sound || lock_in.weights.iter().all(|&weight| weight == 0.0) {
            let problem = "the weights must be finite, and one of them not 0";
            return Err(EstimatorError::new(lock_in.spec(), problem));
        }
        match lock_in.method.behind_defence() {
            Some(BehindDefence::Through(WayBack { read: ReadAt::Answer, .. })) => Ok(lock_in),
            _ => Err(EstimatorError::new(lock_in.spec(), WRONG)),
        }
    }
}

impl GradientEstimator for LockIn {
    fn spec(&self) -> String {
        let weights: Vec<String> = self.weights.iter().map(f64::to_string).collect();
        let method =
            if self.method == Estimator::shift() { String::new() } else { format!(",{}", self.method) };
        format!("lock-in({}{method})", weights.join(","))
    }

    fn check(&self, _: &SolverConfig) -> Result<(), EstimatorError> {
        Err(behind::only(self))
    }

    fn work(&self, setting: &Setting<'_>) -> Work {
        behind::work(self, setting)
    }

    fn behind_defence(&self) -> Option<BehindDefence<'_>> {
        let smooth = match self.method.behind_defence() {
            Some(BehindDefence::Through(way)) => way.smooth,
            _ => None,
        };
        Some(BehindDefence::Through(WayBack { read: ReadAt::Segments(self.weights.clone()), smooth }))
    }

    fn pull_back(&self, _: &mut Solved<'_>, _: f64, _: &mut Cotangents) -> Reading {
        behind::unreachable(self)
    }
}
