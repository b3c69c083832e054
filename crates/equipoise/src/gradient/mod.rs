//! Gradient estimators: how ∂loss/∂x is obtained through an equilibrium.
//!
//! An estimator looks at a solved batch (the bound cell and its [`Trajectory`]), reads a loss at some state
//! of its own choice, and pulls that loss back to the injection; the stem's autodiff does the rest. Everything
//! goes through the cell's [`Linearization`], so attacks and training share this code: training merely asks
//! for the parameters' share too ([`Cotangents::training`]).
//!
//! | estimator | exact when | cost beyond the forward solve |
//! |---|---|---|
//! | [`exact`](Estimator::Exact) | z* is a fixed point and the backward solve converged | one VJP per backward step, one more in training; an evaluation where the best iterate is not the last |
//! | [`unrolled`](Estimator::Unrolled) | in the limit of many steps from a fixed point of a contraction; for few steps it is the phantom gradient | l + k evaluations, l + k VJPs; an evaluation less from the last iterate |
//! | [`adjoint`](Estimator::Adjoint) | in the limit of many steps, where the forward iteration converges | t evaluations and t − 1 VJPs up to the largest t, and one VJP for each t read; low-rank products as in the solver |
//! | [`through-solver`](Estimator::ThroughSolver) | always (almost everywhere): it differentiates what is deployed | T evaluations and T VJPs, and the tail's; keeps a few vectors of the state's size for each step and one linearisation at a time |
//! | [`ensemble`](Estimator::Ensemble) | when all its members are | the sum of its members', from one trajectory |
//! | [`aimed`](Estimator::Aimed) | as its method is, for the states that the readout reads; behind `final` it is its method | its method's, for each state that the readout reads |
//! | [`joint`](Estimator::Joint) | for the mean of its members' logits, when all its members are | the same |

mod adjoint;
mod aimed;
mod exact;
mod spec;
mod through_solver;
mod unrolled;

pub use spec::{SpecError, parse_list};
pub use unrolled::pull_back_from;

use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::batch::{Logits, Values, put_rows};
use crate::loss::Objective;
use crate::model::cell::{BoundCell, Linearization};
use crate::readout::{Readout, Tail};
use crate::solve::{SolverConfig, StateChoice, Trajectory};
use crate::state::{Injection, State};

/// How ∂loss/∂x is obtained.
#[derive(Debug, Clone, PartialEq)]
pub enum Estimator {
    /// Implicit differentiation at the deployed final state a: solve u = Jᵀu + ∂loss/∂a, return uᵀ ∂f/∂x.
    Exact,
    /// Reverse mode through a few applications of f from a detached state; the loss is read at their end.
    /// With `state` best this is the phantom gradient (Geng et al. 2021); with an earlier state it is the
    /// paper's unrolled intermediate (its section 4.2).
    Unrolled {
        /// Where the applications start. Detached: no gradient flows into it.
        state: StateChoice,
        /// The applications.
        tail: Tail,
    },
    /// The simultaneous adjoint (the paper's section 4.1): along the forward iteration, an adjoint state that shares its
    /// inverse-Jacobian estimate; the gradient at z_t is u_tᵀ ∂f(z_t; x)/∂x. The paper's is along Broyden's method.
    Adjoint {
        /// Where it is read off.
        state: StateChoice,
        /// β: the length of its steps.
        beta: f64,
    },
    /// Reverse mode through the solver's whole iteration, what it learns on its way included, and the deployed readout: the
    /// true gradient of the deployed function.
    ThroughSolver,
    /// The mean of the members' gradients, all from one trajectory.
    Ensemble(Vec<Estimator>),
    /// The gradient of one loss, read at the **mean of the members' logits** and pulled back through all of
    /// them. Members are `exact` or `unrolled`. The adaptive attack on the readout `ensemble-logits`; with
    /// `unrolled:state=2..8,lead=1,steps=0` and the final state as members it is the release's `Funroll-es-0`.
    Joint(Vec<Estimator>),
    /// A training method, `exact` or `unrolled`, pointed at the deployed readout: the loss is read where the readout
    /// reads, and each of these states is pulled back as the method does. `exact` linearises f at z_t itself,
    /// `unrolled` starts its applications there. Behind `final` it is the method as it is.
    Aimed(Box<Estimator>),
}

impl Estimator {
    /// The phantom gradient of the unroll-trained model.
    pub fn unrolled() -> Self {
        Self::Unrolled { state: StateChoice::Best, tail: Tail::UNROLLED }
    }

    /// Whether the logits at which this estimator reads its loss are those of a readout.
    pub fn reads(&self, readout: Readout, deployed: &Tail) -> bool {
        match self {
            Self::Exact => readout == Readout::Final,
            Self::Unrolled { state: StateChoice::Best, tail } => {
                readout == Readout::Final && tail.dampings().eq(deployed.dampings())
            }
            Self::ThroughSolver => true,
            Self::Aimed(method) => match readout {
                Readout::Final => method.reads(readout, deployed),
                // The states themselves are read, without applications after them.
                Readout::Early(_) | Readout::EnsembleStates | Readout::EnsembleLogits => {
                    matches!(**method, Self::Exact)
                }
            },
            _ => false,
        }
    }

