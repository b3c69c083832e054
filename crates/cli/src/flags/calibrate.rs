use std::path::PathBuf;

use clap::Args;

/// Measure the error rate and the power of the verdict, on small models trained now
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise calibrate --out calibration\n  equipoise calibrate --quick --kinds a,checks --out try\n\n\
                  Kinds: a, b and c are nulls (the training gradient from other starts; converged solves; gradients of \
                  equal quality in other directions), d the same on models that draw random numbers; healthy; faults; checks. Writes calibration.json (everything), \
                  summary.json (rates), verdicts.csv, checks.csv, calibration.md and figures. The whole takes about an hour of \
                  one core."
)]
pub struct Calibrate {
    /// Folder for the record, the tables and the figures
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// These kinds only, separated by commas [default: all]
    #[arg(long, value_name = "LIST")]
    pub kinds: Option<String>,
    /// Models of each kind [default: 6; 1 with --quick]
    #[arg(long, value_name = "N")]
    pub models: Option<u64>,
    /// A few models, seeds and images: seconds, to see that it works
    #[arg(long)]
    pub quick: bool,
}
