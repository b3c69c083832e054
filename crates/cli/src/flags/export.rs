use std::path::PathBuf;

use clap::Args;

/// Write a model's weights for PyTorch, by the names of its state dict, or a folder for the Hugging Face Hub
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise export --model m.safetensors --out weights.pth          # torch.load\n  equipoise \
                  export --model m.safetensors --out weights.safetensors  # safetensors.torch.load_file\n  equipoise \
                  export --model m.safetensors --hub hub --results evaluation/results.json --license mit"
)]
pub struct Export {
    /// The model file
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// What to write: .pth or .pt as torch.save would, or .safetensors
    #[arg(long, value_name = "FILE", required_unless_present = "hub", conflicts_with = "hub")]
    pub out: Option<PathBuf>,
    /// A new folder for the Hugging Face Hub: model.safetensors, config.json and a model card
    #[arg(long, value_name = "DIR")]
    pub hub: Option<PathBuf>,
    /// Evaluations of this model, for its card: results.json, or folders of evaluate
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub results: Vec<PathBuf>,
    /// Licence of the weights, for the card, by the Hub's identifier such as mit or cc-by-4.0 [default: none is stated]
    #[arg(long, value_name = "ID")]
    pub license: Option<String>,
}
