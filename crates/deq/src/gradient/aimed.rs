//! A training method pointed at the deployed readout, rather than at the final state that it was made for.
//!
//! `exact` reads its loss at the final state even where an early one answers: right, but the gradient of another
//! function. Here the loss is read where the readout reads it, and every state that it reads is pulled back as the
//! method does: `exact` by solving u = Jᵀu + v with f linearised at that state, `unrolled` through applications that
//! start there. What is left of an obfuscation gap against this gradient is not aim.

use super::{
    Cotangents, Estimator, EstimatorError, EstimatorKind, GradientEstimator, OneState, Reading, Setting,
    Solved, Spec, SpecError, number,
};
use crate::readout::{ReadState, Readout, Tail};
use crate::solve::SolverConfig;
use equipoise_attack::work::Work;

pub(super) const KIND: EstimatorKind = EstimatorKind { name: "aimed", usage: "aimed(..)", parse };

/// A method that reads one state.
pub(super) struct Aimed {
    method: Estimator,
}

const WRONG: &str = "`aimed` takes one method, exact or unrolled, or another that reads one state";

fn parse(spec: &Spec<'_>) -> Result<Estimator, SpecError> {
    let mut methods = spec.members()?;
    match (methods.pop(), methods.as_slice()) {
        (Some(method), []) => Estimator::aimed(method).map_err(|error| spec.error(error.problem())),
        _ => Err(spec.error(WRONG)),
    }
}

impl Aimed {
    pub(super) fn new(method: Estimator) -> Result<Self, EstimatorError> {
        let aimed = Self { method };
        match aimed.method.one_state() {
            Some(_) => Ok(aimed),
            None => Err(EstimatorError::new(aimed.spec(), WRONG)),
        }
    }

    fn method(&self) -> &dyn OneState {
        self.method.one_state().expect("checked when it was made")
    }
}

impl GradientEstimator for Aimed {
    fn spec(&self) -> String {
        format!("aimed({})", self.method)
    }

    fn check(&self, solver: &SolverConfig) -> Result<(), EstimatorError> {
        self.method.check(solver)
    }

    fn work(&self, setting: &Setting<'_>) -> Work {
        if *setting.readout == Readout::final_state() {
            return self.method.work(setting);
        }
        let of = |read: ReadState| match read {
            ReadState::At(_) => self.method().work_at(setting),
            ReadState::Final | ReadState::FinalOf(_) => self.method.work(setting),
        };
        setting.readout.states(setting.steps).into_iter().map(of).sum()
    }

    fn visits(&self, setting: &Setting<'_>) -> Vec<usize> {
        if *setting.readout == Readout::final_state() {
            return self.method.visits(setting);
        }
        let read = setting.readout.states(setting.steps).into_iter();
        read.map(|read| number(read.choice(), setting.steps)).collect()
    }

    fn reads(&self, readout: &Readout, deployed: &Tail) -> bool {
        if *readout == Readout::final_state() {
            return self.method.reads(readout, deployed);
        }
        // The states themselves are read, or the deployed final ones, without applications of the method's own.
        self.method().applications().is_none()
    }

    fn pull_back(&self, at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
        if *at.readout == Readout::final_state() {
            return self.method.pull_back(at, weight, cotangents);
        }
        let (method, solved) = (self.method(), &*at);
        let read = |read: ReadState| match read {
            ReadState::At(_) => method.read_at(solved, read.choice()),
            ReadState::Final | ReadState::FinalOf(_) => method.read_final(solved, read.choice()),
        };
        let reads = at.readout.states(at.trajectory.len()).into_iter().map(read);
        let (states, backs): (Vec<_>, Vec<_>) = reads.map(|read| (read.state, read.back)).unzip();
        let (reading, derivatives) = at.readout.transpose(&states, at.head, at.objective, weight);
        for (back, derivative) in backs.into_iter().zip(derivatives) {
            back.pull_back(derivative, cotangents);
        }
        reading
    }
}
