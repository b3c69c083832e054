//! PGD against victims whose robustness is known in closed form.

use crate::victims::{Altered, Linear, SIZE, attempt, honest, images, labels, wrong, zero};
use equipoise::attack::{Attack, Budget, Classifier, Examples, Norm, Pgd, PgdConfig, PgdLoss, WhiteBox};
use equipoise::batch::{Images, select, to_vec};
use equipoise::loss::CrossEntropy;

const EPS: f64 = 8.0 / 255.0;

fn pgd(config: PgdConfig) -> Pgd {
    Pgd::new(config).unwrap()
}

fn share(flags: &[bool]) -> f64 {
    flags.iter().filter(|&&flag| flag).count() as f64 / flags.len() as f64
}

#[test]
fn linf_breaks_exactly_the_breakable_points() {
    let victim = Linear::random(2, 1);
    let x = images(128, 2, 0.0, 1.0);
    let y = labels(&victim, &x);
    for eps in [2.0 / 255.0, EPS, 0.05] {
        let budget = Budget::new(Norm::Linf, eps).unwrap();
        let breakable = victim.breakable(&x, &y, &budget);
        assert!(
            (0.05..0.95).contains(&share(&breakable)),
            "the test needs both kinds: {}",
            share(&breakable)
        );
        for objective in [PgdLoss::CrossEntropy, PgdLoss::Margin] {
            for (random_start, keep_first) in [(true, true), (false, true), (true, false), (false, false)] {
                let attack = pgd(PgdConfig { objective, random_start, keep_first, ..PgdConfig::default() });
                let found = attempt(&attack, &victim, &x, &y, &budget);
                assert_eq!(wrong(&victim, &found.images, &y), breakable, "{:?} at {eps}", attack.config());
                assert!(budget.contains(&x, &found.images).into_iter().all(|inside| inside));
            }
        }
    }
}

#[test]
fn l2_breaks_exactly_the_breakable_points() {
    let victim = Linear::random(2, 3);
    // Far enough from 0 and 1 that the closed form is exact.
    let x = images(128, 4, 0.35, 0.65);
    let y = labels(&victim, &x);
    let budget = Budget::new(Norm::L2, 0.06).unwrap();
    // Within 20 steps the perturbation turns into the best direction up to half a percent of its length.
    let almost = Budget::new(Norm::L2, 0.06 * 0.995).unwrap();
    let (outer, inner) = (victim.breakable(&x, &y, &budget), victim.breakable(&x, &y, &almost));
    assert!((0.1..0.9).contains(&share(&outer)), "the test needs both kinds: {}", share(&outer));
    assert_eq!(outer, inner, "no point is between the two budgets, so the answer is exact");
    let attack = pgd(PgdConfig { steps: 20, ..PgdConfig::default() });
    let found = attempt(&attack, &victim, &x, &y, &budget);
    assert_eq!(wrong(&victim, &found.images, &y), outer);
    assert!(budget.contains(&x, &found.images).into_iter().all(|inside| inside));
}

#[test]
fn with_several_classes_only_breakable_points_break() {
    let victim = Linear::random(6, 5);
    let x = images(128, 6, 0.0, 1.0);
    let y = labels(&victim, &x);
    let budget = Budget::new(Norm::Linf, EPS).unwrap();
    let breakable = victim.breakable(&x, &y, &budget);
    for objective in [PgdLoss::CrossEntropy, PgdLoss::Margin] {
        let attack = pgd(PgdConfig { objective, restarts: 3, ..PgdConfig::default() });
        let found = attempt(&attack, &victim, &x, &y, &budget);
        let broke = wrong(&victim, &found.images, &y);
        assert!(broke.iter().zip(&breakable).all(|(&broke, &breakable)| breakable || !broke));
        assert!(share(&broke) > 0.95 * share(&breakable), "{} of {}", share(&broke), share(&breakable));
    }
}

#[test]
fn an_example_does_not_see_its_batch() {
    let victim = Linear::random(5, 7);
    let x = images(64, 8, 0.0, 1.0);
    let y = labels(&victim, &x);
    for (norm, eps) in [(Norm::Linf, EPS), (Norm::L2, 0.2)] {
        let budget = Budget::new(norm, eps).unwrap();
        for keep_first in [true, false] {
            let attack = pgd(PgdConfig { steps: 4, restarts: 3, keep_first, ..PgdConfig::default() });
            let run = |rows: &[usize]| {
                let part = select(&x, rows);
                let labels: Vec<usize> = rows.iter().map(|&row| y[row]).collect();
                let examples = Examples { images: &part, labels: &labels, indices: rows, seed: 3, start: 0 };
                let found = attack.run(&victim, &examples, &budget);
                let pixels = to_vec(found.images);
                let each: Vec<_> = pixels.chunks(SIZE).map(<[f32]>::to_vec).zip(found.claimed).collect();
                rows.iter().copied().zip(each).collect::<Vec<_>>()
            };
            let all: Vec<usize> = (0..64).collect();
            let together = run(&all);
            let claims = together.iter().filter(|(_, (_, claimed))| *claimed).count();
            assert!((5..60).contains(&claims), "some leave the batch and some stay: {claims}");
            for size in [1, 7] {
                let apart: Vec<_> = all.chunks(size).flat_map(run).collect();
                assert_eq!(apart, together, "batches of {size}");
            }
            let mut shuffled: Vec<usize> = (0..64).map(|k| (k * 37 + 5) % 64).collect();
            let mut back = run(&shuffled);
            back.sort_by_key(|(row, _)| *row);
            assert_eq!(back, together, "another order");
            shuffled.truncate(9);
            assert!(run(&shuffled).iter().all(|found| together.contains(found)), "a part of them");
        }
    }
}

