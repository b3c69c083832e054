//! APGD, FAB and Square against victims whose robustness is known in closed form, or whose order of strength is
//! known.

use crate::victims::{Altered, Linear, SEED, SIZE, TwoLayer, attempt, images, labels, wrong, zero};
use equipoise::attack::{
    self, Apgd, ApgdConfig, Budget, Classifier, Examples, Fab, FabConfig, Norm, Queries, Square,
    SquareConfig, WhiteBox, checkpoints, square_share,
};
use equipoise::batch::{Images, predictions, to_vec};
use equipoise::loss::{CrossEntropy, Objective};

const EPS: f64 = 8.0 / 255.0;

/// Which images the attack of this name breaks.
fn broken(name: &str, victim: &dyn WhiteBox, x: &Images, y: &[usize], budget: &Budget) -> Vec<bool> {
    let found = attempt(attack::parse(name).unwrap().as_ref(), victim, x, y, budget);
    wrong(victim, &found.images, y)
}

fn count(flags: &[bool]) -> usize {
    flags.iter().filter(|&&flag| flag).count()
}

fn subset(a: &[bool], b: &[bool]) -> bool {
    a.iter().zip(b).all(|(&a, &b)| b || !a)
}

#[test]
fn the_constants_are_those_of_the_reference() {
    assert_eq!(checkpoints(100), [22, 41, 57, 70, 80, 87, 93, 99]);
    assert_eq!(square_share(0.8, 4999), 0.8 / 128.0);
    let apgd = ApgdConfig::default();
    assert_eq!((apgd.iterations, apgd.restarts, apgd.rho), (100, 1, 0.75));
    let fab = FabConfig::default();
    assert_eq!((fab.iterations, fab.restarts, fab.targets), (100, 1, Some(9)));
    assert_eq!((fab.alpha_max, fab.eta, fab.beta), (0.1, 1.05, 0.9));
    let square = SquareConfig::default();
    assert_eq!((square.queries, square.restarts, square.share), (5000, 1, 0.8));
    // The set says the same through the names.
    let set: Vec<String> =
        attack::set("autoattack").unwrap().iter().map(|attack| attack.settings()).collect();
    assert_eq!(
        set,
        [
            "iterations 100, restarts 1, loss cross-entropy, ρ 0.75, ends at the first success",
            "iterations 100, restarts 1, loss DLR of 9 targets, ρ 0.75, ends at the first success",
            "iterations 100, restarts 1, targets 9, α_max 0.1, η 1.05, β 0.9",
            "queries 5000, restarts 1, p 0.8",
        ]
    );
}

#[test]
fn with_two_classes_exactly_the_breakable_points_break_in_linf() {
    let victim = Linear::random(2, 1);
    let x = images(96, 2, 0.0, 1.0);
    let y = labels(&victim, &x);
    for eps in [2.0 / 255.0, EPS, 0.05] {
        let budget = Budget::new(Norm::Linf, eps).unwrap();
        let breakable = victim.breakable(&x, &y, &budget);
        assert!((8..88).contains(&count(&breakable)), "the test needs both kinds: {}", count(&breakable));
        // Square's last squares are single pixels, and with 3,000 queries it has tried every one both ways.
        for name in ["apgd-ce", "fab-t", "fab", "square-3000"] {
            assert_eq!(broken(name, &victim, &x, &y, &budget), breakable, "{name} at {eps}");
        }
    }
}

#[test]
fn with_two_classes_exactly_the_breakable_points_break_in_l2() {
    let victim = Linear::random(2, 3);
    // Far enough from 0 and 1 that the closed form is exact.
    let x = images(96, 4, 0.35, 0.65);
    let y = labels(&victim, &x);
    let budget = Budget::new(Norm::L2, 0.06).unwrap();
    let almost = |share| Budget::new(Norm::L2, 0.06 * share).unwrap();
    let breakable = victim.breakable(&x, &y, &budget);
    assert!((8..88).contains(&count(&breakable)), "the test needs both kinds: {}", count(&breakable));
    // FAB goes beyond the boundary by up to a hundredth.
    assert_eq!(breakable, victim.breakable(&x, &y, &almost(0.99)), "no point is between the two budgets");
    for name in ["apgd-ce", "fab-t", "fab"] {
        assert_eq!(broken(name, &victim, &x, &y, &budget), breakable, "{name}");
    }
    // Bumps cannot take the one best direction, but come near enough for half of the length.
    let square = broken("square-3000", &victim, &x, &y, &budget);
    assert!(subset(&square, &breakable));
    assert!(subset(&victim.breakable(&x, &y, &almost(0.5)), &square), "{} broken", count(&square));
}

