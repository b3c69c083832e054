//! The command line as clap reads it: raw text, not yet checked. `commands` checks it.

mod bench;
mod calibrate;
mod certify;
mod demo;
mod diagnose;
mod evaluate;
mod export;
mod import;
mod info;
mod leaderboard;
mod merge;
mod report;
mod shared;
mod trace;
mod train;
mod verify;

pub use bench::{Bench, BenchWorker};
pub use calibrate::Calibrate;
pub use certify::Certify;
pub use demo::Demo;
pub use diagnose::Diagnose;
pub use evaluate::Evaluate;
pub use export::Export;
pub use import::Import;
pub use info::Info;
pub use leaderboard::Leaderboard;
pub use merge::Merge;
pub use report::Report;
pub use shared::{Ball, Images, Preparation};
pub use trace::Trace;
pub use train::Train;
pub use verify::Verify;

use clap::{Args, Parser, Subcommand};

/// Adversarial robustness of deep equilibrium models: train, attack, defend, report.
///
/// Answers one question: is the measured robustness real, or an artefact of gradient obfuscation?
#[derive(Debug, Parser)]
#[command(
    name = "equipoise",
    version,
    max_term_width = 110,
    after_help = "Example:\n  equipoise demo\n\nExit codes: 0 done, 1 failed or interrupted, 2 bad usage or bad input."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Where to compute: cpu, or a GPU by the cargo feature of this build (cuda, vulkan, wgpu), one of several as cuda:1
    #[arg(long, global = true, value_name = "NAME", default_value = "cpu", help_heading = "Global options")]
    pub device: String,
    /// Seed of all random numbers [default: 0]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Global options")]
    pub seed: Option<u64>,
    /// Threads [default: one per core]
    #[arg(long, global = true, value_name = "N", help_heading = "Global options")]
    pub threads: Option<usize>,
    /// Say nothing but errors
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Say more; twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(Demo),
    Train(Train),
    Evaluate(Evaluate),
    Merge(Merge),
    Certify(Certify),
    Diagnose(Diagnose),
    Trace(Trace),
    Import(Import),
    Export(Export),
    Info(Info),
    Report(Report),
    Verify(Verify),
    Leaderboard(Leaderboard),
    Bench(Bench),
    Calibrate(Calibrate),
    #[command(hide = true)]
    BenchWorker(BenchWorker),
}