#[test]
fn another_seed_or_index_gives_another_start() {
    let victim = Linear::random(3, 9);
    let x = images(1, 10, 0.2, 0.8);
    let y = labels(&victim, &x);
    let budget = Budget::new(Norm::Linf, EPS).unwrap();
    let attack = pgd(PgdConfig { steps: 1, keep_first: false, ..PgdConfig::default() });
    let run = |seed, index: usize| {
        let examples = Examples { images: &x, labels: &y, indices: &[index], seed, start: 0 };
        to_vec(attack.run(&victim, &examples, &budget).images)
    };
    assert_eq!(run(1, 0), run(1, 0));
    assert_ne!(run(1, 0), run(2, 0));
    assert_ne!(run(1, 0), run(1, 1));
}

#[test]
fn broken_examples_cost_nothing_more() {
    let victim = Linear::random(2, 12);
    let x = images(64, 13, 0.0, 1.0);
    let y = labels(&victim, &x);
    let budget = Budget::new(Norm::Linf, EPS).unwrap();
    let robust = victim.breakable(&x, &y, &budget).into_iter().filter(|breakable| !breakable).count() as u64;
    let wrong: Vec<usize> = y.iter().map(|&class| 1 - class).collect();
    let spent = |config: PgdConfig, labels: &[usize]| {
        let before = victim.work();
        attempt(&pgd(config), &victim, &x, labels, &budget);
        victim.work() - before
    };
    let ten = PgdConfig::default();

    // Under wrong labels the unperturbed images are misclassified: all leave after a single gradient.
    let at_once = spent(PgdConfig { random_start: false, ..ten.clone() }, &wrong);
    assert_eq!((at_once.vjps, at_once.cell_evaluations), (64, 64));

    let textbook = spent(PgdConfig { keep_first: false, ..ten.clone() }, &y);
    assert_eq!((textbook.vjps, textbook.cell_evaluations), (640, 640));

    let early = spent(ten.clone(), &y);
    assert!(early.vjps >= 10 * robust && early.vjps < 640, "{early:?}");

    // Points that cannot be broken take every step of every restart, and one look at the end of each restart
    // but the last.
    let tiny = Budget::new(Norm::Linf, 1e-6).unwrap();
    assert!(victim.breakable(&x, &y, &tiny).iter().all(|breakable| !breakable));
    let before = victim.work();
    attempt(&pgd(PgdConfig { restarts: 3, ..ten }), &victim, &x, &y, &tiny);
    let spent = victim.work() - before;
    assert_eq!((spent.vjps, spent.cell_evaluations), (3 * 640, 3 * 640 + 2 * 64));
}

#[test]
fn claims_are_true_and_their_images_are_kept() {
    let victim = Linear::random(4, 14);
    let x = images(64, 15, 0.0, 1.0);
    let y = labels(&victim, &x);
    let budget = Budget::new(Norm::Linf, EPS).unwrap();
    let found = attempt(&pgd(PgdConfig { restarts: 2, ..PgdConfig::default() }), &victim, &x, &y, &budget);
    let broke = wrong(&victim, &found.images, &y);
    assert!(found.claimed.iter().any(|&claimed| claimed));
    assert!(found.claimed.iter().zip(&broke).all(|(&claimed, &broke)| broke || !claimed));
}

#[test]
fn restarts_only_add() {
    let victim = Linear::random(6, 16);
    let x = images(128, 17, 0.0, 1.0);
    let y = labels(&victim, &x);
    let budget = Budget::new(Norm::Linf, EPS).unwrap();
    let verdicts = |restarts| {
        let config = PgdConfig { steps: 2, restarts, ..PgdConfig::default() };
        let found = attempt(&pgd(config), &victim, &x, &y, &budget);
        wrong(&victim, &found.images, &y)
    };
    let (once, often) = (verdicts(1), verdicts(10));
    assert!(once.iter().zip(&often).all(|(&once, &often)| often || !once));
    assert!(share(&often) > share(&once), "{} {}", share(&once), share(&often));
}

