//! An evaluation in parts comes to what one on all points does.

use std::cell::{Cell, RefCell};
use std::path::Path;

use crate::arms::arms;
use crate::support::{Watch, assert_same, points, settings};
use crate::victims::{Altered, Linear, honest, zero};
use equipoise::attack::{Budget, Norm};
use equipoise::batch::{Images, Logits};
use equipoise::evaluate::{
    Cascade, Conditions, Duel, EvaluateError, Journal, JournalError, Observer, Outcome, Points, Quiet,
    Settings, Shard, TimeLimit, run_with,
};

fn rows(number: usize, of: usize, n: usize) -> Vec<usize> {
    (number..n).step_by(of).collect()
}

/// Evaluates with a journal.
fn evaluated(
    cascade: &Cascade<'_>,
    points: &Points,
    settings: &Settings,
    folder: &Path,
    smaller: Option<&Outcome>,
    shards: &[Shard],
    observer: &dyn Observer,
) -> Result<Outcome, EvaluateError> {
    let mut journal = Journal::open(folder, "model").unwrap();
    run_with(
        cascade,
        points,
        settings,
        observer,
        Conditions { journal: Some(&mut journal), smaller, shards, ..Conditions::default() },
    )
}

/// Counts the batches of attacks that it sees.
#[derive(Default)]
struct Steps {
    steps: Cell<usize>,
    disputed: RefCell<Vec<usize>>,
}

impl Observer for Steps {
    fn stage(&self, _: &str, _: usize) {}
    fn advance(&self, _: usize, _: &str) {}
    fn disputed(&self, indices: &[usize]) {
        self.disputed.borrow_mut().extend(indices);
    }
    fn step(&self, _: equipoise::attack::Step) -> std::ops::ControlFlow<()> {
        self.steps.set(self.steps.get() + 1);
        std::ops::ControlFlow::Continue(())
    }
    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn parts_come_to_what_the_whole_does() {
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let cascade = arms(&linear, &blind);
    let all = points(&linear, 26, 3);
    let radii = [0.02, 8.0 / 255.0].map(|eps| Budget::new(Norm::Linf, eps).unwrap());
    let with = |budget: Budget, batch_size: usize| Settings { budget, batch_size, ..settings() };
    let folder = tempfile::tempdir().unwrap();
    let mut reference: Vec<Outcome> = Vec::new();
    for (k, &budget) in radii.iter().enumerate() {
        let at = folder.path().join(format!("whole-{k}"));
        let outcome =
            evaluated(&cascade, &all, &with(budget, 16), &at, reference.last(), &[], &Quiet).unwrap();
        reference.push(outcome);
    }
    assert!(reference[1].result.attacks.iter().filter(|attack| attack.broken > 0).count() > 2);
    for of in [1, 2, 3, 7] {
        let at = |part: usize, k: usize| folder.path().join(format!("part-{part}-of-{of}-{k}"));
        // Each part on its own, in batches of its own size, some of them interrupted.
        for part in 0..of {
            let own = all.select(&rows(part, of, all.len()));
            let mut smaller: Option<Outcome> = None;
            for (k, &budget) in radii.iter().enumerate() {
                let settings = with(budget, 3 + part);
                let run = |observer: &dyn Observer| {
                    evaluated(&cascade, &own, &settings, &at(part, k), smaller.as_ref(), &[], observer)
                };
                for batches in (0..3 * part).step_by(2) {
                    run(&Watch::after(batches)).unwrap();
                }
                let outcome = run(&Quiet).unwrap();
                assert!(outcome.complete);
                smaller = Some(outcome);
            }
        }
        let mut smaller: Option<Outcome> = None;
        for (k, &budget) in radii.iter().enumerate() {
            let shards = || -> Vec<Shard> {
                let shard = |part: usize| Shard {
                    rows: rows(part, of, all.len()),
                    journal: Journal::existing(at(part, k), "model"),
                };
                (0..of).map(shard).collect()
            };
            let into = folder.path().join(format!("merged-{of}-{k}"));
            let steps = Steps::default();
            let merge = |observer: &dyn Observer| {
                evaluated(&cascade, &all, &with(budget, 16), &into, smaller.as_ref(), &shards(), observer)
                    .unwrap()
            };
            let merged = merge(&steps);
            assert_same(&merged, &reference[k], &format!("{of} parts, radius {k}"));
            assert_eq!(steps.steps.get(), 0, "nothing is attacked again");
            // Merged again, and resumed without the parts.
            assert_same(&merge(&Quiet), &reference[k], &format!("{of} parts, radius {k}, again"));
            let resumed =
                evaluated(&cascade, &all, &with(budget, 5), &into, smaller.as_ref(), &[], &steps).unwrap();
            assert_same(&resumed, &reference[k], &format!("{of} parts, radius {k}, resumed"));
            assert_eq!(steps.steps.get(), 0);
            smaller = Some(merged);
        }
    }
}

#[test]
fn what_a_part_has_not_done_is_done_where_they_come_together() {
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let cascade = arms(&linear, &blind);
    let all = points(&linear, 20, 2);
    let folder = tempfile::tempdir().unwrap();
    let whole =
        evaluated(&cascade, &all, &settings(), &folder.path().join("whole"), None, &[], &Quiet).unwrap();
    for batches in [1, 4, 9] {
        let at = folder.path().join(format!("part-{batches}"));
        let rows = rows(1, 2, all.len());
        let own = all.select(&rows);
        let few = Settings { batch_size: 4, ..settings() };
        assert!(!evaluated(&cascade, &own, &few, &at, None, &[], &Watch::after(batches)).unwrap().complete);
        let shard = Shard { rows, journal: Journal::existing(&at, "model") };
        let into = folder.path().join(format!("merged-{batches}"));
        let merged = evaluated(&cascade, &all, &settings(), &into, None, &[shard], &Quiet).unwrap();
        assert_same(&merged, &whole, &format!("{batches} batches"));
    }
}

#[test]
fn parts_of_something_else_are_refused() {
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let mut cascade = arms(&linear, &blind);
    let all = points(&linear, 12, 2);
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("part");
    let own = rows(0, 2, all.len());
    evaluated(&cascade, &all.select(&own), &settings(), &part, None, &[], &Quiet).unwrap();
    let merge = |cascade: &Cascade<'_>, rows: Vec<usize>, model: &str, settings: &Settings| {
        let into = tempfile::tempdir().unwrap();
        let shard = Shard { rows, journal: Journal::existing(&part, model) };
        evaluated(cascade, &all, settings, into.path(), None, &[shard], &Quiet)
    };
    let other_part = |result: Result<Outcome, EvaluateError>| match result {
        Err(EvaluateError::Journal(JournalError::OtherRun { part, .. })) => part,
        other => panic!("{:?}", other.map(|outcome| outcome.complete)),
    };
    assert!(merge(&cascade, own.clone(), "model", &settings()).unwrap().complete);
    assert!(other_part(merge(&cascade, rows(1, 2, 12), "model", &settings())).contains("examples"));
    assert_eq!(other_part(merge(&cascade, own[1..].to_vec(), "model", &settings())), "number of images");
    assert!(other_part(merge(&cascade, (0..12).collect(), "model", &settings())).contains("examples"));
    assert_eq!(other_part(merge(&cascade, own.clone(), "another", &settings())), "model");
    let seed = Settings { seed: 5, ..settings() };
    assert_eq!(other_part(merge(&cascade, own.clone(), "model", &seed)), "seed");
    let nowhere = Shard { rows: own.clone(), journal: Journal::existing(folder.path().join("no"), "model") };
    let into = folder.path().join("into");
    let error = evaluated(&cascade, &all, &settings(), &into, None, &[nowhere], &Quiet).unwrap_err();
    assert!(error.to_string().contains("it is missing"), "{error}");

