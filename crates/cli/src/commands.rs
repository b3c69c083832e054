//! The commands: each file checks its flags, then does the work.

mod bench;
mod calibrate;
mod certify;
mod demo;
mod diagnose;
mod evaluate;
mod export;
mod hub;
mod import;
mod info;
mod leaderboard;
mod report;
mod trace;
mod train;
mod verify;
mod write;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::arguments;
use crate::error::Error;
use crate::files;
use crate::flags::{Cli, Command};
use crate::setup::Setup;

/// Reads the command line and runs what it asks for.
pub fn run() -> Result<(), Error> {
    arguments::complete()?;
    let cli = match Cli::try_parse_from(
        std::iter::once("equipoise".to_owned()).chain(arguments::all().iter().cloned()),
    ) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let setup = Setup::new(&cli.global)?;
    // On a thread of the pool: whatever works in parallel from outside of it wakes one of its threads and sleeps meanwhile,
    // a hundred thousand times in an attack by small steps.
    rayon::scope(|_| command(&cli.command, &setup))
}

fn command(command: &Command, setup: &Setup) -> Result<(), Error> {
    match command {
        Command::Demo(flags) => demo::run(flags, setup),
        Command::Train(flags) => train::run(flags, setup),
        Command::Evaluate(flags) => evaluate::run(flags, setup),
        // Its arguments were completed to those of the evaluation.
        Command::Merge(flags) => {
            Err(Error::Internal(format!("{} was not completed", flags.folder.display())))
        }
        Command::Certify(flags) => certify::run(flags, setup),
        Command::Diagnose(flags) => diagnose::run(flags, setup),
        Command::Trace(flags) => trace::run(flags, setup),
        Command::Import(flags) => import::run(flags, setup),
        Command::Export(flags) => export::run(flags, setup),
        Command::Info(flags) => info::run(flags, setup),
        Command::Report(flags) => report::run(flags),
        Command::Verify(flags) => verify::run(flags, setup),
        Command::Leaderboard(flags) => leaderboard::run(flags),
        Command::Bench(flags) => bench::run(flags, setup),
        Command::Calibrate(flags) => calibrate::run(flags, setup),
        Command::BenchWorker(flags) => crate::bench::worker::run(flags, setup),
    }
}

/// Help goes to stdout; a mistake becomes one line.
fn usage(error: &clap::Error) -> Result<(), Error> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // clap knows whether stdout takes colours; a reader who left is no error.
            let _ = error.print();
            Ok(())
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(Error::Input(
            "no command: try `equipoise demo`, or `equipoise --help` for all commands".into(),
        )),
        _ => {
            let text = error.render().to_string();
            let lines = text.lines().take_while(|line| !line.starts_with("Usage:"));
            let lines = lines.filter(|line| !line.starts_with("For more information"));
            let message = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
            let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
            let known = |name: &String| Cli::command().find_subcommand(name).is_some();
            let command = std::env::args().skip(1).find(known).unwrap_or_default();
            Err(Error::Input(format!("{message}; see `equipoise {}`", format!("{command} --help").trim())))
        }
    }
}

/// For messages: prints a text to stdout.
fn print(text: &str) -> Result<(), Error> {
    files::print(text)
}
