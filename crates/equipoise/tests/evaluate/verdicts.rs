//! Verdicts that are known in closed form, victims that lie, logits that are not finite; the flags that follow.

use crate::support::{Bench, assert_same, cascade, entry, points, settings, timeless};
use crate::victims::{Altered, Linear, SIZE, honest, zero};
use equipoise::attack::{self, Budget, Classifier, Norm, Question, WhiteBox};
use equipoise::batch::{Images, Logits, from_vec, predictions, select, to_vec};
use equipoise::checks;
use equipoise::evaluate::{Points, Quiet, Settings, run};

#[test]
fn verdicts_accuracies_and_attribution_are_right() {
    let linear = Linear::random(2, 31);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let points = points(&linear, 100, 10);
    let breakable = linear.breakable(points.images(), points.labels(), &settings().budget);
    let cascade = cascade(
        &linear,
        vec![entry("pgd-10", "zero", true, &blind), entry("pgd-10", "exact", false, &linear)],
    );
    let before = linear.counter.total();
    let outcome = run(&cascade, &points, &settings(), &Quiet, None).unwrap();
    let work = linear.counter.total() - before;

    assert!(outcome.complete);
    let result = &outcome.result;
    assert_eq!(result.name, "final");
    assert_eq!(result.clean_accuracy.value, 0.9);
    let robust: Vec<bool> = (0..100).map(|row| row < 90 && !breakable[row]).collect();
    assert_eq!(result.examples.iter().map(|e| e.robust).collect::<Vec<_>>(), robust);
    let survivors = robust.iter().filter(|&&robust| robust).count();
    assert_eq!(result.white_box_accuracy.value, survivors as f64 / 100.0);
    assert_eq!(result.white_box_accuracy.interval, equipoise_record::wilson_interval(survivors, 100));

    let [first, second] = &result.attacks[..] else { panic!("two attacks") };
    assert_eq!((first.attempted, second.attempted), (90, 90 - first.broken));
    assert_eq!(second.broken, second.attempted - survivors);
    assert_eq!((first.unconfirmed, second.unconfirmed), (0, 0));
    assert_eq!(first.accuracy.value, (90 - first.broken) as f64 / 100.0);
    assert_eq!(result.ready_made_accuracy, Some(first.accuracy));
    assert_eq!(second.accuracy, result.white_box_accuracy);
    assert!(first.broken < second.broken && second.broken > 10, "{} {}", first.broken, second.broken);

    let index = |broken_by: &str| {
        let label = |e: &equipoise_record::ExampleResult| e.broken_by.as_ref().map(|by| by.label());
        result.examples.iter().filter(|e| label(e).as_deref() == Some(broken_by)).count()
    };
    assert_eq!((index("pgd-10/zero"), index("pgd-10/exact")), (first.broken, second.broken));
    for (row, example) in result.examples.iter().enumerate() {
        assert_eq!((example.index, example.label), (1000 + row, points.labels()[row]));
        assert_eq!(example.clean_correct, row < 90);
        assert_eq!(example.broken_by.is_some(), example.clean_correct && !example.robust);
        assert!(!example.non_finite);
    }

    // Victims and judge count into the same place, and nothing is counted twice: the rest is the clean pass.
    let attacks = first.cell_evaluations + second.cell_evaluations;
    assert_eq!(work.cell_evaluations, attacks + 100);
    assert_eq!(work.vjps, first.vjps + second.vjps);
    assert!(result.attacks.iter().all(|attack| attack.seconds > 0.0));

    // The images: verified where broken, the last try where not, untouched where never attacked.
    let answers = predictions(&linear.logits(&outcome.adversarial));
    assert_eq!(answers, outcome.adversarial_predictions);
    for (row, example) in result.examples.iter().enumerate() {
        assert_eq!(answers[row] == Some(example.label), example.robust);
        let changed = to_vec(select(&outcome.adversarial, &[row])) != to_vec(select(points.images(), &[row]));
        assert_eq!(changed, example.clean_correct);
    }
    let tail: Vec<usize> = (90..100).collect();
    assert_eq!(to_vec(select(&outcome.adversarial, &tail)), to_vec(select(points.images(), &tail)));
    assert!(
        settings().budget.contains(points.images(), &outcome.adversarial).into_iter().all(|inside| inside)
    );
}

