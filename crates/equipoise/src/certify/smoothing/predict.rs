//! The smoothed classifier itself: its answer to an image, by votes, or none.

use equipoise_verdict::exact_test_two_sided;

use super::Smoothing;
use super::draws::Draws;
use crate::attack::Classifier;
use crate::evaluate::{Observer, Points};

/// The answer of the smoothed classifier to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// The class; `None` where it abstains.
    pub class: Option<usize>,
    /// How many of the draws gave each class.
    pub counts: Vec<usize>,
}

impl Prediction {
    /// The class with the most of some votes, unless as clear a lead over the next would come of even chances, for either of the two, with
    /// a chance above `alpha`.
    ///
    /// ```
    /// use equipoise::certify::Prediction;
    ///
    /// assert_eq!(Prediction::of(vec![3, 80, 17], 0.001).class, Some(1));
    /// assert_eq!(Prediction::of(vec![51, 0, 49], 0.001).class, None);
    /// ```
    pub fn of(counts: Vec<usize>, alpha: f64) -> Self {
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by_key(|&class| std::cmp::Reverse(counts[class]));
        let votes = |place: usize| order.get(place).map_or(0, |&class| counts[class]);
        let clear = exact_test_two_sided(votes(0), votes(1)) <= alpha;
        Self { class: order.first().copied().filter(|_| clear), counts }
    }
}

impl Smoothing {
    /// The class that the smoothed classifier gives an image, `row` of the points (PREDICT of Cohen, Rosenfeld and Kolter 2019): by n draws,
    /// of which none was used for a certificate. It is another than the vote over all noise with a chance of α at
    /// most. Of fast votes nothing is known here: every draw is answered as ever. `None` if the observer stopped it, or the classifier
    /// failed.
    pub fn predict(
        &self,
        classifier: &dyn Classifier,
        points: &Points,
        row: usize,
        seed: u64,
        batch: usize,
        observer: &dyn Observer,
    ) -> Option<Prediction> {
        let draws = Draws::new(self.sigma, classifier, points, row, (seed, batch), observer);
        let counts = draws.counts("smoothing, prediction", self.estimation, (0, self.estimation))?;
        Some(Prediction::of(counts, self.alpha))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::ExampleRng;

    /// Three classes of which two are nearly as likely: over many draws of votes another class than the likeliest is named in a share
    /// α at most, and not never.
    #[test]
    fn another_class_is_named_as_often_as_it_says() {
        let (alpha, trials) = (0.1, 4000);
        let mut named = [0; 4];
        for trial in 0..trials {
            let mut rng = ExampleRng::new(5, "votes", trial, 0);
            let mut counts = vec![0; 3];
            for _ in 0..120 {
                let draw = rng.unit();
                counts[if draw < 0.45 {
                    0
                } else if draw < 0.89 {
                    1
                } else {
                    2
                }] += 1;
            }
            named[Prediction::of(counts, alpha).class.unwrap_or(3)] += 1;
        }
        let [_, second, third, abstained] = named;
        // At most α of all; a test at 2α would be seen.
        assert!((20..400).contains(&second) && third == 0, "{named:?}");
        assert!(abstained > trials / 2, "{named:?}");
    }

    #[test]
    fn without_votes_or_with_few_it_abstains() {
        assert_eq!(Prediction::of(vec![0, 0], 0.001).class, None);
        assert_eq!(Prediction::of(vec![9], 0.001).class, None);
        // 2 · 2⁻¹¹ is below 0.001.
        assert_eq!(Prediction::of(vec![0, 11], 0.001).class, Some(1));
        assert_eq!(Prediction::of(vec![10, 0], 0.001).class, None);
    }
}
