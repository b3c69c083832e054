//! The gradient of one loss, read at the mean of the members' logits and pulled back through all of them.

use super::{
    Cotangents, Estimator, EstimatorError, EstimatorKind, GradientEstimator, OneState, Reading, Setting,
    Solved, Spec, SpecError, pull_back_reads, spec,
};
use crate::solve::SolverConfig;
use equipoise_attack::work::Work;

pub(super) const KIND: EstimatorKind = EstimatorKind { name: "joint", usage: "joint(..)", parse };

/// Members that read one state each.
pub(super) struct Joint {
    members: Vec<Estimator>,
}

fn parse(spec: &Spec<'_>) -> Result<Estimator, SpecError> {
    Estimator::joint(spec.members()?).map_err(|error| spec.error(error.problem()))
}

impl Joint {
    pub(super) fn new(members: Vec<Estimator>) -> Result<Self, EstimatorError> {
        let joint = Self { members };
        if joint.members.is_empty() {
            return Err(EstimatorError::new(joint.spec(), "give at least one member"));
        }
        if joint.members.iter().any(|member| member.one_state().is_none()) {
            let problem = "members of `joint` must be exact or unrolled, or others that read one state";
            return Err(EstimatorError::new(joint.spec(), problem));
        }
        Ok(joint)
    }

    fn members(&self) -> impl Iterator<Item = &dyn OneState> {
        self.members.iter().map(|member| member.one_state().expect("checked when it was made"))
    }
}

impl GradientEstimator for Joint {
    fn spec(&self) -> String {
        format!("joint({})", spec::joined(&self.members))
    }

    fn check(&self, solver: &SolverConfig) -> Result<(), EstimatorError> {
        self.members.iter().try_for_each(|member| member.check(solver))
    }

    fn work(&self, setting: &Setting<'_>) -> Work {
        self.members.iter().map(|member| member.work(setting)).sum()
    }

    fn visits(&self, setting: &Setting<'_>) -> Vec<usize> {
        self.members.iter().flat_map(|member| member.visits(setting)).collect()
    }

    fn needs_only_the_best(&self) -> bool {
        self.members.iter().all(|member| member.needs_only_the_best())
    }

    fn pull_back(&self, at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
        let reads = self.members().map(|member| member.read(at)).collect();
        pull_back_reads(reads, at, weight, cotangents)
    }
}
