//! Feedforward baselines as attacks see them: in evaluation mode, their gradient by autodiff.
//!
//! There is one readout and one gradient, and the gradient is the true one.

use crate::attack::{Classifier, ValueAndGradient, WhiteBox};
use crate::batch::{Images, Logits};
use crate::loss::Objective;
use crate::model::feedforward::Feedforward;
use crate::model::layers::Phase;

/// A baseline under attack.
#[derive(Debug)]
pub struct FeedforwardVictim<'a, M> {
    model: &'a M,
}

impl<'a, M: Feedforward> FeedforwardVictim<'a, M> {
    /// The model with the running statistics of its batch normalisations.
    pub fn new(model: &'a M) -> Self {
        Self { model }
    }
}

impl<M: Feedforward> Classifier for FeedforwardVictim<'_, M> {
    fn classes(&self) -> usize {
        self.model.classes()
    }

    fn logits(&self, images: &Images) -> Logits {
        self.model.forward(images.clone(), &Phase::Evaluate)
    }
}

impl<M: Feedforward> WhiteBox for FeedforwardVictim<'_, M> {
    fn value_and_gradient(&self, images: &Images, objective: &dyn Objective) -> ValueAndGradient {
        let tracked = images.clone().autodiff().require_grad();
        let logits = self.model.forward(tracked.clone(), &Phase::Evaluate);
        let plain = logits.clone().inner();
        let (values, derivative) = objective.values_and_derivative(&plain);
        let gradients = (logits * derivative).sum().backward();
        let gradient = tracked.grad(&gradients).unwrap_or_else(|| images.zeros_like());
        ValueAndGradient { logits: plain, values, gradient }
    }
}
