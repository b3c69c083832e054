//! What every attack promises, whatever it does: images within the budget, true claims, results that depend on
//! nothing but victim, example and seed, and calm in the face of gradients and logits that make no sense.

use std::cell::RefCell;

use crate::victims::{Altered, Linear, SIZE, TwoLayer, attempt, honest, images, labels, zero};
use equipoise::attack::{
    self, Attack, Budget, Classifier, Examples, Norm, Question, ValueAndGradient, WhiteBox,
};
use equipoise::batch::{Images, Logits, predictions, select, to_vec};
use equipoise::loss::Objective;

const ATTACKS: [&str; 6] =
    ["apgd-ce-20x2", "apgd-dlr-20", "apgd-t-10", "fab-t-10x2", "fab-10x2", "square-200x2"];
const BUDGETS: [(Norm, f64); 3] = [(Norm::Linf, 8.0 / 255.0), (Norm::L2, 0.2), (Norm::L1, 0.7)];

/// Every attack with every budget that it searches in.
fn each(mut test: impl FnMut(&dyn Attack, &Budget)) {
    for name in ATTACKS {
        let attack = attack::parse(name).unwrap();
        for (norm, eps) in BUDGETS {
            if attack.check_norm(norm).is_err() {
                continue;
            }
            test(attack.as_ref(), &Budget::new(norm, eps).unwrap());
        }
    }
}

fn right(victim: &dyn Classifier, images: &Images, labels: &[usize]) -> Vec<bool> {
    predictions(&victim.logits(images)).into_iter().zip(labels).map(|(class, &y)| class == Some(y)).collect()
}

#[test]
fn images_lie_within_the_budget_and_claims_are_true() {
    let linear = Linear::random(5, 1);
    let bent = TwoLayer::random(5, 2);
    // The whole range of intensities, with pixels at its ends.
    let x = images(48, 3, -0.2, 1.2).clamp(0.0, 1.0);
    let victims: [&dyn WhiteBox; 2] = [&linear, &bent];
    for victim in victims {
        let y: Vec<usize> = predictions(&victim.logits(&x)).into_iter().flatten().collect();
        each(|attack, budget| {
            let found = attempt(attack, victim, &x, &y, budget);
            for (k, (x, p)) in
                to_vec(x.clone()).chunks(SIZE).zip(to_vec(found.images.clone()).chunks(SIZE)).enumerate()
            {
                let changes = x.iter().zip(p).map(|(&x, &p)| f64::from(p) - f64::from(x));
                let size = match budget.norm() {
                    Norm::Linf => changes.fold(0.0, |largest: f64, d| largest.max(d.abs())),
                    Norm::L2 => changes.map(|d| d * d).sum::<f64>().sqrt(),
                    Norm::L1 => changes.map(f64::abs).sum::<f64>(),
                };
                assert!(size <= budget.eps(), "{} example {k}: {size}", attack.name());
                assert!(p.iter().all(|pixel| (0.0..=1.0).contains(pixel)), "{} example {k}", attack.name());
            }
            let right = right(victim, &found.images, &y);
            assert!(
                found.claimed.iter().any(|&claimed| claimed),
                "{} {budget} found something",
                attack.name()
            );
            assert!(right.iter().any(|&right| right), "{} {budget} did not break everything", attack.name());
            // These attacks look at every image that they return.
            assert!(
                right.iter().zip(&found.claimed).all(|(right, claimed)| right != claimed),
                "{}",
                attack.name()
            );
        });
    }
}

#[test]
fn an_example_does_not_see_its_batch() {
    let victim = TwoLayer::random(5, 4);
    let x = images(24, 5, 0.0, 1.0);
    let y: Vec<usize> = predictions(&victim.logits(&x)).into_iter().flatten().collect();
    each(|attack, budget| {
        let run = |rows: &[usize]| {
            let part = select(&x, rows);
            let labels: Vec<usize> = rows.iter().map(|&row| y[row]).collect();
            let examples = Examples { images: &part, labels: &labels, indices: rows, seed: 3, start: 0 };
            let found = attack.run(&victim, &examples, budget);
            let pixels = to_vec(found.images);
            let each: Vec<_> = pixels.chunks(SIZE).map(<[f32]>::to_vec).zip(found.claimed).collect();
            rows.iter().copied().zip(each).collect::<Vec<_>>()
        };
        let all: Vec<usize> = (0..24).collect();
        let together = run(&all);
        for size in [1, 7] {
            let apart: Vec<_> = all.chunks(size).flat_map(run).collect();
            assert_eq!(apart, together, "{}: batches of {size}", attack.name());
        }
        let shuffled: Vec<usize> = (0..24).map(|k| (k * 7 + 5) % 24).collect();
        let mut back = run(&shuffled);
        back.sort_by_key(|(row, _)| *row);
        assert_eq!(back, together, "{}: another order", attack.name());
    });
}

