//! Serialized smoothing: most votes of a DEQ are cast fast, and a random sample of them is cast again accurately.
//!
//! A fast vote is a solve of a few steps that goes on from the end of one for the image without noise, or for another draw. So fast votes
//! are no answers of one classifier, may depend on each other, and bound nothing by themselves. What is certified is the vote of the *accurate* classifier, whose answers Y₁..Y_N to the N draws are
//! independent:
//!
//! 1. N₀ accurate votes guess a class c.
//! 2. K of the N draws are picked, uniformly, by random numbers that know nothing of the votes.
//! 3. N_A fast votes are for c, N₂ of them among the picked; N₁ of those are for c accurately too.
//! 4. Given all votes, the N₂ are a uniform sample of the N_A, so that with a chance of 1 − α/2 at least G of the N_A draws have
//!    Y = c, G the exact bound of a population ([`hypergeometric_below`]).
//! 5. Then at least G of N independent votes are for c. The bound of Clopper and Pearson grows with the count, so that the bound
//!    of G in N at level α/2 is above the true share with a chance of α/2 at most.
//!
//! Fast votes from other draws are those of Gao, Hou, Xu and Liu (2024, arXiv 2411.00899). Their published code multiplies N by the rate of agreement
//! as well as N_A, which corrects nothing, and checks the first batch in the place of a random sample.

use std::collections::BTreeSet;

use equipoise_verdict::hypergeometric_below;
use serde::{Deserialize, Serialize};

use super::draws::Draws;
use super::{ESTIMATION, MOST, SmoothingError, Votes};
use crate::random::ExampleRng;
use crate::solve::{MAX_STEPS, SolverConfig};

/// How fast votes are cast and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serialized {
    /// Solver steps of a fast vote.
    pub steps: usize,
    /// B: draw i goes on from the end of draw i − B, and each of the first B from the end of the solve for the image without noise. All do
    /// where B is at least n. That end is nearer than another draw's, and what a fast vote leaves undone is left to no other.
    pub chains: usize,
    /// K: draws whose votes are cast again accurately.
    pub checks: usize,
}

/// What became of the fast votes that were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    /// N₂: fast votes for the class among the draws that were picked.
    pub checked: usize,
    /// N₁: those of them that are for it accurately too.
    pub confirmed: usize,
}

impl Checks {
    /// G: how many of the draws with a fast vote for the class, of which there are `count`, have an accurate one for it: at least so
    /// many, but for a chance of `alpha`.
    pub(super) fn accurate(self, count: usize, alpha: f64) -> usize {
        hypergeometric_below(self.confirmed, self.checked, count, alpha)
    }
}

impl Serialized {
    /// Fast votes of so many steps, each from the end of the solve for the image without noise, and 400 checks.
    pub fn new(steps: usize) -> Self {
        Self { steps, chains: MOST, checks: 400 }
    }

    /// Whether the settings make sense for N draws.
    pub(super) fn check(&self, draws: usize) -> Result<(), SmoothingError> {
        let wrong = |field, problem: String| Err(SmoothingError { field, problem });
        if !(1..=MAX_STEPS).contains(&self.steps) {
            return wrong(
                "serialized",
                format!("{} solver steps; use 1 to {MAX_STEPS}, 1 is usual", self.steps),
            );
        }
        if !(1..=MOST).contains(&self.chains) {
            return wrong(
                "chains",
                format!("{}; use 1 to {MOST}, the number of draws for none", self.chains),
            );
        }
        if !(1..=draws).contains(&self.checks) {
            let problem = format!("{} of {draws} draws; use 1 to {draws}, 400 is usual", self.checks);
            return wrong("checks", problem);
        }
        Ok(())
    }

    /// Whether fast votes take fewer steps than accurate ones.
    ///
    /// # Errors
    ///
    /// If they do not.
    pub fn check_solver(&self, solver: &SolverConfig) -> Result<(), SmoothingError> {
        if self.steps < solver.steps {
            return Ok(());
        }
        let problem = format!(
            "{} solver steps are not fast: the deployed solver takes {} at most; use fewer, or leave it out",
            self.steps, solver.steps
        );
        Err(SmoothingError { field: "serialized", problem })
    }

    /// Steps 2 and 3 for a class and N draws, `done` of `total` votes after its choice. `None` if the observer stopped it.
    pub(super) fn votes(
        &self,
        n: usize,
        draws: &Draws<'_>,
        class: usize,
        (done, total): (usize, usize),
    ) -> Option<Votes> {
        let picked = sample(draws.rng(PICKED), n, self.checks);
        let fast = draws.approximate(ESTIMATION, n, (self.steps, self.chains), (done, total))?;
        checked(class, &fast, &picked, |among| draws.classes(ESTIMATION, among, (done + n, total)))
    }
}

/// The purpose of the random numbers that pick draws.
const PICKED: &str = "smoothing, picked";

