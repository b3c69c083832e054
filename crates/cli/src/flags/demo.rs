use std::path::PathBuf;

use clap::Args;

/// Train two small models on embedded digits, one of them adversarially, and attack both: two minutes, no
/// downloads
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  equipoise demo --out runs/demo")]
pub struct Demo {
    /// Folder for models, results and the report
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    pub out: PathBuf,
    /// Smaller models' training and fewer images: seconds, to see that everything works
    #[arg(long)]
    pub quick: bool,
    /// Go on with a demo that was interrupted
    #[arg(long)]
    pub resume: bool,
}
