//! The private extension module below the Python package `equipoise`: attacks and their evaluation, for a classifier that is
//! a Python object.
//!
//! Everything that knows PyTorch is Python, in `python/equipoise/_torch.py`. Here a classifier is an object with two methods
//! on NumPy arrays, `logits` and `linearise`, a DEQ one with stem, cell and head, and an attack written in Python one with a method
//! `attempt`.
//! `python/equipoise/_equipoise.pyi` has the types.

mod adversary;
mod arrays;
mod assess;
mod attack;
mod certify;
mod deq;
mod diagnose;
mod errors;
mod evaluate;
mod model;
mod report;
mod rows;
mod serve;
mod subject;
mod train;
mod watch;

use pyo3::prelude::*;

/// The extension module.
#[pymodule]
mod _equipoise {
    #[pymodule_export]
    use super::adversary::{adversary, gradient};
    #[pymodule_export]
    use super::assess::assess;
    #[pymodule_export]
    use super::attack::Attack;
    #[pymodule_export]
    use super::certify::{certify, predict, prove};
    #[pymodule_export]
    use super::diagnose::diagnose;
    #[pymodule_export]
    use super::evaluate::{check_budget, evaluate};
    #[pymodule_export]
    use super::report::{render, statements};
    #[pymodule_export]
    use super::serve::{num_threads, set_num_threads};
    #[pymodule_export]
    use super::subject::{Native, checked_deployment, logits};
    #[pymodule_export]
    use super::train::train;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module
            .add("METHODS", equipoise::certify::Method::ALL.map(equipoise::certify::Method::name).to_vec())?;
        module.add("SECTIONS", super::diagnose::sections())?;
        module.add("ONE_GRADIENT", equipoise::plan::ONE_GRADIENT.to_vec())
    }
}