/// Fast votes for a class, and what the accurate ones say of those that were picked.
fn checked(
    class: usize,
    fast: &[Option<usize>],
    picked: &[usize],
    accurate: impl FnOnce(&[usize]) -> Option<Vec<Option<usize>>>,
) -> Option<Votes> {
    let agrees = |vote: &Option<usize>| *vote == Some(class);
    let count = fast.iter().filter(|vote| agrees(vote)).count();
    let among: Vec<usize> = picked.iter().copied().filter(|&draw| agrees(&fast[draw])).collect();
    let confirmed = accurate(&among)?.iter().filter(|vote| agrees(vote)).count();
    Some(Votes { class: Some(class), count, checks: Some(Checks { checked: among.len(), confirmed }) })
}

/// `count` of the numbers below `n`, every subset as likely as another, in order (Floyd's method: Bentley and Floyd 1987,
/// Communications of the ACM 30:754).
fn sample(mut rng: ExampleRng, n: usize, count: usize) -> Vec<usize> {
    let mut found = BTreeSet::new();
    for last in n - count..n {
        let number = rng.below(last + 1);
        if !found.insert(number) {
            found.insert(last);
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use equipoise_verdict::clopper_pearson_below;

    use super::*;
    use crate::certify::Smoothing;

    const CLASS: usize = 1;
    const N: usize = 1500;
    const K: usize = 150;
    const CHAINS: usize = 25;

    /// Accurate votes are independent, for the class with a chance of `share`. Fast ones follow them but in spells, each of a
    /// whole chain's length on average, in which every vote is for the class: more and more of them, if the error grows.
    fn simulated(
        trial: usize,
        share: f64,
        spells: f64,
        grows: bool,
    ) -> (Vec<Option<usize>>, Vec<Option<usize>>) {
        let mut rng = ExampleRng::new(11, "votes", trial, 0);
        let accurate: Vec<Option<usize>> =
            (0..N).map(|_| Some(if rng.unit() < share { CLASS } else { 0 })).collect();
        let mut fast = accurate.clone();
        let mut spell = [false; CHAINS];
        for (draw, vote) in fast.iter_mut().enumerate() {
            let late = if grows { 2.0 * draw as f64 / N as f64 } else { 1.0 };
            if rng.unit() < 0.05 {
                spell[draw % CHAINS] = rng.unit() < spells * late;
            }
            if spell[draw % CHAINS] {
                *vote = Some(CLASS);
            }
        }
        (accurate, fast)
    }

    /// Of many simulated certifications the share in which the bound of the class's share exceeds the truth.
    fn wrong(
        (share, spells, grows): (f64, f64, bool),
        picked: impl Fn(usize) -> Vec<usize>,
        bound: impl Fn(&Votes) -> f64,
    ) -> f64 {
        let trials = 3000;
        let exceeds = |trial: &usize| {
            let (accurate, fast) = simulated(*trial, share, spells, grows);
            let again = |among: &[usize]| Some(among.iter().map(|&draw| accurate[draw]).collect());
            bound(&checked(CLASS, &fast, &picked(*trial), again).unwrap()) > share
        };
        (0..trials).filter(exceeds).count() as f64 / trials as f64
    }

    const ALPHA: f64 = 0.1;
    const WORLDS: [(f64, f64, bool); 5] =
        [(0.7, 0.0, false), (0.7, 0.2, false), (0.9, 0.3, false), (0.55, 0.6, true), (0.6, 0.5, true)];

    fn uniformly(trial: usize) -> Vec<usize> {
        sample(ExampleRng::new(7, PICKED, trial, 0), N, K)
    }

    fn ours(votes: &Votes) -> f64 {
        let accurate = votes.checks.unwrap().accurate(votes.count, ALPHA / 2.0);
        clopper_pearson_below(accurate, N, ALPHA / 2.0)
    }

    /// However fast votes hang together. Five deviations above α are 0.127.
    #[test]
    fn a_corrected_certificate_is_wrong_in_a_share_alpha_at_most() {
        for world in WORLDS {
            let wrong = wrong(world, uniformly, ours);
            assert!(wrong <= ALPHA, "{world:?}: {wrong}");
        }
    }

    /// The test above would find them: the published rule, no correction, and checks of the first draws alone.
    #[test]
    fn wrong_corrections_are_wrong_far_more_often() {
        let published = |votes: &Votes| {
            let Checks { checked, confirmed } = votes.checks.unwrap();
            let rate = clopper_pearson_below(confirmed, checked, ALPHA / 2.0);
            let scaled = |count: usize| (count as f64 * rate) as usize;
            clopper_pearson_below(scaled(votes.count), scaled(N), ALPHA / 2.0)
        };
        let uncorrected = |votes: &Votes| clopper_pearson_below(votes.count, N, ALPHA);
        let first = |_: usize| (0..K).collect();
        for world in &WORLDS[1..] {
            assert!(wrong(*world, uniformly, published) > 0.5, "{world:?}");
            assert!(wrong(*world, uniformly, uncorrected) > 0.5, "{world:?}");
        }
        for world in &WORLDS[3..] {
            assert!(wrong(*world, first, ours) > 0.5, "{world:?}");
        }
    }

    #[test]
    fn votes_are_counted_among_the_draws_that_were_picked() {
        let fast = [1, 1, 0, 1, 1, 2].map(Some);
        let again = |among: &[usize]| {
            assert_eq!(among, [0, 4], "what is not for the class is not asked again");
            Some(vec![Some(1), None])
        };
        let votes = checked(1, &fast, &[0, 2, 4, 5], again).unwrap();
        let checks = Some(Checks { checked: 2, confirmed: 1 });
        assert_eq!(votes, Votes { class: Some(1), count: 4, checks });
        assert_eq!(checked(1, &fast, &[0], |_| None), None);
    }

    #[test]
    fn at_the_ends_the_bound_is_what_is_known() {
        let accurate = |count, checked, confirmed| Checks { checked, confirmed }.accurate(count, 0.0005);
        // No fast vote for the class, none among the checks, all draws checked.
        assert_eq!((accurate(0, 0, 0), accurate(900, 0, 0), accurate(900, 900, 871)), (0, 0, 871));
        // All checks agree: what is not checked may still differ.
        assert!((880..900).contains(&accurate(900, 300, 300)));
        let all = |checks| Serialized { checks, ..Serialized::new(1) };
        let smoothing = |serialized| Smoothing { estimation: 1000, serialized, ..Smoothing::new(0.25) };
        let largest = |serialized| smoothing(serialized).largest_radius();
        // With every draw checked only α is halved.
        let halved = Smoothing { alpha: 0.0005, ..smoothing(None) };
        assert_eq!(largest(Some(all(1000))), halved.largest_radius());
        assert!(largest(Some(all(400))) < largest(Some(all(999))) && largest(Some(all(999))) < largest(None));
        // An image without a class, or without fast votes for it, is one to abstain on.
        for votes in [
            Votes { class: None, count: 0, checks: None },
            Votes { class: Some(0), count: 0, checks: Some(Checks { checked: 0, confirmed: 0 }) },
            Votes { class: Some(0), count: 1000, checks: None },
        ] {
            let found = smoothing(Some(all(400))).certified(0, votes, crate::attack::Norm::L2, 4).unwrap();
            assert!(found.abstained);
        }
    }

    /// What the guide says that fast votes can win: radii in units of σ, of plain votes and by checks.
    #[test]
    fn radii_are_those_of_the_guide() {
        let plain = |n: usize, p: f64| {
            let votes = Votes { class: Some(0), count: (p * n as f64).round() as usize, checks: None };
            (Smoothing { estimation: n, ..Smoothing::new(1.0) }, votes)
        };
        let fast = |checks: usize, p: f64, stand: f64| {
            let checked = (p * checks as f64).round();
            let checks = Checks { checked: checked as usize, confirmed: (checked * stand).round() as usize };
            let (smoothing, votes) = plain(10_000, p);
            let serialized = Some(Serialized { checks: 1000, ..Serialized::new(1) });
            (Smoothing { serialized, ..smoothing }, Votes { checks: Some(checks), ..votes })
        };
        for (p, radii) in [
            (0.55, [0.09, 0.04, 0.01, 0.07, 0.04, 0.03, 0.04, 0.05]),
            (0.7, [0.48, 0.43, 0.39, 0.46, 0.43, 0.43, 0.43, 0.45]),
            (0.9, [1.23, 1.13, 1.04, 1.19, 1.11, 1.15, 1.16, 1.19]),
            (0.99, [2.21, 1.82, 1.59, 2.02, 1.74, 2.06, 2.08, 2.12]),
            (1.0, [3.20, 1.99, 1.70, 2.31, 1.89, 2.65, 2.70, 2.83]),
        ] {
            let each = [
                plain(10_000, p),
                fast(400, p, 1.0),
                fast(400, p, 0.99),
                fast(1000, p, 1.0),
                fast(1000, p, 0.99),
                plain(1700, p),
                plain(2000, p),
                plain(3000, p),
            ];
            for ((smoothing, votes), radius) in each.into_iter().zip(radii) {
                let found = smoothing.certified(0, votes, crate::attack::Norm::L2, 4).unwrap().radius;
                assert!((found.unwrap() - radius).abs() < 0.0051, "{p}: {found:?} for {radius}");
            }
        }
    }

    /// Each subset of 2 of 5 as often as another, and each number in the end.
    #[test]
    fn samples_are_uniform() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..5000 {
            let sample = sample(ExampleRng::new(seed, PICKED, 0, 0), 5, 2);
            *counts.entry(sample).or_insert(0) += 1;
        }
        // 500 each; five deviations are 106.
        assert!(counts.len() == 10 && counts.values().all(|count| (394..606).contains(count)), "{counts:?}");
        assert_eq!(sample(ExampleRng::new(0, PICKED, 0, 0), 4, 4), [0, 1, 2, 3]);
    }
}
