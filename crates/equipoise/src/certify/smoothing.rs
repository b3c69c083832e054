//! Randomized smoothing (Cohen, Rosenfeld and Kolter 2019, arXiv 1902.02918): the class that a classifier gives most often under
//! normal noise does not change within an L2 ball whose radius follows from how often.
//!
//! n₀ draws choose a class c. Of n fresh draws N answer c, and p is the exact lower bound of their share at level α. Above 1/2 the
//! vote over all noise is c within σ Φ⁻¹(p), with confidence 1 − α for each image; else the method abstains. The noise has the
//! deviation σ in units of pixel intensity, is added before any normalisation, and is not clipped: the classifier meets images
//! outside of \[0, 1\].
//!
//! A DEQ's votes may be cast fast and corrected ([`Serialized`]). [`Smoothing::predict`] is the answer of the smoothed classifier itself.
//!
//! A draw is a function of (seed, index of the image, number of the draw), so that neither batch size nor order changes a vote.
//! The draws of an image must be independent: a solver that stops on the norms of a whole batch would tie them together.

mod draws;
mod predict;
mod record;
mod serialized;

pub use predict::Prediction;
pub use serialized::{Checks, Serialized};

use equipoise_record::CertifiedExample;
use equipoise_verdict::{clopper_pearson_below, normal_quantile_below};
use serde::{Deserialize, Serialize};

use crate::attack::{Classifier, Norm};
use crate::evaluate::{Observer, Points};
use crate::solve::{SolverConfig, StopScope};
use draws::Draws;

/// The method's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Smoothing {
    /// σ, in units of pixel intensity.
    pub sigma: f64,
    /// n₀: draws that choose the class.
    pub selection: usize,
    /// n: fresh draws that bound how often it is given.
    pub estimation: usize,
    /// α: the chance, for each image, that what is certified does not hold.
    pub alpha: f64,
    /// How a DEQ's votes are cast fast, if they are.
    pub serialized: Option<Serialized>,
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SmoothingError {
    /// The offending field.
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// How the draws of one image voted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Votes {
    /// The class that most of the first draws gave, the lowest of several; absent if none had finite logits.
    pub class: Option<usize>,
    /// How many of the fresh draws gave it.
    pub count: usize,
    /// Of fast votes, what became of those that were checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Checks>,
}

/// The chance that an honest radius is refuted.
const REFUTED: f64 = 1e-6;

/// The most draws of an image.
const MOST: usize = 10_000_000;

/// The purpose of the noise of the draws that bound a share.
const ESTIMATION: &str = "smoothing, estimation";

impl Smoothing {
    /// Noise of deviation σ, with 100 draws for the class, 10,000 for its share, and α = 0.001.
    pub fn new(sigma: f64) -> Self {
        Self { sigma, selection: 100, estimation: 10_000, alpha: 0.001, serialized: None }
    }

