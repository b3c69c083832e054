//! Killed at any moment, and resumed, is the same as never killed: every file, to the bit.
//!
//! A run is killed without warning, at a random time or when a random number of files has come into being, and again while
//! it resumes; then it goes on to its end, and its folder is compared with that of an uninterrupted run.
//! `EQUIPOISE_KILLS` is the number of kills of each case.

#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::support::{RECIPE, command, folder, run, succeed, train_tiny};

/// Kills of a case in a short run.
const KILLS: usize = 8;

/// What a clock says, and how a command was given.
const FREE: [&str; 5] = ["seconds", "seconds_per_broken", "command", "arguments", "threads"];

/// Pages that print seconds; what they print is in the records beside them.
const PAGES: [&str; 2] = ["html", "md"];

/// Files below a folder by their path in it.
fn files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(at) = folders.pop() {
        // What is being written may be gone when it is looked at.
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().display().to_string(), path);
            }
        }
    }
    found
}

/// The same without what may differ.
fn settled(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|name, _| !FREE.contains(&name.as_str()));
            fields.values_mut().for_each(|value| *value = settled(value.take()));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = settled(value.take())),
        _ => {}
    }
    value
}

/// Tensors and metadata of a safetensors file, without what a clock said.
fn tensors(bytes: &[u8]) -> Vec<u8> {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let metadata: BTreeMap<_, _> = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let metadata = metadata.into_iter().filter(|(name, _)| !FREE.contains(&name.as_str()));
    let mut content = format!("{:?}", metadata.collect::<Vec<_>>()).into_bytes();
    let file = SafeTensors::deserialize(bytes).unwrap();
    for (name, view) in file.tensors().into_iter().collect::<BTreeMap<_, _>>() {
        content.extend(format!("{name} {:?} {:?}", view.dtype(), view.shape()).bytes());
        content.extend(view.data());
    }
    content
}

/// What of a file must be the same.
fn content(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let json = |text: &[u8]| settled(serde_json::from_slice(text).unwrap()).to_string().into_bytes();
    match path.extension().and_then(|ending| ending.to_str()).unwrap_or_default() {
        "json" => json(&bytes),
        "jsonl" => {
            bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).flat_map(json).collect()
        }
        "safetensors" => tensors(&bytes),
        page if PAGES.contains(&page) => Vec::new(),
        _ => bytes,
    }
}

/// What a finished folder holds.
fn finished(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    files(folder).into_iter().map(|(name, path)| (name, content(&path))).collect()
}

/// When a run is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    After(Duration),
    /// When so many files have been seen, those that are gone again too.
    Files(usize),
}

/// Runs until the moment. Whether the run was killed; else it ended before, as it should.
fn killed(at: &Path, arguments: &str, moment: Moment) -> bool {
    let mut child = command(at, arguments).spawn().unwrap();
    let (begun, mut seen) = (Instant::now(), BTreeSet::new());
    loop {
        let due = match moment {
            Moment::After(time) => begun.elapsed() >= time,
            Moment::Files(count) => {
                seen.extend(files(&at.join("out")).into_keys());
                seen.len() >= count
            }
        };
        if due {
            child.kill().unwrap();
        }
        if let Some(status) = if due { Some(child.wait().unwrap()) } else { child.try_wait().unwrap() } {
            // A signal leaves no code.
            assert!(matches!(status.code(), None | Some(0)), "{arguments}: {status}");
            return status.code().is_none();
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "{arguments}: it hangs");
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// Kills and resumes a command that writes to `out`; `short` is how it is resumed by its folder alone, once `mark` is there.
fn survives(prepare: impl Fn(&Path), whole: &str, short: &str, mark: &str) {
    let kills =
        std::env::var("EQUIPOISE_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number of kills"));
    let reference = folder();
    prepare(reference.path());
    let begun = Instant::now();
    succeed(reference.path(), whole);
    let (seconds, expected) = (begun.elapsed().as_secs_f64(), finished(&reference.path().join("out")));
    let count = files(&reference.path().join("out")).len();
    let resumed = format!("{whole} --resume");
    let mut rng = Rng::with_seed(whole.len() as u64);
    let (mut done, mut runs) = (0, 0);
    while done < kills {
        let folder = folder();
        let at = folder.path();
        prepare(at);
        let mut moments = Vec::new();
        let complete = loop {
            let moment = match rng.bool() {
                true => Moment::After(Duration::from_secs_f64(rng.f64() * seconds)),
                // Of the files that come and go there are about as many again.
                false => Moment::Files(1 + rng.usize(..2 * count)),
            };
            moments.push(moment);
            let arguments = if moments.len() == 1 { whole } else { &resumed };
            let complete = !killed(at, arguments, moment);
            done += usize::from(!complete);
            if complete || rng.bool() {
                break complete;
            }
        };
        if !complete {
            let by_folder = rng.bool() && at.join("out").join(mark).exists();
            let arguments = if by_folder { short } else { &resumed };
            let output = run(at, arguments);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "killed at {moments:?}, {arguments}: {stderr}");
        }
        let found = finished(&at.join("out"));
        let names = |of: &BTreeMap<String, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "killed at {moments:?}");
        for (name, content) in &found {
            assert!(*content == expected[name], "{name} differs; killed at {moments:?}");
        }
        runs += 1;
    }
    println!("{done} kills, {runs} runs the same in {} files: {whole}", expected.len());
}

fn with_recipe(at: &Path) {
    fs::write(at.join("recipe.toml"), RECIPE).unwrap();
}

/// With the model of the recipe.
fn with_model(at: &Path) {
    train_tiny(at);
    fs::rename(at.join("model/model.safetensors"), at.join("model.safetensors")).unwrap();
}

const TRAIN: &str = "train --config recipe.toml --count 96 --development 16 --out out";

#[test]
fn a_training() {
    survives(with_recipe, &format!("{TRAIN} --epochs 6"), "train --resume --out out", "recipe.toml");
}

#[test]
fn an_adversarial_training() {
    let all =
        format!("{TRAIN} --epochs 3 --adversary pgd --eps 0.1 --pgd-steps 2 --clip-norm 1 --dropout 0.1");
    survives(with_recipe, &all, "train --resume --out out", "recipe.toml");
}

#[test]
fn an_evaluation() {
    let all = "evaluate --model model.safetensors --data digits --eps 0.1 --count 12 --batch-size 3 --attacks pgd-3,square \
               --gradients through-solver --readouts final,early --development 8 --flag-count 4 --save-adversarial --out out";
    survives(with_model, all, "evaluate --resume --out out", "command.json");
}

#[test]
fn a_diagnosis() {
    let all = "diagnose --model model.safetensors --data digits --eps 0.1 --count 8 --power-iterations 20 --probes 2 \
               --gallery 2 --out out";
    survives(with_model, all, "diagnose --resume --out out", "command.json");
}