#[test]
fn with_two_classes_the_breakable_points_break_in_l1() {
    let victim = Linear::random(2, 23);
    // Pixels at the ends of the box among them: the closed form knows the box, and so must the attack.
    let x = images(96, 24, -0.2, 1.2).clamp(0.0, 1.0);
    let y = labels(&victim, &x);
    for eps in [0.3, 1.0, 1.6] {
        let budget = Budget::new(Norm::L1, eps).unwrap();
        let breakable = victim.breakable(&x, &y, &budget);
        assert!((8..88).contains(&count(&breakable)), "the test needs both kinds: {}", count(&breakable));
        let almost = victim.breakable(&x, &y, &Budget::new(Norm::L1, 0.97 * eps).unwrap());
        for name in ["apgd-ce", "apgd-ce-100x2"] {
            let broke = broken(name, &victim, &x, &y, &budget);
            assert!(subset(&broke, &breakable), "{name} at {eps}");
            assert!(subset(&almost, &broke), "{name} at {eps}: {} of {}", count(&broke), count(&almost));
        }
    }
}

#[test]
fn with_several_classes_only_breakable_points_break() {
    let victim = Linear::random(6, 5);
    let x = images(128, 6, 0.0, 1.0);
    let y = labels(&victim, &x);
    let budget = Budget::new(Norm::Linf, EPS).unwrap();
    let breakable = victim.breakable(&x, &y, &budget);
    assert!((20..108).contains(&count(&breakable)), "the test needs both kinds: {}", count(&breakable));
    // One target after the other is a linear problem each, so nothing is missed.
    assert_eq!(broken("fab-t", &victim, &x, &y, &budget), breakable);
    for name in ["apgd-ce", "apgd-dlr", "apgd-t", "fab", "square-3000"] {
        let broke = broken(name, &victim, &x, &y, &budget);
        assert!(subset(&broke, &breakable), "{name}");
        assert!(
            count(&broke) * 100 >= count(&breakable) * 95,
            "{name}: {} of {}",
            count(&broke),
            count(&breakable)
        );
    }
}

/// The distance to the boundary between two classes in closed form, pixel by pixel towards the box.
fn distance(victim: &Linear, x: &[f32], y: usize, norm: Norm) -> f64 {
    // The largest margin within the budget rises with ε, exactly for L∞, and for L2 while the box is far.
    let (mut low, mut high) = (0.0, 2.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if victim.worst_margin(x, y, &Budget::new(norm, middle).unwrap()) > 0.0 {
            high = middle
        } else {
            low = middle
        }
    }
    high
}

#[test]
fn fab_finds_the_least_perturbation() {
    for classes in [2, 6] {
        let victim = Linear::random(classes, 7);
        for (norm, low, high) in [(Norm::Linf, 0.0, 1.0), (Norm::L2, 0.35, 0.65)] {
            let x = images(48, 8, low, high);
            let y = labels(&victim, &x);
            let expected: Vec<f64> =
                to_vec(x.clone()).chunks(SIZE).zip(&y).map(|(x, &y)| distance(&victim, x, y, norm)).collect();
            let indices: Vec<usize> = (0..48).collect();
            let examples = Examples { images: &x, labels: &y, indices: &indices, seed: SEED, start: 0 };
            let budget = Budget::new(norm, 0.01).unwrap();
            // By default FAB goes 5% too far each time, which leaves up to 1%; a smaller overshoot leaves less.
            for (eta, tolerance) in [(1.05, 1e-2), (1.001, 1e-3)] {
                for targeted in [Some(9), None] {
                    let fab = Fab::new(FabConfig { eta, targets: targeted, ..FabConfig::default() }).unwrap();
                    let nearest = fab.nearest(&victim, &examples, &budget);
                    let right = predictions(&victim.logits(&nearest.images));
                    for (k, (found, expected)) in nearest.distances.iter().zip(&expected).enumerate() {
                        let found = found.unwrap_or_else(|| panic!("{fab} {norm} example {k} was not found"));
                        let error = found / expected - 1.0;
                        assert!(
                            (-1e-4..tolerance).contains(&error),
                            "{fab} {norm} η {eta} example {k}: {error}"
                        );
                        assert_ne!(right[k], Some(y[k]));
                    }
                }
            }
        }
    }
}

