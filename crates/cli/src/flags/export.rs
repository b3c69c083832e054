use std::path::PathBuf;

use clap::Args;

/// Write a model's weights for PyTorch, by the names of its state dict
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise export --model m.safetensors --out weights.pth          # torch.load\n  equipoise \
                  export --model m.safetensors --out weights.safetensors  # safetensors.torch.load_file"
)]
pub struct Export {
    /// The model file
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// What to write: .pth or .pt as torch.save would, or .safetensors
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
