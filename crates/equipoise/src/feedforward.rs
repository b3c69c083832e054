//! Feedforward baselines as attacks see them: in evaluation mode.
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
        let (logits, pull_back) = self.model.linearize(images);
        let (values, derivative) = objective.values_and_derivative(&logits);
        ValueAndGradient { gradient: pull_back(derivative), logits, values }
    }
}
