//! Model files: one `.safetensors` per model, tensors by state-dict name, everything else as JSON metadata.

mod model_file;
mod state_dict;

pub use model_file::{FORMAT_VERSION, Metadata, ModelFile, ModelFileError};
pub use state_dict::{Entry, StateDict, StateDictError, load_state_dict, state_dict};
