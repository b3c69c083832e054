//! Certificates by randomized smoothing, of a classifier or a DEQ.

use std::sync::Arc;
use std::time::Instant;

use equipoise::attack::{Budget, Classifier, Norm};
use equipoise::batch::from_vec;
use equipoise::burn::tensor::Device;
use equipoise::certify::{Smoothing, SmoothingError};
use equipoise::evaluate::{Cascade, Conditions, Observer, Points, Settings, run_with};
use equipoise_record::{Certificate, Evaluation, FORMAT_VERSION, ReadoutResult};
use equipoise_report::{Format, Report, render};
use equipoise_verdict::conclude;
use numpy::PyReadonlyArray4;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use serde_json::Value;

use crate::errors::{evaluate_error, value_error};
use crate::model::Foreign;
use crate::serve::{Caller, serve};
use crate::subject::{Subject, deployment, pixels, readout};
use crate::watch::Watch;

/// What a certification depends on beside model and images; a dictionary with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Options {
    /// JSON: how a DEQ is deployed; none for a plain classifier.
    deployment: Option<String>,
    readout: String,
    labels: Vec<usize>,
    indices: Vec<usize>,
    class_names: Vec<String>,
    name: String,
    dataset: String,
    norm: String,
    /// Radii of the table; sixteen up to the largest that can be certified unless given.
    eps: Vec<f64>,
    sigma: f64,
    selection: usize,
    samples: usize,
    alpha: f64,
    seed: u64,
    batch_size: usize,
    /// JSON: what the record says of the model.
    described: String,
}

/// Certifies images. The record as JSON.
#[pyfunction]
pub fn certify(
    py: Python<'_>,
    model: &Bound<'_, PyAny>,
    images: PyReadonlyArray4<'_, f32>,
    options: Options,
    watch: Option<Py<PyAny>>,
) -> PyResult<String> {
    let smoothing = Smoothing {
        sigma: options.sigma,
        selection: options.selection,
        estimation: options.samples,
        alpha: options.alpha,
    };
    smoothing.check().map_err(|SmoothingError { field, problem }| {
        let argument = if field == "estimation" { "samples" } else { field };
        PyValueError::new_err(format!("{argument}: {problem}"))
    })?;
    let norm: Norm = options.norm.parse().map_err(value_error)?;
    let deployed = options
        .deployment
        .as_deref()
        .map(|text| {
            let deployment = deployment(text)?;
            Smoothing::check_solver(&deployment.solver)
                .map_err(|SmoothingError { problem, .. }| PyValueError::new_err(problem))?;
            let readout = readout(&options.readout, &deployment)?;
            Ok::<_, PyErr>((deployment, readout))
        })
        .transpose()?;
    let described: Value = serde_json::from_str(&options.described).map_err(value_error)?;
    let (pixels, shape) = pixels(&images)?;
    let size = shape[1..].iter().product();
    let eps = radii(&options.eps, &smoothing, norm, size)?;
    let images = from_vec(pixels, shape, &Device::default());
    let points = Points::new(options.indices.clone(), images, options.labels.clone()).map_err(value_error)?;
    let subject = Subject::new(model);
    let (object, watch) = (Arc::new(model.clone().unbind()), watch.map(Arc::new));
    let job = Job { smoothing, norm, size, eps, points, options };
    let (job, result) = serve(py, move |caller: &Caller| {
        let watch = Watch::new(watch, caller);
        let result = match &deployed {
            None => job.run(&Foreign::new(object, job.options.class_names.len(), caller), &watch),
            Some((deployment, readout)) => match subject.asked_by(caller) {
                None => Ok(None),
                Some(network) => {
                    let gradient = deployment.training_gradient.clone();
                    job.run(&*network.victim(deployment, readout.clone(), gradient), &watch)
                }
            },
        };
        (job, result)
    })?;
    let stopped = || PyRuntimeError::new_err("stopped before the certification was complete");
    job.record(described, result?.ok_or_else(stopped)?)
}

/// The radii of the table, the smallest first, each once.
fn radii(given: &[f64], smoothing: &Smoothing, norm: Norm, size: usize) -> PyResult<Vec<f64>> {
    if norm == Norm::L1 {
        return Err(PyValueError::new_err("norm L1: what is certified in L2 holds in L1 too; use L2"));
    }
    if given.is_empty() {
        return Ok(smoothing.radii(norm, size));
    }
    let mut eps = given
        .iter()
        .map(|&eps| Budget::new(norm, eps).map(|budget| budget.eps()).map_err(value_error))
        .collect::<PyResult<Vec<f64>>>()?;
    eps.sort_by(f64::total_cmp);
    eps.dedup();
    Ok(eps)
}

struct Job {
    smoothing: Smoothing,
    norm: Norm,
    size: usize,
    eps: Vec<f64>,
    points: Points,
    options: Options,
}

impl Job {
    /// Every image's votes, and the answers on the unperturbed images. `None` if it was stopped.
    fn run(&self, classifier: &dyn Classifier, watch: &Watch) -> PyResult<Option<ReadoutResult>> {
        let Self { smoothing, norm, points, options, .. } = self;
        watch.stage("certifying", points.len());
        let (start, mut examples, mut shown) = (Instant::now(), Vec::new(), 0);
        for (row, &index) in points.indices().iter().enumerate() {
            let votes = smoothing.votes(classifier, points, row, options.seed, options.batch_size, watch);
            let Some(votes) = votes else { return Ok(None) };
            let example = smoothing
                .certified(index, votes, *norm, self.size)
                .ok_or_else(|| PyRuntimeError::new_err("L1 was refused"))?;
            shown += usize::from(example.class == Some(points.labels()[row]));
            examples.push(example);
            watch.counts(row + 1, shown);
            watch.advance(1, "");
        }
        let spent = (start.elapsed().as_secs_f64(), classifier.work().cell_evaluations);
        let certificate: Certificate = smoothing.certificate(points, examples, *norm, &self.eps, spent);
        let budget = Budget::new(*norm, self.eps[self.eps.len() - 1]).map_err(value_error)?;
        let settings = Settings { budget, seed: options.seed, batch_size: options.batch_size };
        let cascade = Cascade::new(options.readout.clone(), classifier);
        let outcome = run_with(&cascade, points, &settings, watch, Conditions::default());
        let outcome = outcome.map_err(evaluate_error)?;
        let mut result = outcome.result;
        result.certificates.push(certificate);
        Ok(outcome.complete.then_some(result))
    }

    fn record(self, configuration: Value, result: ReadoutResult) -> PyResult<String> {
        let Self { norm, eps, points, options, .. } = self;
        let mut models = vec![Evaluation {
            version: FORMAT_VERSION,
            model: options.name,
            configuration,
            dataset: options.dataset,
            classes: options.class_names,
            norm: norm.to_string(),
            eps: eps[eps.len() - 1],
            seed: options.seed,
            count: points.len(),
            clean_accuracy: result.clean_accuracy,
            readouts: vec![result],
        }];
        conclude(&mut models);
        render(Format::Json, &Report { models, records: 1, ..Report::default() }).map_err(value_error)
    }
}
