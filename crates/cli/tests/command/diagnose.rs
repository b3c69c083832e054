//! `diagnose` as a user meets it: files, sections, resumption, refusals.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{command, folder, refuse, succeed, train_tiny};

const RESNET: &str = "name = \"resnet\"\n[model]\nkind = \"resnet18\"\nwidth = 2\n[train]\nepochs = 1\nbatch_size = 16\n\
                      development = 0\n[data]\nspec = \"digits\"\ncount = 16\n";

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A record without what differs from run to run.
fn timeless(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for name in ["seconds", "command", "batch_size", "sections"] {
                    fields.remove(name);
                }
                fields.values_mut().for_each(walk);
            }
            Value::Array(values) => values.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

#[test]
fn a_diagnosis_leaves_its_files_and_goes_on_from_its_sections() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    fs::write(at.join("resnet.toml"), RESNET).unwrap();
    succeed(at, "train --config resnet.toml --out resnet");
    let diagnose = "diagnose --model model/model.safetensors resnet/model.safetensors --data digits --count 5 --eps 0.1 \
                    --horizon 6 --power-iterations 5 --gallery 2 --seed 3";
    let stdout = succeed(at, &format!("{diagnose} --out whole"));
    assert!(stdout.contains("tiny on Digits, test") && stdout.contains("resnet on Digits, test"), "{stdout}");

    let record = json(&at.join("whole/diagnosis.json"));
    assert_eq!((record["count"].as_u64(), record["eps"].as_f64()), (Some(5), Some(0.1)));
    let [tiny, resnet] = record["diagnosed"].as_array().unwrap().as_slice() else { panic!("{record}") };
    for section in ["residual", "accuracy", "alignment", "landscape", "spectrum", "sweep", "gallery"] {
        assert!(tiny[section]["result"].is_object(), "{section}");
        assert!(at.join(format!("whole/{section}.csv")).exists(), "{section}");
    }
    assert_eq!(tiny["residual"]["result"]["views"][0]["by_iterate"].as_array().unwrap().len(), 6);
    assert_eq!(tiny["residual"]["cell_evaluations"], 2 * 5 * 7);
    for section in ["residual", "alignment", "spectrum"] {
        let reason = resnet[section]["absent"].as_str().unwrap();
        assert!(reason.contains("feedforward"), "{section}: {reason}");
    }
    for section in ["accuracy", "landscape", "sweep", "gallery"] {
        assert!(resnet[section]["result"].is_object(), "{section}");
    }
    let page = fs::read_to_string(at.join("whole/report.html")).unwrap();
    assert!(page.contains("Not measured for resnet") && page.contains("data:image/png;base64,"));

    // Some sections first, then the rest, in other batches: the same numbers, and nothing measured twice.
    succeed(at, &format!("{diagnose} --out parts --sections residual,sweep --batch-size 2"));
    assert!(!at.join("parts/alignment.csv").exists());
    let measured = json(&at.join("parts/diagnosis.json"))["diagnosed"][0]["sweep"].clone();
    succeed(at, &format!("{diagnose} --out parts --batch-size 3 --resume"));
    let parts = json(&at.join("parts/diagnosis.json"));
    assert_eq!(parts["diagnosed"][0]["sweep"], measured);
    assert_eq!(timeless(parts), timeless(record));

    refuse(
        at,
        &format!("{} --out parts --resume", diagnose.replace("--eps 0.1", "--eps 0.2")),
        2,
        &["--resume", "eps", "another --out"],
    );
    // What is refused leaves the flags that were kept as they were: the folder is enough.
    succeed(at, "diagnose --resume --out parts");

    // One page of an evaluation and a diagnosis.
    succeed(
        at,
        "evaluate --model model/model.safetensors --data digits --count 5 --attacks pgd-1 --gradients none --out e",
    );
    succeed(
        at,
        "report e/results.json whole/diagnosis.json --out both --format html,json,csv,markdown,latex",
    );
    let both = json(&at.join("both/results.json"));
    assert_eq!(
        (both["models"].as_array().unwrap().len(), both["diagnoses"].as_array().unwrap().len()),
        (1, 1)
    );
    assert!(at.join("both/residual.csv").exists() && at.join("both/results.csv").exists());
    // A collection reads back as it was written.
    succeed(at, "report both/results.json --out again --format json");
    assert_eq!(json(&at.join("again/results.json")), both);
}

