//! Attacks in the order of their gain, for as long as there is time.

use std::fs;
use std::path::Path;

use crate::support::{Watch, cascade, entry, points, settings};
use crate::victims::{Altered, Linear};
use equipoise::attack::{Budget, Norm};
use equipoise::batch::{Images, Logits, to_vec};
use equipoise::evaluate::{
    Cascade, Conditions, EvaluateError, Journal, Observer, Outcome, Points, Quiet, Settings, TimeLimit, run,
    run_with,
};

/// A cascade under a time limit: the others differ in price.
fn priced(linear: &Linear) -> Cascade<'_> {
    let priced = |name: &str, estimator: &str, ready_made, work| {
        let (run, ready_made) = entry(name, estimator, ready_made, linear);
        (run.costing(work), ready_made)
    };
    let entries = vec![
        priced("pgd-2", "exact", true, 2.0),
        priced("pgd-20", "other", false, 20.0),
        priced("apgd-ce-20", "other", false, 30.0),
        priced("pgd-4", "third", false, 4.0),
    ];
    cascade(linear, entries)
}

fn run_within(
    cascade: &Cascade<'_>,
    points: &Points,
    settings: &Settings,
    seconds: f64,
    observer: &dyn Observer,
    journal: Option<&mut Journal>,
) -> Result<Outcome, EvaluateError> {
    let limit = Some(TimeLimit { seconds });
    run_with(cascade, points, settings, observer, Conditions { limit, journal, ..Conditions::default() })
}

fn order(outcome: &Outcome) -> Vec<String> {
    let plan = outcome.result.plan.as_ref().unwrap();
    plan.tries.iter().map(|tried| format!("{}/{}", tried.attack, tried.estimator)).collect()
}

#[test]
fn with_time_enough_the_order_follows_gain_over_work() {
    let linear = Linear::random(5, 37);
    let points = points(&linear, 30, 3);
    let cascade = priced(&linear);
    let all = run_within(&cascade, &points, &settings(), 1e6, &Quiet, None).unwrap();
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
            run_within(&cascade, &points, &settings(), 1e6, observer, Some(&mut open())).unwrap()
        };
        run(&Watch::after(batches));
        let resumed = run(&Quiet);
        assert_eq!(order(&resumed), order(&all));
        assert_eq!(robust(&resumed), robust(&all));
        assert_eq!(to_vec(resumed.adversarial), to_vec(all.adversarial.clone()));
    }
}

/// The logits of a victim so slow that a time limit is soon over.
fn late(_: &Images, logits: Logits) -> Logits {
    std::thread::sleep(std::time::Duration::from_millis(20));
    logits
}

#[test]
fn when_time_is_up_what_is_missing_is_named() {
    let linear = Linear::random(5, 37);
    let points = points(&linear, 30, 3);
    let slow = Altered { inner: &linear, logits: late, gradient: |gradient| gradient };
    let entries = vec![
        entry("pgd-200", "exact", true, &slow),
        entry("pgd-300", "other", false, &slow),
        entry("pgd-400", "third", false, &slow),
    ];
    let cascade = cascade(&linear, entries);
    let tiny = Settings { budget: Budget::new(Norm::Linf, 1e-6).unwrap(), ..settings() };
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let mut journal = Journal::open(folder.path(), "model").unwrap();
        run_within(&cascade, &points, &tiny, 0.4, &Quiet, Some(&mut journal)).unwrap()
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
    let error = run_within(&cascade, &points, &tiny, 0.5, &Quiet, Some(&mut journal)).unwrap_err();
    assert!(error.to_string().contains("time limit"), "{error}");
    let turn = (0..).map(|number| folder.path().join(format!("turn-{number:06}.json")));
    let turn = turn.take(99).find(|path| path.exists()).unwrap();
    fs::write(turn, equipoise_files::seal(&serde_json::json!({ "begins": 7 })).unwrap()).unwrap();
    let error = run_within(&cascade, &points, &tiny, 0.4, &Quiet, Some(&mut journal)).unwrap_err();
    assert!(error.to_string().contains("does not follow from what came before it"), "{error}");
}

#[test]
fn what_was_broken_before_time_was_up_counts() {
    let linear = Linear::random(5, 37);
    let points = points(&linear, 12, 0);
    let slow = Altered { inner: &linear, logits: late, gradient: |gradient| gradient };
    let cascade = cascade(&linear, vec![entry("pgd-2000", "exact", true, &slow)]);
    let run = |folder: &Path, seconds| {
        let mut journal = Journal::open(folder, "model").unwrap();
        run_within(&cascade, &points, &settings(), seconds, &Quiet, Some(&mut journal)).unwrap()
    };
    // Half a second is enough, but for a machine that has much else to do.
    let (folder, seconds, outcome) = [0.5, 2.0, 8.0, 32.0]
        .into_iter()
        .map(|seconds| {
            let folder = tempfile::tempdir().unwrap();
            let outcome = run(folder.path(), seconds);
            (folder, seconds, outcome)
        })
        .find(|(_, _, outcome)| outcome.result.attacks[0].broken > 0)
        .expect("half a minute is enough to break one image");
    let attack = &outcome.result.attacks[0];
    assert!(attack.broken > 0 && attack.broken < 12 && attack.attempted == attack.broken, "{attack:?}");
    assert_eq!(outcome.result.examples.iter().filter(|example| !example.robust).count(), attack.broken);
    let reason = &outcome.result.plan.as_ref().unwrap().not_tried[0].reason;
    assert_eq!(*reason, format!("time limit: it met {} of 12 points", attack.broken));
    let again = run(folder.path(), seconds);
    assert_eq!(again.result, outcome.result);
    assert_eq!(to_vec(again.adversarial), to_vec(outcome.adversarial));
}
