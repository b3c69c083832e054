//! Certificates, by smoothing or by proof: what is asked, and the record of what was found.

mod proofs;
mod smoothing;

pub use proofs::prove;
pub use smoothing::{certify, predict};

use equipoise::attack::{Budget, Classifier, Norm};
use equipoise::batch::from_vec;
use equipoise::burn::tensor::Device;
use equipoise::evaluate::{Cascade, Conditions, Points, Settings, run_with};
use equipoise::readout::Readout;
use equipoise::victim::Deployment;
use equipoise_record::{Certificate, Evaluation, FORMAT_VERSION, ReadoutResult};
use equipoise_report::{Format, Report, render};
use equipoise_verdict::conclude;
use numpy::PyReadonlyArray4;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use serde_json::Value;

use crate::errors::{evaluate_error, value_error};
use crate::subject::{deployment, pixels, readout};
use crate::watch::Watch;

/// What is asked of which images; a dictionary with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Asked {
    /// JSON: how a DEQ is deployed; none for a plain classifier.
    deployment: Option<String>,
    readout: String,
    labels: Vec<usize>,
    indices: Vec<usize>,
    class_names: Vec<String>,
    name: String,
    dataset: String,
    norm: String,
    /// Radii of the table.
    eps: Vec<f64>,
    seed: u64,
    batch_size: usize,
    /// JSON: what the record says of the model.
    described: String,
}

impl Asked {
    fn norm(&self) -> PyResult<Norm> {
        match self.norm.parse().map_err(value_error)? {
            Norm::L1 => {
                Err(PyValueError::new_err("norm L1: what is certified in L2 holds in L1 too; use L2"))
            }
            norm => Ok(norm),
        }
    }

    /// The radii of the table, the smallest first, each once; empty where none are given.
    fn radii(&self, norm: Norm) -> PyResult<Vec<f64>> {
        let checked = |&eps: &f64| Budget::new(norm, eps).map(|budget| budget.eps()).map_err(value_error);
        let mut eps = self.eps.iter().map(checked).collect::<PyResult<Vec<f64>>>()?;
        eps.sort_by(f64::total_cmp);
        eps.dedup();
        Ok(eps)
    }

    /// How a DEQ is deployed, and the readout.
    fn deployed(&self) -> PyResult<Option<(Deployment, Readout)>> {
        let Some(text) = &self.deployment else { return Ok(None) };
        let deployment = deployment(text)?;
        let readout = readout(&self.readout, &deployment)?;
        Ok(Some((deployment, readout)))
    }

    fn points(&self, images: &PyReadonlyArray4<'_, f32>) -> PyResult<Points> {
        let (pixels, shape) = pixels(images)?;
        let images = from_vec(pixels, shape, &Device::default());
        Points::new(self.indices.clone(), images, self.labels.clone()).map_err(value_error)
    }

    fn described(&self) -> PyResult<Value> {
        serde_json::from_str(&self.described).map_err(value_error)
    }

    /// Certificates beside the answers on the unperturbed images. `None` if it was stopped.
    fn answered(
        &self,
        classifier: &dyn Classifier,
        points: &Points,
        norm: Norm,
        certificates: Vec<Certificate>,
        watch: &Watch,
    ) -> PyResult<Option<ReadoutResult>> {
        let budget = Budget::new(norm, largest(&certificates)).map_err(value_error)?;
        let settings = Settings { budget, seed: self.seed, batch_size: self.batch_size };
        let cascade = Cascade::new(self.readout.clone(), classifier);
        let outcome = run_with(&cascade, points, &settings, watch, Conditions::default());
        let outcome = outcome.map_err(evaluate_error)?;
        let mut result = outcome.result;
        result.certificates = certificates;
        Ok(outcome.complete.then_some(result))
    }

    /// The record as JSON.
    fn record(self, norm: Norm, configuration: Value, result: Option<ReadoutResult>) -> PyResult<String> {
        let stopped = || PyRuntimeError::new_err("stopped before the certification was complete");
        let result = result.ok_or_else(stopped)?;
        let mut models = vec![Evaluation {
            version: FORMAT_VERSION,
            model: self.name,
            configuration,
            dataset: self.dataset,
            classes: self.class_names,
            norm: norm.to_string(),
            eps: largest(&result.certificates),
            seed: self.seed,
            count: self.labels.len(),
            clean_accuracy: result.clean_accuracy,
            readouts: vec![result],
        }];
        conclude(&mut models);
        render(Format::Json, &Report { models, records: 1, ..Report::default() }).map_err(value_error)
    }
}

/// The largest radius of the tables.
fn largest(certificates: &[Certificate]) -> f64 {
    let radii = certificates.iter().flat_map(|certificate| &certificate.radii);
    radii.map(|radius| radius.eps).fold(0.0, f64::max)
}
