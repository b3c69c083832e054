//! Model files: one `.safetensors` per model, tensors by state-dict name, everything else as JSON metadata; and
//! models from and for PyTorch.

mod model_file;
mod state_dict;
mod configuration;
mod pytorch;
mod import;
mod export;

pub use configuration::Configuration;
pub use export::{export_pytorch, export_safetensors};
pub use import::{ImportError, import};
pub use model_file::{FORMAT_VERSION, Metadata, ModelFile, ModelFileError};
pub(crate) use model_file::{io_error, write_atomically};
pub use pytorch::read_pytorch;
pub use state_dict::{Entry, StateDict, StateDictError, load_state_dict, state_dict};

/// What a file is that is no `.safetensors`, where its first bytes tell: a container of weights or arrays.
pub(crate) fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let holds = |name: &[u8]| bytes[..bytes.len().min(4096)].windows(name.len()).any(|part| part == name);
    match bytes {
        [b'P', b'K', 3, 4, ..] if holds(b".npy") => Some("a NumPy archive"),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Some("a NumPy array"),
        // torch.save writes a zip archive; before version 1.6 a pickle (protocol 2), and earlier a tar archive.
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, b'}' | b']' | b'(' | b'c' | 0x8a, ..] => {
            Some("a PyTorch checkpoint")
        }
        _ if bytes.get(257..262) == Some(b"ustar") => Some("a PyTorch checkpoint"),
        _ => None,
    }
}
