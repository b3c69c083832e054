//! From a model, attacks and images, all of them Python's, to a record.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use equipoise::attack::{self, Budget, Expectation, Norm, WhiteBox};
use equipoise::batch::{from_vec, to_vec};
use equipoise::burn::tensor::Device;
use equipoise::checks;
use equipoise::evaluate::{
    Cascade, Conditions, Journal, Outcome, Points, Run, Settings, TimeLimit, run_with,
};
use equipoise_files::{Lock, lock};
use equipoise_record::{Evaluation, FORMAT_VERSION, NotTried, Verdict};
use equipoise_report::{Format, Report, render};
use equipoise_verdict::conclude;
use numpy::{IntoPyArray, PyArray1, PyArray4, PyReadonlyArray4, PyUntypedArrayMethods};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use serde_json::{Map, Value, json};

use crate::arrays::array;
use crate::attack::{Attack, Written};
use crate::errors::{evaluate_error, value_error};
use crate::model::Foreign;
use crate::serve::{Caller, serve};
use crate::watch::Watch;

/// What an evaluation depends on beside model, attacks and images; a dictionary with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Options {
    /// The class of each image, and its row in its data set, which keys its random numbers.
    labels: Vec<usize>,
    indices: Vec<usize>,
    /// Number of logits.
    classes: usize,
    /// The model's name in the record, and that of the data set; names of classes, or none.
    name: String,
    dataset: String,
    class_names: Vec<String>,
    norm: String,
    eps: f64,
    seed: u64,
    batch_size: usize,
    /// The model's answers that each answer to an attack is the mean of.
    draws: usize,
    /// Seconds.
    time_limit: Option<f64>,
    /// Attacks that were asked for and cannot be run, and why.
    left_out: Vec<(String, String)>,
    /// The folder of the journal, and what tells the model from others.
    journal: Option<PathBuf>,
    identity: String,
    /// JSON: what else belongs in the record's configuration.
    configuration: String,
}

/// What is given back: the record as JSON; images; the model's class on each unperturbed image and on each of these, −1
/// where its logits are not finite.
type Found<'py> = (String, Bound<'py, PyArray4<f32>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// The gradient that there is.
const GRADIENT: &str = "autograd";

/// Refuses a budget that is none, or that is hardly meant.
#[pyfunction]
pub fn check_budget(norm: &str, eps: f64) -> PyResult<()> {
    budget(norm, eps).map(|_| ())
}

pub fn budget(norm: &str, eps: f64) -> PyResult<Budget> {
    let budget = Budget::new(norm.parse().map_err(value_error)?, eps).map_err(value_error)?;
    if budget.norm() == Norm::Linf && eps > 1.0 {
        return Err(PyValueError::new_err(format!(
            "eps {eps}: images lie in [0, 1], so that every image is within Linf 1 of any other; did you mean {eps}/255?"
        )));
    }
    Ok(budget)
}

/// Attacks a model: an object with the methods that `_equipoise.pyi` names.
#[pyfunction]
pub fn evaluate<'py>(
    py: Python<'py>,
    model: Py<PyAny>,
    attacks: Vec<Bound<'py, PyAny>>,
    images: PyReadonlyArray4<'py, f32>,
    options: Options,
    watch: Option<Py<PyAny>>,
) -> PyResult<Found<'py>> {
    let budget = budget(&options.norm, options.eps)?;
    let attacks = attacks.iter().map(Tried::new).collect::<PyResult<Vec<_>>>()?;
    let shape: [usize; 4] = images.shape().try_into().map_err(value_error_of_shape)?;
    let images = from_vec(images.as_slice()?.to_vec(), shape, &Device::default());
    let points = Points::new(options.indices.clone(), images, options.labels.clone()).map_err(value_error)?;
    let extra: Map<String, Value> = serde_json::from_str(&options.configuration).map_err(value_error)?;
    let (model, watch) = (Arc::new(model), watch.map(Arc::new));
    let (record, outcome) = serve(py, move |caller| {
        let watch = Watch::new(watch, caller);
        let model = Foreign::new(model, options.classes, caller);
        run(&model, attacks, &points, budget, &options, extra, &watch, caller)
    })??;
    let classes = |classes: &[Option<usize>]| {
        let classes: Vec<i64> = classes.iter().map(|class| class.map_or(-1, |class| class as i64)).collect();
        classes.into_pyarray(py)
    };
    let adversarial = array(py, to_vec(outcome.adversarial), shape)?;
    Ok((record, adversarial, classes(&outcome.clean_predictions), classes(&outcome.adversarial_predictions)))
}

