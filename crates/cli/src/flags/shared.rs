//! What several commands ask alike. Where a default or a help text differs, the command says so itself.

use std::path::PathBuf;

use clap::Args;
use equipoise_dataset::Source;

/// Which images, and how many at once.
#[derive(Debug, Clone, Args)]
pub struct Images {
    #[arg(long, value_name = "SPEC", help = Source::FORMS)]
    pub data: String,
    #[command(flatten)]
    pub preparation: Preparation,
    /// train or test
    #[arg(long, value_name = "NAME", default_value = "test")]
    pub split: String,
    /// Look at the first N images only
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
    /// Begin at this image: with --count, a part of the split
    #[arg(long, value_name = "N", conflicts_with = "indices")]
    pub offset: Option<usize>,
    /// Look at these images: a text file of row numbers from 0, separated by spaces, commas or line ends
    #[arg(long, value_name = "FILE", conflicts_with = "count")]
    pub indices: Option<PathBuf>,
    /// Images per batch; changes speed and memory, not results
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch_size: usize,
}

/// What is done to images before a model sees them. Results name it, and a model must see what it was trained on.
#[derive(Debug, Clone, Default, Args)]
pub struct Preparation {
    /// Resize images first: N (the shorter side; the other keeps its proportion) or WxH; bilinear with antialiasing, as
    /// torchvision
    #[arg(long, value_name = "SIZE")]
    pub resize: Option<String>,
    /// Cut this out of the middle: N (a square) or WxH
    #[arg(long, value_name = "SIZE")]
    pub crop: Option<String>,
    /// Where the channels of npz arrays are, nchw or nhwc, if their shape does not say
    #[arg(long, value_name = "NAME")]
    pub layout: Option<String>,
    /// Memory that decoded images may take, such as 32GiB; what claims more is refused before it is read [default: 16GiB]
    #[arg(long, value_name = "SIZE")]
    pub max_input: Option<String>,
}

/// How far a perturbation may go.
#[derive(Debug, Clone, Args)]
pub struct Ball {
    /// Radius of the perturbations, such as 8/255 [default: 8/255 for linf; another norm needs its own]
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub eps: Option<String>,
    /// Norm of the radius: linf or l2
    #[arg(long, value_name = "NORM", default_value = "linf")]
    pub norm: String,
}
