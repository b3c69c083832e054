//! Interrupted and resumed is the same as never interrupted.

#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde_json::Value;

use crate::support::{RECIPE, command, folder, refuse, run, succeed, train_tiny};

/// Waits until something below `at` has this name.
pub fn wait_for(child: &mut Child, at: &Path, name: &str) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        let entries = fs::read_dir(at).into_iter().flatten().flatten();
        let whole = |found: &str| found.starts_with(name) && !found.contains(".part");
        if entries.into_iter().any(|entry| whole(&entry.file_name().to_string_lossy())) {
            return;
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended before {name} was there");
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("no {name} after a minute");
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

fn assert_same_tensors(a: &Path, b: &Path) {
    let (a, b) = (fs::read(a).unwrap(), fs::read(b).unwrap());
    let (a, b) = (SafeTensors::deserialize(&a).unwrap(), SafeTensors::deserialize(&b).unwrap());
    assert_eq!(a.len(), b.len());
    assert!(a.len() > 5);
    for (name, view) in a.tensors() {
        assert!(view.data() == b.tensor(&name).unwrap().data(), "{name} differs");
    }
}

#[test]
fn training_ends_with_the_same_weights() {
    let folder = folder();
    let at = folder.path();
    let longer = RECIPE.replace("epochs = 2", "epochs = 40");
    fs::write(at.join("recipe.toml"), format!("seed = 5\n{longer}")).unwrap();
    succeed(at, "train --config recipe.toml --out whole");

    let mut killed = command(at, "train --config recipe.toml --out killed").spawn().unwrap();
    wait_for(&mut killed, &at.join("killed"), "step-00000000");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!at.join("killed/model.safetensors").exists());
    let again = "train --config recipe.toml --out killed";
    refuse(at, again, 2, &["not empty", "--resume"]);
    refuse(at, &format!("{again} --resume --seed 6"), 2, &["seed"]);
    // The folder's own recipe is enough.
    succeed(at, "train --resume --out killed");
    assert_same_tensors(&at.join("whole/model.safetensors"), &at.join("killed/model.safetensors"));

    let mut stopped = command(at, "train --config recipe.toml --out stopped").spawn().unwrap();
    wait_for(&mut stopped, &at.join("stopped"), "step-00000000");
    interrupt(&stopped);
    let output = stopped.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("error: interrupted") && stderr.contains("train --resume --out stopped"),
        "{stderr}"
    );
    succeed(at, "train --resume --out stopped");
    assert_same_tensors(&at.join("whole/model.safetensors"), &at.join("stopped/model.safetensors"));
    // Resuming what is done changes nothing.
    succeed(at, "train --resume --out stopped");
    assert_same_tensors(&at.join("whole/model.safetensors"), &at.join("stopped/model.safetensors"));
}

/// The record without what a clock says.
pub fn record(path: &Path) -> Value {
    let mut record: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let models = record["models"].as_array_mut().unwrap().iter_mut();
    for readout in models.flat_map(|model| model["readouts"].as_array_mut().unwrap()) {
        for attack in readout["attacks"].as_array_mut().unwrap() {
            attack["seconds"] = Value::Null;
        }
        for tried in readout["plan"]["tries"].as_array_mut().unwrap() {
            tried["seconds_per_broken"] = Value::Null;
        }
    }
    record
}

#[test]
fn an_evaluation_ends_with_the_same_record() {
    let evaluate = "evaluate --model model.safetensors --data digits --count 24 --batch-size 1 --eps 0.2 --readouts \
                    final,early --development 8 --attacks pgd-10 --out out";
    let folders = [folder(), folder(), folder()];
    let [whole, killed, stopped] = folders.each_ref().map(|folder| folder.path());
    train_tiny(whole);
    fs::rename(whole.join("model/model.safetensors"), whole.join("model.safetensors")).unwrap();
    for other in [killed, stopped] {
        fs::copy(whole.join("model.safetensors"), other.join("model.safetensors")).unwrap();
    }
    succeed(whole, evaluate);

    let mut child = command(killed, evaluate).spawn().unwrap();
    wait_for(&mut child, &killed.join("out/journal/final"), "batch-000010");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!killed.join("out/results.json").exists());
    refuse(killed, evaluate, 2, &["journal", "--resume"]);
    refuse(
        killed,
        &format!("{evaluate} --resume --seed 1"),
        2,
        &["another run", "its seed is 0, and here it is 1"],
    );
    let other = evaluate.replace("--eps 0.2", "--eps 8/255");
    refuse(killed, &format!("{other} --resume"), 2, &["its eps is 0.2, and here it is 8/255"]);
    let other = evaluate.replace("pgd-10", "pgd-11");
    refuse(killed, &format!("{other} --resume"), 2, &["pgd-10/exact (opening)", "pgd-11/exact (opening)"]);
    // What is refused leaves the flags that were kept as they were: the folder is enough.
    succeed(killed, "evaluate --resume --out out");
    assert_eq!(record(&whole.join("out/results.json")), record(&killed.join("out/results.json")));

    let mut child = command(stopped, evaluate).spawn().unwrap();
    wait_for(&mut child, &stopped.join("out/journal/final"), "batch-000010");
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("error: interrupted") && stderr.contains("--resume"), "{stderr}");
    let output = run(stopped, &format!("{evaluate} --resume"));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(record(&whole.join("out/results.json")), record(&stopped.join("out/results.json")));
}

