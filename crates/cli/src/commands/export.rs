//! `export`: a model's weights for PyTorch.

use equipoise::checkpoint::{export_pytorch, export_safetensors};

use super::print;
use crate::args;
use crate::error::{Error, input};
use crate::flags::Export;
use crate::setup::Setup;

/// Runs the command.
pub fn run(flags: &Export, setup: &Setup) -> Result<(), Error> {
    let (model, _) = args::model(&flags.model, &setup.device)?;
    match flags.out.extension().and_then(|ending| ending.to_str()) {
        Some("pth" | "pt") => export_pytorch(&model.network, &flags.out)?,
        Some("safetensors") => export_safetensors(&model.network, &flags.out)?,
        _ => {
            let problem = "the file's ending says what to write: use .pth, .pt or .safetensors";
            return Err(input(format!("{}: {problem}", flags.out.display())));
        }
    }
    if let Some(normalisation) = model.metadata.architecture.normalisation() {
        tracing::warn!(
            "{}: the weights expect images normalised by mean {:?} and standard deviation {:?} (transforms.Normalize(mean, \
             std)); a state dict does not say so. `equipoise info --json` does, and is a --config for `equipoise import`",
            flags.out.display(),
            normalisation.mean,
            normalisation.std
        );
    }
    print(&format!("{}\n", flags.out.display()))
}
