//! The mean of several estimators' gradients, all from one trajectory.

use super::{
    Cotangents, Estimator, EstimatorError, EstimatorKind, GradientEstimator, Reading, Setting, SharedPass,
    Solved, Spec, SpecError, spec,
};
use crate::solve::{SolverConfig, StateChoice};
use equipoise_attack::work::Work;

pub(super) const KIND: EstimatorKind = EstimatorKind { name: "ensemble", usage: "ensemble(..)", parse };

/// At least one member.
pub(super) struct Ensemble {
    members: Vec<Estimator>,
}

fn parse(spec: &Spec<'_>) -> Result<Estimator, SpecError> {
    Estimator::ensemble(spec.members()?).map_err(|error| spec.error(error.problem()))
}

/// Members that are computed in one pass, and where each is read off.
struct Pass<'a> {
    key: String,
    pass: &'a dyn SharedPass,
    states: Vec<StateChoice>,
}

impl Ensemble {
    pub(super) fn new(members: Vec<Estimator>) -> Result<Self, EstimatorError> {
        let ensemble = Self { members };
        if ensemble.members.is_empty() {
            return Err(EstimatorError::new(ensemble.spec(), "give at least one member"));
        }
        Ok(ensemble)
    }

    /// The members that go alone, and the passes of the others, both in order.
    fn passes(&self) -> (Vec<&Estimator>, Vec<Pass<'_>>) {
        let (mut alone, mut passes) = (Vec::new(), Vec::<Pass<'_>>::new());
        for member in &self.members {
            let Some(pass) = member.shared_pass() else {
                alone.push(member);
                continue;
            };
            let key = pass.key();
            match passes.iter_mut().find(|known| known.key == key) {
                Some(known) => known.states.push(pass.state()),
                None => passes.push(Pass { key, pass, states: vec![pass.state()] }),
            }
        }
        (alone, passes)
    }
}

impl GradientEstimator for Ensemble {
    fn spec(&self) -> String {
        format!("ensemble({})", spec::joined(&self.members))
    }

    fn check(&self, solver: &SolverConfig) -> Result<(), EstimatorError> {
        self.members.iter().try_for_each(|member| member.check(solver))
    }

    fn work(&self, setting: &Setting<'_>) -> Work {
        let (alone, passes) = self.passes();
        let alone = alone.into_iter().map(|member| member.work(setting));
        alone.chain(passes.iter().map(|pass| pass.pass.work_at(&pass.states, setting))).sum()
    }

    fn visits(&self, setting: &Setting<'_>) -> Vec<usize> {
        self.members.iter().flat_map(|member| member.visits(setting)).collect()
    }

    fn needs_only_the_best(&self) -> bool {
        self.members.iter().all(|member| member.needs_only_the_best())
    }

    fn pull_back(&self, at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
        let share = 1.0 / self.members.len() as f64;
        let (alone, passes) = self.passes();
        let mut readings = Vec::with_capacity(self.members.len());
        for member in alone {
            readings.push(member.pull_back(at, weight * share, cotangents));
        }
        for Pass { pass, states, .. } in passes {
            readings.extend(pass.pull_back_at(&states, at, weight * share, cotangents));
        }
        let mean = readings.into_iter().reduce(|sum, term| Reading {
            logits: sum.logits + term.logits,
            values: sum.values + term.values,
        });
        let Reading { logits, values } = mean.expect("an ensemble has at least one member");
        Reading { logits: logits * share, values: values * share }
    }
}
