//! A classifier that draws random numbers, attacked through the mean of several draws (expectation over transformation,
//! Athalye et al. 2018).

use super::{Classifier, Question, ValueAndGradient, WhiteBox};
use crate::batch::Logits;
use crate::loss::Objective;
use crate::random::Key;
use crate::work::Work;

/// Answers with the mean over fresh draws of what a white box answers: the mean of the logits, and the mean of the
/// objective with its gradient, which estimates the gradient of the expected loss.
///
/// For attacks. The verdict is the white box's own, one draw that no attack has seen.
pub struct Expectation<W> {
    inner: W,
    draws: usize,
}

impl<W: WhiteBox> Expectation<W> {
    /// The mean of so many draws; of one, the answer itself.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn new(inner: W, draws: usize) -> Self {
        assert!(draws > 0, "a mean of no draws");
        Self { inner, draws }
    }

    /// The same question once for each draw.
    fn each<T>(&self, question: &Question<'_>, of: impl Fn(&Question<'_>) -> T) -> impl Iterator<Item = T> {
        (0..self.draws).map(move |k| {
            let key = |key: &Key| Key { draw: key.draw * self.draws + k, ..*key };
            let keys: Vec<Key> = question.keys.iter().map(key).collect();
            of(&Question { images: question.images, keys: &keys })
        })
    }
}

impl<W: WhiteBox> Classifier for Expectation<W> {
    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        let sum = self.each(question, |question| self.inner.answer(question)).reduce(|sum, term| sum + term);
        sum.expect("at least one draw") / self.draws as f64
    }

    fn work(&self) -> Work {
        self.inner.work()
    }
}

impl<W: WhiteBox> WhiteBox for Expectation<W> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        let answers = self.each(question, |question| self.inner.differentiate(question, objective));
        let sum = answers.reduce(|sum, term| ValueAndGradient {
            logits: sum.logits + term.logits,
            values: sum.values + term.values,
            gradient: sum.gradient + term.gradient,
        });
        let (sum, draws) = (sum.expect("at least one draw"), self.draws as f64);
        ValueAndGradient {
            logits: sum.logits / draws,
            values: sum.values / draws,
            gradient: sum.gradient / draws,
        }
    }
}
