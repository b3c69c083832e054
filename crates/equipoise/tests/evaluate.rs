//! The evaluation cascade: verdicts that are known in closed form, victims that lie, attacks that cheat, and
//! runs that are interrupted.

mod attack_victims;

use std::cell::{Cell, RefCell};
use std::fs;
use std::ops::ControlFlow;

use attack_victims::{Altered, Linear, SIZE, honest, images, labels, zero};
use equipoise::attack::{
    self, Attack, Attempt, Beat, Budget, Classifier, Norm, Pulse, Queries, Targets, WhiteBox,
};
use equipoise::batch::{Images, Logits, from_vec, predictions, select, to_vec};
use equipoise::evaluate::{
    Cascade, Entry, EvaluateError, Journal, JournalError, Observer, Outcome, Points, PointsError, Quiet,
    SavedError, Settings, TimeLimit, Verified, flags, read_adversarial, run, run_within, save_adversarial,
};
use equipoise::readout::Readout;
use equipoise_record::ReadoutResult;

const EPS: f64 = 8.0 / 255.0;

fn settings() -> Settings {
    Settings { budget: Budget::new(Norm::Linf, EPS).unwrap(), seed: 4, batch_size: 16 }
}

fn entry<'a>(name: &str, estimator: &str, ready_made: bool, victim: &'a dyn WhiteBox) -> Entry<'a> {
    let attack = attack::parse(name).unwrap();
    Entry { attack, estimator: estimator.to_owned(), ready_made, victim }
}

fn cascade<'a>(judge: &'a dyn Classifier, entries: Vec<Entry<'a>>) -> Cascade<'a> {
    Cascade { readout: "final".to_owned(), judge, entries }
}

/// Points of which the last `wrong` have a wrong label.
fn points(victim: &Linear, n: usize, wrong: usize) -> Points {
    let images = images(n, 30, 0.0, 1.0);
    let mut labels = labels(victim, &images);
    for label in &mut labels[n - wrong..] {
        *label = (*label + 1) % victim.classes;
    }
    Points::new((0..n).map(|k| 1000 + k).collect(), images, labels).unwrap()
}

/// A result with the only thing that may differ between two runs left out.
fn timeless(result: &ReadoutResult) -> ReadoutResult {
    let mut result = result.clone();
    result.attacks.iter_mut().for_each(|attack| attack.seconds = 0.0);
    result.plan.iter_mut().flat_map(|plan| &mut plan.tries).for_each(|tried| tried.seconds_per_broken = None);
    result
}

