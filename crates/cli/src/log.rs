//! What goes to stderr: log lines that do not tear progress bars, and errors as one line each.

use std::io::{self, Write};
use std::sync::LazyLock;

use indicatif::MultiProgress;
use tracing::level_filters::LevelFilter;

use crate::error::Error;
use crate::printable::printable;

/// All progress bars of this process; they step aside for every line that is written.
pub static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Starts logging. 0 is the usual amount, below it errors alone, above it what helps to find a fault.
pub fn start(verbosity: i8) {
    let level = match verbosity {
        ..0 => LevelFilter::ERROR,
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        2.. => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        // Every escape sequence is made unprintable below, its own too.
        .with_ansi(false)
        .with_level(verbosity > 0)
        .with_target(verbosity > 0)
        .without_time()
        .log_internal_errors(false)
        .with_writer(|| BesideBars)
        .init();
}

struct BesideBars;

/// A pipe that nobody reads any more, or a full disk, must not end the work that the lines are about: what cannot be
/// written is dropped.
impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let _ = BARS.suspend(|| io::stderr().write_all(printable(&line).as_bytes()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = io::stderr().flush();
        Ok(())
    }
}

/// `error: ...`, always one line.
pub fn error(error: &Error) {
    line(&error.to_string());
}

/// A panic is a bug of ours, and reads like any other error.
pub fn one_line_panics() {
    std::panic::set_hook(Box::new(|info| {
        if equipoise_dataset::expects_panic() {
            return;
        }
        let payload = info.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or(payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic");
        let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
        line(&format!("internal failure: {message}{place}; please report it with the command line"));
    }));
}

fn line(message: &str) {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    // If stderr is gone there is nowhere to say so.
    let _ = BARS.suspend(|| writeln!(io::stderr(), "error: {}", printable(&message)));
}