    /// Whether the settings make sense.
    ///
    /// # Errors
    ///
    /// Names the field and its range.
    pub fn check(&self) -> Result<(), SmoothingError> {
        let wrong = |field, problem: String| Err(SmoothingError { field, problem });
        if !(self.sigma > 0.0 && self.sigma <= 100.0) {
            return wrong("sigma", format!("{} must be above 0 and at most 100; 0.25 is usual", self.sigma));
        }
        for (field, draws) in [("selection", self.selection), ("estimation", self.estimation)] {
            if !(1..=MOST).contains(&draws) {
                return wrong(field, format!("{draws} draws; use 1 to {MOST}"));
            }
        }
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            return wrong("alpha", format!("{} must be above 0 and below 0.5; 0.001 is usual", self.alpha));
        }
        if let Some(serialized) = self.serialized {
            serialized.check(self.estimation)?;
            let plain = Self { serialized: None, ..*self };
            if self.largest_radius() <= 0.0 && plain.largest_radius() > 0.0 {
                let problem = format!("{} can certify nothing at this alpha; use more", serialized.checks);
                return wrong("checks", problem);
            }
        }
        if self.largest_radius() <= 0.0 {
            let problem = format!("{} draws can certify nothing at this alpha; use more", self.estimation);
            return wrong("estimation", problem);
        }
        Ok(())
    }

    /// Whether a DEQ's solver answers each draw by itself.
    ///
    /// # Errors
    ///
    /// If it stops on the norms of a whole batch.
    pub fn check_solver(solver: &SolverConfig) -> Result<(), SmoothingError> {
        match solver.scope {
            StopScope::Example => Ok(()),
            StopScope::Batch => Err(SmoothingError {
                field: "solver",
                problem: "its solver stops on the norms of a whole batch, which ties an image's draws together: nothing can \
                          be certified; deploy it with scope `example`"
                    .to_owned(),
            }),
        }
    }

    /// Whether a classifier can vote so.
    ///
    /// # Errors
    ///
    /// If votes are to be fast, and it has no approximation.
    pub fn check_classifier(&self, classifier: &dyn Classifier) -> Result<(), SmoothingError> {
        if self.serialized.is_none() || classifier.approximation().is_some() {
            return Ok(());
        }
        let problem =
            "only a DEQ behind the readout `final` has states that a solve can go on from; leave it out"
                .to_owned();
        Err(SmoothingError { field: "serialized", problem })
    }

    /// The radius where all draws agree: no image is certified beyond it.
    pub fn largest_radius(&self) -> f64 {
        let checked = |serialized: Serialized| serialized.checks.min(self.estimation);
        let checks = self.serialized.map(checked).map(|checked| Checks { checked, confirmed: checked });
        self.radius(&Votes { class: Some(0), count: self.estimation, checks }).unwrap_or(0.0)
    }

    /// The largest radius in a norm for images of `pixels` = CHW numbers; `None` for L1.
    pub fn largest_radius_in(&self, norm: Norm, pixels: usize) -> Option<f64> {
        Some(self.largest_radius() / scale(norm, pixels)?)
    }

    /// Radii for a table where none are given: sixteen, evenly, from 0 to the largest. None for L1.
    pub fn radii(&self, norm: Norm, pixels: usize) -> Vec<f64> {
        let largest = self.largest_radius_in(norm, pixels);
        largest.map_or(Vec::new(), |largest| (0..16).map(|k| largest * f64::from(k) / 15.0).collect())
    }

    /// The L2 radius that votes for a class certify, rounded down; `None` where the method abstains. Of fast votes half of α is the
    /// correction's.
    fn radius(&self, votes: &Votes) -> Option<f64> {
        // Fast votes that nobody checked show nothing.
        let unchecked = self.serialized.map(|_| Checks { checked: 0, confirmed: 0 });
        let (count, alpha) = match votes.checks.or(unchecked) {
            None => (votes.count, self.alpha),
            Some(checks) => (checks.accurate(votes.count, self.alpha / 2.0), self.alpha / 2.0),
        };
        let share = clopper_pearson_below(count, self.estimation, alpha);
        let radius = (self.sigma * normal_quantile_below(share)).next_down();
        (share > 0.5 && radius > 0.0).then_some(radius)
    }

    /// The votes of one image, `row` of the points. `None` if the observer stopped it, or the classifier failed. Of fast votes `seed` and
    /// the settings are all that they depend on too, and `batch` is only how many draws are asked about at once.
    ///
    /// # Panics
    ///
    /// If [`Self::check_classifier`] refuses the classifier.
    pub fn votes(
        &self,
        classifier: &dyn Classifier,
        points: &Points,
        row: usize,
        seed: u64,
        batch: usize,
        observer: &dyn Observer,
    ) -> Option<Votes> {
        let draws = Draws::new(self.sigma, classifier, points, row, (seed, batch), observer);
        let checks = self.serialized.map_or(0, |serialized| serialized.checks);
        let total = self.selection + self.estimation + checks;
        let first = draws.counts("smoothing, selection", self.selection, (0, total))?;
        let most = first.iter().copied().max().filter(|&most| most > 0);
        let class = most.and_then(|most| first.iter().position(|&count| count == most));
        let Some(chosen) = class else { return Some(Votes { class, count: 0, checks: None }) };
        let place = (self.selection, total);
        if let Some(serialized) = self.serialized {
            return serialized.votes(self.estimation, &draws, chosen, place);
        }
        let fresh = draws.counts(ESTIMATION, self.estimation, place)?;
        Some(Votes { class, count: fresh[chosen], checks: None })
    }

    /// How many of the fresh draws of another seed give a class, each of them answered as ever; as [`Self::votes`], whose choice of a class
    /// it leaves out.
    #[expect(clippy::too_many_arguments, reason = "those of `votes`, and the class")]
    pub fn agreeing(
        &self,
        class: usize,
        classifier: &dyn Classifier,
        points: &Points,
        row: usize,
        seed: u64,
        batch: usize,
        observer: &dyn Observer,
    ) -> Option<usize> {
        let draws = Draws::new(self.sigma, classifier, points, row, (seed, batch), observer);
        let counts = draws.counts("smoothing, verification", self.estimation, (0, self.estimation))?;
        Some(counts.get(class).copied().unwrap_or(0))
    }

    /// Whether so many agreeing draws refute that a class is certified within a radius: were the share of noise that it is
    /// given under as large as the radius needs, so few would come once in a million at most.
    pub fn refuted(&self, agreeing: usize, radius: f64, norm: Norm, pixels: usize) -> bool {
        let disagreeing = self.estimation - agreeing.min(self.estimation);
        let largest_share = 1.0 - clopper_pearson_below(disagreeing, self.estimation, REFUTED);
        let scale = scale(norm, pixels).unwrap_or(1.0);
        self.sigma * normal_quantile_below(largest_share) < radius * scale
    }

    /// What votes certify in a norm: in L2 as they are, in L∞ the radius over √(CHW), since ‖δ‖₂ ≤ √(CHW) ‖δ‖∞. `pixels` is
    /// CHW. `None` for L1, whose ball lies in that of L2: certify in L2.
    ///
    /// # Panics
    ///
    /// If more votes are counted than draws, or checked than counted, or confirmed than checked.
    pub fn certified(
        &self,
        index: usize,
        votes: Votes,
        norm: Norm,
        pixels: usize,
    ) -> Option<CertifiedExample> {
        let scale = scale(norm, pixels)?;
        let radius = votes.class.and_then(|_| self.radius(&votes));
        let radius = radius.map(|radius| if scale == 1.0 { radius } else { (radius / scale).next_down() });
        let class = votes.class.filter(|_| radius.is_some());
        Some(CertifiedExample { index, class, radius, abstained: class.is_none() })
    }
}

