//! What `evaluate` and `diagnose` ask alike. Where a default or a help text differs, the command says so itself.

use std::path::PathBuf;

use clap::Args;

/// Which images, and how many at once.
#[derive(Debug, Args)]
pub struct Images {
    /// digits, cifar10:PATH, fashion-mnist[:PATH], folder:PATH or npz:PATH
    #[arg(long, value_name = "SPEC")]
    pub data: String,
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

/// How far a perturbation may go.
#[derive(Debug, Args)]
pub struct Ball {
    /// Radius of the perturbations, such as 8/255 [default: 8/255 for linf; another norm needs its own]
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub eps: Option<String>,
    /// Norm of the radius: linf or l2
    #[arg(long, value_name = "NORM", default_value = "linf")]
    pub norm: String,
}
