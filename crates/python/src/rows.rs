//! States that stay PyTorch's tensors, on whatever device: their algebra is an object of Python's.

use std::sync::Arc;

use equipoise::state::{BroydenStep, Correction, Rows, State};
use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::serve::Caller;

/// Who computes with such tensors: an object with the methods of `Algebra` in `_equipoise.pyi`, and how it is asked.
#[derive(Clone)]
pub struct Algebra {
    object: Arc<Py<PyAny>>,
    caller: Caller,
}

impl Algebra {
    /// Asks an object of Python's.
    pub fn new(object: Py<PyAny>, caller: &Caller) -> Self {
        Self { object: Arc::new(object), caller: caller.clone() }
    }

    /// A tensor `[N, D]` as rows; without one, rows that nothing is known of, since Python has failed.
    pub fn rows(&self, tensor: Option<Py<PyAny>>, dims: [usize; 2]) -> State {
        TorchRows { tensor: tensor.map(Arc::new), dims, algebra: self.clone() }.into()
    }
}

/// A tensor of PyTorch's, `[N, D]`. Once Python has failed there is none, and every number is NaN: the observer says so, and what
/// was computed meanwhile is thrown away.
pub struct TorchRows {
    tensor: Option<Arc<Py<PyAny>>>,
    dims: [usize; 2],
    algebra: Algebra,
}

type Tensor = Arc<Py<PyAny>>;

impl TorchRows {
    /// The tensor, unless Python has failed.
    pub fn tensor(&self) -> Option<Tensor> {
        self.tensor.clone()
    }

    /// Asks the algebra about this tensor and others.
    fn ask<T: Send + 'static>(
        &self,
        others: impl IntoIterator<Item = Option<Tensor>>,
        question: impl for<'py> FnOnce(&Bound<'py, PyAny>, Vec<Bound<'py, PyAny>>) -> PyResult<T> + Send + 'static,
    ) -> Option<T> {
        let tensors: Vec<Tensor> = std::iter::once(self.tensor()).chain(others).collect::<Option<_>>()?;
        let algebra = self.algebra.object.clone();
        self.algebra.caller.call(move |py| {
            let tensors = tensors.iter().map(|tensor| tensor.bind(py).clone()).collect();
            question(algebra.bind(py), tensors)
        })
    }

    /// A method that takes this tensor and others one after another.
    fn method(&self, name: &'static str, others: &[&State], dims: [usize; 2]) -> State {
        let others: Vec<_> = others.iter().map(|other| other.rows::<Self>().tensor()).collect();
        let found = self.ask(others, move |algebra, tensors| {
            let arguments = pyo3::types::PyTuple::new(algebra.py(), tensors)?;
            Ok(algebra.call_method1(name, arguments)?.unbind())
        });
        self.algebra.rows(found, dims)
    }
}

impl Rows for TorchRows {
    fn dims(&self) -> [usize; 2] {
        self.dims
    }

    fn duplicate(&self) -> State {
        Self { tensor: self.tensor(), dims: self.dims, algebra: self.algebra.clone() }.into()
    }

    fn plus(self: Box<Self>, other: State) -> State {
        self.method("plus", &[&other], self.dims)
    }

    fn minus(self: Box<Self>, other: State) -> State {
        self.method("minus", &[&other], self.dims)
    }

    fn scaled(self: Box<Self>, factor: f64) -> State {
        let found = self.ask([], move |algebra, tensors| {
            Ok(algebra.call_method1("scaled", (&tensors[0], factor))?.unbind())
        });
        self.algebra.rows(found, self.dims)
    }

    fn times(self: Box<Self>, column: &State) -> State {
        self.method("times", &[column], self.dims)
    }

    fn over(self: Box<Self>, column: &State) -> State {
        self.method("over", &[column], self.dims)
    }

    fn dot(&self, other: &State) -> State {
        self.method("dot", &[other], [self.dims[0], 1])
    }

    fn select(&self, rows: &[usize]) -> State {
        let (chosen, dims) = (rows.to_vec(), [rows.len(), self.dims[1]]);
        let found = self.ask([], move |algebra, tensors| {
            Ok(algebra.call_method1("select", (&tensors[0], chosen))?.unbind())
        });
        self.algebra.rows(found, dims)
    }

