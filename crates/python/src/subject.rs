//! Whose robustness is asked: a DEQ of Python's callables, or a model file of Equipoise's own.

use std::path::PathBuf;
use std::sync::Arc;

use equipoise::batch::{from_vec, to_vec};
use equipoise::burn::tensor::Device;
use equipoise::checkpoint::ModelFile;
use equipoise::network::Network;
use equipoise::readout::Readout;
use equipoise::victim::Deployment;
use numpy::{PyArray2, PyReadonlyArray4, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::array;
use crate::deq::ForeignDeq;
use crate::errors::value_error;
use crate::serve::{Caller, serve};

/// A model file, which is computed without Python.
#[pyclass(frozen, module = "equipoise._equipoise")]
pub struct Native {
    file: Arc<ModelFile>,
    hash: String,
}

#[pymethods]
impl Native {
    /// Reads a `.safetensors` file of Equipoise's.
    #[staticmethod]
    fn read(path: PathBuf) -> PyResult<Self> {
        let file = ModelFile::read(&path, &Device::default()).map_err(value_error)?;
        let bytes = std::fs::read(&path)?;
        Ok(Self { file: Arc::new(file), hash: equipoise_files::sha256(&bytes) })
    }

    /// A short name.
    #[getter]
    fn name(&self) -> &str {
        &self.file.metadata.name
    }

    /// In a few words, what kind of model it is.
    #[getter]
    fn description(&self) -> String {
        self.file.metadata.architecture.describe()
    }

    /// What tells its file from others: its SHA-256.
    #[getter]
    fn identity(&self) -> &str {
        &self.hash
    }

    /// Number of classes.
    #[getter]
    fn classes(&self) -> usize {
        self.file.metadata.architecture.classes()
    }

    /// C, H, W of the images that it takes.
    #[getter]
    fn image(&self) -> (usize, usize, usize) {
        let [c, h, w] = self.file.metadata.architecture.image();
        (c, h, w)
    }

    /// Its deployment, as JSON.
    #[getter]
    fn deployment(&self) -> String {
        json(&self.file.metadata.deployment)
    }

    /// All of its file but the weights, as JSON.
    #[getter]
    fn metadata(&self) -> String {
        json(&self.file.metadata)
    }

    /// Whether it has an equilibrium.
    #[getter]
    fn is_equilibrium(&self) -> bool {
        self.file.model.equilibrium().is_some()
    }

    fn __repr__(&self) -> String {
        format!("<{}: {}>", self.name(), self.description())
    }
}

impl Native {
    /// What was read.
    pub fn file(&self) -> Arc<ModelFile> {
        self.file.clone()
    }
}

fn json(data: &impl serde::Serialize) -> String {
    serde_json::to_string(data).expect("plain data")
}

/// A model that has not been asked yet.
#[derive(Clone)]
pub enum Subject {
    Foreign(Arc<Py<PyAny>>),
    Native(Arc<ModelFile>),
}

impl Subject {
    /// A `Native` model, or an object with the methods of `Deq` in `_equipoise.pyi`.
    pub fn new(object: &Bound<'_, PyAny>) -> Self {
        match object.cast::<Native>() {
            Ok(native) => Self::Native(native.get().file.clone()),
            Err(_) => Self::Foreign(Arc::new(object.clone().unbind())),
        }
    }

    /// The same with somebody to ask. `None` if Python has failed.
    pub fn asked_by(&self, caller: &Caller) -> Option<Box<dyn Network>> {
        match self {
            Self::Foreign(object) => {
                let (object, asked) = (object.clone(), caller.clone());
                let deq = caller.call(move |py| ForeignDeq::new(object.bind(py), &asked))?;
                Some(Box::new(deq))
            }
            // A clone shares the weights.
            Self::Native(file) => Some(file.model.clone()),
        }
    }
}

/// Reads a deployment, and refuses one that makes no sense.
pub fn deployment(text: &str) -> PyResult<Deployment> {
    let deployment: Deployment = serde_json::from_str(text).map_err(value_error)?;
    deployment.validate().map_err(value_error)?;
    Ok(deployment)
}

/// A deployment with all that was left out, as JSON; refuses one that makes no sense.
#[pyfunction]
pub fn checked_deployment(text: &str) -> PyResult<String> {
    deployment(text).map(|deployment| json(&deployment))
}

/// Reads a readout, and refuses one that the deployment does not have.
pub fn readout(text: &str, deployment: &Deployment) -> PyResult<Readout> {
    let readout: Readout = text.parse().map_err(value_error)?;
    readout.check(deployment.solver.steps).map_err(value_error)?;
    Ok(readout)
}

/// Logits `[N, K]` of a model behind a readout.
#[pyfunction]
pub fn logits<'py>(
    py: Python<'py>,
    model: &Bound<'py, PyAny>,
    images: PyReadonlyArray4<'py, f32>,
    deployment: &str,
    readout: &str,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let deployment = self::deployment(deployment)?;
    let readout = self::readout(readout, &deployment)?;
    let subject = Subject::new(model);
    let (pixels, shape) = pixels(&images)?;
    let estimator = deployment.training_gradient.clone();
    let answer = serve(py, move |caller| {
        let network = subject.asked_by(caller)?;
        let images = from_vec(pixels, shape, &Device::default());
        let logits = network.victim(&deployment, readout, estimator).logits(&images);
        Some((logits.dims(), to_vec(logits)))
    })?;
    let (shape, logits) = answer.ok_or_else(|| PyValueError::new_err("no answer"))?;
    array(py, logits, shape)
}

/// Images and their shape.
pub fn pixels(images: &PyReadonlyArray4<'_, f32>) -> PyResult<(Vec<f32>, [usize; 4])> {
    let shape =
        images.shape().try_into().map_err(|_| PyValueError::new_err("images have the shape [N, C, H, W]"))?;
    Ok((images.as_slice()?.to_vec(), shape))
}
