//! A DEQ whose stem, cell and head are Python's, as solvers, attacks and diagnoses see it.
//!
//! States and injections are Burn's, in the memory of the CPU, and cross by copy; or they stay PyTorch's tensors on the model's
//! device, if the object has an algebra for them. As for a [`Foreign`](crate::model::Foreign)
//! classifier, everything is NaN once Python has failed, and the observer says so.

use std::fmt;
use std::sync::Arc;

use equipoise::attack::WhiteBox;
use equipoise::batch::{Images, Logits, from_vec, to_vec};
use equipoise::burn::optim::GradientsParams;
use equipoise::burn::tensor::{Device, Tensor};
use equipoise::gradient::Estimator;
use equipoise::model::cell::{BoundCell, FixedPointMap, Linearization};
use equipoise::model::equilibrium::{Equilibrium, ToImages, ToState};
use equipoise::network::Network;
use equipoise::readout::Readout;
use equipoise::state::{Injection, State};
use equipoise::victim::{Deployment, Victim};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::arrays::{array, entries};
use crate::rows::{Algebra, TorchRows};
use crate::serve::Caller;

/// A Python object with the methods of `Deq` in `_equipoise.pyi`.
pub struct ForeignDeq {
    part: Part,
    classes: usize,
    state_dim: usize,
    injection_dim: usize,
}

impl ForeignDeq {
    /// Reads K, D and I.
    pub fn new(object: &Bound<'_, PyAny>, caller: &Caller) -> PyResult<Self> {
        let number = |name: &str| object.getattr(name)?.extract::<usize>();
        Ok(Self {
            classes: number("classes")?,
            state_dim: number("state_dim")?,
            injection_dim: number("injection_dim")?,
            part: Part {
                object: Arc::new(object.clone().unbind()),
                caller: caller.clone(),
                algebra: object
                    .getattr("algebra")?
                    .extract::<Option<Py<PyAny>>>()?
                    .map(|it| Algebra::new(it, caller)),
            },
        })
    }
}

impl fmt::Debug for ForeignDeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a DEQ of Python's with states of length {}", self.state_dim)
    }
}

impl Network for ForeignDeq {
    fn classes(&self) -> usize {
        self.classes
    }

    fn equilibrium(&self) -> Option<&dyn Equilibrium> {
        Some(self)
    }

    fn victim<'a>(
        &'a self,
        deployment: &'a Deployment,
        readout: Readout,
        estimator: Estimator,
    ) -> Box<dyn WhiteBox + 'a> {
        Box::new(Victim::new(self, deployment, readout, estimator))
    }
}

impl Equilibrium for ForeignDeq {
    fn classes(&self) -> usize {
        self.classes
    }

    fn state_dim(&self) -> usize {
        self.state_dim
    }

    fn injection(&self, images: &Images) -> Injection {
        let dims = [images.dims()[0], self.injection_dim];
        self.part.state(self.part.ask("stem", Given::tensor(images), self.part.answer(dims)), dims)
    }

    fn linearize_stem(&self, images: &Images) -> (Injection, ToImages<'_>) {
        let shape = images.dims();
        let dims = [shape[0], self.injection_dim];
        let (injection, way) =
            self.part.linearise("linearise_stem", Given::tensor(images), self.part.answer(dims));
        let to_images = move |cotangent: Injection| {
            tensor(way.ask("__call__", Given::state(&cotangent), Answer::numbers(shape)), shape)
        };
        (self.part.state(injection, dims), Box::new(to_images))
    }

    fn bind(&self, injection: &Injection) -> Box<dyn BoundCell> {
        let [examples, _] = injection.dims();
        let input = Given::state(injection);
        let part = self
            .part
            .call(move |py, object| Ok(object.call_method1("bind", (input?.into_python(py)?,))?.unbind()));
        Box::new(Bind { part: self.part.other(part), examples, dims: [self.state_dim, self.injection_dim] })
    }

    fn logits(&self, state: &State) -> Logits {
        let shape = [state.dims()[0], self.classes];
        tensor(self.part.ask("head", Given::state(state), Answer::numbers(shape)), shape)
    }

