//! A model with an equilibrium, as solvers, attacks and diagnoses see it: how its state is reached from images, and read.
//!
//! Everything that looks at a DEQ without training it asks for this alone. A [`Deq`] of stem, cell and head has it; a model
//! of another make needs these methods and no parameters that are known here.

use super::cell::{BoundCell, Cell};
use super::deq::{Deq, Head, Stem};
use super::layers::Phase;
use crate::state::{Injection, State};
use equipoise_attack::batch::{Images, Logits};

/// From a cotangent u of the injection to uᵀ ∂injection/∂images.
pub type ToImages<'a> = Box<dyn FnOnce(Injection) -> Images + 'a>;

/// From a cotangent u of logits to uᵀ ∂logits/∂state.
pub type ToState<'a> = Box<dyn FnOnce(Logits) -> State + 'a>;

/// A model whose hidden state is a fixed point z* = f(z*; x), used and not trained.
pub trait Equilibrium: Sync {
    /// Number of classes K.
    fn classes(&self) -> usize;

    /// Length D of the state.
    fn state_dim(&self) -> usize;

    /// What the stem makes of images `[N, C, H, W]`: the injection `[N, I]`.
    fn injection(&self, images: &Images) -> Injection;

    /// The same, and the way back from a cotangent of the injection to one of the images.
    fn linearize_stem(&self, images: &Images) -> (Injection, ToImages<'_>);

    /// The cell f(·; x) with its injection fixed.
    fn bind(&self, injection: &Injection) -> Box<dyn BoundCell>;

    /// What the head makes of a state `[N, D]`: logits `[N, K]`.
    fn logits(&self, state: &State) -> Logits;

    /// The same, and the way back from a cotangent of the logits to one of the state.
    fn linearize_head(&self, state: &State) -> (Logits, ToState<'_>);
}

impl<S: Stem, C: Cell, H: Head> Equilibrium for Deq<S, C, H> {
    fn classes(&self) -> usize {
        self.head.classes()
    }

    fn state_dim(&self) -> usize {
        self.cell.state_dim()
    }

    fn injection(&self, images: &Images) -> Injection {
        self.stem.forward(images.clone(), &Phase::Evaluate).into()
    }

    fn linearize_stem(&self, images: &Images) -> (Injection, ToImages<'_>) {
        let (injection, to_images) = self.stem.linearize(images);
        (injection.into(), Box::new(|cotangent| to_images(cotangent.into_tensor())))
    }

    fn bind(&self, injection: &Injection) -> Box<dyn BoundCell> {
        self.cell.bind(injection.tensor())
    }

    fn logits(&self, state: &State) -> Logits {
        self.head.forward(state.tensor().clone(), &Phase::Evaluate)
    }

    fn linearize_head(&self, state: &State) -> (Logits, ToState<'_>) {
        let (logits, to_state) = self.head.linearize(state.tensor());
        (logits, Box::new(|cotangent| to_state(cotangent).into()))
    }
}
