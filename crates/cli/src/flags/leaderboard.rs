use std::path::PathBuf;

use clap::Args;

/// Make a leaderboard of records: one page, and RobustBench's file of every row
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise leaderboard runs --out board\n\nRecords (results.json) are looked for in the folders and all below them. Those \
                  of the same weights, readout, images and budget make one row: an image is robust there if it is robust in all of \
                  them. Beside a record, `verification.json` is what `equipoise verify --json` printed of it, and `about.json` what only \
                  people know of the model: \"name\", \"authors\", \"link\", \"venue\", \"footnote\" as texts, \"additional_data\" true \
                  or false.\n\nThe folder gets index.html, leaderboard.csv, and robustbench/DATA/NORM/MODEL-READOUT.json."
)]
pub struct Leaderboard {
    /// Folders with records, or records
    #[arg(value_name = "PATH", required = true)]
    pub records: Vec<PathBuf>,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Title of the page
    #[arg(long, value_name = "TEXT", default_value = "Adversarial robustness of deep equilibrium models")]
    pub title: String,
}
