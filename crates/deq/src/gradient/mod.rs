//! Gradient estimators: how ∂loss/∂x is obtained through an equilibrium.
//!
//! An estimator looks at a solved batch (the bound cell and its [`Trajectory`](crate::solve::Trajectory)), reads a loss at
//! some state of its own choice, and pulls that loss back to the injection; the stem's autodiff does the rest. Everything
//! goes through the cell's [`Linearization`](crate::model::cell::Linearization), so attacks and training share this code:
//! training merely asks for the parameters' share too ([`Cotangents::training`]).
//!
//! | estimator | exact when | cost beyond the forward solve |
//! |---|---|---|
//! | [`exact`](Estimator::exact) | z* is a fixed point and the backward solve converged | one VJP per backward step, one more in training; an evaluation where the best iterate is not the last |
//! | [`unrolled`](Estimator::unrolled) | in the limit of many steps from a fixed point of a contraction; for few steps it is the phantom gradient | l + k − 1 evaluations, l + k VJPs |
//! | [`adjoint`](Estimator::adjoint) | in the limit of many steps, where the forward iteration converges | t − 1 VJPs up to the largest t, and one VJP for each t read; low-rank products as in the solver |
//! | [`through-solver`](Estimator::through_solver) | always (almost everywhere): it differentiates what is deployed | T VJPs, and the tail's; keeps a few vectors of the state's size for each step |
//! | [`ensemble`](Estimator::ensemble) | when all its members are | the sum of its members', from one trajectory |
//! | [`aimed`](Estimator::aimed) | as its method is, for the states that the readout reads; behind `final` it is its method | its method's, for each state that the readout reads |
//! | [`joint`](Estimator::joint) | for the mean of its members' logits, when all its members are | the same |
//! | [`shift`](Estimator::shift) | behind a defence: always (almost everywhere) | each segment again, with a VJP for each evaluation that a step comes from |
//! | [`smooth`](Estimator::smooth) | never: it gives the defence's steps a slope that they do not have | that of `shift`, and four gradients' worth for each step of the input |
//! | [`lock-in`](Estimator::lock_in) | for its own loss, where its method is | its method's, up to the last segment that is read |
//! | [`off`](Estimator::off) | never behind a defence: it is the undefended model's | the undefended solve and its method's |
//!
//! The forward solve keeps linearisations at the iterates that an estimator [visits](GradientEstimator::visits), as far as
//! the memory for them reaches ([`Keep`](crate::solve::Keep)); beyond, each of them takes an evaluation more.
//!
//! Each is a [`GradientEstimator`] in a file of its own, which knows its specification, its cost and its way back, and has
//! a line in the table of `registry.rs`. In another crate it is that file and a [`register!`](equipoise_attack::register).

mod adjoint;
mod aimed;
mod behind;
mod ensemble;
mod exact;
mod joint;
mod lock_in;
mod off;
mod registry;
mod shift;
mod smooth;
mod solved;
mod spec;
mod through_solver;
mod unrolled;

pub use behind::BehindDefence;
pub use registry::EstimatorKind;
pub use solved::{Cotangents, PullBack, Read, Solved, pull_back_reads};
pub use spec::{Spec, SpecError, parse_list};
pub use unrolled::pull_back_from;

pub use crate::readout::{ReadHead, Reading};

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::readout::{Readout, Tail};
use crate::solve::{SolverConfig, StateChoice};
use equipoise_attack::work::Work;

/// How ∂loss/∂x is obtained.
pub trait GradientEstimator: Send + Sync + 'static {
    /// The specification, as the `parse` of its [`EstimatorKind`] reads it: everything that the estimator depends on. Two
    /// estimators of one specification are the same.
    fn spec(&self) -> String;

    /// Whether this estimator makes sense for a forward solver.
    ///
    /// # Errors
    ///
    /// If a state is none of the solver's, a setting is out of its range, or the solver does not have what it follows.
    fn check(&self, solver: &SolverConfig) -> Result<(), EstimatorError> {
        let _ = solver;
        Ok(())
    }

    /// Work beyond the forward solve, for one example. Plans order attacks by it.
    fn work(&self, setting: &Setting<'_>) -> Work;

    /// The iterates z_t, t from 0, at which it linearises the cell, as a rule: there the forward solve keeps what products
    /// need, which saves an evaluation each. By default the last one, for that is the best as a rule.
    fn visits(&self, setting: &Setting<'_>) -> Vec<usize> {
        vec![setting.steps]
    }

    /// Whether the logits at which this estimator reads its loss are those of a readout, so that an attack need not ask the
    /// readout again.
    fn reads(&self, readout: &Readout, deployed: &Tail) -> bool {
        let _ = (readout, deployed);
        false
    }

    /// Whether the best iterate is all that it takes from a trajectory, so that any solve that ends at the same fixed
    /// point serves it.
    fn needs_only_the_best(&self) -> bool {
        false
    }

    /// The estimator as one that reads its loss at one state, if it does: such estimators can be members of `joint`, be
    /// pointed at other states by `aimed`, and train with TRADES.
    fn one_state(&self) -> Option<&dyn OneState> {
        None
    }

    /// The estimator as a pass along the trajectory that others can share, if it is one.
    fn shared_pass(&self) -> Option<&dyn SharedPass> {
        None
    }

    /// What it is of a model behind a defence; `None` for one that knows of none.
    fn behind_defence(&self) -> Option<BehindDefence<'_>> {
        None
    }

    /// Reads the loss, and pulls `weight` times it back into `cotangents`. No example may depend on another.
    fn pull_back(&self, at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading;
}

