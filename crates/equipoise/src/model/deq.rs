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

/// From a cotangent u of logits to uᵀ ∂logits/∂state.
pub type HeadPullBack<'a> = Box<dyn FnOnce(Logits) -> State + 'a>;

/// From a state to logits.
pub trait Head: Module + Sync + 'static {
    /// `[N, D]` to `[N, K]`, in Burn operations.
    fn forward(&self, state: State, phase: &Phase<'_>) -> Logits;

    /// The logits `[N, K]` of untracked states `[N, D]` in evaluation, and the way back. Parameters are constants.
    fn linearize(&self, state: &State) -> (Logits, HeadPullBack<'_>) {
        self.linearize_tracked(state)
    }

    /// The same through autodiff, for any head: the reference for those that have a way of their own.
    fn linearize_tracked(&self, state: &State) -> (Logits, HeadPullBack<'_>) {
        let tracked = state.clone().autodiff().require_grad();
        let logits = self.forward(tracked.clone(), &Phase::Evaluate);
        let plain = logits.clone().inner();
        let pull_back = move |cotangent: Logits| {
            let gradients = (logits * cotangent).sum().backward();
            tracked.grad(&gradients).unwrap_or_else(|| tracked.inner().zeros_like())
        };
        (plain, Box::new(pull_back))
    }

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
