//! Attacks: the library's own under their names or with each of their settings, and objects written in Python.

use std::ops::ControlFlow;
use std::sync::Arc;

use equipoise::attack::{
    self, Apgd, ApgdConfig, ApgdLoss, Attempt, Budget, Examples, Fab, FabConfig, Norm, Progress, Queries,
    Schedule, Search, Square, SquareConfig, Step, TargetOrder, WhiteBox,
};
use equipoise::batch::{from_vec, to_vec};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{array, entries};
use crate::errors::value_error;
use crate::serve::Caller;

/// One of the library's attacks.
#[pyclass(frozen, module = "equipoise._equipoise")]
pub struct Attack {
    pub inner: Arc<dyn attack::Attack>,
}

impl Attack {
    fn of(inner: impl attack::Attack + 'static) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

#[pymethods]
impl Attack {
    /// The attacks of a name or of a set, such as `pgd-10x5` or `autoattack`.
    #[staticmethod]
    fn named(name: &str) -> PyResult<Vec<Self>> {
        let set = attack::set(name).map_err(value_error)?;
        Ok(set.into_iter().map(|attack| Self { inner: Arc::from(attack) }).collect())
    }

    /// APGD on the loss `ce`, `dlr`, `pma`, or `dlr-targeted` with so many targets.
    #[staticmethod]
    #[pyo3(signature = (loss, *, iterations, restarts, targets, rho))]
    fn apgd(loss: &str, iterations: usize, restarts: usize, targets: usize, rho: f64) -> PyResult<Self> {
        let loss = match loss {
            "ce" => ApgdLoss::CrossEntropy,
            "dlr" => ApgdLoss::Dlr,
            "pma" => ApgdLoss::ProbabilityMargin,
            "dlr-targeted" => ApgdLoss::TargetedDlr { targets, order: TargetOrder::Likely },
            other => {
                return Err(PyValueError::new_err(format!(
                    "APGD has no loss {other:?}: ce, dlr, pma or dlr-targeted"
                )));
            }
        };
        let config = ApgdConfig { iterations, restarts, loss, rho, ..ApgdConfig::default() };
        Apgd::new(config).map(Self::of).map_err(value_error)
    }

    /// FAB, with so many target classes or without.
    #[staticmethod]
    #[pyo3(signature = (*, iterations, restarts, targets, alpha_max, eta, beta))]
    fn fab(
        iterations: usize,
        restarts: usize,
        targets: Option<usize>,
        alpha_max: f64,
        eta: f64,
        beta: f64,
    ) -> PyResult<Self> {
        let config = FabConfig { iterations, restarts, targets, alpha_max, eta, beta };
        Fab::new(config).map(Self::of).map_err(value_error)
    }

    /// Square Attack whose first squares cover a share of the image.
    #[staticmethod]
    #[pyo3(signature = (*, queries, restarts, share))]
    fn square(queries: usize, restarts: usize, share: f64) -> PyResult<Self> {
        Square::new(SquareConfig { queries, restarts, share }).map(Self::of).map_err(value_error)
    }

    /// Its name in tables.
    #[getter]
    fn name(&self) -> String {
        self.inner.name()
    }

    /// Why a model of so many classes cannot be attacked this way in this norm, or None.
    fn refusal(&self, classes: usize, norm: &str) -> PyResult<Option<String>> {
        let norm: Norm = norm.parse().map_err(value_error)?;
        let classes = self.inner.check(classes).err().map(|error| error.to_string());
        Ok(classes.or_else(|| self.inner.check_norm(norm).err().map(|error| error.to_string())))
    }

    fn __repr__(&self) -> String {
        format!("<attack {}: {}>", self.inner.name(), self.inner.settings())
    }
}

/// An attack written in Python: an object with `name`, `settings`, `gradient_free` and
/// `attempt(images, labels, indices, seed, start)`. What it returns is projected onto the budget; it claims nothing.
pub struct Written {
    object: Arc<Py<PyAny>>,
    name: String,
    settings: String,
    gradient_free: bool,
    caller: Option<Caller>,
}

impl Written {
    /// Reads what is asked of it beforehand.
    pub fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            name: object.getattr("name")?.extract()?,
            settings: object.getattr("settings")?.extract()?,
            gradient_free: object.getattr("gradient_free")?.extract()?,
            object: Arc::new(object.clone().unbind()),
            caller: None,
        })
    }

    /// The same, with somebody to ask.
    pub fn called_by(self, caller: &Caller) -> Self {
        Self { caller: Some(caller.clone()), ..self }
    }
}

impl attack::Attack for Written {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }

    fn needs_gradients(&self) -> bool {
        !self.gradient_free
    }

    /// What it asks is not known: as much as one step of others.
    fn schedule(&self, _classes: usize, _norm: Norm) -> Schedule {
        let free = self.gradient_free;
        Schedule::new(1, 1, Queries { gradients: usize::from(!free), logits: usize::from(free) })
    }

    /// Carried out by [`Self::run_with`], in Python.
    fn search(&self, _: &mut Search<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn run_with(
        &self,
        _victim: &dyn WhiteBox,
        examples: &Examples<'_>,
        budget: &Budget,
        progress: &dyn Progress,
    ) -> Attempt {
        let (shape, count) = (examples.images.dims(), examples.labels.len());
        let step = Step { done: 0, total: 1, examples: count, standing: count };
        let (Some(caller), true) = (&self.caller, progress.step(step).is_continue()) else {
            return Attempt::nothing(examples);
        };
        let (object, pixels) = (self.object.clone(), to_vec(examples.images.clone()));
        let (labels, indices) = (examples.labels.to_vec(), examples.indices.to_vec());
        let (seed, start) = (examples.seed, examples.start);
        let found = caller.call(move |py| {
            let images = array(py, pixels, shape)?;
            let found = object.bind(py).call_method1("attempt", (images, labels, indices, seed, start))?;
            entries("attempt", &found, &shape)
        });
        let Some(found) = found else { return Attempt::nothing(examples) };
        let images = budget.project(examples.images, &from_vec(found, shape, &examples.images.device()));
        Attempt { images, claimed: vec![false; count] }
    }
}
