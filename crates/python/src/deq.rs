//! A DEQ whose stem, cell and head are Python's, as solvers, attacks and diagnoses see it.
//!
//! States and injections are Burn's, in the memory of the CPU, and cross by copy. As for a [`Foreign`](crate::model::Foreign)
//! classifier, everything is NaN once Python has failed, and the observer says so.

use std::fmt;
use std::sync::Arc;

use equipoise::attack::WhiteBox;
use equipoise::batch::{Images, Logits, from_vec, select, to_vec};
use equipoise::burn::optim::GradientsParams;
use equipoise::burn::tensor::{Device, Tensor};
use equipoise::deployed::{Deployment, Victim};
use equipoise::gradient::Estimator;
use equipoise::model::cell::{BoundCell, FixedPointMap, Linearization};
use equipoise::model::deq::{HeadPullBack, StemPullBack};
use equipoise::model::equilibrium::Equilibrium;
use equipoise::network::Network;
use equipoise::readout::Readout;
use equipoise::state::{Injection, State};
use pyo3::prelude::*;

use crate::arrays::{array, entries};
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
            part: Part { object: Arc::new(object.clone().unbind()), caller: caller.clone() },
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
        self.part.ask("stem", images, [images.dims()[0], self.injection_dim])
    }

    fn linearize_stem(&self, images: &Images) -> (Injection, StemPullBack<'_>) {
        let shape = images.dims();
        let (injection, way) = self.part.linearise("linearise_stem", images, [shape[0], self.injection_dim]);
        (injection, Box::new(move |cotangent| way.ask("__call__", &cotangent, shape)))
    }

    fn bind(&self, injection: &Injection) -> Box<dyn BoundCell> {
        let [examples, _] = injection.dims();
        let input = numbers(injection);
        let part = self.part.call(move |py, object| {
            Ok(object.call_method1("bind", (array(py, input.0, input.1)?,))?.unbind())
        });
        Box::new(Bind { part: self.part.other(part), examples, dims: [self.state_dim, self.injection_dim] })
    }

    fn logits(&self, state: &State) -> Logits {
        self.part.ask("head", state, [state.dims()[0], self.classes])
    }

    fn linearize_head(&self, state: &State) -> (Logits, HeadPullBack<'_>) {
        let shape = state.dims();
        let (logits, way) = self.part.linearise("linearise_head", state, [shape[0], self.classes]);
        (logits, Box::new(move |cotangent| way.ask("__call__", &cotangent, shape)))
    }
}

/// An object of Python's that is asked on the thread that called.
#[derive(Clone)]
struct Part {
    object: Arc<Py<PyAny>>,
    caller: Caller,
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

    /// What a method answers for some numbers.
    fn ask<const A: usize, const B: usize>(
        &self,
        method: &'static str,
        input: &Tensor<A>,
        shape: [usize; B],
    ) -> Tensor<B> {
        let (values, input) = numbers(input);
        let answer = self.call(move |py, object| {
            let answer = object.call_method1(method, (array(py, values, input)?,))?;
            entries(method, &answer, &shape)
        });
        tensor(answer, shape)
    }

    /// What a method answers for some numbers, and the object that leads back.
    fn linearise<const A: usize, const B: usize>(
        &self,
        method: &'static str,
        input: &Tensor<A>,
        shape: [usize; B],
    ) -> (Tensor<B>, Self) {
        let (values, input) = numbers(input);
        let answer = self.call(move |py, object| {
            let answer = object.call_method1(method, (array(py, values, input)?,))?;
            let (value, way): (Bound<'_, PyAny>, Py<PyAny>) = answer.extract()?;
            Ok((entries(method, &value, &shape)?, way))
        });
        let (value, way) = answer.unzip();
        (tensor(value, shape), self.other(way))
    }

    /// Another object; the same one, which is not asked any more, if Python has failed.
    fn other(&self, object: Option<Py<PyAny>>) -> Self {
        let object = object.map_or_else(|| self.object.clone(), Arc::new);
        Self { object, caller: self.caller.clone() }
    }
}

fn numbers<const D: usize>(tensor: &Tensor<D>) -> (Vec<f32>, Vec<usize>) {
    (to_vec(tensor.clone()), tensor.dims().to_vec())
}

/// An answer as a tensor; NaN if there is none.
fn tensor<const D: usize>(answer: Option<Vec<f32>>, shape: [usize; D]) -> Tensor<D> {
    let values = answer.unwrap_or_else(|| vec![f32::NAN; shape.iter().product()]);
    from_vec(values, shape, &Device::default())
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
        self.part.ask("apply", state, [self.examples, self.dims[0]])
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(self.rows(rows))
    }
}

impl BoundCell for Bind {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        let (value, way) = self.part.linearise("linearise", state, [self.examples, self.dims[0]]);
        Box::new(AtState { way, value, dims: self.dims, of: None })
    }

    fn linearize_rows(&self, state: &State, rows: &[usize]) -> Box<dyn Linearization> {
        self.rows(rows).linearize(&select(state, rows))
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
        let Some((rows, count)) = &self.of else { return cotangent.clone() };
        let width = self.dims[0];
        let mut values = vec![0.0; count * width];
        for (&row, selected) in rows.iter().zip(to_vec(cotangent.clone()).chunks(width)) {
            values[row * width..][..width].copy_from_slice(selected);
        }
        from_vec(values, [*count, width], &cotangent.device())
    }

    fn own(&self, all: Tensor<2>) -> Tensor<2> {
        self.of.as_ref().map_or(all.clone(), |(rows, _)| select(&all, rows))
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
        self.own(self.way.ask("vjp_state", &self.all(cotangent), [self.examples(), self.dims[0]]))
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        let shapes = self.dims.map(|width| [self.examples(), width]);
        let (values, input) = numbers(&self.all(cotangent));
        let answer = self.way.call(move |py, object| {
            let answer = object.call_method1("vjp", (array(py, values, input)?,))?;
            let (state, injection): (Bound<'_, PyAny>, Bound<'_, PyAny>) = answer.extract()?;
            Ok((entries("vjp", &state, &shapes[0])?, entries("vjp", &injection, &shapes[1])?))
        });
        let (state, injection) = answer.unzip();
        (self.own(tensor(state, shapes[0])), self.own(tensor(injection, shapes[1])))
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
        Box::new(Self { value: select(&self.value, rows), of: Some(of), ..self.clone() })
    }
}
