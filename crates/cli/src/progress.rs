//! How far a piece of work has come: a bar on a terminal, a plain line now and then elsewhere.

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::log::BARS;
use crate::printable::printable;

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
            bar.set_prefix(printable(label).into_owned());
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

    /// Whether it is shown as a bar.
    pub fn has_bar(&self) -> bool {
        self.bar.is_some()
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
                bar.set_message(printable(&note).into_owned());
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

/// A whole of several parts, done one after another. How long a part takes is planned roughly before it begins, and told
/// ever better while it is done; what was planned for those to come is corrected by how far the plan was off so far.
#[derive(Debug)]
pub struct Whole {
    parts: RefCell<Vec<Part>>,
    bar: Option<ProgressBar>,
    quiet: bool,
    told: Cell<bool>,
    /// When it was last told how a part stands: what is left has become less since.
    heard: Cell<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    /// Seconds planned.
    planned: f64,
    /// Seconds that it has taken and is expected to take yet; `None` before that is known.
    known: Option<(f64, f64)>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Begun,
    Done,
}

/// Steps of the bar of a whole.
const STEPS: u64 = 1000;

impl Whole {
    /// Parts by the seconds that they are planned to take.
    pub fn new(planned: impl IntoIterator<Item = f64>, quiet: bool) -> Self {
        let part = |planned| Part { planned, known: None, state: State::Waiting };
        let parts: Vec<Part> = planned.into_iter().map(part).collect();
        let bar = (!quiet && !parts.is_empty() && io::stderr().is_terminal()).then(|| {
            let bar = BARS.add(ProgressBar::new(STEPS));
            if let Ok(style) = ProgressStyle::with_template("whole {wide_bar:.green/dim} {percent}%  {msg}") {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar
        });
        Self {
            parts: RefCell::new(parts),
            bar,
            quiet,
            told: Cell::new(false),
            heard: Cell::new(Instant::now()),
        }
    }

    /// The next part begins.
    pub fn begin(&self) {
        self.turn(State::Begun);
    }

    /// The next part need not be done.
    pub fn skip(&self) {
        self.turn(State::Done);
        self.last(|part| part.known = Some((0.0, 0.0)));
    }

    /// The part that was begun last is done.
    pub fn end(&self) {
        self.last(|part| part.state = State::Done);
        self.last(|part| part.known = part.known.map(|(spent, _)| (spent, 0.0)));
    }

    fn turn(&self, state: State) {
        let mut parts = self.parts.borrow_mut();
        if let Some(next) = parts.iter_mut().find(|part| part.state == State::Waiting) {
            next.state = state;
        }
    }

    fn last(&self, change: impl Fn(&mut Part)) {
        let mut parts = self.parts.borrow_mut();
        parts.iter_mut().rfind(|part| part.state != State::Waiting).map(change);
    }

    /// What the part that was begun last has taken, and is expected to take yet, in seconds.
    pub fn set(&self, spent: f64, left: f64) {
        self.last(|part| part.known = Some((spent, left)));
        self.heard.set(Instant::now());
        let Some((done, left)) = self.standing() else { return };
        if !self.told.replace(true) && !self.quiet && done + left > 60.0 {
            tracing::info!("about {} in all", words((done + left).round() as u64));
        }
        if let Some(bar) = &self.bar {
            bar.set_position((STEPS as f64 * done / (done + left).max(1e-9)) as u64);
            bar.set_message(self.note().unwrap_or_default());
        }
    }

    /// Seconds that the whole has taken, and is expected to take yet; `None` before anything is known.
    fn standing(&self) -> Option<(f64, f64)> {
        let parts = self.parts.borrow();
        let known = parts.iter().filter_map(|part| Some((part.planned, part.known?)));
        let (mut planned, mut spent, mut left) = (0.0, 0.0, 0.0);
        for (plan, (took, takes)) in known {
            // A part that need not be done says nothing of the others.
            planned += if took + takes > 0.0 { plan } else { 0.0 };
            spent += took;
            left += takes;
        }
        if spent == 0.0 {
            return None;
        }
        let scale = if planned > 0.0 { (spent + left) / planned } else { 1.0 };
        let to_come = parts.iter().filter(|part| part.known.is_none() && part.state != State::Done);
        Some((spent, left + scale * to_come.map(|part| part.planned).sum::<f64>()))
    }

    /// `whole: 12 min left`, where there is more than one stage to it.
    pub fn note(&self) -> Option<String> {
        let (_, left) = self.standing()?;
        let left = (left - self.heard.get().elapsed().as_secs_f64()).ceil().max(1.0);
        Some(format!("whole: {} left", words(left as u64)))
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How long the rest takes if it goes on like this; `None` before anything is done, or when nothing is left.
fn time_left(elapsed: Duration, done: usize, left: usize) -> Option<String> {
    if done == 0 || left == 0 {
        return None;
    }
    let seconds = (elapsed.as_secs_f64() * left as f64 / done as f64).round() as u64;
    Some(words(seconds))
}

/// `40 s`, `12 min`, `3.5 h`.
pub fn words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
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

    #[test]
    fn a_plan_is_corrected_by_how_far_it_was_off() {
        let whole = Whole::new([100.0, 100.0, 50.0, 50.0], true);
        assert_eq!(whole.standing(), None);
        whole.begin();
        whole.set(10.0, 10.0);
        // The first part takes a fifth of its plan; so will the others.
        assert_eq!(whole.standing(), Some((10.0, 10.0 + 40.0)));
        whole.set(25.0, 5.0);
        whole.end();
        assert_eq!(whole.standing(), Some((25.0, 50.0)));
        whole.begin();
        whole.set(25.0, 0.0);
        whole.end();
        whole.skip();
        assert_eq!(whole.standing(), Some((50.0, 12.5)));
        assert_eq!(whole.note().as_deref(), Some("whole: 13 s left"));
        assert_eq!(Whole::new([], true).note(), None);
    }
}
