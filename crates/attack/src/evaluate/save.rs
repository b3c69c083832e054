//! Files of adversarial images, in the safetensors format.

use std::io;
use std::path::{Path, PathBuf};

use equipoise_files::write_atomically;
use thiserror::Error;

use super::fields::{Field, classes_to_i64, file};
use super::ledger::Outcome;
use super::points::Points;
use crate::attack::Budget;
use crate::batch::to_vec;

/// Why adversarial images could not be saved.
#[derive(Debug, Error)]
pub enum SaveError {
    /// The file could not be written.
    #[error("cannot write {}: {source}; {}", .path.display(), equipoise_files::advice(.source))]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The images could not be laid out.
    #[error("cannot lay out the adversarial images: {0}")]
    Layout(String),
}

/// Writes `STEM.safetensors` and returns its path. For N points it holds
///
/// - `x` `[N, C, H, W]` float32: [`Outcome::adversarial`],
/// - `y` `[N]` int64: true classes,
/// - `index` `[N]` int64: indices in the data set's split,
/// - `clean_prediction`, `adversarial_prediction` `[N]` int64: the deployed model's class on the unperturbed
///   image and on `x`, −1 where its logits are not finite,
/// - `broken` `[N]` uint8: 1 where an attack broke the point, that is where `x` is a verified adversarial
///   image of an image that was classified correctly,
///
/// and in its metadata `readout`, `norm`, `eps`, `model`, the `version` of this layout, and the file's checksum. `model` is what tells
/// the model from others, the SHA-256 of its file: [`read_adversarial`](super::read_adversarial) wants the same.
///
/// # Errors
///
/// [`SaveError`] if the file cannot be written. An earlier file of this name is replaced atomically.
///
/// # Panics
///
/// If `outcome` is not of these points.
pub fn save_adversarial(
    stem: impl AsRef<Path>,
    points: &Points,
    budget: &Budget,
    model: &str,
    outcome: &Outcome,
) -> Result<PathBuf, SaveError> {
    let shape = outcome.adversarial.dims();
    assert_eq!(shape, points.images().dims(), "the outcome is of these points");
    let n = points.len();
    let integers = |numbers: &[usize]| numbers.iter().map(|&number| number as i64).collect::<Vec<_>>();
    let broken =
        outcome.result.examples.iter().map(|example| u8::from(example.broken_by.is_some())).collect();
    let clean = classes_to_i64(&outcome.clean_predictions);
    let adversarial = classes_to_i64(&outcome.adversarial_predictions);
    let fields = vec![
        ("x", Field::f32(&to_vec(outcome.adversarial.clone()), shape.to_vec())),
        ("y", Field::i64(&integers(points.labels()), vec![n])),
        ("index", Field::i64(&integers(points.indices()), vec![n])),
        ("clean_prediction", Field::i64(&clean, vec![n])),
        ("adversarial_prediction", Field::i64(&adversarial, vec![n])),
        ("broken", Field::u8(broken, vec![n])),
    ];
    let metadata = [
        ("version", "1".to_owned()),
        ("readout", outcome.result.name.clone()),
        ("norm", budget.norm().to_string()),
        ("eps", budget.eps().to_string()),
        ("model", model.to_owned()),
    ];
    let bytes = file(fields, metadata).map_err(SaveError::Layout)?;
    // Not `with_extension`: a stem such as `adversarial-0.03` has none.
    let mut path = stem.as_ref().as_os_str().to_owned();
    path.push(".safetensors");
    let path = PathBuf::from(path);
    match write_atomically(&path, &bytes) {
        Ok(()) => Ok(path),
        Err(source) => Err(SaveError::File { path, source }),
    }
}
