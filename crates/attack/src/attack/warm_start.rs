//! What a white box keeps from one call to the next, so that its next solve starts from the last one's end.

use std::any::Any;
use std::fmt::Debug;

/// One row per example of a batch, of whatever a white box starts from.
pub trait Kept: Any + Debug + Send {
    /// Only the given examples.
    fn select(&self, rows: &[usize]) -> Box<dyn Kept>;
}

/// Where the next solve of each example of a batch may start: one row per example, or nothing, before the first call or
/// from a white box that keeps nothing. Whoever lets examples leave the batch lets their rows leave too.
#[derive(Debug, Default)]
pub struct WarmStart(Option<Box<dyn Kept>>);

impl WarmStart {
    /// What was kept, if it is of this type.
    pub fn rows<K: Kept>(&self) -> Option<&K> {
        let kept: &dyn Any = self.0.as_deref()?;
        kept.downcast_ref()
    }

    /// Keeps this instead.
    pub fn keep(&mut self, rows: impl Kept) {
        self.0 = Some(Box::new(rows));
    }

    /// Keeps only the given examples.
    pub fn select(&mut self, rows: &[usize]) {
        self.0 = self.0.take().map(|kept| kept.select(rows));
    }
}
