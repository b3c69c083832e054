//! CIFAR as its authors publish it for Python, which is what torchvision leaves: pickled dicts of `data`, uint8
//! [N, 3072] (three planes of 1,024 bytes), and a list of labels. Nothing of a pickle is run.

use std::fs;
use std::path::Path;

use crate::cifar::{Cifar, all_files};
use crate::pickle::{Pickle, Value};
use crate::{Dataset, DatasetError, Split};

/// Reads all files of the split in their order.
pub(crate) fn load(cifar: &Cifar, folder: &Path, split: Split) -> Result<Dataset, DatasetError> {
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for path in all_files(cifar, folder, split, "", &cifar.python)? {
        append(cifar, &path, &mut pixels, &mut labels)?;
    }
    cifar.known.dataset(&folder.display().to_string(), split, pixels, labels)
}

fn append(
    cifar: &Cifar,
    path: &Path,
    pixels: &mut Vec<u8>,
    labels: &mut Vec<usize>,
) -> Result<(), DatasetError> {
    let wrong = |problem: String| {
        DatasetError::format(
            path.display(),
            problem,
            format!("the file is damaged or of another format: unpack {} again", cifar.python.name),
        )
    };
    let bytes = fs::read(path).map_err(|error| DatasetError::read(path, error))?;
    let pickle = Pickle::read(&bytes).map_err(wrong)?;
    let get = |key: &str| pickle.get(key).ok_or_else(|| wrong(format!("it holds no {key}")));
    let found = integers(&pickle, get(cifar.label_key)?)
        .map_err(|problem| wrong(format!("{}: {problem}", cifar.label_key)))?;
    let data = pickle.array(get("data")?).map_err(|problem| wrong(format!("data: {problem}")))?;
    let expected = [found.len(), cifar.known.size()];
    if data.kind.name != "u1" || data.shape != expected {
        return Err(wrong(format!(
            "data is {} {:?} instead of uint8 (u1) {expected:?}, one row for each of {}",
            data.kind.name, data.shape, cifar.label_key
        )));
    }
    for (row, label) in found.into_iter().enumerate() {
        labels.push(cifar.known.label(label, || format!("{}, image {row}", path.display()))?);
    }
    pixels.extend(data.into_u8().unwrap_or_default());
    Ok(())
}

/// A list of integers, or an array.
fn integers(pickle: &Pickle<'_>, value: Value<'_>) -> Result<Vec<i128>, String> {
    match pickle.list(value) {
        Some(values) => values.iter().map(|&value| pickle.integer(value)).collect(),
        None => pickle.array(value)?.to_integers().ok_or_else(|| "not integers".into()),
    }
}