    fn linearize_head(&self, state: &State) -> (Logits, ToState<'_>) {
        let (dims, shape) = (state.dims(), [state.dims()[0], self.classes]);
        let (logits, way) =
            self.part.linearise("linearise_head", Given::state(state), Answer::numbers(shape));
        let to_state = move |cotangent: Logits| {
            way.state(way.ask("__call__", Given::tensor(&cotangent), way.answer(dims)), dims)
        };
        (tensor(logits, shape), Box::new(to_state))
    }
}

/// What Python is given: numbers as an array, or a tensor of its own.
enum Given {
    Numbers(Vec<f32>, Vec<usize>),
    Kept(Arc<Py<PyAny>>),
}

impl Given {
    fn tensor<const D: usize>(tensor: &Tensor<D>) -> PyResult<Self> {
        Ok(Self::Numbers(to_vec(tensor.clone()), tensor.dims().to_vec()))
    }

    /// Rows that stay PyTorch's are handed back as they are.
    fn state(state: &State) -> PyResult<Self> {
        if let Some(tensor) = state.as_tensor() {
            return Self::tensor(tensor);
        }
        let gone = || PyRuntimeError::new_err("a state was lost: an error came before");
        state.rows::<TorchRows>().tensor().map(Self::Kept).ok_or_else(gone)
    }

    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Self::Numbers(values, shape) => Ok(array(py, values, shape)?.into_any()),
            Self::Kept(tensor) => Ok(tensor.bind(py).clone()),
        }
    }
}

/// What Python's answer must be.
#[derive(Clone)]
struct Answer {
    shape: Vec<usize>,
    kept: bool,
}

impl Answer {
    fn numbers<const D: usize>(shape: [usize; D]) -> Self {
        Self { shape: shape.to_vec(), kept: false }
    }

    /// # Errors
    ///
    /// If it is of another shape or kind.
    fn read(&self, what: &str, answer: &Bound<'_, PyAny>) -> PyResult<Found> {
        if !self.kept {
            return entries(what, answer, &self.shape).map(Found::Numbers);
        }
        let given: Vec<usize> = answer.getattr("shape")?.extract()?;
        if given != self.shape {
            let problem = format!("the answer of {what} has shape {given:?} instead of {:?}", self.shape);
            return Err(PyValueError::new_err(problem));
        }
        Ok(Found::Kept(answer.clone().unbind()))
    }
}

/// What it was.
enum Found {
    Numbers(Vec<f32>),
    Kept(Py<PyAny>),
}

/// An answer as a tensor; NaN if there is none.
fn tensor<const D: usize>(answer: Option<Found>, shape: [usize; D]) -> Tensor<D> {
    let values = match answer {
        Some(Found::Numbers(values)) => values,
        _ => vec![f32::NAN; shape.iter().product()],
    };
    from_vec(values, shape, &Device::default())
}

/// An object of Python's that is asked on the thread that called.
#[derive(Clone)]
struct Part {
    object: Arc<Py<PyAny>>,
    caller: Caller,
    /// Where states stay PyTorch's.
    algebra: Option<Algebra>,
}

impl Part {
    /// Does something with the object. `None` if Python has failed.
    fn call<T: Send + 'static>(
        &self,
        function: impl for<'py> FnOnce(Python<'py>, &Bound<'py, PyAny>) -> PyResult<T> + Send + 'static,
    ) -> Option<T> {
        let object = self.object.clone();
        self.caller.call(move |py| function(py, object.bind(py)))
    }

    /// What states and injections of these dimensions must come as.
    fn answer(&self, dims: [usize; 2]) -> Answer {
        Answer { shape: dims.to_vec(), kept: self.algebra.is_some() }
    }

    /// An answer as rows.
    fn state(&self, answer: Option<Found>, dims: [usize; 2]) -> State {
        match (&self.algebra, answer) {
            (None, answer) => tensor(answer, dims).into(),
            (Some(algebra), Some(Found::Kept(found))) => algebra.rows(Some(found), dims),
            (Some(algebra), _) => algebra.rows(None, dims),
        }
    }

    /// What a method answers.
    fn ask(&self, method: &'static str, input: PyResult<Given>, expected: Answer) -> Option<Found> {
        self.call(move |py, object| {
            let answer = object.call_method1(method, (input?.into_python(py)?,))?;
            expected.read(method, &answer)
        })
    }

    /// What a method answers, and the object that leads back.
    fn linearise(
        &self,
        method: &'static str,
        input: PyResult<Given>,
        expected: Answer,
    ) -> (Option<Found>, Self) {
        let answer = self.call(move |py, object| {
            let answer = object.call_method1(method, (input?.into_python(py)?,))?;
            let (value, way): (Bound<'_, PyAny>, Py<PyAny>) = answer.extract()?;
            Ok((expected.read(method, &value)?, way))
        });
        let (value, way) = answer.unzip();
        (value, self.other(way))
    }

    /// Another object; the same one, which is not asked any more, if Python has failed.
    fn other(&self, object: Option<Py<PyAny>>) -> Self {
        let object = object.map_or_else(|| self.object.clone(), Arc::new);
        Self { object, ..self.clone() }
    }
}

