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
    /// When the work was at which position for the first time: what the time left is measured from.
    begun: Cell<Option<(Instant, usize)>>,
}

impl Progress {
    /// Begins at 0 of `total`.
    pub fn new(label: &str, total: usize, quiet: bool) -> Self {
        let bar = (!quiet && io::stderr().is_terminal()).then(|| {
            let bar = BARS.add(ProgressBar::new(total as u64));
            let template = "{prefix} {wide_bar:.cyan/dim} {pos}/{len}  {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar.set_prefix(label.to_owned());
            bar
        });
        Self {
            label: label.to_owned(),
            total,
            bar,
            last_line: Cell::new(Instant::now()),
            begun: Cell::new(None),
        }
    }

    /// Where the work stands, and a note on how it goes.
    pub fn set(&self, position: usize, note: &str) {
        self.show(position, position, note);
    }

    /// The same within a step, of which so many more positions are as good as done.
    pub fn within(&self, position: usize, more: usize, note: &str) {
        self.show(position, position + more, note);
    }

    fn show(&self, position: usize, reached: usize, note: &str) {
        let (since, from) = self.begun.get().unwrap_or((Instant::now(), reached));
        self.begun.set(Some((since, from)));
        let left =
            time_left(since.elapsed(), reached.saturating_sub(from), self.total.saturating_sub(reached));
        let note = left.map_or(note.to_owned(), |left| format!("{note}, {left} left"));
        match &self.bar {
            Some(bar) => {
                bar.set_position(position as u64);
                bar.set_message(note);
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
        self.begun.set(Some((Instant::now(), position)));
        if let Some(bar) = &self.bar {
            bar.set_position(position as u64);
        }
    }
}

/// How long the rest takes if it goes on like this; `None` before anything is done, or when nothing is left.
fn time_left(elapsed: Duration, done: usize, left: usize) -> Option<String> {
    if done == 0 || left == 0 {
        return None;
    }
    let seconds = (elapsed.as_secs_f64() * left as f64 / done as f64).round() as u64;
    Some(match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    })
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_pace() {
        let left = |seconds, done, left| time_left(Duration::from_secs(seconds), done, left);
        assert_eq!(left(10, 5, 20).as_deref(), Some("40 s"));
        assert_eq!(left(60, 1, 9).as_deref(), Some("9 min"));
        assert_eq!(left(3600, 1, 3).as_deref(), Some("3.0 h"));
        assert_eq!((left(10, 0, 5), left(10, 5, 0)), (None, None));
    }
}
