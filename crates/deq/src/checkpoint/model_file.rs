//! One model in one `.safetensors` file, its configuration in the file's metadata.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::foreign::Kind;
use crate::architecture::{Architecture, Model};
use crate::model::ConfigError;
use crate::model::state_dict::{Entry, StateDict, StateDictError};
use crate::victim::{Deployment, DeploymentError};

/// The version of the model file format that this build writes.
pub const FORMAT_VERSION: u32 = 1;

/// The key of the file's metadata under which ours stands, as JSON.
const KEY: &str = "equipoise";

/// The most bytes of metadata. A recipe with every key has some thousand.
const MAX_METADATA: usize = 1 << 20;

/// Everything about a model but its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Version of the format.
    pub format_version: u32,
    /// A short name for tables.
    pub name: String,
    /// What kind of model, and its sizes.
    pub architecture: Architecture,
    /// How it is used.
    pub deployment: Deployment,
    /// The recipe that it was trained with, as the training command recorded it; null if unknown.
    #[serde(default)]
    pub training: serde_json::Value,
    /// The data it was trained on, in words ("CIFAR-10 (JPEG), train"); empty if unknown.
    #[serde(default)]
    pub data: String,
}

/// A model with its metadata.
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// Everything but the weights.
    pub metadata: Metadata,
    /// The model, with its weights.
    pub model: Box<dyn Model>,
}

/// Why a model file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The file system said no.
    #[error("{path}: cannot {action}: {source}; {}", equipoise_files::advice(.source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Not a safetensors file, or a broken one.
    #[error(
        "{path}: not a readable .safetensors file ({problem}); is it complete? Copy it anew, or give another"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        problem: String,
    },
    /// Another kind of file.
    #[error("{path}: this is {}, not a model file; {}", kind.words(), advice(*kind))]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: Kind,
    },
    /// A safetensors file without our metadata.
    #[error("{path}: no Equipoise model ({problem}); use `equipoise import` for weights from elsewhere")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },
    /// A file of a later version.
    #[error("{path}: format version {found}; this build reads up to {FORMAT_VERSION}: use a newer build")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The configuration contradicts itself.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
    /// A setting of the deployment is out of range.
    #[error("{path}: {source}")]
    Deployment {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DeploymentError,
    },
    /// Names, shapes or values of the weights.
    #[error("{path}: {source}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: Box<StateDictError>,
    },
}

fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::PyTorch | Kind::Zip => "use `equipoise import` to make a model file of it",
        Kind::Npz | Kind::Npy => {
            "arrays are data (--data npz:PATH); a model is a .safetensors file that Equipoise wrote"
        }
        _ => "give a .safetensors file that `equipoise train` or `equipoise import` wrote",
    }
}

impl ModelFile {
    /// Reads a model.
    ///
    /// # Errors
    ///
    /// If the file is missing, broken, of another kind, or if its weights do not fit its configuration; the
    /// message names the file and what to do.
    pub fn read(path: &Path, device: &Device) -> Result<Self, ModelFileError> {
        let bytes = fs::read(path).map_err(|source| io_error(path, "read", source))?;
        match Kind::of(&bytes[..bytes.len().min(512)]) {
            Kind::Safetensors | Kind::Unknown => {}
            kind => return Err(ModelFileError::OtherKind { path: path.to_owned(), kind }),
        }
        let malformed = |problem: String| ModelFileError::Malformed { path: path.to_owned(), problem };
        let foreign = |problem: String| ModelFileError::Foreign { path: path.to_owned(), problem };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| malformed(e.to_string()))?;
        let text = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let text = text.ok_or_else(|| foreign(format!("its metadata has no key `{KEY}`")))?;
        if text.len() > MAX_METADATA {
            return Err(foreign(format!("its metadata has {} bytes, more than {MAX_METADATA}", text.len())));
        }
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let version: Version = serde_json::from_str(text).map_err(|e| foreign(e.to_string()))?;
        if version.format_version > FORMAT_VERSION {
            return Err(ModelFileError::Version { path: path.to_owned(), found: version.format_version });
        }
        let metadata: Metadata = serde_json::from_str(text).map_err(|e| foreign(e.to_string()))?;
        let deployment = |source| ModelFileError::Deployment { path: path.to_owned(), source };
        metadata.deployment.validate().map_err(deployment)?;

        let dict = from_safetensors(&bytes).map_err(malformed)?;
        let config = |source| ModelFileError::Config { path: path.to_owned(), source };
        // Memory for weights is taken where the file has them in the model's shape.
        let model = metadata.architecture.shapes_alone(device).map_err(config)?;
        let weights = |source| ModelFileError::Weights { path: path.to_owned(), source: Box::new(source) };
        let model = model.with_weights(dict).map_err(weights)?;
        Ok(Self { metadata, model })
    }

    /// Writes the model, to a temporary file that is then renamed.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; nothing half-written stays behind.
    pub fn write(&self, path: &Path) -> Result<(), ModelFileError> {
        let content =
            self.to_bytes().map_err(|problem| io_error(path, "write", io::Error::other(problem)))?;
        write_atomically(path, &content)
    }

    /// The content of the file.
    ///
    /// # Errors
    ///
    /// What stood against it, in words.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let json = serde_json::to_string(&self.metadata).map_err(|error| error.to_string())?;
        to_safetensors(&self.model.weights(), (KEY, json))
    }
}

/// The tensors of a safetensors file. They must be float32.
pub(super) fn from_safetensors(bytes: &[u8]) -> Result<StateDict, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut dict = StateDict::new();
    for (name, view) in tensors.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor {name} is {:?}, not F32", view.dtype()));
        }
        let chunks = view.data().chunks_exact(4);
        let values = chunks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        dict.insert(name, Entry { shape: view.shape().to_vec(), values });
    }
    Ok(dict)
}

/// A safetensors file with one key of metadata.
pub(super) fn to_safetensors(dict: &StateDict, (key, text): (&str, String)) -> Result<Vec<u8>, String> {
    let bytes: Vec<Vec<u8>> = dict.values().map(Entry::to_le_bytes).collect();
    let mut views = Vec::with_capacity(bytes.len());
    for ((name, entry), data) in dict.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, entry.shape.clone(), data).map_err(|e| e.to_string())?;
        views.push((name.clone(), view));
    }
    let metadata = HashMap::from([(key.to_owned(), text)]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| e.to_string())
}

/// Writes a file atomically.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), ModelFileError> {
    equipoise_files::write_atomically(path, content).map_err(|source| io_error(path, "write", source))
}

pub(crate) fn io_error(path: &Path, action: &'static str, source: io::Error) -> ModelFileError {
    ModelFileError::Io { path: path.to_owned(), action, source }
}
