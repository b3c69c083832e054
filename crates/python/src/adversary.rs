//! The inner attack of adversarial training, and gradients, for somebody else's training loop.

use std::ops::ControlFlow;

use equipoise::attack::{Attack, Examples, Pgd, PgdConfig, Progress, Step};
use equipoise::batch::{from_vec, to_vec};
use equipoise::burn::tensor::Device;
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use numpy::{PyArray4, PyReadonlyArray4};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::arrays::array;
use crate::errors::value_error;
use crate::evaluate::budget;
use crate::serve::{Caller, serve};
use crate::subject::{Subject, deployment, pixels, readout};

/// What an adversary does; a dictionary with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Options {
    /// JSON: how the model is deployed.
    deployment: String,
    readout: String,
    gradient: String,
    labels: Vec<usize>,
    indices: Vec<usize>,
    norm: String,
    eps: f64,
    steps: usize,
    step_size: Option<f64>,
    random_start: bool,
    seed: u64,
}

fn stopped() -> PyErr {
    PyRuntimeError::new_err("stopped before the attack was complete")
}

/// The estimator of a specification, which the solver must have.
fn estimator(text: &str, deployment: &equipoise::victim::Deployment) -> PyResult<Estimator> {
    let estimator: Estimator = text.parse().map_err(value_error)?;
    estimator.check(&deployment.solver).map_err(value_error)?;
    Ok(estimator)
}

/// Images `[N, C, H, W]` after all steps of PGD on the cross-entropy, whatever they come to.
#[pyfunction]
pub fn adversary<'py>(
    py: Python<'py>,
    model: &Bound<'py, PyAny>,
    images: PyReadonlyArray4<'py, f32>,
    options: Options,
) -> PyResult<Bound<'py, PyArray4<f32>>> {
    let deployment = deployment(&options.deployment)?;
    let (readout, gradient) =
        (readout(&options.readout, &deployment)?, estimator(&options.gradient, &deployment)?);
    let budget = budget(&options.norm, options.eps)?;
    let attack = Pgd::new(PgdConfig {
        steps: options.steps,
        step_size: options.step_size,
        random_start: options.random_start,
        keep_first: false,
        ..PgdConfig::default()
    })
    .map_err(value_error)?;
    attack.check_norm(budget.norm()).map_err(value_error)?;
    let subject = Subject::new(model);
    let (pixels, shape) = pixels(&images)?;
    let found = serve(py, move |caller: &Caller| {
        let network = subject.asked_by(caller)?;
        let classes = network.classes();
        if let Some(&label) = options.labels.iter().find(|&&label| label >= classes) {
            return Some(Err(label));
        }
        let victim = network.victim(&deployment, readout, gradient);
        let examples = Examples {
            images: &from_vec(pixels, shape, &Device::default()),
            labels: &options.labels,
            indices: &options.indices,
            seed: options.seed,
            start: 0,
        };
        let attempt = attack.run_with(&*victim, &examples, &budget, &Stop(caller));
        Some(Ok(to_vec(attempt.images)))
    })?;
    let found = found.ok_or_else(stopped)?;
    let images = found.map_err(|label| {
        PyValueError::new_err(format!("y holds the label {label}, and the model has fewer classes"))
    })?;
    array(py, images, shape)
}

/// Stops an attack once Python has failed.
struct Stop<'a>(&'a Caller);

impl Progress for Stop<'_> {
    fn step(&self, _: Step) -> ControlFlow<()> {
        if self.0.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Gradient `[N, C, H, W]` of each image's cross-entropy behind a readout, by an estimator.
#[pyfunction]
pub fn gradient<'py>(
    py: Python<'py>,
    model: &Bound<'py, PyAny>,
    images: PyReadonlyArray4<'py, f32>,
    labels: Vec<usize>,
    deployment: &str,
    readout: &str,
    gradient: &str,
) -> PyResult<Bound<'py, PyArray4<f32>>> {
    let deployment = self::deployment(deployment)?;
    let (readout, gradient) = (self::readout(readout, &deployment)?, estimator(gradient, &deployment)?);
    let subject = Subject::new(model);
    let (pixels, shape) = pixels(&images)?;
    let found = serve(py, move |caller: &Caller| {
        let network = subject.asked_by(caller)?;
        let images = from_vec(pixels, shape, &Device::default());
        let victim = network.victim(&deployment, readout, gradient);
        let answer = victim.value_and_gradient(&images, &CrossEntropy { labels });
        Some(to_vec(answer.gradient))
    })?;
    array(py, found.ok_or_else(stopped)?, shape)
}
