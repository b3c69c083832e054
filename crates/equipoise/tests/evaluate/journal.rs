//! Journals of other runs, and damaged ones.

use std::fs;

use crate::attack_victims::Linear;
use crate::support::{Bench, EPS, Watch, cascade, entry, points, settings};
use equipoise::attack::{self, Budget, Norm};
use equipoise::evaluate::{EvaluateError, Journal, JournalError, Outcome, Points, Quiet, Run, Settings, run};

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
        let attack: Box<dyn attack::Attack> = Box::new(attack::Pgd::new(config).unwrap());
        let entry = (Run::new(attack, "exact", &linear), false);
        let mut journal = Journal::open(folder.path(), "model").unwrap();
        run(&cascade(&linear, vec![entry]), &points, &settings(), &Quiet, Some(&mut journal))
    };
    with(None).unwrap();
    with(None).unwrap();
    let message = with(Some(0.001)).unwrap_err().to_string();
    assert!(message.contains("run 1") && message.contains("0.001"), "{message}");
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
