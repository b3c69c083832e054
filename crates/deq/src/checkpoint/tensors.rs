//! The tensors of a checkpoint file by name, whatever kind of file it is.
//!
//! `.safetensors` files, PyTorch checkpoints, and arrays of NumPy and MATLAB are told apart by what they begin with, not by
//! how they are called, and treated alike from here on: raw tensors of any type, of which only those that a model wants are converted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use equipoise_arrays::{mat, npy, npz};
use pytorch_reader::Tensor as Lazy;
use safetensors::SafeTensors;

use super::error::ImportError;
use super::foreign::Kind;
use super::pytorch;
use crate::model::state_dict::Entry;

/// Tensors by their dotted path in the file.
pub type Tensors = BTreeMap<String, RawTensor>;

/// A tensor as the file has it.
#[derive(Debug, Clone)]
pub struct RawTensor {
    /// Shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Type of its elements.
    pub element: Element,
    /// Whether axes of length 1 may be missing from the shape: MATLAB has no vectors, so that they mean nothing.
    any_ones: bool,
    content: Content,
}

/// Where the numbers are.
#[derive(Debug, Clone)]
enum Content {
    /// In a PyTorch checkpoint, not read yet; native-endian.
    Lazy(Lazy),
    /// In memory, in float64.
    Numbers(Arc<[f64]>),
    /// In memory: the whole file and the tensor's part of it; little-endian.
    Bytes(Arc<[u8]>, std::ops::Range<usize>),
}

/// Type of a tensor's elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// float64.
    Double,
    /// float32.
    Single,
    /// float16.
    Half,
    /// bfloat16.
    Brain,
    /// Anything else, by its name: integers, Booleans, 8-bit floating point.
    Other(String),
}

impl RawTensor {
    /// Takes a shape that differs from its own in axes of length 1 alone, where the file does not mean these.
    pub fn reshape(&mut self, wanted: &[usize]) {
        if self.any_ones && wanted.iter().filter(|side| **side != 1).eq(&self.shape) {
            self.shape = wanted.to_vec();
        }
    }

