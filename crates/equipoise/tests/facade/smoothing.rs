//! Fast votes of whole models: what they depend on, what they cost, and what their checks rest on.

use burn::tensor::Device;
use equipoise::architecture::{Architecture, Model};
use equipoise::attack::{Approximate, Classifier, Norm, Question, WarmStart};
use equipoise::batch::{Logits, from_vec, to_vec};
use equipoise::certify::{Checks, Serialized, Smoothing, Votes};
use equipoise::evaluate::{Observer, Points, Quiet};
use equipoise::gradient::Estimator;
use equipoise::model::monotone::MonotoneConfig;
use equipoise::readout::Readout;
use equipoise::solve::SolverConfig;
use equipoise::victim::Deployment;
use equipoise_dataset::{Source, Split};

use crate::common::small_mdeq;

/// Two images of the digits, with these rows in their data set.
fn points(rows: [usize; 2]) -> Points {
    let test = Source::Digits.load(Split::Test).unwrap().select(&rows);
    equipoise::assess::points(&test, rows.to_vec(), &Device::default()).unwrap()
}

/// An MDEQ and a monotone DEQ, of random weights.
fn models() -> Vec<(Box<dyn Model>, Deployment)> {
    let mdeq = Architecture::from(equipoise::model::mdeq::MdeqConfig { image: [1, 8, 8], ..small_mdeq() });
    let monotone = MonotoneConfig { hidden: 16, step: 0.08, monotonicity: 8.0, ..MonotoneConfig::digits() };
    let exact = Deployment { solver: SolverConfig::broyden(6).with_tolerance(0.0), ..Deployment::exact() };
    let picard =
        Deployment { solver: SolverConfig::picard(6, 1.0).with_tolerance(0.0), ..Deployment::exact() };
    let init = |architecture: Architecture| architecture.init(0, &Device::default()).unwrap();
    vec![(init(mdeq), exact), (init(Architecture::from(monotone)), picard)]
}

fn serialized(steps: usize, chains: usize, checks: usize) -> Smoothing {
    let serialized = Some(Serialized { steps, chains, checks });
    Smoothing { selection: 20, estimation: 300, alpha: 0.01, serialized, ..Smoothing::new(0.3) }
}

fn votes(smoothing: &Smoothing, classifier: &dyn Classifier, points: &Points, batch: usize) -> Votes {
    smoothing.check().unwrap();
    smoothing.check_classifier(classifier).unwrap();
    smoothing.votes(classifier, points, 1, 5, batch, &Quiet).unwrap()
}

#[test]
fn fast_votes_depend_on_neither_batch_nor_neighbours() {
    for (model, deployment) in models() {
        let victim = model.victim(&deployment, Readout::final_state(), Estimator::exact());
        let smoothing = serialized(1, 32, 100);
        let found = votes(&smoothing, &victim, &points([3, 8]), 300);
        assert!(found.count > 0 && found.checks.unwrap().checked > 0, "{found:?}");
        for batch in [1, 7, 32] {
            assert_eq!(found, votes(&smoothing, &victim, &points([9, 8]), batch), "{batch}");
        }
        // A chain for every draw: each goes on from the image without noise.
        let alone = |chains, batch| votes(&serialized(1, chains, 100), &victim, &points([3, 8]), batch);
        assert_eq!(alone(300, 64), alone(1_000_000, 9));
    }
}

/// With every draw checked the checks are the votes of plain smoothing, on the same noise.
#[test]
fn checks_are_the_votes_that_the_model_casts_as_it_is() {
    for (model, deployment) in models() {
        let victim = model.victim(&deployment, Readout::final_state(), Estimator::exact());
        let plain = Smoothing { serialized: None, ..serialized(1, 32, 300) };
        let plain = votes(&plain, &victim, &points([3, 8]), 64);
        for steps in [1, 3] {
            let fast = votes(&serialized(steps, 32, 300), &victim, &points([3, 8]), 64);
            let Checks { checked, confirmed } = fast.checks.unwrap();
            assert_eq!((fast.class, checked), (plain.class, fast.count));
            // What is for the class accurately is so fast too, or not.
            assert!(
                confirmed <= plain.count && plain.count - confirmed <= 300 - checked,
                "{fast:?} {plain:?}"
            );
            assert!(confirmed > 9 * checked / 10, "{fast:?}");
        }
    }
}

/// A fast vote of k steps is k + 1 evaluations.
#[test]
fn fast_votes_cost_what_they_say() {
    for (model, deployment) in models() {
        let victim = model.victim(&deployment, Readout::final_state(), Estimator::exact());
        for steps in [1, 2] {
            let before = victim.work().cell_evaluations;
            let found = votes(&serialized(steps, 32, 100), &victim, &points([3, 8]), 64);
            let spent = victim.work().cell_evaluations - before;
            // Six steps and z_0; the tail is the evaluation of the best of them.
            let accurate = 7 * (20 + found.checks.unwrap().checked as u64);
            assert_eq!(spent, accurate + 7 + 300 * (steps as u64 + 1));
        }
    }
}

