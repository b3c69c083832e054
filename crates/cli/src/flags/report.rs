use std::path::PathBuf;

use clap::Args;

/// Make tables and pages of results and diagnoses, of several models side by side
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise report a/results.json b/results.json --out both --format html,latex\n  \
                  equipoise report evaluation/results.json diagnosis/diagnosis.json --out all\n  equipoise report \
                  a/results.json --out table.tex --format latex"
)]
pub struct Report {
    /// results.json of `evaluate` or `demo`, diagnosis.json of `diagnose`, in the order to be shown
    #[arg(value_name = "FILE")]
    pub records: Vec<PathBuf>,
    /// The same, before those
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub results: Vec<PathBuf>,
    /// A folder, or with a single format and an extension, a file
    #[arg(long, value_name = "DIR|FILE")]
    pub out: PathBuf,
    /// html, markdown, csv, latex, json, svg or pdf (every figure a file): one or more, separated by commas
    #[arg(long, value_name = "LIST", default_value = "html,markdown")]
    pub format: String,
    /// Title of the page
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
}
