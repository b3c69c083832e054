//! Checkpoints: a folder `step-N` with the weights, the optimiser's state and how far training has come, and their
//! checksums.
//!
//! A checkpoint is written under a temporary name and renamed when it is whole; older ones are then removed.
//! What is left after any interruption is a complete checkpoint, or none. One whose content does not match its checksums
//! is refused: training would go on to other weights.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::optim::ModuleOptimizer;
use burn::tensor::{Bytes, Device};
use burn_pack::{Reader, Writer};
use equipoise_files::{SUMS, damage, seal, sums, unseal, write_folder_atomically};
use serde::{Deserialize, Serialize};

use equipoise_deq::architecture::Model;
use equipoise_deq::checkpoint::{ModelFile, ModelFileError};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.bpk";
const PROGRESS: &str = "progress.json";

/// How far training has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps taken, over all epochs.
    pub step: usize,
    /// The recipe, data and seed that this run was started with, as JSON: a resumed run must have the same.
    pub plan: serde_json::Value,
    /// Sums over the steps of the current epoch.
    pub epoch: super::trainer::Sums,
    /// Reports of the epochs that are complete.
    pub history: Vec<super::trainer::EpochReport>,
    /// The best of these epochs on the development split.
    #[serde(default)]
    pub best: Option<super::trainer::Best>,
}

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system said no.
    #[error("{path}: cannot {action}: {source}; {}", equipoise_files::advice(.source))]
    Io {
        /// Where.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the checkpoint is broken.
    #[error(
        "{path}: not a readable checkpoint ({problem}); restore it from a copy, or remove the folder to start anew"
    )]
    Malformed {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The model file of the checkpoint.
    #[error(transparent)]
    Model(#[from] ModelFileError),
    /// A checkpoint of a run of another length, under a schedule that depends on the length.
    #[error(
        "{path}: belongs to a run with another number of epochs, and its learning rate falls with the share of the run \
         that is done: resume with the same number, or start another run from its model as the initial weights (a \
         constant schedule can be lengthened)"
    )]
    OtherLength {
        /// Where.
        path: PathBuf,
    },
    /// Another run's checkpoint.
    #[error(
        "{path}: belongs to a run with another {what}; use the same settings to resume, or another folder"
    )]
    OtherRun {
        /// Where.
        path: PathBuf,
        /// The first setting that differs.
        what: String,
    },
}

pub(super) fn failed(path: &Path, action: &'static str) -> impl Fn(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { path: path.clone(), action, source }
}

/// Writes a checkpoint into a folder, and removes older ones. The folder must be there.
pub(super) fn write(
    folder: &Path,
    model: &ModelFile,
    optimizer: &ModuleOptimizer,
    progress: &Progress,
) -> Result<(), CheckpointError> {
    if !folder.is_dir() {
        let gone = io::Error::new(io::ErrorKind::NotFound, "the folder of the run was removed");
        return Err(failed(folder, "write")(gone));
    }
    let complete = folder.join(format!("step-{:09}", progress.step));
    let other =
        |name: &str, problem: String| failed(&complete.join(name), "write")(io::Error::other(problem));
    let model = model.to_bytes().map_err(|problem| other(MODEL, problem))?;
    let optimizer = state(optimizer).map_err(|error| other(OPTIMIZER, error.to_string()))?;
    let progress = seal(progress).map_err(|error| other(PROGRESS, error.to_string()))?;
    let files: [(&str, &[u8]); 2] = [(MODEL, &model), (OPTIMIZER, &optimizer)];
    // The progress has a checksum of its own, which leaves out what a clock said.
    let sums = sums(files);
    let older = all(folder)?;
    if complete.exists() {
        fs::remove_dir_all(&complete).map_err(failed(&complete, "replace"))?;
    }
    write_folder_atomically(
        &complete,
        files.into_iter().chain([(PROGRESS, progress.as_bytes()), (SUMS, sums.as_bytes())]),
    )
    .map_err(failed(&complete, "write"))?;
    remove_older(older, &complete)
}

fn remove_older(older: Vec<PathBuf>, newest: &Path) -> Result<(), CheckpointError> {
    for path in older.into_iter().filter(|path| path != newest) {
        fs::remove_dir_all(&path).map_err(failed(&path, "remove"))?;
    }
    Ok(())
}

