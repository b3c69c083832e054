//! Traces: what a DEQ computes on given images, number by number, for comparison with other codes.
//!
//! A trace holds every iterate, its residuals, the head's logits at each, and gradients by any estimators. Files
//! are safetensors: `x` `[N, C, H, W]` float32 and `y` `[N]` int64 in; out `states` `[N, T, D]` (branches
//! flattened C, H, W and concatenated), `residual.relative` and `residual.absolute` `[N, T]`, `best` `[N]` int64
//! counted from 1, `logits.state` `[N, T, K]`, `logits.final` `[N, K]`, and for each estimator SPEC
//! `gradient.SPEC` `[N, C, H, W]` and `loss.SPEC` `[N]` (cross-entropy; gradients are of its sum).

mod file;

use burn::tensor::{Device, Tensor};

use crate::gradient::{Estimator, SpecError, parse_list};
use crate::model::equilibrium::Equilibrium;
use crate::readout::Readout;
use crate::solve::StopScope;
use crate::state::State;
use crate::victim::{Deployment, Victim};
use equipoise_attack::batch::{Images, Logits, Values, from_vec, select};
use equipoise_attack::loss::CrossEntropy;

pub use file::{TraceError, read_input, trace_file};

/// Examples that go through the model at once where none looks at its batch: it bounds the memory.
const BATCH: usize = 32;

/// What a trace is to hold beside states and logits.
#[derive(Debug, Clone, Default)]
pub struct TraceOptions {
    /// Estimators by the names that their tensors get.
    pub gradients: Vec<(String, Estimator)>,
    /// Whose norms stop the solvers and choose the best iterate. [`StopScope::Batch`], for comparison with the
    /// authors' release, takes the whole input as one batch.
    pub scope: StopScope,
}

impl TraceOptions {
    /// Estimators from their strings. A string that stands for one estimator names its tensors as it is
    /// written; one that stands for several (`unrolled:state=1..8`) names each by its full form.
    ///
    /// # Errors
    ///
    /// If a string cannot be understood.
    pub fn with_gradients(mut self, specs: &[impl AsRef<str>]) -> Result<Self, SpecError> {
        for spec in specs {
            let mut estimators = parse_list(spec.as_ref())?;
            if estimators.len() == 1 {
                self.gradients.push((spec.as_ref().trim().to_owned(), estimators.remove(0)));
            } else {
                self.gradients.extend(estimators.into_iter().map(|one| (one.to_string(), one)));
            }
        }
        Ok(self)
    }
}

/// What a DEQ computed on N images.
#[derive(Debug, Clone)]
pub struct Trace {
    /// z_1..z_T, `[N, T, D]`. An example that stopped earlier repeats its last state.
    pub states: Tensor<3>,
    /// ‖f(z_t) − z_t‖ / ‖f(z_t)‖, `[N, T]`.
    pub relative: Tensor<2>,
    /// ‖f(z_t) − z_t‖, `[N, T]`.
    pub absolute: Tensor<2>,
    /// Number of the best iterate of each example, from 1.
    pub best: Vec<usize>,
    /// head(z_t), `[N, T, K]`.
    pub state_logits: Tensor<3>,
    /// Logits of the readout `final`, `[N, K]`.
    pub final_logits: Logits,
    /// For each estimator: its name, the gradient `[N, C, H, W]` of the cross-entropy's sum, and the
    /// cross-entropy `[N]` at the logits that the estimator reads.
    pub gradients: Vec<(String, Images, Values)>,
}

/// Traces a model on images `[N, C, H, W]` with their labels.
///
/// # Panics
///
/// If there are no images, if there is not one label per image, or a label is not a class; [`trace_file`]
/// checks its input.
pub fn trace(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    images: &Images,
    labels: &[usize],
    options: &TraceOptions,
) -> Trace {
    let mut deployment = deployment.clone();
    deployment.solver.scope = options.scope;
    deployment.backward.scope = options.scope;
    let size = match options.scope {
        StopScope::Example => BATCH,
        StopScope::Batch => labels.len(),
    };
    let rows: Vec<usize> = (0..labels.len()).collect();
    let parts: Vec<Trace> = rows
        .chunks(size)
        .map(|rows| {
            let labels = rows.iter().map(|&row| labels[row]).collect();
            trace_batch(model, &deployment, &select(images, rows), labels, options)
        })
        .collect();
    concatenate(parts)
}

fn trace_batch(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    images: &Images,
    labels: Vec<usize>,
    options: &TraceOptions,
) -> Trace {
    let victim = Victim::new(model, deployment, Readout::final_state(), Estimator::exact());
    let forward = victim.forward(images, deployment.solver.steps);
    let trajectory = &forward.trajectory;
    let head = |state| model.logits(&state);
    let final_logits = Readout::final_state().logits(&forward.cell, trajectory, &deployment.tail, &head);
    let state_logits = trajectory.states().iter().cloned().map(head).collect();
    let objective = CrossEntropy { labels };
    let gradients = options
        .gradients
        .iter()
        .map(|(name, estimator)| {
            let victim = Victim::new(model, deployment, Readout::final_state(), estimator.clone());
            let (reading, gradient) = victim.gradient_from(images, &forward, &objective);
            (name.clone(), gradient, reading.values)
        })
        .collect();
    let device = images.device();
    Trace {
        states: Tensor::stack(trajectory.states().iter().map(|state| numbers(state, &device)).collect(), 1),
        relative: table(trajectory.relative_residuals(), &device),
        absolute: table(trajectory.absolute_residuals(), &device),
        best: trajectory.best().to_vec(),
        state_logits: Tensor::stack(state_logits, 1),
        final_logits,
        gradients,
    }
}

/// A state as a tensor in memory, wherever it is kept.
fn numbers(state: &State, device: &Device) -> Tensor<2> {
    match state.as_tensor() {
        Some(tensor) => tensor.clone(),
        None => from_vec(state.to_f32(), state.dims(), device),
    }
}

/// Rows of equal length as a tensor.
fn table(rows: &[Vec<f64>], device: &Device) -> Tensor<2> {
    let values: Vec<f32> = rows.iter().flatten().map(|&value| value as f32).collect();
    let shape = [rows.len(), values.len() / rows.len().max(1)];
    from_vec(values, shape, device)
}

fn concatenate(parts: Vec<Trace>) -> Trace {
    fn rows<const D: usize>(parts: &[Trace], of: impl Fn(&Trace) -> &Tensor<D>) -> Tensor<D> {
        Tensor::cat(parts.iter().map(|part| of(part).clone()).collect(), 0)
    }
    let names = parts[0].gradients.iter().map(|(name, ..)| name.clone());
    let gradient = |(k, name): (usize, String)| {
        (name, rows(&parts, |part| &part.gradients[k].1), rows(&parts, |part| &part.gradients[k].2))
    };
    Trace {
        states: rows(&parts, |part| &part.states),
        relative: rows(&parts, |part| &part.relative),
        absolute: rows(&parts, |part| &part.absolute),
        best: parts.iter().flat_map(|part| part.best.clone()).collect(),
        state_logits: rows(&parts, |part| &part.state_logits),
        final_logits: rows(&parts, |part| &part.final_logits),
        gradients: names.enumerate().map(gradient).collect(),
    }
}
