//! Tensors out of PyTorch checkpoints.
//!
//! `pytorch-reader` interprets the pickle without running anything from it: it knows the few constructors that
//! tensors are made of, and whatever else a pickle names stays data. It reads the zip, tar and legacy pickle
//! containers and gives raw tensors by name, row-major whatever their strides.

use std::path::Path;

use pytorch_reader::PytorchReader;

use super::error::ImportError;
use super::tensors::Tensors;
use super::zip_end::unambiguous;

/// The tensors of a checkpoint by their dotted path through its dictionaries.
pub(super) fn read(path: &Path) -> Result<Tensors, ImportError> {
    let unreadable = |problem: String| ImportError::Checkpoint { path: path.to_owned(), problem };
    let copy = unambiguous(path).map_err(|error| unreadable(error.to_string()))?;
    let file = copy.as_ref().map_or(path, |copy| copy.path());
    let reader = PytorchReader::new(file).map_err(|error| unreadable(error.to_string()))?;
    // The reader holds the file open: tensors can be read when a copy is gone.
    Ok(reader.into_tensors().into_iter().map(|(name, tensor)| (name, tensor.into())).collect())
}