#[test]
fn fab_counts_only_what_lies_within_eps() {
    let victim = Linear::random(4, 9);
    let x = images(32, 10, 0.35, 0.65);
    let y = labels(&victim, &x);
    for norm in [Norm::Linf, Norm::L2] {
        let tiny = Budget::new(norm, 1e-5).unwrap();
        assert!(victim.breakable(&x, &y, &tiny).iter().all(|breakable| !breakable));
        let found = attempt(&Fab::new(FabConfig::default()).unwrap(), &victim, &x, &y, &tiny);
        assert_eq!(found.claimed, [false; 32]);
        assert_eq!(to_vec(found.images), to_vec(x.clone()), "the unperturbed images");
    }
}

#[test]
fn stronger_attacks_break_more_of_a_victim_that_is_not_linear() {
    let victim = TwoLayer::random(8, 13);
    let x = images(96, 14, 0.0, 1.0);
    let y: Vec<usize> = predictions(&victim.logits(&x)).into_iter().flatten().collect();
    for (norm, eps) in [(Norm::Linf, 0.02), (Norm::L2, 0.12)] {
        let budget = Budget::new(norm, eps).unwrap();
        let broke = |name| count(&broken(name, &victim, &x, &y, &budget));
        let [short, ce, targeted, fab, square] =
            ["apgd-ce-3", "apgd-ce", "apgd-t", "fab-t", "square-1000"].map(broke);
        eprintln!(
            "{norm}: apgd-ce-3 {short}, apgd-ce {ce}, apgd-t {targeted}, fab-t {fab}, square-1000 {square}"
        );
        assert!((10..90).contains(&ce), "the test needs both kinds: {ce}");
        assert!(ce >= short && targeted >= ce && targeted >= square, "{short} {ce} {targeted} {square}");
        assert!(fab + 3 >= targeted && square * 10 >= targeted * 6, "{fab} {targeted} {square}");
    }
}

#[test]
fn in_l1_all_losses_and_steps_help() {
    let victim = TwoLayer::random(8, 13);
    let x = images(96, 14, 0.0, 1.0);
    let y: Vec<usize> = predictions(&victim.logits(&x)).into_iter().flatten().collect();
    let budget = Budget::new(Norm::L1, 0.5).unwrap();
    let [short, ce, dlr, targeted] = ["apgd-ce-3", "apgd-ce", "apgd-dlr", "apgd-t"]
        .map(|name| count(&broken(name, &victim, &x, &y, &budget)));
    eprintln!("l1: apgd-ce-3 {short}, apgd-ce {ce}, apgd-dlr {dlr}, apgd-t {targeted}");
    assert!((10..90).contains(&ce), "the test needs both kinds: {ce}");
    assert!(ce >= short && targeted >= ce && dlr * 10 >= ce * 9, "{short} {ce} {dlr} {targeted}");
}

#[test]
fn the_ratio_withstands_logits_so_large_that_the_softmax_saturates() {
    let linear = Linear::random(5, 15);
    let x = images(48, 16, 0.2, 0.8);
    let y = labels(&linear, &x);
    let mut loud = linear.clone();
    loud.weights.iter_mut().chain(&mut loud.bias).for_each(|weight| *weight *= 1e5);
    let budget = Budget::new(Norm::Linf, EPS).unwrap();
    let breakable = linear.breakable(&x, &y, &budget);
    let broke = |name| count(&broken(name, &loud, &x, &y, &budget));
    assert!(broke("apgd-t") * 100 >= count(&breakable) * 97 && broke("fab-t") == count(&breakable));
    assert!(broke("apgd-ce") <= broke("apgd-t"));
}

#[test]
fn square_needs_no_gradient() {
    let linear = Linear::random(3, 17);
    let x = images(32, 18, 0.0, 1.0);
    let y = labels(&linear, &x);
    let budget = Budget::new(Norm::Linf, EPS).unwrap();
    let blind = Altered { inner: &linear, logits: crate::victims::honest, gradient: zero };
    let before = linear.work();
    let found = attempt(&Square::new(SquareConfig::default()).unwrap(), &blind, &x, &y, &budget);
    assert_eq!((linear.work() - before).vjps, 0);
    assert_eq!(found.claimed, linear.breakable(&x, &y, &budget));
    // Where a white-box attack that is blind breaks next to nothing.
    assert!(count(&broken("apgd-ce", &blind, &x, &y, &budget)) < count(&found.claimed));
}

