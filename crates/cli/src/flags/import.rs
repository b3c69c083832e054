use std::path::PathBuf;

use clap::Args;

/// Make a model file from a PyTorch checkpoint
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise import --from ckpt.pth.tar --arch mdeq --config cfg.yaml --out m.safetensors\n  \
                  equipoise import --from resnet.pth --arch resnet18 --width 64 --normalise cifar10 --out r.safetensors\n  \
                  equipoise import --from run.ckpt --key ema --arch resnet18 --out r.safetensors\n\nThe weights are found \
                  by their names, in whatever dictionaries and behind whatever prefixes they stand. Nothing from the \
                  checkpoint is run. If they do not fit, the first differences are said (all of them with --list), and \
                  nothing is written.\n\nAttacks move images in [0, 1]. A model that expects normalised images needs \
                  --normalise or --mean and --std, which become part of the model: cifar10 is mean 0.4914,0.4822,0.4465 \
                  and std 0.2470,0.2435,0.2616; cifar10-per-image the same mean and 0.2023,0.1994,0.2010; imagenet \
                  0.485,0.456,0.406 and 0.229,0.224,0.225; half 0.5 and 0.5. Tensors such as mu and sigma or \
                  normalize.mean and normalize.std in the checkpoint are used without being asked for."
)]
pub struct Import {
    /// The checkpoint: .pth, .pth.tar, .ckpt (zip, tar or legacy pickle), .safetensors, .npz or .mat
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// mdeq, monotone, monotone-conv, monotone-multi, lben, sll, resnet18 or wrn-34-10 [default: what --config says]
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    /// Sizes and deployment: the release's YAML; TOML or JSON with [architecture] and [deployment]; or what `equipoise
    /// info --json` printed. An mdeq and every monotone DEQ needs it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Width of a resnet18 or wrn-34-10
    #[arg(long, value_name = "N")]
    pub width: Option<usize>,
    /// Size of the images that the model takes, such as 28 or 1x28x28 [default: what --config says, else 3x32x32]
    #[arg(long, value_name = "SIZE")]
    pub image: Option<String>,
    /// Number of classes [default: what --config says, else 10]
    #[arg(long, value_name = "N")]
    pub classes: Option<usize>,
    /// Which of several dictionaries in the checkpoint to take, such as ema; `.` for the top level
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Tensors in it that the model does not need, by name or by what their names begin with, separated by commas
    #[arg(long, value_name = "LIST")]
    pub ignore: Vec<String>,
    /// What the model normalises images by: cifar10, cifar10-per-image, imagenet, mnist, half, or none [default: what the
    /// checkpoint says]
    #[arg(long, value_name = "NAME", alias = "normalize")]
    pub normalise: Option<String>,
    /// Mean of each channel on the scale of [0, 1], separated by commas
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub mean: Option<String>,
    /// Standard deviation of each channel
    #[arg(long, value_name = "LIST")]
    pub std: Option<String>,
    /// If the weights do not fit, name every tensor that does not
    #[arg(long)]
    pub list: bool,
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
