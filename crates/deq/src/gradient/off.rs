//! A gradient of the undefended model, against the defended one: a transfer attack.
//!
//! Logits and values are those of the defended answer, the gradient is what a method makes of the same model with its
//! defence off, behind `final`. It says nothing of the defence, and is what the published evaluation attacked through.

use super::{
    BehindDefence, Cotangents, Estimator, EstimatorError, EstimatorKind, GradientEstimator, Reading, Setting,
    Solved, Spec, SpecError, behind,
};
use crate::solve::SolverConfig;
use equipoise_attack::work::Work;

pub(super) const KIND: EstimatorKind = EstimatorKind { name: "off", usage: "off(METHOD)", parse };

/// A method on the undefended model.
pub(super) struct Off {
    method: Estimator,
}

const WRONG: &str = "`off` takes one gradient of the undefended model, as in off(through-solver)";

fn parse(spec: &Spec<'_>) -> Result<Estimator, SpecError> {
    let mut methods = spec.members()?;
    match (methods.pop(), methods.as_slice()) {
        (Some(method), []) => Estimator::off(method).map_err(|error| spec.error(error.problem())),
        _ => Err(spec.error(WRONG)),
    }
}

impl Off {
    pub(super) fn new(method: Estimator) -> Result<Self, EstimatorError> {
        let off = Self { method };
        match off.method.behind_defence() {
            None => Ok(off),
            Some(_) => Err(EstimatorError::new(off.spec(), WRONG)),
        }
    }
}

impl GradientEstimator for Off {
    fn spec(&self) -> String {
        format!("off({})", self.method)
    }

    fn check(&self, _: &SolverConfig) -> Result<(), EstimatorError> {
        Err(behind::only(self))
    }

    fn work(&self, setting: &Setting<'_>) -> Work {
        behind::work(self, setting)
    }

    fn behind_defence(&self) -> Option<BehindDefence<'_>> {
        Some(BehindDefence::Off(&self.method))
    }

    fn pull_back(&self, _: &mut Solved<'_>, _: f64, _: &mut Cotangents) -> Reading {
        behind::unreachable(self)
    }
}