#[test]
fn broken_examples_cost_nothing_more() {
    let victim = Linear::random(4, 19);
    let x = images(16, 20, 0.35, 0.65);
    let y = labels(&victim, &x);
    let tiny = Budget::new(Norm::Linf, 1e-6).unwrap();
    assert!(victim.breakable(&x, &y, &tiny).iter().all(|breakable| !breakable));
    let spent = |name: &str, budget: &Budget| {
        let before = victim.work();
        attempt(attack::parse(name).unwrap().as_ref(), &victim, &x, &y, budget);
        let work = victim.work() - before;
        (work.cell_evaluations / 16, work.vjps / 16)
    };
    let spent_in_l1 = |name: &str| {
        let tiny = Budget::new(Norm::L1, 1e-6).unwrap();
        let Queries { gradients, logits } = attack::parse(name).unwrap().queries(4, Norm::L1);
        assert_eq!(spent(name, &tiny), ((gradients + logits) as u64, gradients as u64), "{name}");
        (gradients, logits)
    };
    // In L1 one look at the last point of each of three balls.
    assert_eq!(spent_in_l1("apgd-ce-10"), (10, 3));
    assert_eq!(spent_in_l1("apgd-t-10x2"), (3 * 2 * 10, 1 + 3 * 2 * 3));
    // Evaluations and gradients of a point that withstands: one gradient for each iteration, and one look at the
    // last point; FAB looks at every point on its own; targeted attacks look at the clean image.
    assert_eq!(spent("apgd-ce-10", &tiny), (11, 10));
    assert_eq!(spent("apgd-dlr-10x3", &tiny), (33, 30));
    assert_eq!(spent("apgd-t-10", &tiny), (1 + 3 * 11, 3 * 10));
    assert_eq!(spent("fab-t-10", &tiny), (1 + 3 * 20, 3 * 10));
    assert_eq!(spent("fab-10", &tiny), (1 + 10 * (3 + 1), 10 * 3));
    assert_eq!(spent("square-10x2", &tiny), (22, 0));
    // Which is what they say beforehand for a point that withstands.
    for name in ["pgd-5", "pgd-5x3-margin", "apgd-ce-10", "apgd-dlr-10x3", "apgd-t-10", "fab-t-10", "fab-10"]
    {
        let Queries { gradients, logits } = attack::parse(name).unwrap().queries(4, Norm::Linf);
        assert_eq!(spent(name, &tiny), ((gradients + logits) as u64, gradients as u64), "{name}");
    }

    let huge = Budget::new(Norm::Linf, 1.0).unwrap();
    for (name, most) in [("apgd-ce", 10), ("apgd-t", 10), ("fab-t", 10), ("square", 50)] {
        assert!(spent(name, &huge).0 <= most, "{name}: {:?}", spent(name, &huge));
    }
}

#[test]
fn the_worst_loss_is_found_if_asked_for() {
    worst_loss(Norm::Linf, 0.08);
    worst_loss(Norm::L1, 1.5);
}

fn worst_loss(norm: Norm, eps: f64) {
    let victim = TwoLayer::random(5, 21);
    let x = images(32, 22, 0.0, 1.0);
    let y: Vec<usize> = predictions(&victim.logits(&x)).into_iter().flatten().collect();
    let budget = Budget::new(norm, eps).unwrap();
    let objective = CrossEntropy { labels: y.clone() };
    let loss = |images: &Images| to_vec(objective.values(victim.logits(images)));
    let run = |keep_first, restarts| {
        let config = ApgdConfig { keep_first, restarts, iterations: 20, ..ApgdConfig::default() };
        attempt(&Apgd::new(config).unwrap(), &victim, &x, &y, &budget)
    };
    let (first, worst, more) = (run(true, 1), run(false, 1), run(false, 3));
    let (clean, at_first, at_worst, at_more) =
        (loss(&x), loss(&first.images), loss(&worst.images), loss(&more.images));
    assert!(first.claimed.iter().any(|&claimed| claimed));
    assert!(subset(&first.claimed, &worst.claimed) && subset(&worst.claimed, &more.claimed));
    for k in 0..32 {
        assert!(at_worst[k] >= at_first[k] && at_more[k] >= at_worst[k] && at_worst[k] > clean[k], "{k}");
    }
    let gain: f32 = at_worst.iter().zip(&at_first).map(|(worst, first)| worst - first).sum();
    assert!(gain > 1.0, "it runs on after the first misclassification: {gain}");
}
