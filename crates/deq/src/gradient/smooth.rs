//! Reverse mode through a defence that changes its input, with a slope in the place of the sign's.
//!
//! Forwards everything is as deployed; backwards sign q is taken for q/(|q| + τ), τ = c · median |q| for each image, which
//! restores how the defence's change of the input answers the image. The smaller c, the nearer to `shift`.

use super::{
    BehindDefence, Cotangents, Estimator, EstimatorError, EstimatorKind, GradientEstimator, Reading, Setting,
    Solved, Spec, SpecError, behind,
};
use crate::defence::{ReadAt, WayBack};
use crate::solve::SolverConfig;
use equipoise_attack::work::Work;

pub(super) const KIND: EstimatorKind = EstimatorKind { name: "smooth", usage: "smooth(C)", parse };

/// The defended function with a smoothed sign.
pub(super) struct Smooth {
    /// c, positive.
    c: f64,
}

fn parse(spec: &Spec<'_>) -> Result<Estimator, SpecError> {
    let text = spec.argument("smooth(1)")?;
    let wrong = || spec.error(format!("C is a positive number, as in smooth(1), and is `{text}`"));
    Estimator::smooth(text.trim().parse().map_err(|_| wrong())?).map_err(|_| wrong())
}

impl Smooth {
    pub(super) fn new(c: f64) -> Result<Self, EstimatorError> {
        match c > 0.0 && c.is_finite() {
            true => Ok(Self { c }),
            false => Err(EstimatorError::new(format!("smooth({c})"), "C must be positive and finite")),
        }
    }
}

impl GradientEstimator for Smooth {
    fn spec(&self) -> String {
        format!("smooth({})", self.c)
    }

    fn check(&self, _: &SolverConfig) -> Result<(), EstimatorError> {
        Err(behind::only(self))
    }

    fn work(&self, setting: &Setting<'_>) -> Work {
        behind::work(self, setting)
    }

    fn behind_defence(&self) -> Option<BehindDefence<'_>> {
        Some(BehindDefence::Through(WayBack { read: ReadAt::Answer, smooth: Some(self.c) }))
    }

    fn pull_back(&self, _: &mut Solved<'_>, _: f64, _: &mut Cotangents) -> Reading {
        behind::unreachable(self)
    }
}
