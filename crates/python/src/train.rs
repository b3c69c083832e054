//! Training of the library's own architectures, by a recipe from Python, in one process or in several.

use std::path::PathBuf;
use std::sync::Arc;

use equipoise::architecture::Architecture;
use equipoise::burn::tensor::Device;
use equipoise::checkpoint::{FORMAT_VERSION, Metadata};
use equipoise::train::{
    Alone, CheckpointError, EpochReport, Observer, Plan, Ranks, RanksError, StepReport, TrainConfig,
    TrainError, train_together,
};
use equipoise::victim::Deployment;
use equipoise_dataset::{Dataset, Pixels};
use numpy::{PyReadonlyArray4, PyUntypedArrayMethods};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::errors::value_error;
use crate::serve::{Caller, serve};

/// What is trained and how, as JSON: the tables of a recipe file, and what a command takes as flags.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    name: String,
    dataset: String,
    classes: usize,
    /// The name of an architecture, or one in full.
    model: Value,
    deployment: Option<Deployment>,
    train: TrainConfig,
    seed: u64,
    out: PathBuf,
    resume: bool,
}

/// Trains a model file into a folder. What became of it, as JSON.
#[pyfunction]
pub fn train(
    py: Python<'_>,
    images: PyReadonlyArray4<'_, f32>,
    labels: Vec<usize>,
    request: &str,
    ranks: Option<Py<PyAny>>,
    watch: Option<Py<PyAny>>,
) -> PyResult<String> {
    let request: Request = serde_json::from_str(request).map_err(value_error)?;
    let [_, shape @ ..] = <[usize; 4]>::try_from(images.shape()).map_err(value_error)?;
    let names = (0..request.classes).map(|class| class.to_string()).collect();
    let pixels = Pixels::F32(images.as_slice()?.to_vec());
    let data =
        Dataset::new(request.dataset, shape, request.classes, names, pixels, labels).map_err(value_error)?;
    let architecture = architecture(request.model)?.for_data(shape, request.classes);
    let plan = Plan {
        metadata: Metadata {
            format_version: FORMAT_VERSION,
            name: request.name,
            architecture,
            deployment: request.deployment.unwrap_or_default(),
            training: Value::Null,
            data: String::new(),
        },
        config: request.train,
        data: &data,
        init: None,
        seed: request.seed,
        folder: request.out,
        resume: request.resume,
    };
    let ranks = ranks.map(|object| Foreign::new(py, object)).transpose()?;
    let watch = watch.map(Arc::new);
    let outcome = serve(py, |caller| {
        let watch = Watch { object: watch, caller: caller.clone() };
        let ranks: Box<dyn Ranks> = match ranks {
            None => Box::new(Alone),
            Some(ranks) => Box::new(Called { ranks, caller: caller.clone() }),
        };
        train_together(&plan, &*ranks, &Device::default(), &watch)
    })?;
    let outcome = outcome.map_err(train_error)?;
    let best = outcome.best.map(|best| best.epoch);
    Ok(json!({ "complete": outcome.complete, "history": outcome.history, "best_epoch": best }).to_string())
}

fn architecture(model: Value) -> PyResult<Architecture> {
    match model {
        Value::String(name) => Architecture::named(&name).ok_or_else(|| {
            value_error(format!("unknown model {name}: use {}, or a table", Architecture::names().join(", ")))
        }),
        table => serde_json::from_value(table).map_err(|error| value_error(format!("model: {error}"))),
    }
}

fn train_error(error: TrainError) -> PyErr {
    let message = error.to_string();
    match error {
        TrainError::Ranks { .. } | TrainError::NonFinite { .. } => PyRuntimeError::new_err(message),
        TrainError::Checkpoint(CheckpointError::Io { .. }) => PyOSError::new_err(message),
        _ => value_error(message),
    }
}

/// An object with `rank`, `size`, `all_to_all` and `all_gather`.
struct Foreign {
    object: Arc<Py<PyAny>>,
    rank: usize,
    size: usize,
}

impl Foreign {
    fn new(py: Python<'_>, object: Py<PyAny>) -> PyResult<Self> {
        let number = |name: &str| object.bind(py).getattr(name)?.extract::<usize>();
        let (rank, size) = (number("rank")?, number("size")?);
        if rank >= size {
            return Err(value_error(format!("ranks: rank {rank} of {size}; ranks count from 0")));
        }
        Ok(Self { object: Arc::new(object), rank, size })
    }
}

/// The same while it may be called. What it raises ends the training, and is raised there.
struct Called {
    ranks: Foreign,
    caller: Caller,
}

impl Called {
    fn ask<A>(&self, method: &'static str, argument: A) -> Result<Vec<Vec<u8>>, RanksError>
    where
        A: FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send + 'static,
    {
        let (object, size) = (self.ranks.object.clone(), self.ranks.size);
        let answer = self.caller.call(move |py| {
            let answer = object.bind(py).call_method1(method, (argument(py)?,))?;
            let parts: Vec<Vec<u8>> = answer.extract()?;
            if parts.len() == size {
                return Ok(parts);
            }
            Err(value_error(format!("ranks.{method} answered with {} parts instead of {size}", parts.len())))
        });
        answer.ok_or_else(|| RanksError::lost(self, "its exchange failed"))
    }
}

impl Ranks for Called {
    fn rank(&self) -> usize {
        self.ranks.rank
    }

    fn size(&self) -> usize {
        self.ranks.size
    }

    fn all_to_all(&self, parts: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, RanksError> {
        self.ask("all_to_all", move |py| {
            let parts: Vec<_> = parts.iter().map(|part| PyBytes::new(py, part)).collect();
            Ok(parts.into_pyobject(py)?.into_any().unbind())
        })
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RanksError> {
        self.ask("all_gather", move |py| Ok(PyBytes::new(py, &own).into_any().unbind()))
    }
}

/// Tells a Python object `begin(step, steps)`, `step(step, loss, accuracy)` and `epoch(report)`, the last as JSON.
struct Watch {
    object: Option<Arc<Py<PyAny>>>,
    caller: Caller,
}

impl Watch {
    fn tell(&self, call: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<()> + Send + 'static) {
        let Some(object) = self.object.clone() else { return };
        self.caller.call(move |py| call(object.bind(py)));
    }
}

impl Observer for Watch {
    fn begin(&self, step: usize, steps: usize) {
        self.tell(move |object| object.call_method1("begin", (step, steps)).map(|_| ()));
    }

    fn step(&self, report: &StepReport) {
        let StepReport { step, loss, accuracy, .. } = *report;
        self.tell(move |object| object.call_method1("step", (step, loss, accuracy)).map(|_| ()));
    }

    fn epoch(&self, report: &EpochReport) {
        let report = json!(report).to_string();
        self.tell(move |object| object.call_method1("epoch", (report,)).map(|_| ()));
    }

    fn cancelled(&self) -> bool {
        self.caller.stopped()
    }
}
