//! Journals of other runs, and damaged ones.

use std::fs;

use crate::support::{Bench, EPS, Watch, assert_same, cascade, entry, points, settings};
use crate::victims::Linear;
use equipoise::attack::{self, Budget, Norm};
use equipoise::batch::to_vec;
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
    // Two batches of the clean pass, the beginning of the first attack, its batches.
    let name = |k: usize| format!("batch-{k:06}.safetensors");
    let cut = damage(&|folder| {
        let path = folder.join(name(3));
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 8]).unwrap();
    });
    assert_eq!(cut, name(3));
    let repeated = damage(&|folder| {
        fs::copy(folder.join(name(0)), folder.join(name(1))).unwrap();
    });
    assert_eq!(repeated, name(1));
    let skipped = damage(&|folder| fs::rename(folder.join(name(4)), folder.join(name(0))).unwrap());
    assert_eq!(skipped, name(0));
    let twice = damage(&|folder| {
        fs::copy(folder.join("turn-000002.json"), folder.join("turn-000005.json")).unwrap();
    });
    assert_eq!(twice, "turn-000005.json");
    assert_eq!(damage(&|folder| fs::remove_file(folder.join("journal.json")).unwrap()), "journal.json");
    assert_eq!(damage(&|folder| fs::write(folder.join("journal.json"), "{").unwrap()), "journal.json");
}

/// The bytes of a float32 or int64 tensor in a journal's file, found as any reader of safetensors finds them.
fn tensor(bytes: &[u8], name: &str) -> std::ops::Range<usize> {
    let (header, metadata) = safetensors::SafeTensors::read_metadata(bytes).unwrap();
    let (from, to) = metadata.info(name).unwrap().data_offsets;
    8 + header + from..8 + header + to
}

/// Puts the right checksum into a file that was changed: that of the header without it and without what a clock said, and of
/// the content.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let metadata = header["__metadata__"].as_object_mut().unwrap();
    let old = metadata.remove("sha256").unwrap();
    metadata.remove("seconds").unwrap();
    let sum = equipoise_files::sha256(&[header.to_string().as_bytes(), &bytes[8 + length..]].concat());
    let old = old.as_str().unwrap().as_bytes();
    let at = bytes.windows(64).position(|window| window == old).unwrap();
    bytes[at..at + 64].copy_from_slice(sum.as_bytes());
    bytes
}

#[test]
fn no_bit_of_a_journal_may_change() {
    let bench = Bench::new();
    let points = bench.points();
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path(), "model").unwrap();
    let whole = bench.run(&points, &settings(), &Quiet, Some(&mut journal)).unwrap();
    journal.look(30).unwrap();
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 6, "{files:?}");
    let (mut tried, mut refused) = (0, 0);
    for path in files {
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 23) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, &changed).unwrap();
            let mut journal = Journal::open(folder.path(), "model").unwrap();
            let resumed = bench.run(&points, &settings(), &Quiet, Some(&mut journal));
            let looked = journal.look(30);
            match (resumed, looked) {
                // What a clock said may differ.
                (Ok(resumed), Ok(looked)) => {
                    assert_same(&resumed, &whole, &format!("{}, byte {at}", path.display()));
                    assert_eq!(looked, [30]);
                }
                _ => refused += 1,
            }
            tried += 1;
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert!(tried > 100 && refused > tried * 9 / 10, "{refused} of {tried}");
    let mut journal = Journal::open(folder.path(), "model").unwrap();
    bench.run(&points, &settings(), &Quiet, Some(&mut journal)).unwrap();
}

/// A forger keeps the checksums right.
#[test]
fn forged_images_are_refused() {
    let bench = Bench::new();
    let points = bench.points();
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path(), "model").unwrap();
    let honest = bench.run(&points, &settings(), &Quiet, Some(&mut journal)).unwrap();
    let clean = to_vec(points.images().clone());
    let size = clean.len() / points.len();
    let refusal = |path: &std::path::Path, bytes: Vec<u8>| {
        let kept = fs::read(path).unwrap();
        fs::write(path, sealed(bytes)).unwrap();
        let mut journal = Journal::open(folder.path(), "model").unwrap();
        let outcome = bench.run(&points, &settings(), &Quiet, Some(&mut journal));
        fs::write(path, kept).unwrap();
        match outcome {
            Err(EvaluateError::Journal(error @ JournalError::Corrupt { .. })) => error.to_string(),
            other => panic!("{:?}", other.map(|outcome| outcome.complete)),
        }
    };
    let mut fooling = 0;
    // After those of the clean pass, which have no images.
    for number in 2..99 {
        let path = folder.path().join(format!("batch-{number:06}.safetensors"));
        let Ok(bytes) = fs::read(&path) else { continue };
        let integer = |name: &str, row: usize| {
            let at = tensor(&bytes, name).start + 8 * row;
            i64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
        };
        for row in 0..tensor(&bytes, "rows").len() / 8 {
            let point = integer("rows", row) as usize;
            let image = tensor(&bytes, "images").start + 4 * size * row;
            let with = |pixel: &dyn Fn(f32) -> f32| {
                let mut bytes = bytes.clone();
                for (k, &x) in clean[point * size..][..size].iter().enumerate() {
                    bytes[image + 4 * k..][..4].copy_from_slice(&pixel(x).to_le_bytes());
                }
                bytes
            };
            let index = points.indices()[point].to_string();
            for value in [5.0, f32::NAN, -1.0, f32::INFINITY] {
                let said = refusal(&path, with(&|_| value));
                assert!(said.contains("outside") && said.contains(&index), "{value}: {said}");
            }
            let far = with(&|x| if x < 0.5 { x + 2.0 * EPS as f32 } else { x - 2.0 * EPS as f32 });
            assert!(refusal(&path, far).contains("outside"));
            // Within the budget, and not adversarial: the unperturbed image of a point that is said to be broken.
            let broken = integer("predictions", row) != points.labels()[point] as i64;
            if broken {
                let said = refusal(&path, with(&|x| x));
                assert!(said.contains("does not fool") && said.contains(&index), "{said}");
                fooling += 1;
            }
        }
    }
    let fallen = honest.result.examples.iter().filter(|example| example.broken_by.is_some()).count();
    assert_eq!(fooling, fallen);
    assert!(fooling > 3);
    let mut journal = Journal::open(folder.path(), "model").unwrap();
    let again = bench.run(&points, &settings(), &Quiet, Some(&mut journal)).unwrap();
    assert_same(&honest, &again, "nothing is left of the forgeries");
}
