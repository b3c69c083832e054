//! A model that adds normal noise to every image before it looks at it: a defence that draws, and the base classifier of
//! randomized smoothing (Cohen, Rosenfeld and Kolter 2019).

use super::{Classifier, Question, ValueAndGradient, WhiteBox};
use crate::batch::{Images, Logits, from_vec};
use crate::loss::Objective;
use crate::random::Key;
use crate::work::Work;

/// Normal noise of deviation σ in each intensity, drawn by the question's keys and not clipped. A gradient at the noisy
/// image is one at the image.
pub struct Noisy<W> {
    inner: W,
    sigma: f64,
}

impl<W: Classifier> Noisy<W> {
    /// Noise of this deviation, in units of pixel intensity.
    ///
    /// # Panics
    ///
    /// If it is not a positive number.
    pub fn new(inner: W, sigma: f64) -> Self {
        assert!(sigma > 0.0 && sigma.is_finite(), "noise has a positive deviation");
        Self { inner, sigma }
    }

    fn noisy(&self, question: &Question<'_>) -> Images {
        let images = question.images;
        let size: usize = images.dims()[1..].iter().product();
        let noise = question.keys.iter().flat_map(|key| {
            // A stream of its own: a model that draws as well draws by the same key.
            let mut rng = Key { start: key.start | 1 << (usize::BITS - 1), ..*key }.rng();
            (0..size).map(|_| (self.sigma * rng.normal()) as f32).collect::<Vec<_>>()
        });
        images.clone() + from_vec(noise.collect(), images.dims(), &images.device())
    }
}

impl<W: Classifier> Classifier for Noisy<W> {
    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        self.inner.answer(&question.about(&self.noisy(question)))
    }

    fn work(&self) -> Work {
        self.inner.work()
    }
}

impl<W: WhiteBox> WhiteBox for Noisy<W> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        self.inner.differentiate(&question.about(&self.noisy(question)), objective)
    }
}