#[test]
fn seed_and_index_choose_the_random_numbers() {
    let shape = [1, 28, 28];
    let victim = TwoLayer::shaped(5, shape, 6);
    let x = crate::victims::images_of(1, shape, 7, 0.2, 0.8);
    let y: Vec<usize> = predictions(&victim.logits(&x)).into_iter().flatten().collect();
    // So little room that nothing is found, and too few queries to forget the start.
    for (norm, eps) in [(Norm::Linf, 1e-4), (Norm::L2, 1e-3), (Norm::L1, 1e-2)] {
        let budget = Budget::new(norm, eps).unwrap();
        for name in ["apgd-ce-1", "apgd-dlr-1", "apgd-t-1", "square-5"] {
            let attack = attack::parse(name).unwrap();
            if attack.check_norm(norm).is_err() {
                continue;
            }
            let asked = RefCell::new(Vec::new());
            let watch = |images: &Images, logits: Logits| {
                asked.borrow_mut().extend(to_vec(images.clone()));
                logits
            };
            let run = |seed, index: usize| {
                asked.borrow_mut().clear();
                let examples = Examples { images: &x, labels: &y, indices: &[index], seed, start: 0 };
                attack.run(&Watched { inner: &victim, watch: &watch }, &examples, &budget);
                asked.borrow().clone()
            };
            assert_eq!(run(1, 0), run(1, 0), "{name}");
            assert_ne!(run(1, 0), run(2, 0), "{name}");
            assert_ne!(run(1, 0), run(1, 1), "{name}");
        }
    }
}

/// A victim under observation.
struct Watched<'a, W> {
    inner: &'a TwoLayer,
    watch: W,
}

impl<W: Fn(&Images, Logits) -> Logits> Classifier for Watched<'_, W> {
    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        (self.watch)(question.images, self.inner.answer(question))
    }
}

impl<W: Fn(&Images, Logits) -> Logits> WhiteBox for Watched<'_, W> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        let answer = self.inner.differentiate(question, objective);
        ValueAndGradient { logits: (self.watch)(question.images, answer.logits), ..answer }
    }
}

#[test]
fn gradients_that_are_zero_or_not_numbers_do_no_harm() {
    let linear = Linear::random(5, 8);
    let x = images(12, 9, 0.0, 1.0);
    let y = labels(&linear, &x);
    let nothing: fn(Images) -> Images = zero;
    let nan: fn(Images) -> Images = |gradient| gradient.mul_scalar(f32::NAN);
    let endless: fn(Images) -> Images = |gradient| gradient.mul_scalar(f32::INFINITY);
    for gradient in [nothing, nan, endless] {
        let blind = Altered { inner: &linear, logits: honest, gradient };
        each(|attack, budget| {
            let found = attempt(attack, &blind, &x, &y, budget);
            assert!(budget.contains(&x, &found.images).into_iter().all(|inside| inside), "{}", attack.name());
            let right = right(&linear, &found.images, &y);
            assert!(right.iter().zip(&found.claimed).all(|(right, claimed)| right != claimed));
        });
    }
}

#[test]
fn logits_that_are_not_finite_count_as_broken() {
    let linear = Linear::random(5, 10);
    let x = images(6, 11, 0.2, 0.8);
    let y = labels(&linear, &x);
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let always =
            Altered { inner: &linear, logits: |_: &Images, z: Logits| z.mul_scalar(poison), gradient: zero };
        // Only away from the clean images: the first thing that each attack sees is honest.
        let original = to_vec(x.clone());
        let away = Altered {
            inner: &linear,
            logits: move |images: &Images, z: Logits| {
                let clean =
                    to_vec(images.clone()).chunks(SIZE).all(|row| original.chunks(SIZE).any(|x| x == row));
                if clean { z } else { z.mul_scalar(poison) }
            },
            gradient: |gradient: Images| gradient,
        };
        each(|attack, budget| {
            assert_eq!(attempt(attack, &always, &x, &y, budget).claimed, [true; 6], "{}", attack.name());
            // FAB counts only what lies within ε, and starts from the clean image.
            if !attack.name().starts_with("fab") {
                assert_eq!(attempt(attack, &away, &x, &y, budget).claimed, [true; 6], "{}", attack.name());
            } else {
                let found = attempt(attack, &away, &x, &y, budget);
                assert!(budget.contains(&x, &found.images).into_iter().all(|inside| inside));
            }
        });
    }
}

