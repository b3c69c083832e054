//! A diagnosis of a DEQ, by [`Examination`].

use std::sync::Arc;

use equipoise::batch::from_vec;
use equipoise::burn::tensor::Device;
use equipoise::diagnose::{Examination, QUESTIONS, Settings, SpectrumConfig};
use equipoise::evaluate::Points;
use equipoise_record::{Attacked, Diagnosis, FORMAT_VERSION};
use equipoise_report::{Format, Report, diagnosis_summary, render};
use numpy::PyReadonlyArray4;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use serde_json::Value;

use crate::errors::value_error;
use crate::evaluate::budget;
use crate::serve::{Caller, serve};
use crate::subject::{Subject, deployment, pixels};
use crate::watch::Watch;

/// What a diagnosis depends on beside model and images; a dictionary with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Options {
    /// JSON: how the model is deployed.
    deployment: String,
    labels: Vec<usize>,
    indices: Vec<usize>,
    class_names: Vec<String>,
    name: String,
    dataset: String,
    norm: String,
    eps: f64,
    sections: Vec<String>,
    /// Solver steps of the residual's curve; three times the deployed ones unless given.
    horizon: Option<usize>,
    /// Images in the gallery.
    gallery: usize,
    seed: u64,
    batch_size: usize,
    /// JSON: what the record says of the model.
    described: String,
}

/// Names of all sections.
pub fn sections() -> Vec<&'static str> {
    QUESTIONS.iter().map(|question| question.name).collect()
}

/// Looks at a model. The record as JSON, and what it says in short.
#[pyfunction]
pub fn diagnose(
    py: Python<'_>,
    model: &Bound<'_, PyAny>,
    images: PyReadonlyArray4<'_, f32>,
    options: Options,
    watch: Option<Py<PyAny>>,
) -> PyResult<(String, Vec<String>)> {
    let deployment = deployment(&options.deployment)?;
    let budget = budget(&options.norm, options.eps)?;
    let described: Value = serde_json::from_str(&options.described).map_err(value_error)?;
    let (pixels, shape) = pixels(&images)?;
    let images = from_vec(pixels, shape, &Device::default());
    let points = Points::new(options.indices.clone(), images, options.labels.clone()).map_err(value_error)?;
    let settings = Settings { budget, seed: options.seed, batch_size: options.batch_size };
    let (subject, watch) = (Subject::new(model), watch.map(Arc::new));
    let count = points.len();
    let (name, classes) = (options.name.clone(), options.class_names.clone());
    let found = serve(py, move |caller: &Caller| {
        let Some(network) = subject.asked_by(caller) else { return Ok(None) };
        let mut examination = Examination::of(&*network, &deployment, &points, settings)
            .named(&name)
            .spectrum(SpectrumConfig::default())
            .gallery(options.gallery, &classes)
            .sections(&options.sections)
            .map_err(value_error)?;
        if let Some(steps) = options.horizon {
            examination = examination.horizon(steps);
        }
        examination.run(&Watch::new(watch, caller)).map(Some).map_err(value_error)
    })?;
    let found = found?.ok_or_else(|| PyRuntimeError::new_err("stopped before the diagnosis was complete"))?;
    let diagnosis = Diagnosis {
        version: FORMAT_VERSION,
        configuration: described.clone(),
        dataset: options.dataset,
        norm: budget.norm().to_string(),
        eps: budget.eps(),
        seed: options.seed,
        count,
        attacked: Attacked::ReadyMade,
        diagnosed: vec![equipoise_record::ModelDiagnosis { configuration: described, ..found }],
    };
    let says = diagnosis_summary(&diagnosis);
    let report = Report { diagnoses: vec![diagnosis], records: 1, ..Report::default() };
    Ok((render(Format::Json, &report).map_err(value_error)?, says))
}
