//! The simultaneous adjoint (paper, section 4.1): forward and backward equations solved together.
//!
//! Along the forward iteration, u_0 = 0 and
//! u_{t+1} = u_t − β B_tᵀ (J_g(z_t)ᵀ u_t + ∂loss/∂z(z_t)), with J_g = J − I and the loss read through the head at
//! z_t. B_t is the inverse-Jacobian estimate of the forward iteration: that of Broyden's method in the paper, that of the
//! last points' differences for Anderson's, −τ I for Picard's. The fixed point is u = (I − J)^{-T} ∂loss/∂z. The gradient
//! at t is u_tᵀ ∂f(z_t; x)/∂x, so one pass serves every t.
//!
//! The pass follows the stored trajectory, with f(z_t) as the solver saw it, so that B_t is the solver's own.

use super::{
    Cotangents, Estimator, EstimatorError, EstimatorKind, GradientEstimator, Reading, Setting, SharedPass,
    Solved, Spec, SpecError, check_state, number,
};
use crate::solve::{SolverConfig, StateChoice};
use crate::state::State;
use equipoise_attack::batch;
use equipoise_attack::work::Work;

pub(super) const KIND: EstimatorKind =
    EstimatorKind { name: "adjoint", usage: "adjoint:state=T,beta=B", parse };

/// The adjoint state u_t, read off at one state.
#[derive(Clone, Copy)]
pub(super) struct Adjoint {
    pub(super) state: StateChoice,
    /// β: the length of its steps.
    pub(super) beta: f64,
}

fn parse(spec: &Spec<'_>) -> Result<Estimator, SpecError> {
    let mut adjoint = Adjoint { state: StateChoice::Last, beta: 1.0 };
    for (key, value) in spec.settings(&["state", "beta"])? {
        match key {
            "state" => adjoint.state = value.parse().map_err(|problem: String| spec.error(problem))?,
            _ => match value.parse() {
                Ok(beta) if is_positive(beta) => adjoint.beta = beta,
                _ => return Err(spec.error(format!("beta={value} must be positive"))),
            },
        }
    }
    Ok(adjoint.into())
}

fn is_positive(beta: f64) -> bool {
    beta > 0.0 && beta.is_finite()
}

impl GradientEstimator for Adjoint {
    fn spec(&self) -> String {
        let Self { state, beta } = self;
        format!("adjoint:state={state},beta={beta}")
    }

    fn check(&self, solver: &SolverConfig) -> Result<(), EstimatorError> {
        check_state(&self.spec(), self.state, solver)?;
        let (beta, wrong) = (self.beta, |problem: String| Err(EstimatorError::new(self.spec(), problem)));
        if !is_positive(beta) {
            return wrong(format!("beta={beta} must be positive"));
        }
        if solver.method.inverse_jacobian().is_none() {
            return wrong(format!(
                "the model's solver, {}, makes no estimate of the inverse Jacobian; choose another gradient",
                solver.method.name()
            ));
        }
        Ok(())
    }

    fn work(&self, setting: &Setting<'_>) -> Work {
        self.work_at(&[self.state], setting)
    }

    fn visits(&self, setting: &Setting<'_>) -> Vec<usize> {
        (1..=number(self.state, setting.steps)).collect()
    }

    fn shared_pass(&self) -> Option<&dyn SharedPass> {
        Some(self)
    }

    fn pull_back(&self, at: &mut Solved<'_>, weight: f64, cotangents: &mut Cotangents) -> Reading {
        let mut readings = self.pull_back_at(&[self.state], at, weight, cotangents);
        readings.pop().expect("one state, one reading")
    }
}

impl SharedPass for Adjoint {
    fn key(&self) -> String {
        format!("adjoint:beta={}", self.beta)
    }

    fn state(&self) -> StateChoice {
        self.state
    }

    fn pull_back_at(
        &self,
        states: &[StateChoice],
        at: &mut Solved<'_>,
        weight: f64,
        cotangents: &mut Cotangents,
    ) -> Vec<Reading> {
        pull_back(at, states, self.beta, weight, cotangents)
    }

    fn work_at(&self, states: &[StateChoice], setting: &Setting<'_>) -> Work {
        let last = states.iter().map(|&state| number(state, setting.steps)).max();
        // Each state after the first is one product more.
        last.map_or(Work::default(), |t| Work::new(0, t + states.len() - 1))
    }
}

/// Pulls `weight` times the loss at each of the chosen states back, in one pass; one reading per state.
fn pull_back(
    at: &mut Solved<'_>,
    states: &[StateChoice],
    beta: f64,
    weight: f64,
    cotangents: &mut Cotangents,
) -> Vec<Reading> {
    // Which t each example is read off at, for each choice.
    let read_at: Vec<Vec<usize>> = states.iter().map(|&state| at.trajectory.numbers(state)).collect();
    let last = read_at.iter().flatten().copied().max().unwrap_or(0);
    let mut readings: Vec<Option<Reading>> = vec![None; states.len()];
    let inverse = at.trajectory.method().inverse_jacobian();
    let mut inverse = inverse.expect("`Estimator::check` refuses a solver without it");
    let mut u: Option<State> = None;
    for t in 0..=last {
        let point = at.trajectory.evaluation(t);
        let state = point.state.clone();
        // At z_0 nothing is read and u_0 = 0: no product with J is needed.
        let linearization = (t > 0).then(|| at.trajectory.linearize_at(at.cell, StateChoice::At(t), &state));
        let (reading, loss) = at.head.read(&state, at.objective, weight);
        for (reads, into) in read_at.iter().zip(&mut readings) {
            let here: Vec<usize> = (0..reads.len()).filter(|&row| reads[row] == t).collect();
            if here.is_empty() {
                continue;
            }
            *into = Some(match into.take() {
                None => reading.clone(),
                Some(held) => Reading {
                    logits: batch::put_rows(&held.logits, &here, &batch::select(&reading.logits, &here)),
                    values: batch::put_rows(&held.values, &here, &batch::select(&reading.values, &here)),
                },
            });
            if let (Some(u), Some(linearization)) = (&u, &linearization) {
                // The other examples are read elsewhere: they contribute nothing here.
                let mine = u.zeros_like().put(&here, &u.select(&here));
                cotangents.through(&**linearization, &mine);
            }
        }
        if t == last {
            break;
        }
        inverse.observe(point.into());
        let gradient = match (&u, &linearization) {
            (Some(u), Some(linearization)) => linearization.vjp_state(u) - u.clone() + loss,
            _ => loss,
        };
        let step = inverse.transposed_product(&gradient) * beta;
        u = Some(match u {
            None => -step,
            Some(u) => u - step,
        });
    }
    readings.into_iter().map(|reading| reading.expect("every choice lies within the trajectory")).collect()
}