#[test]
fn without_ready_made_attacks_there_is_no_ready_made_accuracy() {
    let linear = Linear::random(2, 31);
    let points = points(&linear, 20, 0);
    let adaptive = cascade(&linear, vec![entry("pgd-2", "exact", false, &linear)]);
    assert_eq!(run(&adaptive, &points, &settings(), &Quiet, None).unwrap().result.ready_made_accuracy, None);
    let nothing = run(&cascade(&linear, Vec::new()), &points, &settings(), &Quiet, None).unwrap();
    assert_eq!(nothing.result.white_box_accuracy, nothing.result.clean_accuracy);
    assert_eq!(to_vec(nothing.adversarial), to_vec(points.images().clone()));
}

#[test]
fn a_liar_is_refuted() {
    let linear = Linear::random(2, 32);
    let points = points(&linear, 24, 0);
    // It claims that everything is misclassified from the start. The budget is too small for that to be true.
    let liar = Altered { inner: &linear, logits: |_: &Images, logits: Logits| logits.neg(), gradient: zero };
    let tiny = Settings { budget: Budget::new(Norm::Linf, 1e-6).unwrap(), ..settings() };
    let outcome =
        run(&cascade(&linear, vec![entry("pgd-10", "lie", false, &liar)]), &points, &tiny, &Quiet, None)
            .unwrap();
    let attack = &outcome.result.attacks[0];
    assert_eq!((attack.attempted, attack.broken, attack.unconfirmed), (24, 0, 24));
    assert_eq!(outcome.result.white_box_accuracy.value, 1.0);
    assert!(outcome.result.examples.iter().all(|example| example.robust && example.broken_by.is_none()));
}

#[test]
fn a_success_that_nobody_claims_counts() {
    let linear = Linear::random(2, 33);
    let points = points(&linear, 40, 0);
    let labels = points.labels().to_vec();
    // A victim that always looks correct; its gradients are right.
    struct Smug<'a>(&'a Linear);
    impl Classifier for Smug<'_> {
        fn classes(&self) -> usize {
            2
        }
        fn answer(&self, question: &Question<'_>) -> Logits {
            self.0.answer(question)
        }
    }
    impl WhiteBox for Smug<'_> {
        fn differentiate(
            &self,
            question: &Question<'_>,
            objective: &dyn equipoise::loss::Objective,
        ) -> attack::ValueAndGradient {
            let answer = self.0.differentiate(question, objective);
            // The objective knows the label: it falls where the label's logit rises.
            let (_, derivative) = objective.values_and_derivative(&answer.logits);
            attack::ValueAndGradient { logits: derivative.neg(), ..answer }
        }
    }
    let smug = Smug(&linear);
    let outcome = run(
        &cascade(&linear, vec![entry("pgd-10", "exact", false, &smug)]),
        &points,
        &settings(),
        &Quiet,
        None,
    )
    .unwrap();
    let breakable = linear.breakable(points.images(), &labels, &settings().budget);
    let expected = breakable.iter().filter(|&&breakable| breakable).count();
    assert!(expected > 5);
    assert_eq!((outcome.result.attacks[0].broken, outcome.result.attacks[0].unconfirmed), (expected, 0));
}

