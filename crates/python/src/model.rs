//! A classifier that is a Python object, as the library's attacks see it.

use std::sync::Arc;

use equipoise::attack::{Classifier, ValueAndGradient, WhiteBox};
use equipoise::batch::{Images, Logits, from_vec, to_vec};
use equipoise::burn::tensor::Device;
use equipoise::loss::Objective;
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArray4, PyArrayMethods, PyReadonlyArray2, PyReadonlyArray4,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::serve::Caller;

/// A Python object with `logits(images)` and `linearise(images)`, which also returns the function that takes a derivative
/// with respect to the logits to one with respect to the images. Once it has failed it answers NaN: the observer
/// says so, and nothing of that is kept.
pub struct Foreign {
    object: Arc<Py<PyAny>>,
    classes: usize,
    caller: Caller,
}

impl Foreign {
    /// An object that answers with so many logits.
    pub fn new(object: Arc<Py<PyAny>>, classes: usize, caller: &Caller) -> Self {
        Self { object, classes, caller: caller.clone() }
    }

    /// Its answer when it has failed.
    fn nothing<const D: usize>(&self, shape: [usize; D]) -> equipoise::burn::tensor::Tensor<D> {
        from_vec(vec![f32::NAN; shape.iter().product()], shape, &Device::default())
    }

    fn tensor(&self, logits: Option<Vec<f32>>, examples: usize) -> Logits {
        let shape = [examples, self.classes];
        logits.map_or_else(|| self.nothing(shape), |logits| from_vec(logits, shape, &Device::default()))
    }
}

impl Classifier for Foreign {
    fn classes(&self) -> usize {
        self.classes
    }

    fn logits(&self, images: &Images) -> Logits {
        let (object, shape, classes) = (self.object.clone(), images.dims(), self.classes);
        let pixels = to_vec(images.clone());
        let logits = self.caller.call(move |py| {
            let images = image_array(py, pixels, shape)?;
            entries(&object.bind(py).call_method1("logits", (images,))?, [shape[0], classes])
        });
        self.tensor(logits, shape[0])
    }
}

impl WhiteBox for Foreign {
    fn value_and_gradient(&self, images: &Images, objective: &dyn Objective) -> ValueAndGradient {
        let (object, shape, classes) = (self.object.clone(), images.dims(), self.classes);
        let pixels = to_vec(images.clone());
        let linearised = self.caller.call(move |py| {
            let images = image_array(py, pixels, shape)?;
            let answer = object.bind(py).call_method1("linearise", (images,))?;
            let (logits, pullback): (Bound<'_, PyAny>, Py<PyAny>) = answer.extract()?;
            Ok((entries(&logits, [shape[0], classes])?, pullback))
        });
        let Some((logits, pullback)) = linearised else {
            let (logits, values) = (self.nothing([shape[0], classes]), self.nothing([shape[0]]));
            return ValueAndGradient { logits, values, gradient: self.nothing(shape) };
        };
        let logits = self.tensor(Some(logits), shape[0]);
        let (values, derivative) = objective.values_and_derivative(&logits);
        let derivative = to_vec(derivative);
        let gradient = self.caller.call(move |py| {
            let derivative = logit_array(py, derivative, [shape[0], classes])?;
            pixels_of(&pullback.bind(py).call1((derivative,))?, shape)
        });
        let gradient =
            gradient.map_or_else(|| self.nothing(shape), |pixels| from_vec(pixels, shape, &images.device()));
        ValueAndGradient { logits, values, gradient }
    }
}

/// Images `[N, C, H, W]` as an array that owns them.
pub fn image_array(
    py: Python<'_>,
    pixels: Vec<f32>,
    shape: [usize; 4],
) -> PyResult<Bound<'_, PyArray4<f32>>> {
    flat(py, pixels).reshape(shape)
}

fn logit_array(py: Python<'_>, entries: Vec<f32>, shape: [usize; 2]) -> PyResult<Bound<'_, PyArray2<f32>>> {
    flat(py, entries).reshape(shape)
}

fn flat(py: Python<'_>, entries: Vec<f32>) -> Bound<'_, PyArray1<f32>> {
    entries.into_pyarray(py)
}

/// The content of an answer of logits.
fn entries(answer: &Bound<'_, PyAny>, shape: [usize; 2]) -> PyResult<Vec<f32>> {
    let array: PyReadonlyArray2<'_, f32> = answer.extract()?;
    expect_shape("logits", array.shape(), &shape)?;
    Ok(array.as_slice()?.to_vec())
}

/// The content of an answer of images, or of something of their shape.
pub fn pixels_of(answer: &Bound<'_, PyAny>, shape: [usize; 4]) -> PyResult<Vec<f32>> {
    let array: PyReadonlyArray4<'_, f32> = answer.extract()?;
    expect_shape("images", array.shape(), &shape)?;
    Ok(array.as_slice()?.to_vec())
}

fn expect_shape(what: &str, given: &[usize], expected: &[usize]) -> PyResult<()> {
    if given == expected {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("the answer of {what} has shape {given:?} instead of {expected:?}")))
}
