//! `export`: a model's weights for PyTorch, or a folder for the Hugging Face Hub.

use equipoise::checkpoint::{export_pytorch, export_safetensors};

use super::{hub, print};
use crate::args;
use crate::error::{Error, input};
use crate::flags::Export;
use crate::setup::Setup;

/// Runs the command.
pub fn run(flags: &Export, setup: &Setup) -> Result<(), Error> {
    if let Some(folder) = &flags.hub {
        return hub::write(folder, flags, setup);
    }
    if flags.license.is_some() || !flags.results.is_empty() {
        return Err(input("--license and --results are for a model card: add --hub DIR instead of --out"));
    }
    let Some(out) = &flags.out else { return Err(input("nothing to write: add --out FILE or --hub DIR")) };
    let (model, _) = args::model(&flags.model, &setup.device)?;
    match out.extension().and_then(|ending| ending.to_str()) {
        Some("pth" | "pt") => export_pytorch(&*model.model, out)?,
        Some("safetensors") => export_safetensors(&*model.model, out)?,
        _ => {
            let problem = "the file's ending says what to write: use .pth, .pt or .safetensors";
            return Err(input(format!("{}: {problem}", out.display())));
        }
    }
    if let Some(normalisation) = model.metadata.architecture.normalisation() {
        tracing::warn!(
            "{}: the weights expect images normalised by mean {:?} and standard deviation {:?} (transforms.Normalize(mean, \
             std)); a state dict does not say so. `equipoise info --json` does, and is a --config for `equipoise import`",
            out.display(),
            normalisation.mean,
            normalisation.std
        );
    }
    print(&format!("{}\n", out.display()))
}
