//! Models from elsewhere: a PyTorch checkpoint and a configuration become a [`ModelFile`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::configuration::Configuration;
use super::model_file::{FORMAT_VERSION, Metadata, ModelFile, from_safetensors};
use super::pytorch::read_pytorch;
use super::state_dict::StateDictError;
use crate::model::mdeq::ConfigError;
use crate::network::Architecture;
use crate::solve::SolverError;

/// Why a checkpoint cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The checkpoint cannot be read.
    #[error(
        "{path}: no readable checkpoint ({problem}); give a .pth file as torch.save writes it, or .safetensors"
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
    /// A solver's settings are out of range.
    #[error(transparent)]
    Solver(#[from] SolverError),
    /// The weights do not fit the configuration.
    #[error("{path}: {source}; is this the configuration that it was trained with?")]
    Weights {
        /// The checkpoint.
        path: PathBuf,
        /// All that does not fit, by name.
        source: Box<StateDictError>,
    },
}

/// Reads the weights of a model: a PyTorch checkpoint (zip, tar or legacy pickle; `state_dict` key or bare;
/// `module.` prefixes; weight norm as `weight_g`, `weight_v`), or a `.safetensors` file with the same names.
///
/// Nothing from the pickle is run. The training recipe and the data are left unknown.
///
/// # Errors
///
/// If a file cannot be read, the configuration contradicts itself, or names and shapes of the weights do not
/// fit it; the error then lists all of them.
pub fn import(
    checkpoint: &Path,
    configuration: Configuration,
    name: &str,
    device: &Device,
) -> Result<ModelFile, ImportError> {
    let Configuration { architecture, deployment } = configuration;
    architecture.validate()?;
    deployment.validate()?;
    let mut weights = if checkpoint.extension().is_some_and(|ending| ending == "safetensors") {
        let unreadable = |problem| ImportError::Checkpoint { path: checkpoint.to_owned(), problem };
        let bytes = fs::read(checkpoint).map_err(|e| unreadable(e.to_string()))?;
        from_safetensors(&bytes).map_err(unreadable)?
    } else {
        read_pytorch(checkpoint)?
    };
    if matches!(architecture, Architecture::WideResNet(_)) {
        // The TRADES code builds a second first stage that its forward pass never uses.
        weights.retain(|name, _| !name.starts_with("sub_block1."));
    }
    let misfit = |source| ImportError::Weights { path: checkpoint.to_owned(), source: Box::new(source) };
    let network = architecture.init(0, device)?.with_weights(weights).map_err(misfit)?;
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        name: name.to_owned(),
        architecture,
        deployment,
        training: serde_json::Value::Null,
        data: String::new(),
    };
    Ok(ModelFile { metadata, network })
}
