//! Model files: one `.safetensors` per model, tensors by state-dict name, everything else as JSON metadata; and
//! models from and for PyTorch.

mod error;
mod model_file;
mod configuration;
mod foreign;
mod zip_end;
mod pytorch;
mod tensors;
mod choose;
mod import;
mod export;

pub use crate::model::state_dict::{Entry, Shapes, StateDict, StateDictError, load_state_dict, state_dict};
pub use configuration::Configuration;
pub use error::ImportError;
pub use export::{export_pytorch, export_safetensors};
pub use foreign::Kind;
pub use import::{ImportOptions, Imported, Normalise, import};
pub(crate) use model_file::io_error;
pub use model_file::write_atomically;
pub use model_file::{FORMAT_VERSION, Metadata, ModelFile, ModelFileError};
pub use tensors::{Element, RawTensor, Tensors, read as read_checkpoint};
