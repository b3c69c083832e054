//! How far a piece of work has come: a bar on a terminal, a plain line now and then elsewhere.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::log::BARS;

/// Time between two plain lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// One piece of work of known length.
#[derive(Debug)]
pub struct Progress {
    label: String,
    total: usize,
    bar: Option<ProgressBar>,
    last_line: Cell<Instant>,
}

impl Progress {
    /// Begins at 0 of `total`.
    pub fn new(label: &str, total: usize, quiet: bool) -> Self {
        let bar = (!quiet && io::stderr().is_terminal()).then(|| {
            let bar = BARS.add(ProgressBar::new(total as u64));
            let template = "{prefix} {wide_bar:.cyan/dim} {pos}/{len}  {msg}  {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar.set_prefix(label.to_owned());
            bar
        });
        Self { label: label.to_owned(), total, bar, last_line: Cell::new(Instant::now()) }
    }

    /// Where the work stands, and a note on how it goes.
    pub fn set(&self, position: usize, note: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(position as u64);
                bar.set_message(note.to_owned());
            }
            None if self.last_line.get().elapsed() >= INTERVAL && position < self.total => {
                self.last_line.set(Instant::now());
                tracing::info!("{}: {position} of {}, {note}", self.label, self.total);
            }
            None => {}
        }
    }

    /// From here on, what is left is measured anew: a resumed run did not do the first part just now.
    pub fn skip_to(&self, position: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(position as u64);
            bar.reset_eta();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