/// How many times an L2 radius is as long as that in another norm; `None` for L1.
fn scale(norm: Norm, pixels: usize) -> Option<f64> {
    match norm {
        Norm::L2 => Some(1.0),
        Norm::Linf => Some((pixels as f64).sqrt()),
        Norm::L1 => None,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::attack::Question;
    use crate::batch::{Logits, from_vec, select, to_vec};
    use crate::evaluate::Quiet;

    /// Two classes by the sign of w·x + b on 4 pixels, so that everything about its vote is known: the vote of x is the
    /// class of x, out to |w·x + b| / ‖w‖.
    struct Linear;

    const W: [f32; 4] = [1.0, -2.0, 0.5, 1.5];
    const B: f32 = -0.3;

    fn margin(x: &[f32]) -> f64 {
        f64::from(x.iter().zip(W).map(|(x, w)| x * w).sum::<f32>() + B)
    }

    fn length() -> f64 {
        W.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt()
    }

    impl Classifier for Linear {
        fn classes(&self) -> usize {
            2
        }

        fn answer(&self, question: &Question<'_>) -> Logits {
            let (images, values) = (question.images, to_vec(question.images.clone()));
            let logits = values.chunks(4).flat_map(|x| [0.0, margin(x) as f32]).collect();
            from_vec(logits, [values.len() / 4, 2], &images.device())
        }
    }

    fn points(count: usize) -> Points {
        let value = |i: usize| ((i * 7919 + 13) % 101) as f32 / 101.0;
        let images: Vec<f32> = (0..4 * count).map(value).collect();
        let labels = images.chunks(4).map(|x| usize::from(margin(x) > 0.0)).collect();
        let images = from_vec(images, [count, 1, 2, 2], &Device::default());
        Points::new((10..10 + count).collect(), images, labels).unwrap()
    }

    /// An honest radius stands under noise of other seeds, one that is longer by a tenth of σ does not.
    #[test]
    fn fresh_noise_refutes_what_was_never_certified() {
        let (points, smoothing) = (points(12), Smoothing { estimation: 20_000, ..Smoothing::new(0.25) });
        let mut refuted = 0;
        for row in 0..points.len() {
            let votes = smoothing.votes(&Linear, &points, row, 3, 1000, &Quiet).unwrap();
            let found = smoothing.certified(row, votes, Norm::L2, 4).unwrap();
            let (Some(class), Some(radius)) = (found.class, found.radius) else { continue };
            for seed in 4..9 {
                let agreeing = smoothing.agreeing(class, &Linear, &points, row, seed, 1000, &Quiet).unwrap();
                assert!(!smoothing.refuted(agreeing, radius, Norm::L2, 4), "row {row}, seed {seed}");
                assert!(!smoothing.refuted(agreeing, radius / 2.0, Norm::Linf, 4));
                assert!(radius > 0.8 || smoothing.refuted(agreeing, radius + 0.1, Norm::L2, 4), "row {row}");
                assert!(smoothing.refuted(agreeing, radius + 0.1, Norm::Linf, 4) || radius > 0.7);
                let other = smoothing.estimation - agreeing;
                refuted += usize::from(smoothing.refuted(other, 0.01, Norm::L2, 4));
            }
        }
        assert!(refuted > 30, "the other class has less than half of the votes: {refuted}");
        assert!(
            !smoothing.refuted(smoothing.estimation, 1e3, Norm::L2, 4),
            "no finite number of draws shows that"
        );
    }

    #[test]
    fn no_radius_passes_the_true_one_and_many_draws_come_near() {
        let (points, smoothing) = (points(12), Smoothing { estimation: 20_000, ..Smoothing::new(0.25) });
        for row in 0..points.len() {
            let votes = smoothing.votes(&Linear, &points, row, 3, 1000, &Quiet).unwrap();
            let found = smoothing.certified(row, votes, Norm::L2, 4).unwrap();
            let x = to_vec(select(points.images(), &[row]));
            let truth = margin(&x).abs() / length();
            match found.radius {
                None => assert!(truth < 0.01, "{truth}"),
                Some(radius) => {
                    assert_eq!(found.class, Some(points.labels()[row]));
                    assert!(radius <= truth, "{radius} of {truth}");
                    assert!(truth.min(smoothing.largest_radius()) - radius < 0.06, "{radius} of {truth}");
                    let linf = smoothing.certified(row, votes, Norm::Linf, 4).unwrap();
                    assert!((linf.radius.unwrap() * 2.0 - radius).abs() < 1e-12);
                }
            }
        }
    }

    /// For each of many seeds of a borderline image: wrong in a share α at most, and not never, which would be slack.
    #[test]
    fn a_certificate_is_wrong_as_often_as_it_says() {
        let points = points(40);
        let smoothing = Smoothing { selection: 20, estimation: 200, alpha: 0.2, ..Smoothing::new(0.25) };
        let truth = |row: &usize| margin(&to_vec(select(points.images(), &[*row]))).abs() / length();
        let row = (0..40).min_by(|a, b| (truth(a) - 0.2).abs().total_cmp(&(truth(b) - 0.2).abs())).unwrap();
        let truth = truth(&row);
        assert!((0.1..0.3).contains(&truth), "within the reach of 200 draws");
        let wrong = (0..400)
            .filter(|&seed| {
                let votes = smoothing.votes(&Linear, &points, row, seed, 220, &Quiet).unwrap();
                smoothing
                    .certified(row, votes, Norm::L2, 4)
                    .unwrap()
                    .radius
                    .is_some_and(|radius| radius > truth)
            })
            .count();
        // 80 of 400 are expected at most; five deviations above are 120.
        assert!((20..120).contains(&wrong), "{wrong} of 400");
    }

    /// Far from the border it names the class, and where both are as likely it names none.
    #[test]
    fn the_smoothed_classifier_answers_or_abstains() {
        let (points, smoothing) = (points(12), Smoothing { estimation: 400, ..Smoothing::new(0.25) });
        let mut abstained = 0;
        for row in 0..points.len() {
            let x = to_vec(select(points.images(), &[row]));
            let distance = margin(&x).abs() / length();
            let found = smoothing.predict(&Linear, &points, row, 3, 100, &Quiet).unwrap();
            assert_eq!(found.counts.iter().sum::<usize>(), 400);
            assert!(found.class.is_some() || distance < 0.1, "{distance}: {found:?}");
            assert!(found.class.is_none_or(|class| class == points.labels()[row]), "{found:?}");
            assert_eq!(found, smoothing.predict(&Linear, &points, row, 3, 7, &Quiet).unwrap());
            abstained += usize::from(found.class.is_none());
        }
        // On the border, but for rounding.
        let mut x = vec![0.5, 0.2, 0.3, 0.0];
        x[3] = ((0.0 - margin(&x)) / f64::from(W[3])) as f32;
        let images = from_vec(x, [1, 1, 2, 2], &Device::default());
        let even = Points::new(vec![0], images, vec![1]).unwrap();
        assert_eq!(smoothing.predict(&Linear, &even, 0, 3, 100, &Quiet).unwrap().class, None);
        assert!(abstained < 6, "{abstained}");
    }

    #[test]
    fn votes_belong_to_the_image() {
        let (points, smoothing) = (points(3), Smoothing { estimation: 500, ..Smoothing::new(0.5) });
        let votes = |batch, seed| smoothing.votes(&Linear, &points, 1, seed, batch, &Quiet).unwrap();
        assert_eq!(votes(7, 0), votes(500, 0));
        assert_ne!(votes(500, 0), votes(500, 1));
    }

    #[test]
    fn an_abstention_certifies_nothing() {
        let smoothing = Smoothing { estimation: 1000, ..Smoothing::new(0.25) };
        for (class, count) in [(Some(1), 500), (None, 0)] {
            let votes = Votes { class, count, checks: None };
            let found = smoothing.certified(0, votes, Norm::L2, 4).unwrap();
            assert!(found.abstained && found.class.is_none() && found.radius.is_none());
        }
        let votes = Votes { class: Some(0), count: 1000, checks: None };
        assert!(smoothing.certified(0, votes, Norm::L1, 4).is_none());
    }

    #[test]
    fn draws_that_hang_together_certify_nothing() {
        assert!(Smoothing::check_solver(&SolverConfig::broyden(8)).is_ok());
        let batch = SolverConfig { scope: StopScope::Batch, ..SolverConfig::broyden(8) };
        assert_eq!(Smoothing::check_solver(&batch).unwrap_err().field, "solver");
    }

    #[test]
    fn radii_of_a_table_end_where_all_draws_agree() {
        let usual = Smoothing::new(0.25);
        let (l2, linf) = (usual.radii(Norm::L2, 64), usual.radii(Norm::Linf, 64));
        assert_eq!((l2.len(), l2[0], l2[15]), (16, 0.0, usual.largest_radius()));
        assert!(l2.iter().zip(&linf).all(|(l2, linf)| (l2 - 8.0 * linf).abs() < 1e-12));
        assert!(usual.radii(Norm::L1, 64).is_empty());
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let usual = Smoothing::new(0.25);
        let fast = |serialized| Smoothing { serialized: Some(serialized), ..usual };
        assert!(usual.check().is_ok() && fast(Serialized::new(1)).check().is_ok());
        for (settings, field) in [
            (Smoothing { sigma: 0.0, ..usual }, "sigma"),
            (Smoothing { sigma: f64::NAN, ..usual }, "sigma"),
            (Smoothing { selection: 0, ..usual }, "selection"),
            (Smoothing { estimation: 5, ..usual }, "estimation"),
            (Smoothing { alpha: 0.5, ..usual }, "alpha"),
            (fast(Serialized { steps: 0, ..Serialized::new(1) }), "serialized"),
            (fast(Serialized { chains: 0, ..Serialized::new(1) }), "chains"),
            (fast(Serialized { checks: 0, ..Serialized::new(1) }), "checks"),
            (fast(Serialized { checks: 9, ..Serialized::new(1) }), "checks"),
            (fast(Serialized { checks: 10_001, ..Serialized::new(1) }), "checks"),
        ] {
            assert_eq!(settings.check().unwrap_err().field, field);
        }
    }
}
