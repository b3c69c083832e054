//! An estimator of another crate: the implicit gradient with its inverse (I − J)⁻ᵀ replaced by a truncated Neumann series,
//! u = Σ_{k < K} (Jᵀ)ᵏ v.

use equipoise::gradient::{
    Cotangents, Estimator, EstimatorError, EstimatorKind, GradientEstimator, OneState, PullBack, Read,
    Reading, Setting, Solved, Spec, SpecError, pull_back_reads,
};
use equipoise::model::cell::Linearization;
use equipoise::readout::{Readout, Tail};
use equipoise::solve::{SolverConfig, StateChoice};
use equipoise::state::State;
use equipoise::work::Work;

equipoise::register! {
    EstimatorKind { name: "neumann", usage: "neumann:terms=K", parse }
}

pub struct Neumann {
    /// K.
    pub terms: usize,
}

fn parse(spec: &Spec<'_>) -> Result<Estimator, SpecError> {
    let mut neumann = Neumann { terms: 10 };
    for (key, value) in spec.settings(&["terms"])? {
        neumann.terms = spec.number(key, value)?;
    }
    neumann.validate().map_err(|problem| spec.error(problem))?;
    Ok(neumann.into())
}

impl Neumann {
    fn validate(&self) -> Result<(), String> {
        match self.terms {
            0 => Err("terms=0 must be at least 1".to_owned()),
            _ => Ok(()),
        }
    }
}

impl GradientEstimator for Neumann {
    fn spec(&self) -> String {
        format!("neumann:terms={}", self.terms)
    }

    fn check(&self, _: &SolverConfig) -> Result<(), EstimatorError> {
        self.validate().map_err(|problem| EstimatorError::new(self.spec(), problem))
    }

    fn work(&self, setting: &Setting<'_>) -> Work {
        Work::new(setting.tail.applications().saturating_sub(1), self.terms)
    }

    fn reads(&self, readout: &Readout, _: &Tail) -> bool {
        *readout == Readout::final_state()
    }

    fn needs_only_the_best(&self) -> bool {
        true
    }

    fn one_state(&self) -> Option<&dyn OneState> {
        Some(self)
    }

    fn pull_back(&self, at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
        pull_back_reads(vec![self.read(at)], at, weight, cotangents)
    }
}

impl OneState for Neumann {
    fn read<'a>(&self, at: &Solved<'a>) -> Read<'a> {
        let (state, linearization) = at.final_state();
        Read { state, back: Box::new(Series { linearization, terms: self.terms }) }
    }

    fn read_at<'a>(&self, at: &Solved<'a>, state: StateChoice) -> Read<'a> {
        let linearization = at.trajectory.linearize(at.cell, state);
        let state = at.trajectory.choose(state);
        Read { state, back: Box::new(Series { linearization, terms: self.terms }) }
    }

    fn work_at(&self, _: &Setting<'_>) -> Work {
        Work::new(1, self.terms)
    }
}

struct Series {
    linearization: Box<dyn Linearization>,
    terms: usize,
}

impl PullBack for Series {
    fn pull_back(self: Box<Self>, v: State, cotangents: &mut Cotangents) {
        let (mut term, mut u) = (v.clone(), v);
        for _ in 1..self.terms {
            term = self.linearization.vjp_state(&term);
            u = u + term.clone();
        }
        cotangents.through(&*self.linearization, &u);
    }
}
