//! What an evaluation tells the outside while it runs, and the one thing it asks: whether to stop.
//! Progress bars and Ctrl-C live behind this trait.

/// Watches an evaluation.
pub trait Observer {
    /// A stage begins: `clean`, or an attack as `attack/estimator`, over `total` examples.
    fn stage(&self, label: &str, total: usize);

    /// `examples` more of the stage's examples are done; `note` says how the stage stands.
    fn advance(&self, examples: usize, note: &str);

    /// Whether to stop. Asked before each batch.
    fn cancelled(&self) -> bool;
}

/// An observer that says nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Observer for Quiet {
    fn stage(&self, _label: &str, _total: usize) {}

    fn advance(&self, _examples: usize, _note: &str) {}

    fn cancelled(&self) -> bool {
        false
    }
}
