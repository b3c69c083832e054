//! What a white box keeps from one call to the next, so that its next solve starts from the last one's end.

use crate::state::State;

/// Where the next solve of each example of a batch may start: one row per example, or nothing, before the first call or
/// from a white box that keeps nothing. Whoever lets examples leave the batch lets their rows leave too.
#[derive(Debug, Clone, Default)]
pub struct WarmStart(Option<State>);

impl WarmStart {
    /// What was kept, `[N, D]`.
    pub fn rows(&self) -> Option<&State> {
        self.0.as_ref()
    }

    /// Keeps this, `[N, D]`, instead.
    pub fn keep(&mut self, rows: State) {
        self.0 = Some(rows);
    }

    /// Keeps only the given examples.
    pub fn select(&mut self, rows: &[usize]) {
        self.0 = self.0.take().map(|kept| kept.select(rows));
    }
}
