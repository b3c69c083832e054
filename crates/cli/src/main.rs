//! The `equipoise` command: flags to validated arguments to commands.
//!
//! [`flags`] is what clap reads, raw; each file in [`commands`] turns its flags into checked arguments before it
//! starts anything, then calls the library. Results go to files, what a user would pipe to stdout, everything
//! else to stderr. Exit codes: 0 done, 1 failed or interrupted, 2 bad usage or bad input.

mod args;
mod arguments;
mod bench;
mod calibrate;
mod commands;
mod configuration;
mod demo_recipes;
mod error;
mod files;
mod flags;
mod interrupt;
mod lifeline;
mod log;
mod machine;
mod normalised;
mod printable;
mod progress;
mod recipe;
mod ranks;
mod records;
mod sections;
mod setup;
mod shards;
mod training;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    if lifeline::watched() {
        return ExitCode::SUCCESS;
    }
    log::one_line_panics();
    equipoise_kernels::memory::keep_freed();
    // A panic is a bug of ours. Its message is printed already; what is left is the exit code.
    let ended = std::panic::catch_unwind(commands::run);
    lifeline::release();
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            log::error(&error);
            ExitCode::from(error.exit_code())
        }
        Err(_) => ExitCode::FAILURE,
    }
}