#[test]
fn a_textbook_step_from_a_given_start_is_known() {
    let victim = Linear::random(2, 18);
    let x = images(8, 19, 0.3, 0.7);
    let y = labels(&victim, &x);
    let indices: Vec<usize> = (0..8).collect();
    let examples = Examples { images: &x, labels: &y, indices: &indices, seed: 0, start: 0 };
    let budget = Budget::new(Norm::Linf, 0.1).unwrap();
    let config = PgdConfig { steps: 1, restarts: 3, step_size: Some(0.05), ..PgdConfig::default() };
    let config = PgdConfig { keep_first: false, ..config };
    let spent = victim.work();
    // The start is projected first: 0.5 away becomes 0.1 away, and the step goes back or stays at the edge.
    let found = pgd(config).run_from(&victim, &examples, &budget, &(x.clone() + 0.5));
    // There is one start, so there is one search, whatever the number of restarts.
    assert_eq!((victim.work() - spent).vjps, 8);
    assert_eq!(found.claimed, [false; 8]);
    let (before, after) = (to_vec(x.clone()), to_vec(found.images));
    for k in 0..8 * SIZE {
        let (example, pixel) = (k / SIZE, k % SIZE);
        let slope =
            victim.weights[(1 - y[example]) * SIZE + pixel] - victim.weights[y[example] * SIZE + pixel];
        let expected = before[k] + if slope > 0.0 { 0.1 } else { 0.05 };
        assert!((after[k] - expected).abs() < 1e-6, "{} {expected}", after[k]);
    }
}

#[test]
fn gradients_that_are_zero_or_not_numbers_do_no_harm() {
    let linear = Linear::random(3, 20);
    let x = images(16, 21, 0.0, 1.0);
    let y = labels(&linear, &x);
    for (norm, eps) in [(Norm::Linf, 0.01), (Norm::L2, 0.01)] {
        let budget = Budget::new(norm, eps).unwrap();
        let flat = Altered { inner: &linear, logits: honest, gradient: zero };
        let attack = pgd(PgdConfig { random_start: false, ..PgdConfig::default() });
        assert_eq!(to_vec(attempt(&attack, &flat, &x, &y, &budget).images), to_vec(x.clone()));

        let nan = Altered { inner: &linear, logits: honest, gradient: |g: Images| g.mul_scalar(f32::NAN) };
        let found = attempt(&pgd(PgdConfig::default()), &nan, &x, &y, &budget);
        assert!(budget.contains(&x, &found.images).into_iter().all(|inside| inside));
    }
}

#[test]
fn logits_that_are_not_finite_count_as_wrong() {
    let linear = Linear::random(3, 22);
    let x = images(4, 23, 0.0, 1.0);
    let y = labels(&linear, &x);
    let budget = Budget::new(Norm::Linf, EPS).unwrap();
    let nan = |_: &Images, logits: equipoise::batch::Logits| logits.mul_scalar(f32::NAN);
    let victim = Altered { inner: &linear, logits: nan, gradient: zero };
    let before = linear.work();
    let found = attempt(&pgd(PgdConfig::default()), &victim, &x, &y, &budget);
    assert_eq!(found.claimed, [true; 4]);
    assert_eq!((linear.work() - before).vjps, 4, "they left at once");
}

#[test]
fn no_examples_and_no_budget_are_no_problem() {
    let victim = Linear::random(3, 24);
    let x = images(4, 25, 0.0, 1.0);
    let y = labels(&victim, &x);
    let none = Budget::new(Norm::L2, 0.0).unwrap();
    let found = attempt(&pgd(PgdConfig { restarts: 2, ..PgdConfig::default() }), &victim, &x, &y, &none);
    assert_eq!(to_vec(found.images), to_vec(x.clone()));
    let nobody = attempt(&pgd(PgdConfig::default()), &victim, &select(&x, &[]), &[], &none);
    assert_eq!((nobody.images.dims()[0], nobody.claimed.len()), (0, 0));
}

#[test]
fn the_linear_victim_is_what_it_says() {
    // The closed form stands on this: the victim's gradient is that of its logits.
    let victim = Linear::random(3, 26);
    let x = images(2, 27, 0.2, 0.8);
    let objective = CrossEntropy { labels: vec![0, 2] };
    let at = |x: &Images| to_vec(victim.value_and_gradient(x, &objective).values);
    let gradient = to_vec(victim.value_and_gradient(&x, &objective).gradient);
    let direction = images(2, 28, -1.0, 1.0);
    let step = 1e-2;
    let (up, down) = (at(&(x.clone() + direction.clone() * step)), at(&(x - direction.clone() * step)));
    let direction = to_vec(direction);
    for n in 0..2 {
        let slope: f32 = (0..SIZE).map(|k| gradient[n * SIZE + k] * direction[n * SIZE + k]).sum();
        let difference = (up[n] - down[n]) / (2.0 * step);
        assert!((slope - difference).abs() < 1e-2, "{slope} {difference}");
    }
}
