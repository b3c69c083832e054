use std::path::PathBuf;

use clap::Args;

/// Show what a model file holds: architecture, deployment, training, data
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  equipoise info --model runs/demo/standard/model.safetensors")]
pub struct Info {
    /// The model file
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// As JSON, for other programs
    #[arg(long)]
    pub json: bool,
}