#[test]
fn what_has_no_state_to_go_on_from_is_refused() {
    let (model, deployment) = models().remove(0);
    for readout in ["early(3)", "ensemble-states", "random-states", "random-starts(2)", "entropy-reduction"] {
        let victim = model.victim(&deployment, readout.parse().unwrap(), Estimator::exact());
        let refused = serialized(1, 32, 100).check_classifier(&victim).unwrap_err();
        assert!(refused.field == "serialized" && refused.problem.contains("`final`"), "{readout}");
    }
    let plain = Architecture::named("resnet18").unwrap().with_width(4).unwrap();
    let plain = plain.init(0, &Device::default()).unwrap();
    let victim = plain.victim(&deployment, Readout::final_state(), Estimator::exact());
    assert!(serialized(1, 32, 100).check_classifier(&victim).is_err());
    assert!(Smoothing::new(0.3).check_classifier(&victim).is_ok());
    assert!(Serialized::new(6).check_solver(&deployment.solver).is_err());
    assert!(Serialized::new(5).check_solver(&deployment.solver).is_ok());
}

/// Two classes by the sign of the first pixel less 0.5. Its approximation gives the second class always, but to each tenth image
/// that it is asked about in a row: what it answers depends on what it was asked before.
struct Biased;

#[derive(Debug, Clone)]
struct Asked(Vec<usize>);

impl equipoise::attack::Kept for Asked {
    fn select(&self, rows: &[usize]) -> Box<dyn equipoise::attack::Kept> {
        Box::new(Self(rows.iter().map(|&row| self.0[row]).collect()))
    }
}

impl Classifier for Biased {
    fn classes(&self) -> usize {
        2
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        let images = to_vec(question.images.clone());
        let logits: Vec<f32> = images.chunks(4).flat_map(|image| [0.5, image[0]]).collect();
        from_vec(logits, [images.len() / 4, 2], &question.images.device())
    }

    fn approximation(&self) -> Option<&dyn Approximate> {
        Some(self)
    }
}

impl Approximate for Biased {
    fn approximate(&self, question: &Question<'_>, _: usize, warm_start: &mut WarmStart) -> Logits {
        let count = question.keys.len();
        let asked = warm_start.rows::<Asked>().map_or(vec![0; count], |before| before.0.clone());
        let logits = asked.iter().flat_map(|asked| [f32::from(u8::from(asked % 10 == 9)), 0.5]);
        let logits = from_vec(logits.collect(), [count, 2], &question.images.device());
        warm_start.keep(Asked(asked.iter().map(|asked| asked + 1).collect()));
        logits
    }
}

/// The whole method on a classifier whose vote is known: an image 0.05 beyond its border, or before it, is that far from it. The fast
/// votes say another class 9 times of 10, and plain smoothing on them would certify 0.3 of σ more than there is.
#[test]
fn votes_that_are_wrong_on_purpose_certify_nothing_that_is_not_so() {
    let images = from_vec(vec![0.55, 0.0, 0.0, 0.0], [1, 1, 2, 2], &Device::default());
    let points = Points::new(vec![0], images, vec![1]).unwrap();
    let trials = 300;
    let (mut wrong, mut certified, mut uncorrected) = (0, 0, 0);
    for seed in 0..trials {
        let serialized = Some(Serialized { steps: 1, chains: 50, checks: 250 });
        let smoothing =
            Smoothing { selection: 51, estimation: 1000, alpha: 0.1, serialized, ..Smoothing::new(0.1) };
        let found = smoothing.votes(&Biased, &points, 0, seed, 100, &Quiet).unwrap();
        assert!(found.class == Some(0) || found.count == 900, "{found:?}");
        let radius = |smoothing: &Smoothing, votes| {
            let found = smoothing.certified(0, votes, Norm::L2, 4).unwrap();
            found.radius.filter(|_| found.class == Some(1))
        };
        let corrected = radius(&smoothing, found);
        certified += usize::from(corrected.is_some());
        wrong += usize::from(corrected.is_some_and(|radius| radius > 0.05));
        let careless = Smoothing { serialized: None, ..smoothing };
        let careless = radius(&careless, Votes { checks: None, ..found });
        uncorrected += usize::from(careless.is_some_and(|radius| radius > 0.05));
    }
    assert!(wrong <= trials as usize / 10 && certified > 0, "{wrong} of {certified}");
    assert!(uncorrected > trials as usize * 9 / 10, "{uncorrected}");
}

#[test]
fn a_vote_is_stopped_by_its_observer() {
    /// Stops after so many batches.
    struct After(std::cell::Cell<usize>);
    impl Observer for After {
        fn stage(&self, _: &str, _: usize) {}

        fn advance(&self, _: usize, _: &str) {}

        fn cancelled(&self) -> bool {
            self.0.set(self.0.get().saturating_sub(1));
            self.0.get() == 0
        }
    }
    let (model, deployment) = models().remove(1);
    let victim = model.victim(&deployment, Readout::final_state(), Estimator::exact());
    let points = points([3, 8]);
    let stopped = |after: usize| {
        let observer = After(std::cell::Cell::new(after + 1));
        serialized(1, 32, 100).votes(&victim, &points, 0, 5, 32, &observer).is_none()
    };
    // One batch of selection, ten of fast votes, some of checks.
    assert!([1, 5, 11, 12].into_iter().all(stopped) && !stopped(40));
}
