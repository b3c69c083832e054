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
    print(&format!("{}\n", flags.out.display()))
}
