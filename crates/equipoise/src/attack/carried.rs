//! What a white box keeps from one call to the next, so that it need not begin from nothing each time.

use burn::tensor::Tensor;

use crate::batch::select;

/// One row per example of a batch, or nothing: before the first call, or from a white box that keeps nothing. Whoever
/// lets examples leave the batch lets their rows leave too.
#[derive(Debug, Clone, Default)]
pub struct Carried(Option<Tensor<2>>);

impl Carried {
    /// What was kept, `[N, D]`.
    pub fn rows(&self) -> Option<&Tensor<2>> {
        self.0.as_ref()
    }

    /// Keeps this, `[N, D]`, instead.
    pub fn keep(&mut self, rows: Tensor<2>) {
        self.0 = Some(rows);
    }

    /// Keeps only the given examples.
    pub fn select(&mut self, rows: &[usize]) {
        self.0 = self.0.take().map(|kept| select(&kept, rows));
    }
}
