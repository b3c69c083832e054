//! Numbers as NumPy arrays, and back.

use numpy::ndarray::IntoDimension;
use numpy::{IntoPyArray, PyArray, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Numbers as an array that owns them.
pub fn array<D: IntoDimension>(
    py: Python<'_>,
    entries: Vec<f32>,
    shape: D,
) -> PyResult<Bound<'_, PyArray<f32, D::Dim>>> {
    entries.into_pyarray(py).reshape(shape)
}

/// The content of an answer that must have a shape.
///
/// # Errors
///
/// If it is no array of float32, not contiguous, or of another shape.
pub fn entries(what: &str, answer: &Bound<'_, PyAny>, shape: &[usize]) -> PyResult<Vec<f32>> {
    let array: PyReadonlyArrayDyn<'_, f32> = answer.extract()?;
    let given = array.shape();
    if given != shape {
        return Err(PyValueError::new_err(format!(
            "the answer of {what} has shape {given:?} instead of {shape:?}"
        )));
    }
    Ok(array.as_slice()?.to_vec())
}