    // A limit of time, and a yardstick that is chosen by what all points did.
    let shards = [Shard { rows: own.clone(), journal: Journal::existing(&part, "model") }];
    let limit = Some(TimeLimit { seconds: 60.0 });
    let conditions = Conditions { limit, shards: &shards, ..Conditions::default() };
    let error = run_with(&cascade, &all, &settings(), &Quiet, conditions).unwrap_err();
    assert!(matches!(error, EvaluateError::Sharded), "{error}");
    let Duel { other, training } = &cascade.yardsticks[0];
    let second = Duel { other: other.clone().starting(9), training: training.clone().starting(9) };
    cascade.yardsticks.push(second);
    let error = merge(&cascade, own, "model", &settings()).unwrap_err();
    assert!(matches!(error, EvaluateError::Sharded), "{error}");
}

/// The judge of another machine: the class that wins is another one where the two largest logits are close to each other.
fn closer(_: &Images, logits: Logits) -> Logits {
    (logits * 0.25).round()
}

#[test]
fn images_that_do_not_fool_the_judge_here_are_named_and_count() {
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let all = points(&linear, 20, 2);
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("part");
    let own = arms(&linear, &blind);
    let there = evaluated(&own, &all, &settings(), &part, None, &[], &Quiet).unwrap();
    let judge = Altered { inner: &linear, logits: closer, gradient: zero };
    let mut here = arms(&linear, &blind);
    here.judge = &judge;
    let told = Steps::default();
    let shard = || [Shard { rows: (0..20).collect(), journal: Journal::existing(&part, "model") }];
    let into = folder.path().join("into");
    let merged = evaluated(&here, &all, &settings(), &into, None, &shard(), &told).unwrap();
    assert_same(&merged, &there, "what the shard found stands");
    let disputed = told.disputed.borrow().clone();
    assert!(!disputed.is_empty());
    use equipoise::attack::Classifier;
    let answers = equipoise::batch::predictions(&judge.logits(&there.adversarial));
    let expected: Vec<usize> = (0..20)
        .filter(|&row| there.result.examples[row].broken_by.is_some())
        .filter(|&row| answers[row] == Some(all.labels()[row]))
        .map(|row| all.indices()[row])
        .collect();
    assert_eq!(disputed, expected);
}