/// An estimator that reads its loss at one state and pulls it back from there.
pub trait OneState {
    /// The state that it reads by itself, with the way back.
    fn read<'a>(&self, at: &Solved<'a>) -> Read<'a>;

    /// The same pointed at another state of the trajectory.
    fn read_at<'a>(&self, at: &Solved<'a>, state: StateChoice) -> Read<'a>;

    /// The same pointed at the final state, of which the tail begins at `start`: the best iterate, or the best of the first k.
    fn read_final<'a>(&self, at: &Solved<'a>, start: StateChoice) -> Read<'a> {
        if start == StateChoice::Best { self.read(at) } else { self.read_at(at, start) }
    }

    /// Work of a reading by [`read_at`](Self::read_at) and its way back, for one example.
    fn work_at(&self, setting: &Setting<'_>) -> Work;

    /// Its own applications of f, at whose end it reads the loss; `None` if it reads a state as it is.
    fn applications(&self) -> Option<Tail> {
        None
    }
}

/// An estimator whose way along the trajectory serves others of the same settings, each read off at its own state.
pub trait SharedPass {
    /// Members of an ensemble with the same key are computed in one pass. It begins with the estimator's name.
    fn key(&self) -> String;

    /// Where this one is read off.
    fn state(&self) -> StateChoice;

    /// Reads `weight` times the loss off at each of the states, in one pass; one reading for each.
    fn pull_back_at(
        &self,
        states: &[StateChoice],
        at: &mut Solved<'_>,
        weight: f64,
        cotangents: &mut Cotangents,
    ) -> Vec<Reading>;

    /// Work of that, for one example.
    fn work_at(&self, states: &[StateChoice], setting: &Setting<'_>) -> Work;
}

/// What an estimator's work depends on, where no example stops early and the last iterate is the best, as a rule.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// T, the steps of the forward solve.
    pub steps: usize,
    /// The deployed tail.
    pub tail: Tail,
    /// How backward equations are solved.
    pub backward: &'a SolverConfig,
    /// The deployed readout.
    pub readout: &'a Readout,
}

impl Setting<'_> {
    /// Products that a backward solve takes.
    pub fn backward_products(&self) -> usize {
        self.backward.steps * self.backward.method.evaluations_per_step()
    }
}

/// How ∂loss/∂x is obtained: any [`GradientEstimator`]. Equal to another of the same specification.
#[derive(Clone)]
pub struct Estimator(Arc<dyn GradientEstimator>);

impl Estimator {
    /// Implicit differentiation at the deployed final state a: solve u = Jᵀu + ∂loss/∂a, return uᵀ ∂f/∂x.
    pub fn exact() -> Self {
        exact::Exact.into()
    }

    /// Reverse mode through a few applications of f from a detached state; the loss is read at their end.
    /// With `state` best this is the phantom gradient (Geng et al. 2021); with an earlier state it is the
    /// paper's unrolled intermediate (its section 4.2).
    pub fn unrolled(state: StateChoice, tail: Tail) -> Self {
        unrolled::Unrolled { state, tail }.into()
    }

    /// The phantom gradient of the unroll-trained model.
    pub fn phantom() -> Self {
        Self::unrolled(StateChoice::Best, Tail::UNROLLED)
    }

    /// The simultaneous adjoint (the paper's section 4.1): along the forward iteration, an adjoint state that shares its
    /// inverse-Jacobian estimate; the gradient at z_t is u_tᵀ ∂f(z_t; x)/∂x. The paper's is along Broyden's method.
    /// It is read off at `state`; β is the length of its steps.
    pub fn adjoint(state: StateChoice, beta: f64) -> Self {
        adjoint::Adjoint { state, beta }.into()
    }

    /// Reverse mode through the solver's whole iteration, what it learns on its way included, and the deployed readout: the
    /// true gradient of the deployed function.
    pub fn through_solver() -> Self {
        through_solver::ThroughSolver.into()
    }