fn assert_same(a: &Outcome, b: &Outcome, what: &str) {
    assert_eq!(timeless(&a.result), timeless(&b.result), "{what}");
    assert_eq!(to_vec(a.adversarial.clone()), to_vec(b.adversarial.clone()), "{what}");
    assert_eq!(a.clean_predictions, b.clean_predictions, "{what}");
    assert_eq!(a.adversarial_predictions, b.adversarial_predictions, "{what}");
    assert_eq!(a.complete, b.complete, "{what}");
}

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
        result.examples.iter().filter(|e| e.broken_by.as_deref() == Some(broken_by)).count()
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
        fn logits(&self, images: &Images) -> Logits {
            self.0.logits(images)
        }
    }
    impl WhiteBox for Smug<'_> {
        fn value_and_gradient(
            &self,
            images: &Images,
            objective: &dyn equipoise::loss::Objective,
        ) -> attack::ValueAndGradient {
            let answer = self.0.value_and_gradient(images, objective);
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

/// An attack that returns whatever it is told to.
struct Cheat<F>(F);

impl<F: Fn(&Targets<'_>) -> Attempt + Send + Sync> Attack for Cheat<F> {
    fn name(&self) -> String {
        "cheat".to_owned()
    }
    fn queries(&self, _: usize, _: Norm) -> Queries {
        Queries::default()
    }
    fn attempt_with(&self, _: &dyn WhiteBox, targets: &Targets<'_>, _: &Budget, _: &dyn Pulse) -> Attempt {
        (self.0)(targets)
    }
}

#[test]
fn cheating_attacks_are_named() {
    let linear = Linear::random(2, 35);
    let points = points(&linear, 20, 0);
    let try_with = |cheat: Box<dyn Attack>| {
        let entry =
            Entry { attack: cheat, estimator: "exact".to_owned(), ready_made: false, victim: &linear };
        run(&cascade(&linear, vec![entry]), &points, &settings(), &Quiet, None)
    };
    let shift = |targets: &Targets<'_>, index: usize, by: f32| {
        let shape = targets.images.dims();
        let mut pixels = to_vec(targets.images.clone());
        for (k, row) in pixels.chunks_mut(SIZE).enumerate() {
            if targets.indices[k] == index {
                row[5] += by;
            }
        }
        Attempt { images: from_vec(pixels, shape, &targets.images.device()), ..Attempt::nothing(targets) }
    };
    // In the second batch, so that the row within the batch would be the wrong name.
    for by in [0.04, -0.04, 2.0, f32::NAN] {
        let error = try_with(Box::new(Cheat(move |t: &Targets<'_>| shift(t, 1017, by)))).unwrap_err();
        let EvaluateError::OutsideBudget { attack, index, .. } = &error else { panic!("{error}") };
        assert_eq!((attack.as_str(), *index), ("cheat/exact", 1017));
        assert!(error.to_string().contains("cheat/exact") && error.to_string().contains("1017"), "{error}");
    }
    assert!(try_with(Box::new(Cheat(move |t: &Targets<'_>| shift(t, 1017, 0.0)))).is_ok());

    let fewer = Cheat(|t: &Targets<'_>| Attempt { images: select(t.images, &[0]), ..Attempt::nothing(t) });
    assert!(matches!(try_with(Box::new(fewer)), Err(EvaluateError::Shape { .. })));
    let mute = Cheat(|t: &Targets<'_>| Attempt { claimed: Vec::new(), ..Attempt::nothing(t) });
    assert!(matches!(try_with(Box::new(mute)), Err(EvaluateError::Shape { .. })));
}

#[test]
fn what_does_not_fit_is_refused_with_advice() {
    let linear = Linear::random(2, 36);
    let points_ok = points(&linear, 4, 0);
    let good = || cascade(&linear, vec![entry("pgd-2", "exact", false, &linear)]);
    let error = |cascade: &Cascade<'_>, points: &Points, settings: &Settings| {
        run(cascade, points, settings, &Quiet, None).unwrap_err().to_string()
    };
    assert!(error(&good(), &points_ok, &Settings { batch_size: 0, ..settings() }).contains("batch size"));
    let labelled = Points::new(vec![7], images(1, 1, 0.0, 1.0), vec![2]).unwrap();
    assert!(error(&good(), &labelled, &settings()).contains("example 7 has label 2"));
    let entries = vec![
        entry("pgd-2", "exact", true, &linear),
        entry("pgd-2", "unrolled", false, &linear),
        entry("pgd-3", "exact", true, &linear),
    ];
    let message = error(&cascade(&linear, entries), &points_ok, &settings());
    assert!(message.contains("pgd-3/exact") && message.contains("pgd-2/unrolled"), "{message}");

    let x = || images(2, 1, 0.0, 1.0);
    assert!(matches!(Points::new(vec![1], x(), vec![0, 0]), Err(PointsError::Lengths { .. })));
    assert!(matches!(Points::new(vec![1, 1], x(), vec![0, 0]), Err(PointsError::Twice(1))));
    for bad in [x() * 255.0, x() - 1.0, x().mul_scalar(f32::NAN)] {
        assert!(matches!(Points::new(vec![1, 2], bad, vec![0, 0]), Err(PointsError::Intensity { .. })));
    }
    let none = Points::new(Vec::new(), select(&x(), &[]), Vec::new()).unwrap();
    let outcome = run(&good(), &none, &settings(), &Quiet, None).unwrap();
    assert!(outcome.complete && outcome.result.examples.is_empty());
}

/// Stops an attack at its so-manieth step.
struct Impatient(Cell<usize>);

impl Observer for Impatient {
    fn stage(&self, _: &str, _: usize) {}
    fn advance(&self, _: usize, _: &str) {}
    fn beat(&self, beat: Beat) -> ControlFlow<()> {
        assert!(beat.done < beat.total && beat.standing <= beat.examples, "{beat:?}");
        self.0.set(self.0.get().saturating_sub(1));
        if self.0.get() == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn an_attack_stopped_between_steps_is_done_again() {
    let linear = Linear::random(5, 37);
    let points = points(&linear, 12, 0);
    let settings = Settings { batch_size: 5, ..settings() };
    for name in ["pgd-4x2", "apgd-ce-6x2", "apgd-t-4", "fab-t-5", "fab-3x2", "square-20x2"] {
        let cascade = cascade(&linear, vec![entry(name, "exact", false, &linear)]);
        let reference = run(&cascade, &points, &settings, &Quiet, None).unwrap();
        for steps in [1, 2, 9] {
            let folder = tempfile::tempdir().unwrap();
            let open = || Journal::open(folder.path(), "model").unwrap();
            let stopped = Impatient(Cell::new(steps));
            let outcome = run(&cascade, &points, &settings, &stopped, Some(&mut open())).unwrap();
            assert!(!outcome.complete, "{name} has more than {steps} steps");
            let resumed = run(&cascade, &points, &settings, &Quiet, Some(&mut open())).unwrap();
            assert_same(&resumed, &reference, name);
        }
    }
}

/// Entries of a cascade under a time limit: the ready-made attack is dear, the others differ in price.
fn priced(linear: &Linear) -> (Cascade<'_>, Vec<f64>) {
    let entries = vec![
        entry("pgd-2", "exact", true, linear),
        entry("pgd-20", "other", false, linear),
        entry("apgd-ce-20", "other", false, linear),
        entry("pgd-4", "third", false, linear),
    ];
    (cascade(linear, entries), vec![2.0, 20.0, 30.0, 4.0])
}

fn order(outcome: &Outcome) -> Vec<String> {
    let plan = outcome.result.plan.as_ref().unwrap();
    plan.tries.iter().map(|tried| format!("{}/{}", tried.attack, tried.estimator)).collect()
}

#[test]
fn with_time_enough_the_order_follows_gain_over_work() {
    let linear = Linear::random(5, 37);
    let points = points(&linear, 30, 3);
    let (cascade, work) = priced(&linear);
    let limit = TimeLimit { seconds: 1e6, work };
    let all = run_within(&cascade, &points, &settings(), Some(&limit), &Quiet, None).unwrap();
    assert!(all.complete);
    assert_eq!(order(&all), ["pgd-2/exact", "pgd-4/third", "pgd-20/other", "apgd-ce-20/other"]);
    let plan = all.result.plan.as_ref().unwrap();
    assert_eq!((plan.time_limit, plan.not_tried.as_slice()), (Some(1e6), &[][..]));
    // What the cascade finds is what it finds without a limit, point by point.
    let reference = run(&cascade, &points, &settings(), &Quiet, None).unwrap();
    let robust = |outcome: &Outcome| outcome.result.examples.iter().map(|e| e.robust).collect::<Vec<_>>();
    assert_eq!(robust(&all), robust(&reference));
    for (tried, attack) in plan.tries.iter().zip(&all.result.attacks) {
        assert_eq!((&tried.attack, &tried.estimator), (&attack.name, &attack.estimator));
        let work = (attack.cell_evaluations + attack.vjps) as f64;
        assert_eq!(tried.work_per_broken, (attack.broken > 0).then(|| work / attack.broken as f64));
        assert_eq!(tried.seconds_per_broken.is_some(), attack.broken > 0);
    }

    // A run that is interrupted anywhere goes on in its own order.
    for batches in 1..12 {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journal::open(folder.path(), "model").unwrap();
        let run = |observer: &dyn Observer| {
            run_within(&cascade, &points, &settings(), Some(&limit), observer, Some(&mut open())).unwrap()
        };
        run(&Watch::after(batches));
        let resumed = run(&Quiet);
        assert_eq!(order(&resumed), order(&all));
        assert_eq!(robust(&resumed), robust(&all));
        assert_eq!(to_vec(resumed.adversarial), to_vec(all.adversarial.clone()));
    }
}

#[test]
fn when_time_is_up_what_is_missing_is_named() {
    let linear = Linear::random(5, 37);
    let points = points(&linear, 30, 3);
    // A victim so slow that its third question is late.
    let slow = Altered {
        inner: &linear,
        logits: |_: &Images, logits: Logits| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            logits
        },
        gradient: |gradient| gradient,
    };
    let entries = vec![
        entry("pgd-200", "exact", true, &slow),
        entry("pgd-300", "other", false, &slow),
        entry("pgd-400", "third", false, &slow),
    ];
    let cascade = cascade(&linear, entries);
    let limit = TimeLimit { seconds: 0.4, work: vec![200.0, 300.0, 400.0] };
    let tiny = Settings { budget: Budget::new(Norm::Linf, 1e-6).unwrap(), ..settings() };
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let mut journal = Journal::open(folder.path(), "model").unwrap();
        run_within(&cascade, &points, &tiny, Some(&limit), &Quiet, Some(&mut journal)).unwrap()
    };
    let started = std::time::Instant::now();
    let outcome = run();
    assert!(started.elapsed().as_secs_f64() < 5.0, "{:?}", started.elapsed());
    assert!(outcome.complete);
    let not_tried = |outcome: &Outcome| outcome.result.plan.as_ref().unwrap().not_tried.clone();
    let reasons: Vec<(String, String)> =
        not_tried(&outcome).into_iter().map(|not| (not.estimator, not.reason)).collect();
    assert_eq!(order(&outcome), ["pgd-200/exact", "pgd-300/other"]);
    assert_eq!(reasons.len(), 3);
    assert_eq!(reasons[0], ("exact".to_owned(), "time limit: it met 0 of 27 points".to_owned()));
    assert_eq!(reasons[1], ("other".to_owned(), "time limit: it met 0 of 27 points".to_owned()));
    assert_eq!(reasons[2], ("third".to_owned(), "time limit".to_owned()));
    assert!(outcome.result.ready_made_accuracy.is_some());
    // Resumed, it knows that its time is up.
    let again = run();
    assert_eq!(again.result, outcome.result);
    // With another limit it is another run.
    let mut journal = Journal::open(folder.path(), "model").unwrap();
    let longer = TimeLimit { seconds: 0.5, ..limit.clone() };
    let error = run_within(&cascade, &points, &tiny, Some(&longer), &Quiet, Some(&mut journal)).unwrap_err();
    assert!(error.to_string().contains("time limit"), "{error}");
    fs::write(folder.path().join("order.json"), r#"{"begun":[0,7],"cut":[]}"#).unwrap();
    let error = run_within(&cascade, &points, &tiny, Some(&limit), &Quiet, Some(&mut journal)).unwrap_err();
    assert!(error.to_string().contains("an attack that there is not"), "{error}");
}

#[test]
fn what_was_broken_before_time_was_up_counts() {
    let linear = Linear::random(5, 37);
    let points = points(&linear, 12, 0);
    let slow = Altered {
        inner: &linear,
        logits: |_: &Images, logits: Logits| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            logits
        },
        gradient: |gradient| gradient,
    };
    let cascade = cascade(&linear, vec![entry("pgd-2000", "exact", true, &slow)]);
    let limit = TimeLimit { seconds: 0.5, work: vec![1.0] };
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let mut journal = Journal::open(folder.path(), "model").unwrap();
        run_within(&cascade, &points, &settings(), Some(&limit), &Quiet, Some(&mut journal)).unwrap()
    };
    let outcome = run();
    let attack = &outcome.result.attacks[0];
    assert!(attack.broken > 0 && attack.broken < 12 && attack.attempted == attack.broken, "{attack:?}");
    assert_eq!(outcome.result.examples.iter().filter(|example| !example.robust).count(), attack.broken);
    let reason = &outcome.result.plan.as_ref().unwrap().not_tried[0].reason;
    assert_eq!(*reason, format!("time limit: it met {} of 12 points", attack.broken));
    let again = run();
    assert_eq!(again.result, outcome.result);
    assert_eq!(to_vec(again.adversarial), to_vec(outcome.adversarial));
}

#[test]
fn the_cascade_itself_raises_flags() {
    let linear = Linear::random(2, 31);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let points = points(&linear, 40, 0);
    let flags_of = |entries| {
        let outcome = run(&cascade(&linear, entries), &points, &settings(), &Quiet, None).unwrap();
        let raised = flags(&outcome.result).into_iter().map(|flag| (flag.name, flag.raised));
        raised.collect::<Vec<_>>()
    };
    let flag = |name: &str, raised| (name.to_owned(), raised);
    let blinded = vec![entry("pgd-10", "zero", true, &blind), entry("square-500", "none", false, &linear)];
    assert_eq!(
        flags_of(blinded),
        [flag("black-box-beats-white-box", true), flag("unconfirmed-successes", false)]
    );
    let intermediate = vec![
        entry("pgd-10", "zero", true, &blind),
        entry("apgd-ce", "exact", false, &linear),
        entry("square-100", "none", false, &linear),
    ];
    assert_eq!(
        flags_of(intermediate),
        [
            flag("black-box-beats-white-box", false),
            flag("intermediate-beats-ready-made", true),
            flag("unconfirmed-successes", false)
        ]
    );
    let liar = Altered { inner: &linear, logits: |_: &Images, logits: Logits| logits.neg(), gradient: zero };
    assert_eq!(flags_of(vec![entry("pgd-2", "lie", true, &liar)]), [flag("unconfirmed-successes", true)]);
    assert_eq!(flags_of(Vec::new()), []);
}

/// A cascade of three attacks that each break something, and leave something.
struct Bench {
    linear: Linear,
}

impl Bench {
    fn new() -> Self {
        Self { linear: Linear::random(5, 37) }
    }

    fn points(&self) -> Points {
        points(&self.linear, 30, 3)
    }

    fn run(
        &self,
        points: &Points,
        settings: &Settings,
        observer: &dyn Observer,
        journal: Option<&mut Journal>,
    ) -> Result<Outcome, EvaluateError> {
        let blind = Altered { inner: &self.linear, logits: honest, gradient: zero };
        let entries = vec![
            entry("pgd-1x4", "zero", true, &blind),
            entry("pgd-1", "exact", false, &self.linear),
            entry("pgd-5x2-margin", "exact", false, &self.linear),
        ];
        run(&cascade(&self.linear, entries), points, settings, observer, journal)
    }
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

/// Cancels after so many batches, and remembers what it was told.
#[derive(Default)]
struct Watch {
    batches_left: Cell<Option<usize>>,
    stages: RefCell<Vec<(String, usize, usize)>>,
}

impl Watch {
    fn after(batches: usize) -> Self {
        Self { batches_left: Cell::new(Some(batches)), ..Self::default() }
    }
}

impl Observer for Watch {
    fn stage(&self, label: &str, total: usize) {
        self.stages.borrow_mut().push((label.to_owned(), total, 0));
    }
    fn advance(&self, examples: usize, note: &str) {
        assert!(!note.is_empty());
        self.stages.borrow_mut().last_mut().unwrap().2 += examples;
    }
    fn cancelled(&self) -> bool {
        match self.batches_left.get() {
            Some(0) => true,
            Some(left) => {
                self.batches_left.set(Some(left - 1));
                false
            }
            None => false,
        }
    }
}

#[test]
fn a_run_interrupted_anywhere_ends_the_same() {
    let bench = Bench::new();
    let points = bench.points();
    let settings = Settings { batch_size: 7, ..settings() };
    let watch = Watch::default();
    let before = bench.linear.counter.total();
    let reference = bench.run(&points, &settings, &watch, None).unwrap();
    let whole = bench.linear.counter.total() - before;
    for (label, total, done) in watch.stages.borrow().iter() {
        assert_eq!(total, done, "{label}");
    }

    let mut interruptions = 0;
    for batches in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journal::open(folder.path(), "model").unwrap();
        let before = bench.linear.counter.total();
        let stopped = bench.run(&points, &settings, &Watch::after(batches), Some(&mut open())).unwrap();
        if stopped.complete {
            assert_same(&stopped, &reference, "with a journal");
            break;
        }
        interruptions += 1;
        assert!(stopped.result.attacks.len() < 3);
        assert!(
            stopped.result.white_box_accuracy.value >= reference.result.white_box_accuracy.value
                || batches < 5
        );

        // Whatever a crash left half written is of no account.
        fs::write(folder.path().join("batch-000999.safetensors.partial"), b"half").unwrap();
        let watch = Watch::default();
        // Every other time with another batch size: it may change, the result may not.
        let batch_size = if batches % 2 == 0 { 7 } else { 4 };
        let resumed =
            bench.run(&points, &Settings { batch_size, ..settings }, &watch, Some(&mut open())).unwrap();
        assert_same(&resumed, &reference, &format!("interrupted after {batches} batches"));
        for (label, total, done) in watch.stages.borrow().iter() {
            assert_eq!(total, done, "{label}");
        }

        // What is done is not done again.
        let again = bench.linear.counter.total();
        assert_eq!(again - before, whole, "interrupted after {batches} batches");
        let third = bench.run(&points, &settings, &Quiet, Some(&mut open())).unwrap();
        assert_same(&third, &reference, "complete already");
        assert_eq!(third.result, resumed.result, "down to the seconds");
        assert_eq!(bench.linear.counter.total(), again);
    }
    assert!(interruptions >= 10, "{interruptions}");
}

#[test]
fn a_run_interrupted_at_every_batch_ends_the_same() {
    let bench = Bench::new();
    let points = bench.points();
    let settings = Settings { batch_size: 7, ..settings() };
    let reference = bench.run(&points, &settings, &Quiet, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..100 {
        let mut journal = Journal::open(folder.path(), "model").unwrap();
        let outcome = bench.run(&points, &settings, &Watch::after(1), Some(&mut journal)).unwrap();
        if outcome.complete {
            return assert_same(&outcome, &reference, "one batch at a time");
        }
    }
    panic!("it never ended");
}

#[test]
fn a_journal_of_another_run_is_refused() {
    let bench = Bench::new();
    let points = bench.points();
    let settings = settings();
    let folder = tempfile::tempdir().unwrap();
    let open = |model: &str| Journal::open(folder.path(), model).unwrap();
    bench.run(&points, &settings, &Watch::after(3), Some(&mut open("model"))).unwrap();
    let part = |result: Result<Outcome, EvaluateError>| match result {
        Err(EvaluateError::Journal(JournalError::OtherRun { part, .. })) => part,
        other => panic!("{:?}", other.map(|outcome| outcome.complete)),
    };

    assert_eq!(part(bench.run(&points, &settings, &Quiet, Some(&mut open("another")))), "model");
    let seed = Settings { seed: 5, ..settings };
    assert_eq!(part(bench.run(&points, &seed, &Quiet, Some(&mut open("model")))), "seed");
    let eps = Settings { budget: Budget::new(Norm::Linf, 0.03).unwrap(), ..settings };
    assert_eq!(part(bench.run(&points, &eps, &Quiet, Some(&mut open("model")))), "eps");
    let norm = Settings { budget: Budget::new(Norm::L2, EPS).unwrap(), ..settings };
    assert_eq!(part(bench.run(&points, &norm, &Quiet, Some(&mut open("model")))), "norm");

    let (indices, labels) = (points.indices().to_vec(), points.labels().to_vec());
    let brighter = Points::new(indices.clone(), points.images().clone() * 0.99, labels.clone()).unwrap();
    assert!(part(bench.run(&brighter, &settings, &Quiet, Some(&mut open("model")))).contains("images"));
    let mut others = labels.clone();
    others[0] = (others[0] + 1) % 5;
    let relabelled = Points::new(indices.clone(), points.images().clone(), others).unwrap();
    assert!(part(bench.run(&relabelled, &settings, &Quiet, Some(&mut open("model")))).contains("labels"));
    let moved =
        Points::new(indices.iter().map(|i| i + 1).collect(), points.images().clone(), labels).unwrap();
    assert!(part(bench.run(&moved, &settings, &Quiet, Some(&mut open("model")))).contains("indices"));

    let shorter = cascade(&bench.linear, vec![entry("pgd-1x4", "zero", true, &bench.linear)]);
    part(run(&shorter, &points, &settings, &Quiet, Some(&mut open("model"))));
    // After all that, the right run still resumes.
    assert!(bench.run(&points, &settings, &Quiet, Some(&mut open("model"))).unwrap().complete);
}

#[test]
fn an_attack_with_other_settings_is_another_run() {
    let linear = Linear::random(2, 38);
    let points = points(&linear, 6, 0);
    let folder = tempfile::tempdir().unwrap();
    let with = |step_size| {
        let config = attack::PgdConfig { step_size, ..attack::PgdConfig::default() };
        let attack = Box::new(attack::Pgd::new(config).unwrap());
        let entry = Entry { attack, estimator: "exact".to_owned(), ready_made: false, victim: &linear };
        let mut journal = Journal::open(folder.path(), "model").unwrap();
        run(&cascade(&linear, vec![entry]), &points, &settings(), &Quiet, Some(&mut journal))
    };
    with(None).unwrap();
    with(None).unwrap();
    let message = with(Some(0.001)).unwrap_err().to_string();
    assert!(message.contains("attack 1") && message.contains("0.001"), "{message}");
}

#[test]
fn a_damaged_journal_is_refused() {
    let bench = Bench::new();
    let points = bench.points();
    let damage = |how: &dyn Fn(&std::path::Path)| {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journal::open(folder.path(), "model").unwrap();
        bench.run(&points, &settings(), &Watch::after(4), Some(&mut open())).unwrap();
        how(folder.path());
        match bench.run(&points, &settings(), &Quiet, Some(&mut open())) {
            Err(EvaluateError::Journal(JournalError::Corrupt { path, .. })) => {
                path.file_name().unwrap().to_string_lossy().into_owned()
            }
            other => panic!("{:?}", other.map(|outcome| outcome.complete)),
        }
    };
    let name = |k: usize| format!("batch-{k:06}.safetensors");
    let cut = damage(&|folder| {
        let path = folder.join(name(2));
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 8]).unwrap();
    });
    assert_eq!(cut, name(2));
    let repeated = damage(&|folder| {
        fs::copy(folder.join(name(0)), folder.join(name(1))).unwrap();
    });
    assert_eq!(repeated, name(1));
    let skipped = damage(&|folder| fs::rename(folder.join(name(3)), folder.join(name(0))).unwrap());
    assert_eq!(skipped, name(0));
    assert_eq!(damage(&|folder| fs::remove_file(folder.join("journal.json")).unwrap()), "journal.json");
    assert_eq!(damage(&|folder| fs::write(folder.join("journal.json"), "{").unwrap()), "journal.json");
}

#[test]
fn adversarial_images_are_saved_to_the_bit() {
    let bench = Bench::new();
    let points = bench.points();
    let outcome = bench.run(&points, &settings(), &Quiet, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // A dot in the stem is not an extension.
    let stem = folder.path().join("adversarial-0.03");
    let path = save_adversarial(&stem, &points, &settings().budget, "model", &outcome).unwrap();
    assert_eq!(path.file_name().unwrap(), "adversarial-0.03.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let integers = |name: &str| -> Vec<i64> {
        let data = file.tensor(name).unwrap();
        assert_eq!((data.dtype(), data.shape()), (safetensors::Dtype::I64, &[30][..]));
        data.data().chunks(8).map(|word| i64::from_le_bytes(word.try_into().unwrap())).collect()
    };
    let x = file.tensor("x").unwrap();
    assert_eq!(x.shape(), points.images().dims());
    let pixels: Vec<f32> =
        x.data().chunks(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(pixels, to_vec(outcome.adversarial.clone()));
    assert_eq!(integers("y"), points.labels().iter().map(|&y| y as i64).collect::<Vec<_>>());
    assert_eq!(integers("index"), points.indices().iter().map(|&k| k as i64).collect::<Vec<_>>());

    // The file alone supports the verdicts.
    let images = from_vec(pixels, points.images().dims(), &points.images().device());
    let answers = predictions(&bench.linear.logits(&images));
    let (clean, adversarial) = (integers("clean_prediction"), integers("adversarial_prediction"));
    let broken = file.tensor("broken").unwrap();
    for (row, example) in outcome.result.examples.iter().enumerate() {
        assert_eq!(answers[row], Some(adversarial[row] as usize));
        assert_eq!(clean[row] == example.label as i64, example.clean_correct);
        assert_eq!(broken.data()[row] == 1, example.broken_by.is_some());
    }
    let missing = save_adversarial(
        folder.path().join("no/such/folder"),
        &points,
        &settings().budget,
        "model",
        &outcome,
    );
    assert!(missing.unwrap_err().to_string().contains("no/such/folder.safetensors"));
}

#[test]
fn saved_images_are_verified_before_they_are_used() {
    let bench = Bench::new();
    let points = bench.points();
    let outcome = bench.run(&points, &settings(), &Quiet, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stem = folder.path().join("adversarial");
    let path = save_adversarial(&stem, &points, &settings().budget, "model", &outcome).unwrap();
    let saved = read_adversarial(&path).unwrap();
    let verify = |judge: &dyn Classifier, model: &str, readout, points: &Points, eps, batch_size| {
        let budget = Budget::new(Norm::Linf, eps).unwrap();
        saved.verify(judge, (model, readout), points, &budget, batch_size, &Quiet)
    };
    let some = |rows: &[usize], shift: usize, turn: usize| {
        let indices = rows.iter().map(|&row| points.indices()[row] + shift).collect();
        let labels = rows.iter().map(|&row| (points.labels()[row] + turn) % 5).collect();
        Points::new(indices, select(points.images(), rows), labels).unwrap()
    };
    // All of them, and some in another order.
    let all: Vec<usize> = (0..30).collect();
    for rows in [all.as_slice(), &[17, 3, 29]] {
        let points = some(rows, 0, 0);
        let verified = verify(&bench.linear, "model", Readout::Final, &points, EPS, 7).unwrap();
        let settings = equipoise::diagnose::Settings { budget: settings().budget, seed: 0, batch_size: 4 };
        let case = equipoise::diagnose::Case::saved(5, &points, &verified, settings, &Quiet).unwrap();
        let attacked = case.images(equipoise_record::View::Attacked);
        assert_eq!(to_vec(attacked.clone()), to_vec(select(&outcome.adversarial, rows)));
    }
    let refused = |result: Result<Verified, SavedError>, part: &str| {
        let error = result.map(|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, SavedError::Foreign { .. }) && text.contains(part), "{text}");
        assert!(text.contains("adversarial.safetensors"), "{text}");
    };
    let linear = &bench.linear;
    let good = some(&all, 0, 0);
    refused(verify(linear, "another", Readout::Final, &good, EPS, 7), "another model");
    refused(verify(linear, "model", Readout::Early(2), &good, EPS, 7), "deployed with early(2)");
    refused(verify(linear, "model", Readout::Final, &good, 0.03, 7), "within linf of 0.03");
    refused(verify(linear, "model", Readout::Final, &some(&[5], 500, 0), EPS, 7), "image 1505");
    refused(verify(linear, "model", Readout::Final, &some(&[5], 0, 1), EPS, 7), "image 1005 has label");
    refused(
        verify(linear, "model", Readout::Final, &some(&[0, 5], 0, 0), EPS, 7).and_then(|_| {
            // Image 1000 under the name of 1001.
            let labels = vec![points.labels()[1]];
            let moved = Points::new(vec![1001], select(points.images(), &[0]), labels).unwrap();
            verify(linear, "model", Readout::Final, &moved, EPS, 7)
        }),
        "image 1001 is not within",
    );
    let contrary =
        Altered { inner: linear, logits: |_: &Images, logits: Logits| logits.neg(), gradient: zero };
    refused(verify(&contrary, "model", Readout::Final, &good, EPS, 7), "the contrary is found");

    let whole = fs::read(&path).unwrap();
    for bytes in [&whole[..whole.len() / 2], b"", b"PK\x03\x04 not safetensors at all"] {
        fs::write(&path, bytes).unwrap();
        let text = read_adversarial(&path).unwrap_err().to_string();
        assert!(text.contains("adversarial.safetensors: no complete file"), "{text}");
    }
    assert!(matches!(read_adversarial(folder.path().join("nothing")), Err(SavedError::File { .. })));
}
