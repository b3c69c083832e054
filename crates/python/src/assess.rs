//! From a DEQ and images to a record: every readout, with arms of equal effort, by [`Assessment`].

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use equipoise::assess::{AssessError, Assessment, Attacks, Protocol, Randomness, ReadoutChoice};
use equipoise::attack::{self, Budget};
use equipoise::batch::to_vec;
use equipoise::evaluate::Outcome;
use equipoise::plan::other_gradients;
use equipoise::readout::Readout;
use equipoise_dataset::{Dataset, Pixels};
use equipoise_files::lock;
use equipoise_record::Evaluation;
use equipoise_report::{Format, Report, render};
use numpy::{IntoPyArray, PyArray1, PyArray4, PyReadonlyArray4};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use serde_json::Value;

use crate::arrays::array;
use crate::errors::{evaluate_error, value_error};
use crate::evaluate::{Tried, budget};
use crate::serve::{Caller, serve};
use crate::subject::{Subject, deployment, pixels};
use crate::watch::Watch;

/// What an assessment depends on beside model, attacks and images; a dictionary with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Options {
    /// JSON: how the model is deployed.
    deployment: String,
    /// The class of each image, and its row in its data set, which keys its random numbers.
    labels: Vec<usize>,
    indices: Vec<usize>,
    /// A name for each class.
    class_names: Vec<String>,
    /// The model's name in the record, and that of the data set.
    name: String,
    dataset: String,
    norm: String,
    /// Radii.
    eps: Vec<f64>,
    /// Whether the white-box plan is tried, beside the attacks that are given.
    white_box: bool,
    /// Other gradients; the usual ones unless given.
    gradients: Option<String>,
    /// Specifications, and `early` to have t chosen on the development images.
    readouts: Vec<String>,
    control: bool,
    margin: f64,
    /// Points that checks examine.
    checks: Option<usize>,
    seed: u64,
    batch_size: usize,
    /// Seconds.
    time_limit: Option<f64>,
    /// What is random about the deployed model, and what a verdict then is.
    noise: Option<f64>,
    protocol: Option<String>,
    /// The folder of the journal, and what tells the model from others.
    folder: Option<PathBuf>,
    identity: String,
    /// JSON: what the record says of the model.
    described: String,
}

/// What became of the images behind a readout: its name, the images, the model's class on each unperturbed image and on each
/// of these, −1 where its logits are not finite.
type Behind<'py> = (String, Bound<'py, PyArray4<f32>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// Images, labels and rows to choose `early` on.
type Development<'py> = (PyReadonlyArray4<'py, f32>, Vec<usize>, Vec<usize>);

fn randomness(options: &Options, readouts: &[Readout]) -> PyResult<Randomness> {
    let usual = Randomness::default();
    let protocol =
        options.protocol.as_deref().map(str::parse::<Protocol>).transpose().map_err(value_error)?;
    let randomness =
        Randomness { noise: options.noise, protocol: protocol.unwrap_or(usual.protocol), ..usual };
    randomness.check().map_err(value_error)?;
    if protocol.is_some() && !readouts.iter().any(|readout| randomness.concerns(readout)) {
        return Err(value_error(
            "protocol: nothing is drawn; give noise, or the readout random-states or random-starts, or leave it out",
        ));
    }
    Ok(randomness)
}

