use std::path::PathBuf;

use clap::Args;

/// Make tables and pages of results.json files, of several models side by side
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  equipoise report --results a/results.json b/results.json --out both --format html,latex\n  equipoise report --results a/results.json --out table.tex --format latex"
)]
pub struct Report {
    /// Files written by `evaluate` or `demo`
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub results: Vec<PathBuf>,
    /// A folder, or with a single format and an extension, a file
    #[arg(long, value_name = "DIR|FILE")]
    pub out: PathBuf,
    /// html, markdown, csv, latex, json, svg (every figure a file): one or more, separated by commas
    #[arg(long, value_name = "LIST", default_value = "html,markdown")]
    pub format: String,
    /// Title of the page
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
}
