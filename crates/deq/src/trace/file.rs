//! Traces from file to file.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{Trace, TraceOptions, trace};
use crate::architecture::Architecture;
use crate::checkpoint::{Kind, ModelFile, ModelFileError, io_error, write_atomically};
use equipoise_attack::batch::{Images, from_vec, to_vec};

/// Why a trace cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The input is not what a trace needs.
    #[error("{path}: {tensor}: {problem}")]
    Input {
        /// The input file.
        path: PathBuf,
        /// The offending tensor, or `file`.
        tensor: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A feedforward network.
    #[error("model `{0}` has no equilibrium to trace: give a DEQ")]
    NotADeq(String),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] ModelFileError),
}

/// Reads the images `x` and labels `y` of a trace, for a model of some architecture.
///
/// # Errors
///
/// If the file cannot be read, lacks a tensor, or if one has another shape, another type, a number that is not
/// finite or outside \[0, 1\], or a label that is no class. The message says which.
pub fn read_input(
    path: &Path,
    architecture: &Architecture,
    device: &Device,
) -> Result<(Images, Vec<usize>), TraceError> {
    let wrong = |tensor, problem: String| TraceError::Input { path: path.to_owned(), tensor, problem };
    let bytes = fs::read(path)
        .map_err(|e| wrong("file", format!("cannot read: {e}; {}", equipoise_files::advice(&e))))?;
    match Kind::of(&bytes[..bytes.len().min(512)]) {
        Kind::Safetensors | Kind::Unknown => {}
        kind => {
            let words = kind.words();
            return Err(wrong(
                "file",
                format!("this is {words}; write x and y with safetensors.torch.save_file"),
            ));
        }
    }
    let file = SafeTensors::deserialize(&bytes).map_err(|e| {
        wrong("file", format!("not a readable .safetensors file ({e}); give x and y in one, whole"))
    })?;
    let tensor = |name: &'static str, dtype: Dtype| {
        let view = file.tensor(name).map_err(|_| wrong(name, "missing; a trace needs x and y".into()))?;
        if view.dtype() == dtype {
            return Ok(view);
        }
        Err(wrong(name, format!("is {:?}, and must be {dtype:?}", view.dtype())))
    };
    let [c, h, w] = architecture.image();
    let images = tensor("x", Dtype::F32)?;
    let n = match images.shape() {
        [n, shape @ ..] if *n > 0 && *shape == [c, h, w] => *n,
        shape => {
            return Err(wrong(
                "x",
                format!("has shape {shape:?}, and the model takes [N, {c}, {h}, {w}], N from 1"),
            ));
        }
    };
    let (pixels, _) = images.data().as_chunks::<4>();
    let pixels: Vec<f32> = pixels.iter().map(|b| f32::from_le_bytes(*b)).collect();
    if let Some(at) = pixels.iter().position(|pixel| !(0.0..=1.0).contains(pixel)) {
        let problem = format!("image {}: {} is not an intensity in [0, 1]", at / (c * h * w), pixels[at]);
        return Err(wrong("x", problem));
    }
    let labels = tensor("y", Dtype::I64)?;
    if labels.shape() != [n] {
        return Err(wrong("y", format!("has shape {:?}, and x has {n} images", labels.shape())));
    }
    let classes = architecture.classes();
    let (labels, _) = labels.data().as_chunks::<8>();
    let labels = labels.iter().map(|b| i64::from_le_bytes(*b)).enumerate().map(|(at, label)| {
        let class = usize::try_from(label).ok().filter(|&label| label < classes);
        class.ok_or_else(|| {
            wrong("y", format!("label {label} of image {at} is not a class, 0 to {}", classes - 1))
        })
    });
    Ok((from_vec(pixels, [n, c, h, w], device), labels.collect::<Result<_, _>>()?))
}

/// Traces a model from an input file to an output file, which is written atomically.
///
/// # Errors
///
/// If the model is no DEQ, the input is not what [`read_input`] accepts, or the output cannot be written.
pub fn trace_file(
    model: &ModelFile,
    input: &Path,
    output: &Path,
    options: &TraceOptions,
    device: &Device,
) -> Result<Trace, TraceError> {
    let Some(deq) = model.model.equilibrium() else {
        return Err(TraceError::NotADeq(model.metadata.name.clone()));
    };
    let (images, labels) = read_input(input, &model.metadata.architecture, device)?;
    let trace = trace(deq, &model.metadata.deployment, &images, &labels, options);
    trace.write(output)?;
    Ok(trace)
}

impl Trace {
    /// Writes the trace as safetensors, atomically.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ModelFileError> {
        let mut tensors = vec![
            floats("states", &self.states),
            floats("residual.relative", &self.relative),
            floats("residual.absolute", &self.absolute),
            floats("logits.state", &self.state_logits),
            floats("logits.final", &self.final_logits),
        ];
        let best = self.best.iter().flat_map(|&t| (t as i64).to_le_bytes()).collect();
        tensors.push(("best".to_owned(), Dtype::I64, vec![self.best.len()], best));
        for (name, gradient, loss) in &self.gradients {
            tensors.push(floats(&format!("gradient.{name}"), gradient));
            tensors.push(floats(&format!("loss.{name}"), loss));
        }
        let other = |problem: String| io_error(path, "write", std::io::Error::other(problem));
        let mut views = Vec::with_capacity(tensors.len());
        for (name, dtype, shape, data) in &tensors {
            let view = TensorView::new(*dtype, shape.clone(), data).map_err(|e| other(e.to_string()))?;
            views.push((name, view));
        }
        let content = safetensors::serialize(views, None).map_err(|e| other(e.to_string()))?;
        write_atomically(path, &content)
    }
}

fn floats<const D: usize>(name: &str, tensor: &Tensor<D>) -> (String, Dtype, Vec<usize>, Vec<u8>) {
    let shape = tensor.dims().to_vec();
    let bytes = to_vec(tensor.clone()).iter().flat_map(|value| value.to_le_bytes()).collect();
    (name.to_owned(), Dtype::F32, shape, bytes)
}
