//! A classifier that is a Python object, as the library's attacks see it.

use std::sync::Arc;

use equipoise::attack::{Classifier, Question, ValueAndGradient, WhiteBox};
use equipoise::batch::{Logits, from_vec, to_vec};
use equipoise::burn::tensor::Device;
use equipoise::loss::Objective;
use pyo3::prelude::*;

use crate::arrays::{array, entries};
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

    fn answer(&self, question: &Question<'_>) -> Logits {
        let images = question.images;
        let (object, shape, classes) = (self.object.clone(), images.dims(), self.classes);
        let pixels = to_vec(images.clone());
        let logits = self.caller.call(move |py| {
            let images = array(py, pixels, shape)?;
            entries("logits", &object.bind(py).call_method1("logits", (images,))?, &[shape[0], classes])
        });
        self.tensor(logits, shape[0])
    }
}

impl WhiteBox for Foreign {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        let images = question.images;
        let (object, shape, classes) = (self.object.clone(), images.dims(), self.classes);
        let pixels = to_vec(images.clone());
        let linearised = self.caller.call(move |py| {
            let images = array(py, pixels, shape)?;
            let answer = object.bind(py).call_method1("linearise", (images,))?;
            let (logits, pullback): (Bound<'_, PyAny>, Py<PyAny>) = answer.extract()?;
            Ok((entries("linearise", &logits, &[shape[0], classes])?, pullback))
        });
        let Some((logits, pullback)) = linearised else {
            let (logits, values) = (self.nothing([shape[0], classes]), self.nothing([shape[0]]));
            return ValueAndGradient { logits, values, gradient: self.nothing(shape) };
        };
        let logits = self.tensor(Some(logits), shape[0]);
        let (values, derivative) = objective.values_and_derivative(&logits);
        let derivative = to_vec(derivative);
        let gradient = self.caller.call(move |py| {
            let derivative = array(py, derivative, [shape[0], classes])?;
            entries("a way back to images", &pullback.bind(py).call1((derivative,))?, &shape)
        });
        let gradient =
            gradient.map_or_else(|| self.nothing(shape), |pixels| from_vec(pixels, shape, &images.device()));
        ValueAndGradient { logits, values, gradient }
    }
}