    fn put(&self, rows: &[usize], part: &State) -> State {
        let rows = rows.to_vec();
        let found = self.ask([part.rows::<Self>().tensor()], move |algebra, tensors| {
            Ok(algebra.call_method1("put", (&tensors[0], rows, &tensors[1]))?.unbind())
        });
        self.algebra.rows(found, self.dims)
    }

    fn stack(self: Box<Self>, below: Vec<State>) -> State {
        let count = self.dims[0] + below.iter().map(|state| state.dims()[0]).sum::<usize>();
        let others: Vec<_> = below.iter().map(|state| state.rows::<Self>().tensor()).collect();
        let found =
            self.ask(others, |algebra, tensors| Ok(algebra.call_method1("stack", (tensors,))?.unbind()));
        self.algebra.rows(found, [count, self.dims[1]])
    }

    fn zeros(&self, dims: [usize; 2]) -> State {
        let found = self.ask([], move |algebra, tensors| {
            Ok(algebra.call_method1("zeros", (&tensors[0], dims[0], dims[1]))?.unbind())
        });
        self.algebra.rows(found, dims)
    }

    fn like(&self, numbers: Vec<f64>, width: usize) -> State {
        let dims = [numbers.len() / width, width];
        let found = self.ask([], move |algebra, tensors| {
            let numbers = numbers.into_pyarray(algebra.py());
            Ok(algebra.call_method1("like", (&tensors[0], numbers, width))?.unbind())
        });
        self.algebra.rows(found, dims)
    }

    fn finite_or_zero(self: Box<Self>) -> State {
        self.method("finite_or_zero", &[], self.dims)
    }

    fn numbers(&self) -> Vec<f64> {
        let found = self.ask([], |algebra, tensors| host(&algebra.call_method1("numbers", (&tensors[0],))?));
        found.unwrap_or_else(|| vec![f64::NAN; self.dims[0] * self.dims[1]])
    }

    /// One call for the whole step: its many small operations would cost a call each.
    fn broyden(&self, step: &BroydenStep<'_>) -> Option<(State, Option<Correction>)> {
        let previous = step.previous.into_iter();
        let others = std::iter::once(step.residual)
            .chain(previous.chain(step.corrections).flat_map(|(a, b)| [a, b]))
            .map(|state| state.rows::<Self>().tensor())
            .collect::<Vec<_>>();
        let (corrects, next) = (step.previous.is_some(), step.next);
        let found = self.ask(others, move |algebra, tensors| {
            let (own, held) = (&tensors[..2], &tensors[2..]);
            let (previous, held) = held.split_at(if corrects { 2 } else { 0 });
            let pairs = |flat: &[Bound<'_, PyAny>]| -> Vec<(Py<PyAny>, Py<PyAny>)> {
                flat.chunks(2).map(|pair| (pair[0].clone().unbind(), pair[1].clone().unbind())).collect()
            };
            let arguments = (&own[0], &own[1], pairs(previous).pop(), pairs(held), next);
            let answer = algebra.call_method1("broyden", arguments)?;
            answer.extract::<(Py<PyAny>, Option<(Py<PyAny>, Py<PyAny>)>)>()
        });
        let rows = |tensor| self.algebra.rows(tensor, self.dims);
        let Some((result, correction)) = found else {
            return Some((rows(None), corrects.then(|| (rows(None), rows(None)))));
        };
        Some((rows(Some(result)), correction.map(|(u, v)| (rows(Some(u)), rows(Some(v))))))
    }

    /// One way across for all norms.
    fn residual(&self, value: &State) -> (State, Vec<(f64, f64)>) {
        let found = self.ask([value.rows::<Self>().tensor()], |algebra, tensors| {
            let answer = algebra.call_method1("residual", (&tensors[0], &tensors[1]))?;
            let (residual, norms): (Py<PyAny>, Bound<'_, PyAny>) = answer.extract()?;
            Ok((residual, host(&norms)?))
        });
        let (residual, norms) = found.unzip();
        let norms = norms.unwrap_or_else(|| vec![f64::NAN; 2 * self.dims[0]]);
        let (residuals, values) = norms.split_at(self.dims[0]);
        let pairs = residuals.iter().copied().zip(values.iter().copied()).collect();
        (self.algebra.rows(residual, self.dims), pairs)
    }
}

/// The content of an array of float64.
fn host(array: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
    let array: PyReadonlyArray1<'_, f64> = array.extract()?;
    Ok(array.as_slice()?.to_vec())
}
