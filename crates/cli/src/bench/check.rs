//! Whether the PyTorch program computes the same: timings can be compared only then.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use burn::tensor::Device;
use equipoise::attack::ValueAndGradient;
use equipoise::batch::to_vec;
use equipoise::checkpoint::ModelFile;
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use equipoise::readout::Readout;
use equipoise::trace::{TraceOptions, read_input, trace_file};
use equipoise::train::StepOptions;
use equipoise::work::WorkCounter;
use equipoise_report::write_atomically;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use super::case::deployment;
use super::process::Program;
use super::subject::Subject;
use crate::error::{Error, input};

/// Images compared.
const COUNT: usize = 9;
/// Largest relative error of states and logits. Both compute in float32, and sum in their own order.
const TOLERANCE: f64 = 1e-4;
/// Largest relative error of gradients: what a unit at the kink of its ReLU may cost, and far below what another
/// number of steps, another damping or another weight would.
const GRADIENT_TOLERANCE: f64 = 5e-3;
/// Gradients compared.
const GRADIENTS: [&str; 3] = [
    "exact",
    "unrolled:state=best,lead=1,steps=9,damping=0.5",
    "ensemble(unrolled:state=1..8,lead=1,steps=0)",
];

/// ‖theirs − ours‖ / ‖ours‖ of states, logits and gradients by name, the median over a few images. The images are
/// small: rounding may carry one of the many units of a large image across a kink of its ReLU, and then the gradients
/// of any two float32 programs differ by a thousandth.
///
/// An error beyond the tolerance is an error of the comparison: the two do not measure the same work.
pub fn compare(
    program: &Program,
    subject: &Subject,
    threads: usize,
    device: &Device,
) -> Result<BTreeMap<String, f64>, Error> {
    let subject = &subject.miniature(device)?;
    let (model, file) = subject.model(&deployment(false))?;
    let images = subject.images(COUNT)?;
    let trace = subject.path("trace.safetensors");
    if subject.architecture.is_equilibrium() {
        let options = TraceOptions::default().with_gradients(&GRADIENTS).map_err(input)?;
        trace_file(&file, &images, &trace, &options, device)?;
    } else {
        passes(&file, &images, &trace, device)?;
    }
    let mut command = program.command("check", threads)?;
    command.arg("--model").arg(&model).arg("--input").arg(&images).arg("--trace").arg(&trace);
    let text = answer(&mut command)?;
    let errors: BTreeMap<String, f64> = serde_json::from_str(&text)
        .map_err(|error| input(format!("--pytorch: the comparison answered `{text}`: {error}")))?;
    for (name, error) in &errors {
        tracing::debug!("{}: {name}: relative error {error:.1e}", subject.name);
    }
    let tolerance = |name: &str| if name.starts_with("gradient") { GRADIENT_TOLERANCE } else { TOLERANCE };
    // Not a number is no agreement either.
    match errors.iter().find(|(name, error)| error.is_nan() || **error > tolerance(name)) {
        None if !errors.is_empty() => Ok(errors),
        None => Err(input("--pytorch: the comparison compared nothing")),
        Some((name, error)) => Err(input(format!(
            "--pytorch: {name} of {} differ by {error:.1e} relative, more than {:.0e}: the two programs do not do the same work",
            subject.name,
            tolerance(name)
        ))),
    }
}

/// A feedforward network's logits in evaluation and in training and its gradient to the images, in a file.
fn passes(file: &ModelFile, images: &Path, to: &Path, device: &Device) -> Result<(), Error> {
    let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
    let ModelFile { metadata, model } = file;
    let (images, labels) = read_input(images, &metadata.architecture, device)?;
    let objective = CrossEntropy { labels };
    let victim = model.victim(&metadata.deployment, Readout::final_state(), Estimator::exact());
    let ValueAndGradient { logits, gradient, .. } = victim.value_and_gradient(&images, &objective);
    let (options, counter) = (StepOptions::default(), WorkCounter::default());
    let step = model.training_pass(&metadata.deployment, &options, &images, &objective, &counter);
    let training = step.map_err(|error| internal(&error))?.logits;
    let bytes = |numbers: Vec<f32>| numbers.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let found = [
        ("logits", logits.dims().to_vec(), bytes(to_vec(logits))),
        ("gradient", gradient.dims().to_vec(), bytes(to_vec(gradient))),
        ("logits in training", training.dims().to_vec(), bytes(to_vec(training))),
    ];
    let views: Vec<(&str, TensorView<'_>)> = found
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<_, _>>()
        .map_err(|error: safetensors::SafeTensorError| internal(&error))?;
    let content = safetensors::serialize(views, None).map_err(|error| internal(&error))?;
    Ok(write_atomically(to, &content)?)
}

/// What the PyTorch program says of itself: versions, threads, settings.
pub fn about(program: &Program, threads: usize) -> Result<Value, Error> {
    let text = answer(&mut program.command("about", threads)?)?;
    serde_json::from_str(&text).map_err(|error| input(format!("--pytorch: answered `{text}`: {error}")))
}

/// What a command prints, if it succeeds.
pub fn answer(command: &mut Command) -> Result<String, Error> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| {
        input(format!("--pytorch {}: cannot start: {error}", command.get_program().to_string_lossy()))
    })?;
    if !output.status.success() {
        return Err(input("--pytorch: the program failed; what it wrote to standard error says why"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