/// A cell bound to the injection of so many examples.
struct Bind {
    part: Part,
    examples: usize,
    /// D and I.
    dims: [usize; 2],
}

impl Bind {
    fn rows(&self, rows: &[usize]) -> Self {
        let (chosen, examples) = (rows.to_vec(), rows.len());
        let part = self.part.call(move |_, object| Ok(object.call_method1("select", (chosen,))?.unbind()));
        Self { part: self.part.other(part), examples, dims: self.dims }
    }
}

impl FixedPointMap for Bind {
    fn apply(&self, state: &State) -> State {
        let dims = [self.examples, self.dims[0]];
        self.part.state(self.part.ask("apply", Given::state(state), self.part.answer(dims)), dims)
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(self.rows(rows))
    }
}

impl BoundCell for Bind {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        let dims = [self.examples, self.dims[0]];
        let (value, way) = self.part.linearise("linearise", Given::state(state), self.part.answer(dims));
        let value = self.part.state(value, dims);
        Box::new(AtState { way, value, dims: self.dims, of: None })
    }

    fn linearize_rows(&self, state: &State, rows: &[usize]) -> Box<dyn Linearization> {
        self.rows(rows).linearize(&state.select(rows))
    }
}

/// A cell linearised at a state: an object with `vjp_state(u)` and `vjp(u)`.
#[derive(Clone)]
struct AtState {
    way: Part,
    value: State,
    dims: [usize; 2],
    /// If it is a selection: the rows, and of how many. The object knows all of them.
    of: Option<(Vec<usize>, usize)>,
}

impl AtState {
    /// Cotangents of all the object's rows: 0 where they are not selected.
    fn all(&self, cotangent: &State) -> State {
        match &self.of {
            None => cotangent.clone(),
            Some((rows, count)) => cotangent.zeros([*count, self.dims[0]]).put(rows, cotangent),
        }
    }

    fn own(&self, all: State) -> State {
        match &self.of {
            None => all,
            Some((rows, _)) => all.select(rows),
        }
    }

    fn examples(&self) -> usize {
        self.of.as_ref().map_or_else(|| self.value.dims()[0], |(_, count)| *count)
    }
}

impl Linearization for AtState {
    fn value(&self) -> &State {
        &self.value
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        let (way, dims) = (&self.way, [self.examples(), self.dims[0]]);
        self.own(way.state(way.ask("vjp_state", Given::state(&self.all(cotangent)), way.answer(dims)), dims))
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        let (way, dims) = (&self.way, self.dims.map(|width| [self.examples(), width]));
        let (input, expected) = (Given::state(&self.all(cotangent)), dims.map(|dims| way.answer(dims)));
        let answer = way.call(move |py, object| {
            let answer = object.call_method1("vjp", (input?.into_python(py)?,))?;
            let (state, injection): (Bound<'_, PyAny>, Bound<'_, PyAny>) = answer.extract()?;
            Ok((expected[0].read("vjp", &state)?, expected[1].read("vjp", &injection)?))
        });
        let (state, injection) = answer.unzip();
        (self.own(way.state(state, dims[0])), self.own(way.state(injection, dims[1])))
    }

    /// Its parameters are not known here: nothing is added.
    fn vjp_parameters(&self, cotangent: &State, _: &mut GradientsParams) -> (State, Injection) {
        self.vjp(cotangent)
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        let of = match &self.of {
            None => (rows.to_vec(), self.value.dims()[0]),
            Some((own, count)) => (rows.iter().map(|&row| own[row]).collect(), *count),
        };
        Box::new(Self { value: self.value.select(rows), of: Some(of), ..self.clone() })
    }
}