#[test]
fn saved_adversarial_images_take_the_place_of_the_attack() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    // One that has learnt something: there must be right answers to break, and some that hold.
    succeed(
        at,
        "train --config recipe.toml --epochs 12 --count 600 --lr 0.01 --checkpoint-steps 1000 --out good",
    );
    succeed(
        at,
        "evaluate --model good/model.safetensors --data digits --count 40 --eps 0.1 --attacks pgd-3 --gradients exact \
         --readouts final,early(2) --save-adversarial --out e",
    );
    let diagnose = "diagnose --model good/model.safetensors --data digits --count 40 --eps 0.1 --sections \
                    accuracy,sweep,gallery --adversarial e/adversarial-final.safetensors";
    let summary = succeed(at, &format!("{diagnose} --out out"));
    assert!(summary.contains("after the attacks of an evaluation"), "{summary}");
    let record = json(&at.join("out/diagnosis.json"));
    assert_eq!(record["attacked"], "saved");
    let digest = record["diagnosed"][0]["configuration"]["adversarial_sha256"].as_str().unwrap();
    assert_eq!(digest.len(), 64);
    // The very images: their robust accuracy is the white-box accuracy, here and in the sweep.
    let robust = &record["diagnosed"][0]["accuracy"]["result"]["robust"];
    let evaluated = &json(&at.join("e/results.json"))["models"][0]["readouts"][0];
    assert_eq!(robust["accuracy"], evaluated["white_box_accuracy"]);
    let fraction = |name: &str| evaluated[name].as_f64().unwrap();
    assert!(
        0.0 < fraction("white_box_accuracy") && fraction("white_box_accuracy") < fraction("clean_accuracy")
    );
    let steps = record["diagnosed"][0]["sweep"]["result"]["solver_steps"].as_array().unwrap();
    let deployed = steps.iter().find(|point| point["at"] == 4.0).unwrap();
    assert_eq!(&deployed["transferred"], robust);
    assert!(fs::read_to_string(at.join("out/report.html")).unwrap().contains("attacks of an evaluation"));
    // Sections that were measured on other images are not taken for these.
    let plain = diagnose.replace("--adversarial e/adversarial-final.safetensors", "");
    refuse(at, &format!("{plain} --out out --resume"), 2, &["--resume", "adversarial"]);

    let half = fs::read(at.join("e/adversarial-final.safetensors")).unwrap();
    fs::write(at.join("half.safetensors"), &half[..half.len() / 2]).unwrap();
    for (from, to, parts) in [
        ("good/model", "model/model", &["adversarial-final.safetensors", "another model"][..]),
        ("adversarial-final", "adversarial-early-2", &["behind the readout early(2)", "final"]),
        ("--eps 0.1", "--eps 0.2", &["within linf of 0.1", "0.2", "same budget"]),
        ("--count 40", "--count 41", &["image 40", "40 images"]),
        ("--data digits", "--data digits --split train", &["data set and the split"]),
        ("final.safetensors", "final.npz", &["adversarial-final.npz", ".safetensors"]),
        ("e/adversarial-final", "half", &["half.safetensors", "no complete file"]),
        ("e/adversarial", "f/adversarial", &["f/adversarial-final.safetensors", "cannot read"]),
        (
            "model.safetensors",
            "model.safetensors model/model.safetensors",
            &["1 given for 2 of --model", "order"],
        ),
    ] {
        let command = diagnose.replacen(from, to, 1);
        assert_ne!(command, diagnose);
        refuse(at, &format!("{command} --out bad"), 2, parts);
    }
    assert!(!at.join("bad").exists());
}

#[test]
fn what_cannot_be_diagnosed_is_refused_before_anything_is_written() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    for (arguments, parts) in [
        ("--sections residual,curvature", &["curvature", "spectrum"][..]),
        ("--eps 0", &["--eps 0"]),
        ("--probes 1", &["--probes", "at least 2"]),
        ("--batch-size 0", &["--batch-size"]),
        ("--horizon 0", &["--horizon"]),
        ("--count 0", &["--count 0"]),
    ] {
        let command = format!("diagnose --model model/model.safetensors --data digits {arguments} --out out");
        refuse(at, &command, 2, parts);
    }
    assert!(!at.join("out").exists());
    refuse(at, "report --out out", 2, &["results.json", "diagnosis.json"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_diagnosis_keeps_its_sections() {
    use std::process::Command;
    use std::time::{Duration, Instant};

    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    // One batch: it is stopped within.
    let diagnose = "diagnose --model model/model.safetensors --data digits --count 300 --batch-size 300 --eps 0.1 \
                    --out out";
    let child = command(at, diagnose).spawn().unwrap();
    let finished = |section: &str| {
        let entries = fs::read_dir(at.join("out/sections")).into_iter().flatten().flatten();
        let name = format!("-{section}.json");
        entries.map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(&name))
    };
    let begun = Instant::now();
    let residual = loop {
        if let Some(path) = finished("residual") {
            break path;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no section after a minute");
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("interrupted") && stderr.contains("--out out"), "{stderr}");
    assert!(stderr.contains("--resume"), "{stderr}");
    assert!(!at.join("out/diagnosis.json").exists() && finished("sweep").is_none());
    for entry in fs::read_dir(at.join("out/sections")).unwrap() {
        assert!(json(&entry.unwrap().path()).is_object(), "every section is whole");
    }

    let kept = fs::read_to_string(&residual).unwrap();
    succeed(at, &format!("{diagnose} --sections residual,accuracy --resume"));
    assert_eq!(fs::read_to_string(&residual).unwrap(), kept);
    let record = json(&at.join("out/diagnosis.json"));
    let seconds = |value: &Value| value["seconds"].as_f64().unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(seconds(&record["diagnosed"][0]["residual"]), seconds(&kept["content"]));

    // Finished sections are not removed unasked, and a damaged one is not believed.
    refuse(at, diagnose, 2, &["holds a diagnosis", "--resume"]);
    let text = fs::read_to_string(&residual).unwrap();
    let first = text.find("e-").or(text.find("0.")).unwrap();
    let mut changed = text.clone().into_bytes();
    changed[first + 2] = if changed[first + 2] == b'1' { b'2' } else { b'1' };
    fs::write(&residual, changed).unwrap();
    let name = residual.file_name().unwrap().to_str().unwrap();
    refuse(at, &format!("{diagnose} --resume"), 2, &[name, "checksum"]);
    fs::write(&residual, text).unwrap();
    fs::remove_file(at.join("out/sections/key.json")).unwrap();
    refuse(at, &format!("{diagnose} --resume"), 2, &["key.json"]);
}