/// The optimiser's state. Burn keeps its tensors in a hash map; here they are in the order of their names, so that the same
/// state is the same file.
fn state(optimizer: &ModuleOptimizer) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let reader = Reader::from_bytes(optimizer.into_bytes()?)?;
    let (scalars, paths) = (reader.scalars().clone(), reader.metadata().clone());
    let mut tensors = reader.into_tensors()?;
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut writer = Writer::new(tensors);
    for (key, value) in &scalars {
        writer = writer.with_scalar(key, *value);
    }
    for (key, value) in &paths {
        writer = writer.with_metadata(key, value);
    }
    Ok(writer.into_bytes()?.to_vec())
}

/// Complete checkpoints in a folder, oldest first.
fn all(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed(folder, "read"))? {
        let path = entry.map_err(failed(folder, "read"))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digits = name.strip_prefix("step-").unwrap_or_default();
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The newest checkpoint of a folder, if it has one that belongs to this plan. Whoever is to write the next one also removes what
/// is left of older ones.
pub(super) fn read(
    folder: &Path,
    plan: &serde_json::Value,
    optimizer: ModuleOptimizer,
    device: &Device,
    writes: bool,
) -> Result<Option<(ModelFile, ModuleOptimizer, Progress)>, CheckpointError> {
    if !folder.exists() {
        return Ok(None);
    }
    let mut found = all(folder)?;
    let Some(path) = found.pop() else { return Ok(None) };
    let broken = |path: &Path, problem: String| CheckpointError::Malformed { path: path.to_owned(), problem };
    if let Some(problem) = damage(&path, &[MODEL, OPTIMIZER]).map_err(failed(&path, "read"))? {
        return Err(broken(&path, problem));
    }
    let file = path.join(PROGRESS);
    let text = fs::read(&file).map_err(failed(&file, "read"))?;
    let progress: Progress = unseal(&text).map_err(|problem| broken(&file, problem))?;
    match difference(&settled(plan), &settled(&progress.plan)) {
        None => {}
        Some(what) if what == "recipe.epochs" => return Err(CheckpointError::OtherLength { path }),
        Some(what) => return Err(CheckpointError::OtherRun { path, what }),
    }
    let model = ModelFile::read(&path.join(MODEL), device)?;
    let file = path.join(OPTIMIZER);
    let bytes = Bytes::from_bytes_vec(fs::read(&file).map_err(failed(&file, "read"))?);
    check_state(bytes.clone(), &*model.model).map_err(|problem| broken(&file, problem))?;
    let optimizer = optimizer.from_bytes(bytes).map_err(|error| broken(&file, error.to_string()))?;
    if writes {
        // What is left of one whose removal was interrupted.
        remove_older(found, &path)?;
    }
    Ok(Some((model, optimizer, progress)))
}

/// Whether an optimiser's state is of a model's parameters: Burn takes it as it is, and fails in a later step.
fn check_state(bytes: Bytes, model: &dyn Model) -> Result<(), String> {
    let parameters = model.parameters().into_iter();
    let shapes: BTreeMap<u64, Vec<usize>> =
        parameters.map(|parameter| (parameter.id, parameter.shape)).collect();
    let tensors =
        Reader::from_bytes(bytes).and_then(Reader::into_tensors).map_err(|error| error.to_string())?;
    for tensor in tensors {
        let of = tensor.param_id.and_then(|id| shapes.get(&id));
        if of.is_none_or(|shape| tensor.shape.as_slice() != shape.as_slice()) {
            return Err(format!("its `{}` is of no parameter of the model", tensor.name));
        }
    }
    Ok(())
}

/// The parts of a plan that decide a run's weights up to any step. How often they are kept does not, nor how long the run
/// goes on, unless the learning rate depends on it.
fn settled(plan: &serde_json::Value) -> serde_json::Value {
    let mut plan = plan.clone();
    if let Some(recipe) = plan.get_mut("recipe").and_then(serde_json::Value::as_object_mut) {
        for free in ["checkpoint_steps", "keep_every", "early_stopping"] {
            recipe.remove(free);
        }
        if recipe.get("schedule").is_some_and(|schedule| schedule == "constant") {
            recipe.remove("epochs");
        }
    }
    plan
}

/// The first place where two plans differ.
fn difference(a: &serde_json::Value, b: &serde_json::Value) -> Option<String> {
    use serde_json::Value::Object;
    match (a, b) {
        (Object(a), Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            let null = serde_json::Value::Null;
            keys.into_iter().find_map(|key| {
                let inside = difference(a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null))?;
                Some(if inside.is_empty() { key.clone() } else { format!("{key}.{inside}") })
            })
        }
        _ => (a != b).then(String::new),
    }
}
