//! Why a checkpoint cannot be imported, in words that say what to do.

use std::io;
use std::path::PathBuf;

use crate::model::ConfigError;
use crate::model::state_dict::StateDictError;
use crate::victim::DeploymentError;

/// Why a checkpoint cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The checkpoint cannot be read.
    #[error(
        "{path}: no readable checkpoint ({problem}); give a .pth file as torch.save writes it, .safetensors, .npz or .mat"
    )]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The configuration's file cannot be read.
    #[error("{path}: cannot read: {source}; {}", equipoise_files::advice(.source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration cannot be understood, or asks for what this library does not have.
    #[error("{path}: {key}: {problem}")]
    Key {
        /// The file.
        path: PathBuf,
        /// The offending key, dotted; `configuration` for the file as a whole.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The sizes contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A setting of the deployment is out of range.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// Several parts of the checkpoint hold the whole model: weights and their average, say.
    #[error("{path}: several of its dictionaries hold the model: {}; choose one by its key", list(keys))]
    Several {
        /// The checkpoint.
        path: PathBuf,
        /// The key of each.
        keys: Vec<String>,
    },
    /// The key that was asked for holds nothing of the model.
    #[error("{path}: nothing of the model stands under the key `{key}`; it stands under {}", list(keys))]
    NoSuchKey {
        /// The checkpoint.
        path: PathBuf,
        /// What was asked for.
        key: String,
        /// The keys that do.
        keys: Vec<String>,
    },
    /// No name in the checkpoint is one of the model's.
    #[error(
        "{path}: the weights do not fit the model: {diagnosis}; is this the architecture that was trained?"
    )]
    Foreign {
        /// The checkpoint.
        path: PathBuf,
        /// What its names have in common, and the first difference.
        diagnosis: String,
        /// All names in it.
        names: Vec<String>,
    },
    /// The weights do not fit the configuration.
    #[error(
        "{path}: the weights do not fit the model: {diagnosis}; is this the configuration that it was trained with?"
    )]
    Weights {
        /// The checkpoint.
        path: PathBuf,
        /// What fits, and the first of each kind of difference.
        diagnosis: String,
        /// All that does not fit, by name.
        source: Box<StateDictError>,
    },
}

impl ImportError {
    /// Every name that does not fit, a line for each kind; empty for an error that is not about names.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Weights { source, .. } => source.lines(),
            Self::Foreign { names, .. } => vec![format!("in the file: {}", names.join(", "))],
            _ => Vec::new(),
        }
    }
}

fn list(keys: &[String]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}
