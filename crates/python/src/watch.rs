//! What an evaluation tells while it runs, to a Python object, and whether it is to stop.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use equipoise::attack::Step;
use equipoise::evaluate::Observer;
use pyo3::call::PyCallArgs;
use pyo3::prelude::*;

use crate::serve::Caller;

/// Steps are told no more often.
const PACE: Duration = Duration::from_millis(100);

/// Tells a Python object `stage(label, total)`, `advance(examples, met, broken)` and `beat(done, total, standing)`.
pub struct Watch {
    object: Option<Arc<Py<PyAny>>>,
    caller: Caller,
    counts: Cell<(usize, usize)>,
    told: Cell<Option<Instant>>,
}

impl Watch {
    /// Tells nobody where there is no object.
    pub fn new(object: Option<Arc<Py<PyAny>>>, caller: &Caller) -> Self {
        Self { object, caller: caller.clone(), counts: Cell::default(), told: Cell::default() }
    }

    fn tell<A>(&self, method: &'static str, arguments: A)
    where
        A: for<'py> PyCallArgs<'py> + Send + 'static,
    {
        let Some(object) = self.object.clone() else { return };
        self.caller.call(move |py| object.bind(py).call_method1(method, arguments).map(|_| ()));
    }
}

impl Observer for Watch {
    fn stage(&self, label: &str, total: usize) {
        self.tell("stage", (label.to_owned(), total));
    }

    fn counts(&self, met: usize, broken: usize) {
        self.counts.set((met, broken));
    }

    fn advance(&self, examples: usize, _note: &str) {
        let (met, broken) = self.counts.get();
        self.tell("advance", (examples, met, broken));
    }

    fn step(&self, Step { done, total, standing, .. }: Step) -> ControlFlow<()> {
        if self.told.get().is_none_or(|told| told.elapsed() >= PACE) {
            self.told.set(Some(Instant::now()));
            self.tell("beat", (done, total, standing));
        }
        if self.caller.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn cancelled(&self) -> bool {
        self.caller.stopped()
    }

    fn failed(&self) -> bool {
        self.caller.stopped()
    }
}
