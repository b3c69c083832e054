//! Runs that are cut off, between batches and within, and go on to the same end.

use std::cell::{Cell, RefCell};
use std::fs;
use std::ops::ControlFlow;

use crate::support::{Bench, VERIFYING, Watch, assert_same, cascade, entry, points, settings};
use crate::victims::Linear;
use equipoise::attack::{Classifier, Question, Step, ValueAndGradient, WhiteBox};
use equipoise::batch::Logits;
use equipoise::evaluate::{Cascade, Journal, Observer, Quiet, Settings, run};
use equipoise::loss::Objective;
use equipoise::work::Work;

/// Stops an attack at its so-manieth step.
struct Impatient(Cell<usize>);

impl Observer for Impatient {
    fn stage(&self, _: &str, _: usize) {}
    fn advance(&self, _: usize, _: &str) {}
    fn step(&self, step: Step) -> ControlFlow<()> {
        assert!(step.done < step.total && step.standing <= step.examples, "{step:?}");
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
        fs::write(folder.path().join(".equipoise-a1b2c3"), b"half").unwrap();
        let watch = Watch::default();
        // Every other time with another batch size: it may change, the result may not.
        let batch_size = if batches % 2 == 0 { 7 } else { 4 };
        let resumed =
            bench.run(&points, &Settings { batch_size, ..settings }, &watch, Some(&mut open())).unwrap();
        assert_same(&resumed, &reference, &format!("interrupted after {batches} batches"));
        for (label, total, done) in watch.stages.borrow().iter() {
            assert_eq!(total, done, "{label}");
        }

        // What is done is not done again, but for one look at each adversarial image that was kept.
        let again = bench.linear.counter.total();
        let verified = |images: usize| Work { cell_evaluations: images as u64, vjps: 0 };
        let kept: usize =
            watch.stages.borrow().iter().filter(|(label, ..)| label == VERIFYING).map(|stage| stage.2).sum();
        assert_eq!(again - before, whole + verified(kept), "interrupted after {batches} batches");
        let third = bench.run(&points, &settings, &Quiet, Some(&mut open())).unwrap();
        assert_same(&third, &reference, "complete already");
        assert_eq!(third.result, resumed.result, "down to the seconds");
        let fallen = reference.result.examples.iter().filter(|example| example.broken_by.is_some()).count();
        assert_eq!(bench.linear.counter.total() - again, verified(fallen));
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

/// A model that answers nothing but NaN once it has been asked so often, and says so.
struct Failing<'a> {
    inner: &'a Linear,
    questions_left: Cell<usize>,
}

impl Failing<'_> {
    fn fails(&self) -> bool {
        let left = self.questions_left.get();
        self.questions_left.set(left.saturating_sub(1));
        left == 0
    }
}

impl Classifier for Failing<'_> {
    fn classes(&self) -> usize {
        self.inner.classes()
    }
    fn work(&self) -> Work {
        self.inner.work()
    }
    fn answer(&self, question: &Question<'_>) -> Logits {
        let logits = self.inner.answer(question);
        if self.fails() { logits * f32::NAN } else { logits }
    }
}

impl WhiteBox for Failing<'_> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        let answer = self.inner.differentiate(question, objective);
        if self.fails() { ValueAndGradient { logits: answer.logits * f32::NAN, ..answer } } else { answer }
    }
}

impl Observer for Failing<'_> {
    fn stage(&self, _: &str, _: usize) {}
    fn advance(&self, _: usize, _: &str) {}
    fn cancelled(&self) -> bool {
        self.failed()
    }
    fn failed(&self) -> bool {
        self.questions_left.get() == 0
    }
}

/// One attack that follows gradients, and one that does not.
fn cascade_of<V: WhiteBox>(victim: &V) -> Cascade<'_> {
    cascade(victim, vec![entry("pgd-3", "exact", true, victim), entry("square-4", "none", false, victim)])
}

#[test]
fn nothing_is_kept_of_a_batch_in_which_the_model_failed() {
    let linear = Linear::random(5, 37);
    let points = points(&linear, 12, 0);
    let settings = Settings { batch_size: 5, ..settings() };
    let reference = run(&cascade_of(&linear), &points, &settings, &Quiet, None).unwrap();
    assert!(reference.result.examples.iter().all(|example| !example.non_finite));
    let mut failures = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journal::open(folder.path(), "model").unwrap();
        let failing = Failing { inner: &linear, questions_left: Cell::new(failures + 1) };
        let outcome = run(&cascade_of(&failing), &points, &settings, &failing, Some(&mut open())).unwrap();
        let complete = !failing.failed();
        if complete {
            break;
        }
        assert!(outcome.result.examples.iter().all(|example| !example.non_finite), "{failures}");
        let resumed = run(&cascade_of(&linear), &points, &settings, &Quiet, Some(&mut open())).unwrap();
        assert_same(&resumed, &reference, &format!("failed at question {failures}"));
        failures += 1;
    }
    assert!(failures > 12, "{failures}");
}

/// What an evaluation counts as it goes.
#[derive(Default)]
struct Counts(RefCell<Vec<(String, usize, usize)>>);

impl Observer for Counts {
    fn stage(&self, label: &str, _: usize) {
        self.0.borrow_mut().push((label.to_owned(), 0, 0));
    }
    fn counts(&self, met: usize, broken: usize) {
        let mut stages = self.0.borrow_mut();
        let last = stages.last_mut().unwrap();
        (last.1, last.2) = (met, broken);
    }
    fn advance(&self, _: usize, _: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn the_last_counts_of_a_stage_are_those_of_the_record() {
    let bench = Bench::new();
    let points = bench.points();
    let folder = tempfile::tempdir().unwrap();
    let open = || Journal::open(folder.path(), "model").unwrap();
    let settings = Settings { batch_size: 7, ..settings() };
    let stopped = bench.run(&points, &settings, &Watch::after(12), Some(&mut open())).unwrap();
    assert!(!stopped.complete && !stopped.result.attacks.is_empty());
    let counts = Counts::default();
    let outcome = bench.run(&points, &settings, &counts, Some(&mut open())).unwrap();
    let counts: Vec<(usize, usize)> = counts
        .0
        .into_inner()
        .into_iter()
        .filter(|(label, ..)| label != VERIFYING)
        .map(|(_, met, broken)| (met, broken))
        .collect();
    let mut expected = vec![(30, 3)];
    expected.extend(outcome.result.attacks.iter().map(|attack| (attack.attempted, attack.broken)));
    assert_eq!(counts, expected);
}