    /// The mean of the members' gradients, all from one trajectory.
    ///
    /// # Errors
    ///
    /// If there is no member.
    pub fn ensemble(members: Vec<Self>) -> Result<Self, EstimatorError> {
        ensemble::Ensemble::new(members).map(Self::from)
    }

    /// The gradient of one loss, read at the **mean of the members' logits** and pulled back through all of
    /// them. The adaptive attack on the readout `ensemble-logits`; with
    /// `unrolled:state=2..8,lead=1,steps=0` and the final state as members it is the release's `Funroll-es-0`.
    ///
    /// # Errors
    ///
    /// If there is no member, or one that does not read [one state](OneState).
    pub fn joint(members: Vec<Self>) -> Result<Self, EstimatorError> {
        joint::Joint::new(members).map(Self::from)
    }

    /// A training method, such as `exact` or `unrolled`, pointed at the deployed readout: the loss is read where the
    /// readout reads, and each of these states is pulled back as the method does. `exact` linearises f at z_t itself,
    /// `unrolled` starts its applications there. Behind `final` it is the method as it is.
    ///
    /// # Errors
    ///
    /// If the method does not read [one state](OneState).
    pub fn aimed(method: Self) -> Result<Self, EstimatorError> {
        aimed::Aimed::new(method).map(Self::from)
    }

    /// Behind a defence that changes its input: reverse mode with the change held fixed, the derivative of what is
    /// deployed almost everywhere.
    pub fn shift() -> Self {
        shift::Shift.into()
    }

    /// The same with the sign in the defence's steps taken for q/(|q| + τ) backwards, τ = `c` · median |q|.
    ///
    /// # Errors
    ///
    /// If c is not positive and finite.
    pub fn smooth(c: f64) -> Result<Self, EstimatorError> {
        smooth::Smooth::new(c).map(Self::from)
    }

    /// The loss read at the end of each segment of a defence, times these weights, and pulled back as `method` does, `shift`
    /// or `smooth`.
    ///
    /// # Errors
    ///
    /// If no weight is other than 0, one is not finite, or the method is another.
    pub fn lock_in(weights: Vec<f64>, method: Self) -> Result<Self, EstimatorError> {
        lock_in::LockIn::new(weights, method).map(Self::from)
    }

    /// What a method makes of the undefended model, against the defended one.
    ///
    /// # Errors
    ///
    /// If the method itself goes through a defence.
    pub fn off(method: Self) -> Result<Self, EstimatorError> {
        off::Off::new(method).map(Self::from)
    }

    /// This method pointed at a readout that it does not read; `None` where it reads it, or where it cannot be pointed.
    pub fn aimed_at(&self, readout: &Readout, deployed: &Tail) -> Option<Self> {
        if *readout == Readout::final_state() || readout.defence().is_some() || self.reads(readout, deployed)
        {
            return None;
        }
        Self::aimed(self.clone()).ok()
    }
}

impl<E: GradientEstimator> From<E> for Estimator {
    fn from(estimator: E) -> Self {
        Self(Arc::new(estimator))
    }
}

impl Deref for Estimator {
    type Target = dyn GradientEstimator;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for Estimator {
    fn eq(&self, other: &Self) -> bool {
        self.spec() == other.spec()
    }
}

impl fmt::Display for Estimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spec())
    }
}

impl fmt::Debug for Estimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Estimator({self})")
    }
}

impl Serialize for Estimator {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Estimator {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An estimator that makes no sense, by itself or for a solver.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("gradient estimator `{estimator}`: {problem}")]
pub struct EstimatorError {
    estimator: String,
    problem: String,
}

impl EstimatorError {
    /// Says what is wrong with the estimator of a specification, and what would be right.
    pub fn new(spec: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { estimator: spec.into(), problem: problem.into() }
    }

    /// What is wrong.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

/// The number of a chosen state in a solve of so many steps, as a rule: the best iterate is the last.
fn number(state: StateChoice, steps: usize) -> usize {
    match state {
        StateChoice::At(t) | StateChoice::BestOf(t) => t.min(steps),
        StateChoice::Best | StateChoice::Last => steps,
    }
}

/// Whether a solver has the state that an estimator names.
fn check_state(spec: &str, state: StateChoice, solver: &SolverConfig) -> Result<(), EstimatorError> {
    let steps = solver.steps;
    match state {
        StateChoice::At(t) | StateChoice::BestOf(t) if !(1..=steps).contains(&t) => {
            let problem = format!("the model's solver takes {steps} steps; choose a state in 1..={steps}");
            Err(EstimatorError::new(spec, problem))
        }
        _ => Ok(()),
    }
}