    /// This method pointed at a readout that it does not read; `None` where it reads it, or where there is no such
    /// counterpart.
    pub fn aimed_at(&self, readout: Readout, deployed: &Tail) -> Option<Self> {
        match self {
            Self::Exact | Self::Unrolled { .. } if readout != Readout::Final => {
                (!self.reads(readout, deployed)).then(|| Self::Aimed(Box::new(self.clone())))
            }
            _ => None,
        }
    }

    /// Whether the best iterate is all that it takes from a trajectory, so that any solve that ends at the same fixed
    /// point serves it.
    pub fn needs_only_the_best(&self) -> bool {
        match self {
            Self::Exact => true,
            Self::Unrolled { state, .. } => *state == StateChoice::Best,
            Self::Adjoint { .. } | Self::ThroughSolver | Self::Aimed(_) => false,
            Self::Ensemble(members) | Self::Joint(members) => members.iter().all(Self::needs_only_the_best),
        }
    }

    /// Whether this estimator makes sense for a forward solver.
    ///
    /// # Errors
    ///
    /// If a state is none of the solver's, a setting is out of its range, or the solver does not have what it follows.
    pub fn check(&self, solver: &SolverConfig) -> Result<(), EstimatorError> {
        let wrong = |problem: String| Err(EstimatorError { estimator: self.to_string(), problem });
        if let Self::Unrolled { state: StateChoice::At(t), .. }
        | Self::Adjoint { state: StateChoice::At(t), .. } = self
            && !(1..=solver.steps).contains(t)
        {
            let steps = solver.steps;
            return wrong(format!(": the model's solver takes {steps} steps; choose a state in 1..={steps}"));
        }
        match self {
            Self::Exact => Ok(()),
            Self::Unrolled { tail, .. } => tail.validate().or_else(|problem| wrong(format!(": {problem}"))),
            Self::Aimed(method) => method.check(solver),
            Self::Adjoint { beta, .. } if !(*beta > 0.0 && beta.is_finite()) => {
                wrong(format!(": beta={beta} must be positive"))
            }
            Self::Adjoint { .. } if solver.method.inverse_jacobian().is_none() => wrong(format!(
                ": the model's solver, {}, makes no estimate of the inverse Jacobian; choose another gradient",
                solver.method.name()
            )),
            Self::ThroughSolver if solver.method.backwards().is_none() => wrong(format!(
                ": the model's solver, {}, cannot be run backwards; choose another gradient",
                solver.method.name()
            )),
            Self::Adjoint { .. } | Self::ThroughSolver => Ok(()),
            Self::Ensemble(members) | Self::Joint(members) => {
                members.iter().try_for_each(|member| member.check(solver))
            }
        }
    }

    /// Reads the loss, and pulls `weight` times it back into `cotangents`.
    pub fn pull_back(&self, at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
        match self {
            Self::Exact | Self::Unrolled { .. } | Self::Joint(_) => {
                joint(self.reads_of(at), at, weight, cotangents)
            }
            Self::Adjoint { state, beta } => {
                let mut readings = adjoint::pull_back(at, &[*state], *beta, weight, cotangents);
                readings.pop().expect("one state, one reading")
            }
            Self::ThroughSolver => through_solver::pull_back(at, weight, cotangents),
            Self::Aimed(method) => aimed::pull_back(method, at, weight, cotangents),
            Self::Ensemble(members) => mean_of_members(members, at, weight, cotangents),
        }
    }

    /// The states that are read, with the way back from them.
    fn reads_of<'a>(&self, at: &Solved<'a>) -> Vec<Read<'a>> {
        match self {
            Self::Exact => vec![exact::read(at)],
            Self::Unrolled { state, tail } => {
                vec![unrolled::read(at, *state, tail)]
            }
            Self::Ensemble(members) | Self::Joint(members) => {
                members.iter().flat_map(|member| member.reads_of(at)).collect()
            }
            Self::Adjoint { .. } | Self::ThroughSolver | Self::Aimed(_) => {
                unreachable!("the parser admits only exact and unrolled as members of a joint gradient")
            }
        }
    }
}

/// An estimator that makes no sense for a solver.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("gradient estimator `{estimator}`{problem}")]
pub struct EstimatorError {
    estimator: String,
    problem: String,
}

/// Members' gradients and readings, averaged. Adjoints of one β share one pass along the trajectory.
fn mean_of_members(
    members: &[Estimator],
    at: &mut Solved<'_>,
    weight: f64,
    cotangents: &mut Cotangents,
) -> Reading {
    let share = 1.0 / members.len() as f64;
    let mut readings = Vec::with_capacity(members.len());
    let mut betas: Vec<(f64, Vec<StateChoice>)> = Vec::new();
    for member in members {
        match member {
            Estimator::Adjoint { state, beta } => match betas.iter_mut().find(|(known, _)| known == beta) {
                Some((_, states)) => states.push(*state),
                None => betas.push((*beta, vec![*state])),
            },
            member => readings.push(member.pull_back(at, weight * share, cotangents)),
        }
    }
    for (beta, states) in betas {
        readings.extend(adjoint::pull_back(at, &states, beta, weight * share, cotangents));
    }
    let mean = readings
        .into_iter()
        .reduce(|sum, term| Reading { logits: sum.logits + term.logits, values: sum.values + term.values });
    let Reading { logits, values } = mean.expect("an ensemble has at least one member");
    Reading { logits: logits * share, values: values * share }
}

