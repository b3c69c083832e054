//! One pass of training: gradients of all parameters of a model, through the same estimators that attacks use.
//!
//! Stem, cell and head are pulled back through once each, by their own linearisations; the cell under a dropout mask if
//! there is one.

mod boxes;
mod jacobian;

use burn::optim::GradientsParams;

use crate::gradient::{Cotangents, ReadHead, Reading, Setting, Solved, pull_back_from};
use crate::model::cell::{Cell, Counted, Mask};
use crate::model::deq::{Deq, Head, Stem};
use crate::model::feedforward::Feedforward;
use crate::model::layers::BatchMoments;
use crate::model::parameters::merge;
use crate::readout::{Readout, Tail};
use crate::solve::{Keep, SolverConfig, StateChoice, Trajectory};
use crate::state::State;
use crate::victim::{Deployment, forward_bound, longest};
pub use boxes::box_gradients;
use equipoise_attack::batch::{Images, Logits, Values};
use equipoise_attack::loss::Objective;
use equipoise_attack::work::WorkCounter;
pub use jacobian::{JacobianGradients, JacobianTerm};

/// What a training step asks for beside the loss.
#[derive(Default)]
pub struct StepOptions {
    /// Read the loss after so many weight-tied layers, in a warm-up, instead of at the deployment's training gradient.
    pub warmup_layers: Option<usize>,
    /// Budget of the forward solver in this step; the deployment's when absent.
    pub solver_steps: Option<usize>,
    /// After how many steps each example's solve ends, in the place of a budget for all.
    pub ended_after: Option<Vec<usize>>,
    /// Dropout mask of the cell, `[N, M]`.
    pub mask: Option<Mask>,
    /// Jacobian regularisation at the fixed point. Without effect during warm-up, which has none.
    pub jacobian: Option<JacobianTerm>,
}

/// A cell that cannot do what a step asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedCell {
    /// A dropout mask for a cell that has no dropout.
    #[error("this cell has no dropout: implement `Cell::bind_masked`, or train it without a mask")]
    Dropout,
    /// Jacobian regularisation of a cell whose product cannot be differentiated.
    #[error(
        "this cell's vector-Jacobian product cannot be differentiated: implement `Cell::differentiable_vjp`, or \
         train it without Jacobian regularisation"
    )]
    Jacobian,
    /// Certified training of a model whose boxes of states need not contract.
    #[error(
        "boxes of this model's states need not contract, so that there is no certified training: use kind `monotone` or \
         `monotone-conv` with the parametrisation `nemon` or `interval-bounded`"
    )]
    Boxes,
}

/// What a training step needs.
pub struct StepGradients {
    /// Logits `[N, K]` at which the loss was read, in training phase.
    pub logits: Logits,
    /// The objective there, `[N]`.
    pub values: Values,
    /// Gradients of the **mean** of the objective over the batch, regularisation included.
    pub parameters: GradientsParams,
    /// The batch's statistics.
    pub moments: BatchMoments,
    /// The estimate of ‖J‖_F² / D, without its weight, if there was one.
    pub jacobian: Option<f64>,
    /// Mean over the batch of the best relative residual; `None` where nothing was solved.
    pub residual: Option<f64>,
}

