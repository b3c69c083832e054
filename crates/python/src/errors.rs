//! Errors of the library as Python's exceptions.

use equipoise::evaluate::{EvaluateError, JournalError};
use pyo3::PyErr;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};

/// Bad input.
pub fn value_error(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Bad input, a file that cannot be used, or a broken contract.
pub fn evaluate_error(error: EvaluateError) -> PyErr {
    let message = error.to_string();
    match error {
        EvaluateError::Journal(JournalError::File { .. }) => PyOSError::new_err(message),
        EvaluateError::Shape { .. } | EvaluateError::OutsideBudget { .. } | EvaluateError::Logits { .. } => {
            PyRuntimeError::new_err(message)
        }
        _ => PyValueError::new_err(message),
    }
}