/// A state where a loss is read, and the way from its cotangent to the injection's.
struct Read<'a> {
    state: State,
    back: Box<dyn PullBack + 'a>,
}

/// From the cotangent of a state that was read to those of what it was computed from.
trait PullBack {
    fn pull_back(self: Box<Self>, cotangent: State, cotangents: &mut Cotangents);
}

/// One loss at the mean of the logits of some states, pulled back through all of them.
fn joint(reads: Vec<Read<'_>>, at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
    let (states, backs): (Vec<_>, Vec<_>) = reads.into_iter().map(|read| (read.state, read.back)).unzip();
    let (reading, derivatives) = at.head.read_mean(&states, at.objective, weight);
    for (back, derivative) in backs.into_iter().zip(derivatives) {
        back.pull_back(derivative, cotangents);
    }
    reading
}

/// A solved batch, and how losses are read from states.
pub struct Solved<'a> {
    /// The cell with the batch's injection.
    pub cell: &'a dyn BoundCell,
    /// The forward solve.
    pub trajectory: &'a Trajectory,
    /// The deployed tail.
    pub tail: Tail,
    /// How backward equations are solved.
    pub backward: &'a SolverConfig,
    /// The deployed readout.
    pub readout: Readout,
    /// Reads a loss at a state.
    pub head: &'a mut dyn ReadHead,
    /// The loss.
    pub objective: &'a dyn Objective,
}

/// The loss that an estimator read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Logits `[N, K]` at the estimator's own state.
    pub logits: Logits,
    /// The objective there, `[N]`.
    pub values: Values,
}

/// A head that can be pulled back through.
pub trait ReadHead {
    /// The loss at the mean of several states' logits, and `weight` times its derivative `[N, D]` with respect
    /// to each state. Passes every state through the head once.
    fn read_mean(
        &mut self,
        states: &[State],
        objective: &dyn Objective,
        weight: f64,
    ) -> (Reading, Vec<State>);

    /// The loss at one state, and `weight` times its derivative `[N, D]` with respect to that state.
    fn read(&mut self, state: &State, objective: &dyn Objective, weight: f64) -> (Reading, State) {
        let (reading, mut derivatives) = self.read_mean(std::slice::from_ref(state), objective, weight);
        (reading, derivatives.pop().expect("one derivative for each state"))
    }
}

/// What estimators add up: the injection's cotangent, and the parameters' if this is training.
pub struct Cotangents {
    injection: Option<Injection>,
    parameters: Option<GradientsParams>,
}

impl Cotangents {
    /// For an attack: the injection alone.
    pub fn attack() -> Self {
        Self { injection: None, parameters: None }
    }

    /// For training: the cell's parameters too.
    pub fn training() -> Self {
        Self { injection: None, parameters: Some(GradientsParams::new()) }
    }

    /// Pulls u back through a linearisation, adds the injection's share (and the parameters'), and returns
    /// uᵀ ∂f/∂z.
    pub fn through(&mut self, linearization: &dyn Linearization, u: &State) -> State {
        let (state, injection) = self.product(linearization, u);
        self.add(injection);
        state
    }

    /// The same for a linearisation of some `rows` of `count` examples: the others' cotangents are 0.
    fn through_rows(
        &mut self,
        linearization: &dyn Linearization,
        u: &State,
        rows: &[usize],
        count: usize,
    ) -> State {
        let (state, injection) = self.product(linearization, u);
        let among_all = |part: &Tensor<2>| {
            let zeros: Tensor<2> = Tensor::zeros([count, part.dims()[1]], &part.device());
            let zeros = zeros.cast(part.dtype());
            put_rows(&zeros, rows, part)
        };
        self.add(among_all(&injection));
        among_all(&state)
    }

    fn product(&mut self, linearization: &dyn Linearization, u: &State) -> (State, Injection) {
        match &mut self.parameters {
            None => linearization.vjp(u),
            Some(parameters) => linearization.vjp_parameters(u, parameters),
        }
    }

    /// Whether the parameters' share is wanted.
    fn wants_parameters(&self) -> bool {
        self.parameters.is_some()
    }

    fn add(&mut self, injection: Injection) {
        self.injection = Some(match self.injection.take() {
            None => injection,
            Some(sum) => sum + injection,
        });
    }

    /// The sums; the injection's is `None` if nothing was pulled back.
    pub fn into_parts(self) -> (Option<Injection>, Option<GradientsParams>) {
        (self.injection, self.parameters)
    }
}