#[test]
fn logits_that_are_not_finite_are_broken_and_flagged() {
    let linear = Linear::random(3, 34);
    let points = points(&linear, 12, 0);
    let clean = to_vec(points.images().clone());
    // Not a number on the unperturbed images 0 and 1, and on every perturbed version of images 2 and 3.
    let sick = |images: &Images, logits: Logits| {
        let pixels = to_vec(images.clone());
        let mut scores = to_vec(logits.clone());
        for (image, scores) in pixels.chunks(SIZE).zip(scores.chunks_mut(3)) {
            let nearest = (0..12)
                .min_by(|&a, &b| {
                    let distance = |k: usize| -> f32 {
                        image.iter().zip(&clean[k * SIZE..][..SIZE]).map(|(p, x)| (p - x).abs()).sum()
                    };
                    distance(a).total_cmp(&distance(b))
                })
                .unwrap();
            let untouched = image == &clean[nearest * SIZE..][..SIZE];
            if untouched && nearest < 2 || !untouched && (2..4).contains(&nearest) {
                scores[0] = f32::NAN;
            }
        }
        from_vec(scores, logits.dims(), &logits.device())
    };
    let victim = Altered { inner: &linear, logits: sick, gradient: zero };
    let tiny = Settings { budget: Budget::new(Norm::Linf, 1e-6).unwrap(), ..settings() };
    let outcome =
        run(&cascade(&victim, vec![entry("pgd-3", "exact", false, &victim)]), &points, &tiny, &Quiet, None)
            .unwrap();
    for (row, example) in outcome.result.examples.iter().enumerate() {
        assert_eq!(example.non_finite, row < 4, "{row}");
        assert_eq!(example.clean_correct, row >= 2, "{row}");
        assert_eq!(example.robust, row >= 4, "{row}");
        assert_eq!(example.broken_by.is_some(), (2..4).contains(&row), "{row}");
    }
    assert_eq!(outcome.clean_predictions[0], None);
    assert_eq!((outcome.clean_predictions[2].is_some(), outcome.adversarial_predictions[2]), (true, None));
    assert_eq!(outcome.result.attacks[0].attempted, 10);
}

#[test]
fn claims_that_are_not_confirmed_raise_a_check() {
    let linear = Linear::random(2, 31);
    let points = points(&linear, 40, 0);
    let flags_of = |entries| {
        let outcome = run(&cascade(&linear, entries), &points, &settings(), &Quiet, None).unwrap();
        let raised = checks::of_runs(&outcome.result).into_iter().map(|flag| (flag.name, flag.raised));
        raised.collect::<Vec<_>>()
    };
    let flag = |raised| vec![("unconfirmed-successes".to_owned(), raised)];
    let liar = Altered { inner: &linear, logits: |_: &Images, logits: Logits| logits.neg(), gradient: zero };
    assert_eq!(flags_of(vec![entry("pgd-2", "lie", true, &liar)]), flag(true));
    assert_eq!(flags_of(vec![entry("pgd-10", "exact", true, &linear)]), flag(false));
    assert_eq!(flags_of(Vec::new()), []);
}

#[test]
fn neither_batch_size_nor_order_matters() {
    let bench = Bench::new();
    let points = bench.points();
    let reference = bench.run(&points, &Settings { batch_size: 64, ..settings() }, &Quiet, None).unwrap();
    for attack in &reference.result.attacks {
        assert!(attack.broken > 0 && attack.broken < attack.attempted, "{attack:?}");
    }
    for batch_size in [1, 7, 30] {
        let other = bench.run(&points, &Settings { batch_size, ..settings() }, &Quiet, None).unwrap();
        assert_same(&other, &reference, &format!("batch size {batch_size}"));
    }

    let order: Vec<usize> = (0..30).map(|k| (k * 7 + 3) % 30).collect();
    let shuffled = Points::new(
        order.iter().map(|&row| points.indices()[row]).collect(),
        select(points.images(), &order),
        order.iter().map(|&row| points.labels()[row]).collect(),
    )
    .unwrap();
    let other = bench.run(&shuffled, &settings(), &Quiet, None).unwrap();
    let mut result = timeless(&other.result);
    result.examples.sort_by_key(|example| example.index);
    assert_eq!(result, timeless(&reference.result));
    assert_eq!(to_vec(other.adversarial), to_vec(select(&reference.adversarial, &order)));

    // One point alone, as in the crowd.
    for row in 0..30 {
        let index = points.indices()[row];
        let alone =
            Points::new(vec![index], select(points.images(), &[row]), vec![points.labels()[row]]).unwrap();
        let alone = bench.run(&alone, &settings(), &Quiet, None).unwrap();
        assert_eq!(alone.result.examples[0], reference.result.examples[row]);
        assert_eq!(to_vec(alone.adversarial), to_vec(select(&reference.adversarial, &[row])));
    }
}
