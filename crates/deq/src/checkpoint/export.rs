//! Weights for PyTorch, under the state dict's names.
//!
//! As `.safetensors` (`safetensors.torch.load_file`) or as a `.pth` zip (`torch.load`, also with
//! `weights_only=True`). Counters of batch normalisation are left out; PyTorch starts them at 0.

use std::io::{self, Cursor, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::model_file::{ModelFileError, io_error, to_safetensors, write_atomically};
use crate::architecture::Model;
use crate::model::state_dict::StateDict;

/// Writes the weights as a `.safetensors` file without a configuration: plain tensors for PyTorch.
///
/// # Errors
///
/// If the file cannot be written; nothing half-written stays behind.
pub fn export_safetensors(model: &dyn Model, path: &Path) -> Result<(), ModelFileError> {
    // The key that PyTorch's libraries look for.
    let content = to_safetensors(&model.weights(), ("format", "pt".to_owned()))
        .map_err(|problem| io_error(path, "write", io::Error::other(problem)))?;
    write_atomically(path, &content)
}

/// Writes the weights as `torch.save` would write the bare state dict.
///
/// # Errors
///
/// If the file cannot be written; nothing half-written stays behind.
pub fn export_pytorch(model: &dyn Model, path: &Path) -> Result<(), ModelFileError> {
    let content = archive(&model.weights(), "archive").map_err(|source| io_error(path, "write", source))?;
    write_atomically(path, &content)
}

/// The zip archive, below the folder `root`: `data.pkl` describes the tensors, `data/0`, `data/1`, .. hold them.
pub(super) fn archive(dict: &StateDict, root: &str) -> io::Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    // PyTorch maps tensors from the file, so they are stored as they are, and aligned.
    let plain = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(64);
    let mut put = |name: &str, content: &[u8]| -> io::Result<()> {
        zip.start_file(format!("{root}/{name}"), plain.large_file(content.len() >= 1 << 31))?;
        zip.write_all(content)
    };
    put("data.pkl", &pickle(dict))?;
    put("byteorder", b"little")?;
    for (k, entry) in dict.values().enumerate() {
        put(&format!("data/{k}"), &entry.to_le_bytes())?;
    }
    put("version", b"3\n")?;
    Ok(zip.finish()?.into_inner())
}

/// A pickle (protocol 2) of a dictionary of tensors: each a call of `torch._utils._rebuild_tensor_v2` with its
/// storage (a persistent identity), offset, size, stride, no gradient, and no hooks.
fn pickle(dict: &StateDict) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec(); // protocol 2, empty dictionary, mark
    for (k, (name, entry)) in dict.iter().enumerate() {
        text(&mut out, name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(b"ctorch\nFloatStorage\n");
        text(&mut out, &k.to_string());
        text(&mut out, "cpu");
        integer(&mut out, entry.values.len());
        out.extend(b"tQ"); // end of tuple, persistent identity
        integer(&mut out, 0);
        let mut strides = vec![1; entry.shape.len()];
        for axis in (1..entry.shape.len()).rev() {
            strides[axis - 1] = strides[axis] * entry.shape[axis];
        }
        for numbers in [&entry.shape, &strides] {
            out.push(b'(');
            numbers.iter().for_each(|&number| integer(&mut out, number));
            out.push(b't');
        }
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR"); // false, an empty OrderedDict, end of tuple, call
    }
    out.extend(b"u."); // set the items, stop
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// In eight bytes, little-endian: pickle's LONG1 has room for more than any 32-bit opcode.
fn integer(out: &mut Vec<u8>, number: usize) {
    out.extend(b"\x8a\x08");
    out.extend((number as i64).to_le_bytes());
}
