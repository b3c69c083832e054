//! Feedforward baselines as attacks see them: in evaluation mode.
//!
//! There is one readout and one gradient, and the gradient is the true one.

use crate::model::feedforward::Feedforward;
use crate::model::layers::Phase;
use equipoise_attack::attack::{Classifier, Question, ValueAndGradient, WhiteBox};
use equipoise_attack::batch::Logits;
use equipoise_attack::loss::Objective;

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

    fn answer(&self, question: &Question<'_>) -> Logits {
        self.model.forward(question.images.clone(), &Phase::Evaluate)
    }
}

impl<M: Feedforward> WhiteBox for FeedforwardVictim<'_, M> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        let (logits, pull_back) = self.model.linearize(question.images);
        let (values, derivative) = objective.values_and_derivative(&logits);
        ValueAndGradient { gradient: pull_back(derivative), logits, values }
    }
}