/// Gradients of the mean of an objective over a batch of images.
///
/// # Errors
///
/// If the options ask for what the cell cannot do.
pub fn gradients<S: Stem, C: Cell, H: Head>(
    model: &Deq<S, C, H>,
    deployment: &Deployment,
    options: &StepOptions,
    images: &Images,
    objective: &dyn Objective,
    counter: &WorkCounter,
) -> Result<StepGradients, UnsupportedCell> {
    let moments = BatchMoments::default();
    let (plain, to_stem) = model.stem.linearize_training(images, &moments);
    let [n, _] = plain.dims();

    let mask = options.mask.as_ref();
    let bound = match mask {
        Some(mask) => model.cell.bind_masked(&plain, mask).ok_or(UnsupportedCell::Dropout)?,
        None => model.cell.bind(&plain),
    };
    let mut reader = TrainedHead { head: &model.head, moments: &moments, gradients: GradientsParams::new() };
    let mut cotangents = Cotangents::training();
    let weight = 1.0 / n as f64;
    let mut regulariser = None;
    let (reading, residual) = match options.warmup_layers {
        Some(layers) => {
            let cell = Counted::new(bound, counter.clone());
            let start = State::from(plain.clone()).zeros([n, model.cell.state_dim()]);
            let layers = Tail { lead: layers, steps: 0, damping: 1.0 };
            let reading =
                pull_back_from(&cell, start, &layers, &mut reader, objective, weight, &mut cotangents);
            (reading, None)
        }
        None => {
            let ended = options.ended_after.as_deref();
            let steps = ended.map(longest).or(options.solver_steps).unwrap_or(deployment.solver.steps);
            let solver = SolverConfig { steps, ..deployment.solver.clone() };
            let (estimator, readout) = (&deployment.training_gradient, Readout::final_state());
            let (tail, backward) = (deployment.tail, &deployment.backward);
            let visits = estimator.visits(&Setting { steps, tail, backward, readout: &readout });
            let mut forward = forward_bound(
                bound,
                model.cell.state_dim(),
                &plain.clone().into(),
                &solver,
                &Keep::at(visits),
                counter,
            );
            if let Some(steps) = ended {
                forward.trajectory = forward.trajectory.ended_after(steps);
            }
            if let Some(term) = &options.jacobian {
                let state = forward.trajectory.choose(StateChoice::Best);
                let found = term.gradients(&model.cell, state.tensor(), &plain, mask);
                regulariser = Some(found.ok_or(UnsupportedCell::Jacobian)?);
            }
            let residual = mean_residual(&forward.trajectory);
            let mut solved = Solved {
                cell: &forward.cell,
                trajectory: &forward.trajectory,
                tail,
                backward,
                readout: &readout,
                head: &mut reader,
                objective,
            };
            (estimator.pull_back(&mut solved, weight, &mut cotangents), Some(residual))
        }
    };
    let mut parameters = reader.gradients;
    let (cotangent, cell) = cotangents.into_parts();
    let mut cotangent = cotangent.map(State::into_tensor);
    if let Some(mut cell) = cell {
        merge(&model.cell, &mut parameters, &mut cell);
    }
    let jacobian = regulariser.map(|JacobianGradients { estimate, injection, parameters: mut cell }| {
        merge(&model.cell, &mut parameters, &mut cell);
        cotangent = Some(match cotangent.take() {
            None => injection,
            Some(sum) => sum + injection,
        });
        estimate
    });
    if let Some(cotangent) = cotangent {
        to_stem(cotangent, &mut parameters);
    }
    let Reading { logits, values } = reading;
    Ok(StepGradients { logits, values, parameters, moments, jacobian, residual })
}

fn mean_residual(trajectory: &Trajectory) -> f64 {
    let best = trajectory.best().iter().zip(trajectory.relative_residuals());
    let sum: f64 = best.map(|(&best, residuals)| residuals[best - 1]).sum();
    sum / trajectory.best().len() as f64
}

/// Gradients of the mean of an objective for a model without an equilibrium.
pub fn feedforward_gradients<M: Feedforward>(
    model: &M,
    images: &Images,
    objective: &dyn Objective,
) -> StepGradients {
    let moments = BatchMoments::default();
    let (logits, pull_back) = model.linearize_training(images, &moments);
    let (values, derivative) = objective.values_and_derivative(&logits);
    let [n, _] = logits.dims();
    let mut parameters = GradientsParams::new();
    pull_back(derivative / n as f64, &mut parameters);
    StepGradients { logits, values, parameters, moments, jacobian: None, residual: None }
}

/// A head in training: its parameters' gradients are collected.
struct TrainedHead<'a, H> {
    head: &'a H,
    moments: &'a BatchMoments,
    gradients: GradientsParams,
}

impl<H: Head> ReadHead for TrainedHead<'_, H> {
    fn read_mean(
        &mut self,
        states: &[State],
        objective: &dyn Objective,
        weight: f64,
    ) -> (Reading, Vec<State>) {
        // Each state is a batch of its own to batch normalisation: one pass for each.
        let passes = states.iter().map(|state| self.head.linearize_training(state.tensor(), self.moments));
        let (logits, pull_backs): (Vec<Logits>, Vec<_>) = passes.unzip();
        let count = states.len() as f64;
        let sum = logits.into_iter().reduce(|sum, term| sum + term).expect("a mean of at least one state");
        let mean = if states.len() > 1 { sum / count } else { sum };
        let (values, derivative) = objective.values_and_derivative(&mean);
        let share = derivative * (weight / count);
        let cotangents = pull_backs
            .into_iter()
            .map(|pull_back| pull_back(share.clone(), &mut self.gradients).into())
            .collect();
        (Reading { logits: mean, values }, cotangents)
    }
}
