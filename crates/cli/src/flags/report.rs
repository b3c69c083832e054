use std::path::PathBuf;

use clap::Args;

/// Make tables and pages of results, diagnoses and training runs, several side by side
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise report runs/a runs/b --out both --format html,latex   # folders of evaluate, \
                  diagnose or train\n  equipoise report evaluation/results.json diagnosis/diagnosis.json --out all\n  \
                  equipoise report a/results.json --out table.tex\n  equipoise report runs/pgd-at --out curves --format \
                  pdf"
)]
pub struct Report {
    /// Folders that evaluate, demo, diagnose or train wrote, or results.json and diagnosis.json, in the order to be shown
    #[arg(value_name = "PATH")]
    pub records: Vec<PathBuf>,
    /// The same, before those
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub results: Vec<PathBuf>,
    /// A folder; or a file, whose ending says its format
    #[arg(long, value_name = "DIR|FILE")]
    pub out: PathBuf,
    /// html, markdown, csv, latex, json, svg or pdf (every figure a file): one or more, separated by commas [default: by
    /// the ending of --out, else html,markdown]
    #[arg(long, value_name = "LIST")]
    pub format: Option<String>,
    /// Title of the page
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
}