    /// The tensor in float32; double precision is rounded.
    ///
    /// # Errors
    ///
    /// If its elements are not of floating point, or cannot be read.
    pub fn to_f32(&self) -> Result<Entry, String> {
        fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            let (chunks, _) = bytes.as_chunks::<N>();
            chunks.iter().map(|chunk| f(*chunk)).collect()
        }
        if let Content::Numbers(numbers) = &self.content {
            return match &self.element {
                Element::Other(name) => Err(format!("is {name}, not of floating point")),
                _ => Ok(Entry {
                    shape: self.shape.clone(),
                    values: numbers.iter().map(|value| *value as f32).collect(),
                }),
            };
        }
        let mut read;
        let bytes = match &self.content {
            Content::Lazy(tensor) => {
                read = tensor.read().map_err(|error| error.to_string())?;
                if cfg!(target_endian = "big") {
                    read.chunks_exact_mut(tensor.dtype().size()).for_each(<[u8]>::reverse);
                }
                &read
            }
            Content::Bytes(file, range) => &file[range.clone()],
            Content::Numbers(_) => &[],
        };
        let values = match &self.element {
            Element::Single => each(bytes, f32::from_le_bytes),
            Element::Double => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Element::Half => each(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
            Element::Brain => each(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
            Element::Other(name) => return Err(format!("is {name}, not of floating point")),
        };
        Ok(Entry { shape: self.shape.clone(), values })
    }
}

/// Reads a checkpoint: `.safetensors`, a PyTorch checkpoint (zip, tar or legacy pickle), or the arrays of an `.npz` or
/// `.mat` file.
///
/// # Errors
///
/// If the file cannot be read, is of another kind, or holds no tensors.
pub fn read(path: &Path) -> Result<Tensors, ImportError> {
    let unreadable = |problem: String| ImportError::Checkpoint { path: path.to_owned(), problem };
    let tensors = match Kind::of_file(path).map_err(|error| unreadable(error.to_string()))? {
        Kind::Safetensors => read_safetensors(path)?,
        Kind::Npz => read_npz(path)?,
        Kind::Mat => read_mat(path)?,
        kind @ (Kind::Npy | Kind::Hdf5) => {
            return Err(unreadable(format!("this is {}", kind.words())));
        }
        // Old pickles are text, and jit archives begin with other entries.
        Kind::PyTorch | Kind::Zip | Kind::Text | Kind::Unknown => pytorch::read(path)?,
    };
    if tensors.is_empty() {
        return Err(unreadable("it holds no tensors".into()));
    }
    Ok(tensors)
}

fn read_safetensors(path: &Path) -> Result<Tensors, ImportError> {
    let unreadable = |problem: String| ImportError::Checkpoint { path: path.to_owned(), problem };
    let file: Arc<[u8]> = fs::read(path).map_err(|error| unreadable(error.to_string()))?.into();
    let parsed = SafeTensors::deserialize(&file).map_err(|error| unreadable(error.to_string()))?;
    let mut tensors = Tensors::new();
    for (name, view) in parsed.tensors() {
        let element = match view.dtype() {
            safetensors::Dtype::F64 => Element::Double,
            safetensors::Dtype::F32 => Element::Single,
            safetensors::Dtype::F16 => Element::Half,
            safetensors::Dtype::BF16 => Element::Brain,
            other => Element::Other(format!("{other:?}")),
        };
        // Where the tensor's part lies within the file.
        let start = view.data().as_ptr() as usize - file.as_ptr() as usize;
        let content = Content::Bytes(file.clone(), start..start + view.data().len());
        tensors.insert(name, RawTensor { shape: view.shape().to_vec(), element, any_ones: false, content });
    }
    Ok(tensors)
}

/// The most bytes of values that are read of one file of arrays.
const MOST: u64 = 16 << 30;

fn read_npz(path: &Path) -> Result<Tensors, ImportError> {
    let unreadable = |problem: String| ImportError::Checkpoint { path: path.to_owned(), problem };
    let file = fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let arrays = npz::read(std::io::BufReader::new(file), MOST).map_err(unreadable)?;
    let tensor = |array: npy::Array| RawTensor {
        element: if array.kind.is_float() {
            Element::Double
        } else {
            Element::Other(array.kind.name.clone())
        },
        content: Content::Numbers(array.to_f64().into()),
        any_ones: false,
        shape: array.shape,
    };
    Ok(arrays.into_iter().map(|(name, array)| (name, tensor(array))).collect())
}

/// MATLAB saves whole numbers as integers, whatever their class.
fn read_mat(path: &Path) -> Result<Tensors, ImportError> {
    let unreadable = |problem: String| ImportError::Checkpoint { path: path.to_owned(), problem };
    let left = std::cell::Cell::new(MOST);
    let may = |array: &mat::Shape| {
        left.set(left.get().checked_sub(array.bytes as u64).ok_or("it holds more than is read of one file")?);
        Ok(())
    };
    let arrays = mat::read(path, |_| true, may).map_err(|error: mat::Error<&str>| match error {
        mat::Error::Io(error) => unreadable(error.to_string()),
        mat::Error::Format(problem) => unreadable(problem),
        mat::Error::Refused(problem) => unreadable(problem.to_owned()),
    })?;
    let tensor = |array: mat::Matrix| RawTensor {
        content: Content::Numbers(array.to_f64().into()),
        shape: array.shape.into_iter().filter(|side| *side != 1).collect(),
        any_ones: true,
        element: Element::Double,
    };
    Ok(arrays.into_iter().map(|(name, array)| (name, tensor(array))).collect())
}

impl From<Lazy> for RawTensor {
    fn from(tensor: Lazy) -> Self {
        use pytorch_reader::DType;
        let element = match tensor.dtype() {
            DType::F64 => Element::Double,
            DType::F32 => Element::Single,
            DType::F16 => Element::Half,
            DType::BF16 => Element::Brain,
            other => Element::Other(format!("{other:?}")),
        };
        Self { shape: tensor.shape().to_vec(), element, any_ones: false, content: Content::Lazy(tensor) }
    }
}
