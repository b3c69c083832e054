//! Gradients of all parameters of a model, through the same estimators that attacks use.
//!
//! Stem and head go through autodiff once each; the cell through its own linearisation.

use burn::module::Module;
use burn::optim::GradientsParams;

use super::config::Warmup;
use crate::batch::{Images, Logits, Values};
use crate::deployed::{Deployment, forward};
use crate::gradient::{Cotangents, Estimator, ReadHead, Reading, Solved, pull_back_from};
use crate::loss::Objective;
use crate::model::cell::{Cell, Counted};
use crate::model::deq::{Deq, Head, Stem};
use crate::model::feedforward::Feedforward;
use crate::model::layers::{BatchMoments, Phase};
use crate::model::parameters::accumulate_module;
use crate::readout::{Readout, Tail};
use crate::state::State;
use crate::work::WorkCounter;

/// What a training step needs.
pub struct StepGradients {
    /// Logits `[N, K]` at which the loss was read, in training phase.
    pub logits: Logits,
    /// The objective there, `[N]`.
    pub values: Values,
    /// Gradients of the **mean** of the objective over the batch.
    pub parameters: GradientsParams,
    /// New running statistics.
    pub moments: BatchMoments,
}

/// Gradients of the mean of an objective over a batch of images. During warm-up the loss is read after a few
/// weight-tied layers instead of at the deployment's training gradient.
pub fn gradients<S: Stem, C: Cell, H: Head>(
    model: &Deq<S, C, H>,
    deployment: &Deployment,
    warmup: Option<&Warmup>,
    images: &Images,
    objective: &dyn Objective,
    counter: &WorkCounter,
) -> StepGradients {
    let moments = BatchMoments::default();
    let stem = model.stem.clone().train();
    let injection = stem.forward(images.clone(), &Phase::Train(&moments));
    let plain = injection.clone().inner();
    let [n, _] = plain.dims();

    let head = model.head.clone().train();
    let mut reader = TrainedHead { head: &head, moments: &moments, gradients: GradientsParams::new() };
    let mut cotangents = Cotangents::training();
    let weight = 1.0 / n as f64;
    let reading = match warmup {
        Some(warmup) => {
            let cell = Counted::new(model.cell.bind(&plain), counter.clone());
            let start = State::zeros([n, model.cell.state_dim()], &plain.device());
            let layers = Tail { lead: warmup.layers, steps: 0, damping: 1.0 };
            pull_back_from(&cell, start, &layers, &mut reader, objective, weight, &mut cotangents)
        }
        None => {
            let forward = forward(&model.cell, &plain, &deployment.solver, counter);
            let estimator: &Estimator = &deployment.training_gradient;
            let mut solved = Solved {
                cell: &forward.cell,
                trajectory: &forward.trajectory,
                tail: deployment.tail,
                backward: &deployment.backward,
                readout: Readout::Final,
                head: &mut reader,
                objective,
            };
            estimator.pull_back(&mut solved, weight, &mut cotangents)
        }
    };
    let mut parameters = reader.gradients;
    let (cotangent, cell) = cotangents.into_parts();
    if let Some(cotangent) = cotangent {
        let product = (injection * cotangent).sum();
        // A stem without parameters records no graph.
        if product.is_tracked() {
            accumulate_module(&mut parameters, product.backward(), &stem);
        }
    }
    if let Some(mut cell) = cell {
        merge(&mut parameters, &mut cell, &model.cell);
    }
    StepGradients { logits: reading.logits, values: reading.values, parameters, moments }
}

/// Gradients of the mean of an objective for a model without an equilibrium: plain reverse mode.
pub fn feedforward_gradients<M: Feedforward>(
    model: &M,
    images: &Images,
    objective: &dyn Objective,
) -> StepGradients {
    let moments = BatchMoments::default();
    let tracked = model.clone().train();
    let logits = tracked.forward(images.clone(), &Phase::Train(&moments));
    let plain = logits.clone().inner();
    let (values, derivative) = objective.values_and_derivative(&plain);
    let [n, _] = plain.dims();
    let gradients = (logits * (derivative / n as f64)).sum().backward();
    let mut parameters = GradientsParams::new();
    accumulate_module(&mut parameters, gradients, &tracked);
    StepGradients { logits: plain, values, parameters, moments }
}

/// Moves a module's gradients from one collection to another.
fn merge<M: Module>(into: &mut GradientsParams, from: &mut GradientsParams, module: &M) {
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::Tensor;
    struct Move<'a>(&'a mut GradientsParams, &'a mut GradientsParams);
    impl ModuleVisitor for Move<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.1.remove::<D>(param.id) {
                crate::model::parameters::accumulate(self.0, param.id, gradient);
            }
        }
    }
    module.visit(&mut Move(into, from));
}

/// A head in training: its parameters' gradients are collected.
struct TrainedHead<'a, H> {
    head: &'a H,
    moments: &'a BatchMoments,
    gradients: GradientsParams,
}

impl<H: Head> ReadHead for TrainedHead<'_, H> {
    fn read(&mut self, state: &State, objective: &dyn Objective, weight: f64) -> (Reading, State) {
        let tracked = state.clone().autodiff().require_grad();
        let logits = self.head.forward(tracked.clone(), &Phase::Train(self.moments));
        let plain = logits.clone().inner();
        let (values, derivative) = objective.values_and_derivative(&plain);
        let gradients = (logits * (derivative * weight)).sum().backward();
        let cotangent = tracked.grad(&gradients).unwrap_or_else(|| state.zeros_like());
        accumulate_module(&mut self.gradients, gradients, self.head);
        (Reading { logits: plain, values }, cotangent)
    }
}
