//! What an evaluation or a diagnosis tells while it runs: bars, lines, the time that is left.

use std::cell::RefCell;
use std::ops::ControlFlow;

use equipoise::attack::Step;
use equipoise::evaluate::{Forecast, Observer, Part};

use crate::interrupt;
use crate::progress::{Progress, Whole};
use crate::setup::Setup;

/// A bar per stage, and a line when it is done.
pub struct Watch<'a> {
    /// Whose the stages are; empty where their labels say it.
    label: &'a str,
    quiet: bool,
    stage: RefCell<Option<Stage>>,
    /// What is told how long it takes.
    whole: Option<&'a Whole>,
    disputed: RefCell<Vec<usize>>,
}

struct Stage {
    label: String,
    done: usize,
    total: usize,
    progress: Progress,
}

impl<'a> Watch<'a> {
    /// Watches work on something that is called `label`.
    pub fn new(label: &'a str, setup: &Setup) -> Self {
        Self {
            label,
            quiet: setup.quiet,
            stage: RefCell::new(None),
            whole: None,
            disputed: RefCell::default(),
        }
    }

    /// Watches an assessment, whose parts are those of a whole.
    pub fn of_whole(whole: &'a Whole, setup: &Setup) -> Self {
        Self { whole: Some(whole), ..Self::new("", setup) }
    }

    /// The examples whose adversarial images, made on other machines, do not fool the model on this one, in order.
    pub fn disputed(&self) -> Vec<usize> {
        let mut all = self.disputed.borrow().clone();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Observer for Watch<'_> {
    fn stage(&self, label: &str, total: usize) {
        let label = if self.label.is_empty() { label.to_owned() } else { format!("{}: {label}", self.label) };
        let progress = Progress::new(&label, total, self.quiet);
        *self.stage.borrow_mut() = Some(Stage { label, done: 0, total, progress });
    }

    fn advance(&self, examples: usize, note: &str) {
        if let Some(stage) = &mut *self.stage.borrow_mut() {
            stage.done += examples;
            stage.progress.set(stage.done, note);
            if stage.done >= stage.total && !note.is_empty() {
                tracing::info!("{}: {note}", stage.label);
            }
        }
    }

    fn step(&self, step: Step) -> ControlFlow<()> {
        if let Some(stage) = &*self.stage.borrow() {
            let Step { done, total, examples, standing } = step;
            let mut note = format!("step {done} of {total}");
            if standing < examples {
                note.push_str(&format!(" with {standing} of {examples} standing"));
            }
            if let Some(whole) = self.whole.filter(|_| !stage.progress.has_bar()).and_then(Whole::note) {
                note.push_str(&format!(", {whole}"));
            }
            // Points that fall early make a batch faster than this: the time left is at most so long.
            stage.progress.within(stage.done, examples * done / total.max(1), &note);
        }
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn disputed(&self, indices: &[usize]) {
        self.disputed.borrow_mut().extend(indices);
    }

    fn forecast(&self, Forecast { spent, left }: Forecast) {
        if let Some(whole) = self.whole {
            whole.set(spent, left);
        }
    }

    fn part(&self, part: Part) {
        if let Some(whole) = self.whole {
            match part {
                Part::Begins => whole.begin(),
                Part::Ends => whole.end(),
                Part::Skipped => whole.skip(),
            }
        }
    }

    fn cancelled(&self) -> bool {
        interrupt::asked()
    }
}
