//! Tensors out of PyTorch checkpoints.
//!
//! `pytorch-reader` interprets the pickle without running anything from it: it knows the few constructors that
//! tensors are made of, and whatever else a pickle names stays data. It reads the zip, tar and legacy pickle
//! containers and gives raw tensors by name, row-major whatever their strides.

use std::path::Path;

use pytorch_reader::{DType, PytorchReader, Tensor};

use super::import::ImportError;
use super::state_dict::{Entry, StateDict};

/// The floating-point tensors of a checkpoint by their name in the model: of its `state_dict` where it has one,
/// else of the whole; without the `module.` that data parallelism puts before names; and without the counters
/// of batch normalisation. Half, bfloat16 and double are converted to float32.
///
/// # Errors
///
/// If the file cannot be read or holds no tensors, or if one of them is not of floating point.
pub fn read_pytorch(path: &Path) -> Result<StateDict, ImportError> {
    let unreadable = |problem: String| ImportError::Checkpoint { path: path.to_owned(), problem };
    let reader = PytorchReader::new(path).map_err(|e| unreadable(e.to_string()))?;
    let tensors = named_as_in_model(reader.into_tensors().into_iter().collect());
    if tensors.is_empty() {
        return Err(unreadable("it holds no tensors".into()));
    }
    let mut dict = StateDict::new();
    for (name, tensor) in tensors {
        if name.ends_with("num_batches_tracked") {
            continue;
        }
        let bytes = tensor.read().map_err(|e| unreadable(e.to_string()))?;
        let values = to_f32(&bytes, tensor.dtype()).ok_or_else(|| {
            unreadable(format!("tensor {name} is {:?}, not of floating point", tensor.dtype()))
        })?;
        dict.insert(name, Entry { shape: tensor.shape().to_vec(), values });
    }
    Ok(dict)
}

fn named_as_in_model(mut tensors: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
    if tensors.iter().any(|(name, _)| name.starts_with("state_dict.")) {
        // Beside the state dict stand the optimiser's moments and the like.
        tensors.retain(|(name, _)| name.starts_with("state_dict."));
        strip(&mut tensors, "state_dict.");
    }
    // Only if all names have it: `module` could be a model's own part.
    if tensors.iter().all(|(name, _)| name.starts_with("module.")) {
        strip(&mut tensors, "module.");
    }
    for (name, _) in &mut tensors {
        // The newer spelling of weight normalisation.
        *name = name
            .replace("parametrizations.weight.original0", "weight_g")
            .replace("parametrizations.weight.original1", "weight_v");
    }
    tensors
}

fn strip(tensors: &mut [(String, Tensor)], prefix: &str) {
    for (name, _) in tensors {
        name.replace_range(..prefix.len(), "");
    }
}

fn to_f32(bytes: &[u8], dtype: DType) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (chunks, _) = bytes.as_chunks::<N>();
        chunks.iter().map(|chunk| f(*chunk)).collect()
    }
    // The reader gives native-endian bytes.
    Some(match dtype {
        DType::F32 => each(bytes, f32::from_ne_bytes),
        DType::F64 => each(bytes, |b| f64::from_ne_bytes(b) as f32),
        DType::F16 => each(bytes, |b| half::f16::from_ne_bytes(b).to_f32()),
        DType::BF16 => each(bytes, |b| half::bf16::from_ne_bytes(b).to_f32()),
        _ => return None,
    })
}