fn value_error_of_shape(_: std::array::TryFromSliceError) -> PyErr {
    PyValueError::new_err("images have the shape [N, C, H, W]")
}

/// An attack that is to be tried.
pub enum Tried {
    Own(Arc<dyn attack::Attack>),
    Written(Written),
}

impl Tried {
    pub fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        match object.cast::<Attack>() {
            Ok(own) => Ok(Self::Own(own.get().inner.clone())),
            Err(_) => Written::new(object).map(Self::Written),
        }
    }

    pub fn called_by(self, caller: &Caller) -> Arc<dyn attack::Attack> {
        match self {
            Self::Own(attack) => attack,
            Self::Written(attack) => Arc::new(attack.called_by(caller)),
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "called once, from where they are made")]
fn run(
    model: &Foreign,
    attacks: Vec<Tried>,
    points: &Points,
    budget: Budget,
    options: &Options,
    extra: Map<String, Value>,
    watch: &Watch,
    caller: &Caller,
) -> PyResult<(String, Outcome)> {
    let expectation = Expectation::new(model, options.draws);
    let victim: &dyn WhiteBox = if options.draws > 1 { &expectation } else { model };
    let mut cascade = Cascade::new("final", model);
    let mut names = Vec::new();
    for attack in attacks {
        let attack = attack.called_by(caller);
        names.push(attack.name());
        let queries = attack.queries(options.classes, budget.norm());
        let work = options.draws as f64 * (3.0 * queries.gradients as f64 + queries.logits as f64);
        // Attacks without gradients come last: what only they break says that the gradient hides something.
        if attack.needs_gradients() {
            cascade.opening.push(Run::new(attack, GRADIENT, victim).costing(work));
        } else {
            let start = cascade.gradient_free.len();
            cascade.gradient_free.push(Run::new(attack, "none", victim).starting(start).costing(work));
        }
    }
    let settings = Settings { budget, seed: options.seed, batch_size: options.batch_size };
    let mut journal = options.journal.as_deref().map(|folder| open(folder, &options.identity)).transpose()?;
    let limit = options.time_limit.map(|seconds| TimeLimit { seconds });
    let journal = journal.as_mut().map(|(journal, _lock)| journal);
    let conditions = Conditions { limit, journal, ..Conditions::default() };
    let mut outcome = run_with(&cascade, points, &settings, watch, conditions).map_err(evaluate_error)?;
    let mut result = outcome.result.clone();
    result.verdict.looks = vec![points.len()];
    result.verdict.margin = Verdict::MARGIN;
    result.flags = checks::of_runs(&result);
    if let Some(plan) = &mut result.plan {
        let left_out = options.left_out.iter().map(|(attack, reason)| NotTried {
            attack: attack.clone(),
            estimator: GRADIENT.to_owned(),
            reason: reason.clone(),
        });
        plan.not_tried.extend(left_out);
    }
    let mut configuration = json!({
        "equipoise": env!("CARGO_PKG_VERSION"),
        "attacks": names,
        "gradients": [GRADIENT],
        "time_limit": options.time_limit,
        "eps": [options.eps],
        "batch_size": options.batch_size,
        "draws": options.draws,
    });
    if let Some(known) = configuration.as_object_mut() {
        known.extend(extra);
    }
    let mut models = vec![Evaluation {
        version: FORMAT_VERSION,
        model: options.name.clone(),
        configuration,
        dataset: options.dataset.clone(),
        classes: options.class_names.clone(),
        norm: budget.norm().to_string(),
        eps: budget.eps(),
        seed: options.seed,
        count: points.len(),
        clean_accuracy: result.clean_accuracy,
        readouts: vec![result],
    }];
    conclude(&mut models);
    outcome.result = models[0].readouts[0].clone();
    let report = Report { models, records: 1, ..Report::default() };
    Ok((render(Format::Json, &report).map_err(value_error)?, outcome))
}

/// A journal, and the lock on its folder.
fn open(folder: &Path, identity: &str) -> PyResult<(Journal, Lock)> {
    let at = |error| PyOSError::new_err(format!("cannot use the journal at {}: {error}", folder.display()));
    fs::create_dir_all(folder).map_err(at)?;
    let lock = lock(folder).map_err(at)?;
    let journal = Journal::open(folder, identity).map_err(|error| evaluate_error(error.into()))?;
    Ok((journal, lock))
}
