use std::path::PathBuf;

use clap::Args;

/// Make a model file from a PyTorch checkpoint
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise import --from ckpt.pth.tar --arch mdeq --config cfg.yaml --out m.safetensors\n  \
                  equipoise import --from resnet.pth --arch resnet18 --width 64 --out r.safetensors\n\nNothing from \
                  the checkpoint is run. Missing, unexpected and wrongly shaped tensors are all listed, and nothing \
                  is written then."
)]
pub struct Import {
    /// The checkpoint: .pth, .pth.tar (zip, tar or legacy pickle; `state_dict` key or bare) or .safetensors
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// mdeq, resnet18 or wrn-34-10
    #[arg(long, value_name = "NAME")]
    pub arch: String,
    /// Sizes and deployment: the release's YAML, or TOML or JSON with [architecture] and [deployment]; an mdeq
    /// needs it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Width of a resnet18 or wrn-34-10
    #[arg(long, value_name = "N")]
    pub width: Option<usize>,
    /// The gradient that the model was trained with: exact, or unrolled, which is then deployed too [default: what
    /// the configuration says, else exact]
    #[arg(long, value_name = "SPEC")]
    pub gradient: Option<String>,
    /// The model's name in tables [default: the checkpoint's file name]
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// The model file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
