//! A model that draws random numbers, held to the draw that the verdict will make: what an attacker meets who knows the seed.

use super::{Classifier, Question, ValueAndGradient, WhiteBox};
use crate::batch::Logits;
use crate::loss::Objective;
use crate::random::Key;
use crate::work::Work;

/// Answers every question about an example by the key of its verdict.
pub struct Pinned<W>(pub W);

impl<W> Pinned<W> {
    fn keys(question: &Question<'_>) -> Vec<Key> {
        question.keys.iter().map(|key| Key { asker: Key::VERDICT, start: 0, draw: 0, ..*key }).collect()
    }
}

impl<W: Classifier> Classifier for Pinned<W> {
    fn classes(&self) -> usize {
        self.0.classes()
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        self.0.answer(&Question { keys: &Self::keys(question), ..*question })
    }

    fn work(&self) -> Work {
        self.0.work()
    }
}

impl<W: WhiteBox> WhiteBox for Pinned<W> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        self.0.differentiate(&Question { keys: &Self::keys(question), ..*question }, objective)
    }
}