#[test]
fn no_examples_and_no_budget_are_no_problem() {
    let victim = Linear::random(5, 12);
    let x = images(4, 13, 0.0, 1.0);
    let y = labels(&victim, &x);
    each(|attack, budget| {
        let none = Budget::new(budget.norm(), 0.0).unwrap();
        let found = attempt(attack, &victim, &x, &y, &none);
        assert_eq!(to_vec(found.images), to_vec(x.clone()), "{}", attack.name());
        assert_eq!(found.claimed, [false; 4]);
        let nobody = attempt(attack, &victim, &select(&x, &[]), &[], budget);
        assert_eq!((nobody.images.dims()[0], nobody.claimed.len()), (0, 0));
    });
}

#[test]
fn what_is_misclassified_already_is_claimed() {
    let victim = Linear::random(5, 14);
    let x = images(6, 15, 0.0, 1.0);
    let wrong: Vec<usize> = labels(&victim, &x).into_iter().map(|class| (class + 1) % 5).collect();
    // A budget too small to change any verdict.
    let budget = Budget::new(Norm::Linf, 1e-6).unwrap();
    for name in ATTACKS {
        let attack = attack::parse(name).unwrap();
        let before = victim.work();
        let found = attempt(attack.as_ref(), &victim, &x, &wrong, &budget);
        assert_eq!(found.claimed, [true; 6], "{name}");
        assert_eq!((victim.work() - before).cell_evaluations, 6, "{name} looks once");
    }
}

#[test]
fn images_of_a_single_pixel_and_of_odd_shapes_are_attacked() {
    for shape in [[1, 1, 1], [3, 1, 7], [2, 11, 6], [1, 28, 28]] {
        let victim = TwoLayer::shaped(5, shape, 16);
        let x = crate::victims::images_of(6, shape, 17, 0.0, 1.0);
        let y: Vec<usize> = predictions(&victim.logits(&x)).into_iter().flatten().collect();
        for name in ["apgd-ce-3", "apgd-t-2", "fab-t-2", "square-30"] {
            let attack = attack::parse(name).unwrap();
            for (norm, eps) in BUDGETS.into_iter().filter(|&(norm, _)| attack.check_norm(norm).is_ok()) {
                let budget = Budget::new(norm, eps).unwrap();
                let found = attempt(attack.as_ref(), &victim, &x, &y, &budget);
                assert!(
                    budget.contains(&x, &found.images).into_iter().all(|inside| inside),
                    "{name} {shape:?}"
                );
            }
        }
    }
}

#[test]
fn too_few_classes_are_named_before_and_refused_after() {
    let two = Linear::random(2, 18);
    let x = images(2, 19, 0.0, 1.0);
    let y = labels(&two, &x);
    let budget = Budget::new(Norm::Linf, 0.01).unwrap();
    for (name, fine) in [
        ("pgd-2", true),
        ("apgd-ce", true),
        ("fab-t", true),
        ("square-9", true),
        ("apgd-dlr", false),
        ("apgd-t", false),
    ] {
        let attack = attack::parse(name).unwrap();
        assert_eq!(attack.check(2).is_ok(), fine, "{name}");
        if fine {
            attempt(attack.as_ref(), &two, &x, &y, &budget);
        }
    }
    let error = attack::parse("apgd-t").unwrap().check(3).unwrap_err().to_string();
    assert!(error.contains("apgd-t needs at least 4 classes") && error.contains("apgd-dlr"), "{error}");
}

#[test]
#[should_panic(expected = "apgd-dlr needs at least 3 classes and the model has 2")]
fn a_ratio_of_two_classes_is_refused() {
    let two = Linear::random(2, 20);
    let x = images(1, 21, 0.0, 1.0);
    let budget = Budget::new(Norm::Linf, 0.01).unwrap();
    attempt(attack::parse("apgd-dlr").unwrap().as_ref(), &two, &x, &[0], &budget);
}

#[test]
#[should_panic(
    expected = "pgd-10 does not search in l1 balls: with l1 use apgd-ce, apgd-dlr, apgd-t, apgd-t-malt or apgd-pma"
)]
fn an_attack_without_a_form_for_a_norm_is_refused() {
    let two = Linear::random(2, 22);
    let x = images(1, 23, 0.0, 1.0);
    let budget = Budget::new(Norm::L1, 0.1).unwrap();
    attempt(attack::parse("pgd-10").unwrap().as_ref(), &two, &x, &[0], &budget);
}
