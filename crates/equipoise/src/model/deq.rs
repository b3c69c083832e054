//! A deep equilibrium model: stem, cell and head.

use burn::module::Module;

use super::cell::Cell;
use super::layers::Phase;
use crate::batch::{Images, Logits};
use crate::state::{Injection, State};

/// From images to the injection.
pub trait Stem: Module + Sync + 'static {
    /// `[N, C, H, W]` to `[N, I]`, in Burn operations.
    fn forward(&self, images: Images, phase: &Phase<'_>) -> Injection;
}

/// From a state to logits.
pub trait Head: Module + Sync + 'static {
    /// `[N, D]` to `[N, K]`, in Burn operations.
    fn forward(&self, state: State, phase: &Phase<'_>) -> Logits;

    /// Number of classes K.
    fn classes(&self) -> usize;
}

/// A deep equilibrium model. Its hidden state is the fixed point z* = f(z*; x) of the cell.
///
/// Parameters are kept off autodiff; gradient estimators turn it on where they need it.
#[derive(Module, Debug)]
pub struct Deq<S: Stem, C: Cell, H: Head> {
    /// From images to the injection.
    pub stem: S,
    /// The layer whose fixed point is the state.
    pub cell: C,
    /// From a state to logits.
    pub head: H,
}