/// What a run says of itself goes nowhere; the run goes on.
#[test]
fn a_run_does_not_die_of_its_log() {
    let folder = folder();
    let at = folder.path();
    fs::write(at.join("recipe.toml"), RECIPE).unwrap();
    let evaluate = "evaluate --model full/model.safetensors --data digits --count 8 --attacks pgd-2 --gradients none --out";
    for (arguments, file) in [
        ("train --config recipe.toml --out full".to_owned(), "full/model.safetensors"),
        (format!("{evaluate} e"), "e/results.json"),
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status = command(at, &arguments).stderr(full).status().unwrap();
        assert_eq!(status.code(), Some(0), "{arguments}");
        assert!(at.join(file).exists());
    }
    for (arguments, file) in [
        ("train --config recipe.toml --out closed".to_owned(), "closed/model.safetensors"),
        (format!("{evaluate} f"), "f/results.json"),
        ("demo --quick --out demo".to_owned(), "demo/results.json"),
    ] {
        let mut child = command(at, &arguments).spawn().unwrap();
        drop(child.stderr.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments}");
        assert!(at.join(file).exists());
    }
    // An error that cannot be said has its exit code all the same.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = command(at, "evaluate --model nowhere --data digits --out g").stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

/// Killed before its recipe was there, a run left nothing that stands in the way; with the recipe the folder is enough.
#[test]
fn a_run_that_was_killed_at_once_can_be_begun_again() {
    let folder = folder();
    let at = folder.path();
    fs::write(at.join("recipe.toml"), RECIPE).unwrap();
    fs::create_dir(at.join("out")).unwrap();
    for name in [".lock", ".equipoise-abcdef"] {
        fs::write(at.join("out").join(name), "").unwrap();
    }
    succeed(at, "train --config recipe.toml --out out");
    // After the recipe comes everything else.
    fs::create_dir(at.join("early")).unwrap();
    fs::copy(at.join("out/recipe.toml"), at.join("early/recipe.toml")).unwrap();
    succeed(at, "train --resume --out early");
    assert_same_tensors(&at.join("out/model.safetensors"), &at.join("early/model.safetensors"));
}

#[test]
fn a_folder_has_one_writer() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let model = "--model model/model.safetensors --data digits --count 4";
    for command in [
        "train --resume --out model".to_owned(),
        format!("evaluate {model} --attacks pgd-1 --gradients none --out model"),
        format!("diagnose {model} --sections residual --out model"),
    ] {
        let held = equipoise_files::lock(at.join("model")).unwrap();
        refuse(at, &command, 2, &["model", "another run", "another folder"]);
        drop(held);
        succeed(at, &command);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_no_bad_input() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    // The limit on a file's size stands for a disk that fills up: the first write beyond it fails.
    let limited = |arguments: &str| {
        let line = format!("trap '' XFSZ; ulimit -f 2; exec {} {arguments}", env!("CARGO_BIN_EXE_equipoise"));
        Command::new("sh").args(["-c", &line]).current_dir(at).output().unwrap()
    };
    let model = "--model model/model.safetensors --data digits --count 40";
    for arguments in [
        "train --config recipe.toml --out t".to_owned(),
        format!("evaluate {model} --attacks pgd-1 --gradients none --save-adversarial --out e"),
        format!("diagnose {model} --sections residual --out d"),
        "export --model model/model.safetensors --out x.pth".to_owned(),
    ] {
        let output = limited(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {stderr}");
        let last = stderr.lines().last().unwrap();
        assert!(last.starts_with("error: ") && last.contains("File too large"), "{arguments}: {stderr}");
    }
    assert!(!at.join("x.pth").exists());
}
