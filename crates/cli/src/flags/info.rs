use std::path::PathBuf;

use clap::Args;

/// Show what a model file holds, or how large the known architectures are
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise info --model runs/demo/standard/model.safetensors\n  equipoise info --model \
                  mdeq-large\n  equipoise info\n\nParameters are compared with those of ResNet-18 and WRN-34-10, the \
                  baselines of like size of mdeq-large and mdeq-xl. Without --model, every known architecture is listed."
)]
pub struct Info {
    /// The model file, or an architecture by name: mdeq-digits, mdeq-small, single-scale, mdeq-large, mdeq-xl, monotone-digits,
    /// monotone-conv-digits, monotone-multi-digits, resnet18, wrn-34-10
    #[arg(long, value_name = "FILE|NAME")]
    pub model: Option<PathBuf>,
    /// As JSON, for other programs
    #[arg(long)]
    pub json: bool,
}