/// Attacks a model behind each readout. The record as JSON, and what became of the images.
#[pyfunction]
pub fn assess<'py>(
    py: Python<'py>,
    model: &Bound<'py, PyAny>,
    attacks: Vec<Bound<'py, PyAny>>,
    images: PyReadonlyArray4<'py, f32>,
    options: Options,
    development: Option<Development<'py>>,
    watch: Option<Py<PyAny>>,
) -> PyResult<(String, Vec<Behind<'py>>)> {
    let deployment = deployment(&options.deployment)?;
    let budgets =
        options.eps.iter().map(|&eps| budget(&options.norm, eps)).collect::<PyResult<Vec<Budget>>>()?;
    let attacks = attacks.iter().map(Tried::new).collect::<PyResult<Vec<_>>>()?;
    let readouts = options.readouts.iter().map(|text| text.parse().map_err(value_error));
    let readouts = readouts.collect::<PyResult<Vec<ReadoutChoice>>>()?;
    for choice in &readouts {
        if let ReadoutChoice::Fixed(readout) = choice {
            readout.check(deployment.solver.steps).map_err(value_error)?;
        }
    }
    let examples: Vec<Readout> = readouts.iter().map(ReadoutChoice::example).collect();
    let randomness = randomness(&options, &examples)?;
    let gradients =
        other_gradients(options.gradients.as_deref(), &deployment, &examples).map_err(value_error)?;
    let shape = pixels(&images)?.1;
    let data = dataset(&images, &options.labels, &options)?;
    let development = development
        .map(|(images, labels, rows)| Ok::<_, PyErr>((dataset(&images, &labels, &options)?, rows)))
        .transpose()?;
    let described: Value = serde_json::from_str(&options.described).map_err(value_error)?;
    let folder = options.folder.clone();
    let _lock = folder
        .as_deref()
        .map(|folder| {
            fs::create_dir_all(folder).and_then(|()| lock(folder)).map_err(|error| {
                PyOSError::new_err(format!("cannot use the folder {}: {error}", folder.display()))
            })
        })
        .transpose()?;
    let (subject, watch) = (Subject::new(model), watch.map(Arc::new));
    let found = serve(py, move |caller: &Caller| {
        let Some(network) = subject.asked_by(caller) else { return Ok(None) };
        let listed: Vec<Arc<dyn attack::Attack>> =
            attacks.into_iter().map(|attack| attack.called_by(caller)).collect();
        let attacks = Attacks { white_box: options.white_box, ..Attacks::of(listed) };
        let asked = if options.gradients.is_some() { gradients.clone() } else { Vec::new() };
        let mut assessment = Assessment::of(&*network, &deployment, &data)
            .named(&options.name)
            .described(described)
            .of_file(&options.identity)
            .rows("", options.indices.clone())
            .budgets(budgets)
            .attacks(attacks)
            .gradients(gradients, asked)
            .readouts(readouts)
            .control(options.control)
            .margin(options.margin)
            .time_limit(options.time_limit)
            .checks(options.checks)
            .seed(options.seed)
            .batch_size(options.batch_size)
            .randomness(randomness);
        if let Some((images, rows)) = &development {
            assessment = assessment.development(images, rows.clone());
        }
        if let Some(folder) = folder {
            assessment = assessment.folder(folder, false);
        }
        assessment.outcomes(&Watch::new(watch, caller))
    })?;
    let (evaluation, outcomes) = found
        .map_err(assess_error)?
        .ok_or_else(|| PyRuntimeError::new_err("stopped before the assessment was complete"))?;
    let mut behind = Vec::new();
    for (result, outcome) in evaluation.readouts.iter().zip(outcomes) {
        behind.push(self::behind(py, &result.name, outcome, shape)?);
    }
    Ok((json(evaluation)?, behind))
}

fn behind<'py>(py: Python<'py>, name: &str, outcome: Outcome, shape: [usize; 4]) -> PyResult<Behind<'py>> {
    let classes = |classes: &[Option<usize>]| {
        let classes: Vec<i64> = classes.iter().map(|class| class.map_or(-1, |class| class as i64)).collect();
        classes.into_pyarray(py)
    };
    let (clean, after) = (classes(&outcome.clean_predictions), classes(&outcome.adversarial_predictions));
    Ok((name.to_owned(), array(py, to_vec(outcome.adversarial), shape)?, clean, after))
}

fn json(evaluation: Evaluation) -> PyResult<String> {
    render(Format::Json, &Report { models: vec![evaluation], records: 1, ..Report::default() })
        .map_err(value_error)
}

fn dataset(images: &PyReadonlyArray4<'_, f32>, labels: &[usize], options: &Options) -> PyResult<Dataset> {
    let (pixels, [_, channels, height, width]) = pixels(images)?;
    let (names, shape) = (options.class_names.clone(), [channels, height, width]);
    Dataset::new(&*options.dataset, shape, names.len(), names, Pixels::F32(pixels), labels.to_vec())
        .map_err(value_error)
}

fn assess_error(error: AssessError) -> PyErr {
    match error {
        AssessError::Evaluate(error) => evaluate_error(error),
        error => value_error(error),
    }
}
