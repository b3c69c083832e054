//! Runs that are cut off, between batches and within, and go on to the same end.

use std::cell::Cell;
use std::fs;
use std::ops::ControlFlow;

use crate::attack_victims::Linear;
use crate::support::{Bench, VERIFYING, Watch, assert_same, cascade, entry, points, settings};
use equipoise::attack::Step;
use equipoise::evaluate::{Journal, Observer, Quiet, Settings, run};
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
