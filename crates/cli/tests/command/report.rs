//! `report`: folders and files in any mix, and where things are written.

use std::fs;

use serde_json::Value;

use crate::support::{folder, refuse, succeed, train_tiny};

#[test]
fn a_training_folder_is_drawn_beside_results_and_diagnoses() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let model = "--model model/model.safetensors --data digits";
    succeed(at, &format!("evaluate {model} --count 4 --attacks pgd-2 --no-flags --out evaluation"));
    succeed(at, &format!("diagnose {model} --count 4 --sections residual --out diagnosis"));
    // Folders of every kind, each for what it holds; a file stands for itself.
    let all = "report model evaluation diagnosis/diagnosis.json --out all --format html,csv,json,latex,markdown,svg";
    let written = succeed(at, all);
    for name in [
        "report.html",
        "results.csv",
        "classes.csv",
        "residual.csv",
        "training-epochs.csv",
        "training-steps.csv",
        "training-loss.svg",
        "relative-residual-by-iterate.svg",
    ] {
        assert!(written.lines().any(|line| line.ends_with(name)), "{name}: {written}");
    }
    let page = fs::read_to_string(at.join("all/report.html")).unwrap();
    for part in ["id=\"training\"", "Training loss", "id=\"verdict\"", "id=\"diagnosis\""] {
        assert!(page.contains(part), "{part}");
    }
    let steps = fs::read_to_string(at.join("model/steps.jsonl")).unwrap();
    let table = fs::read_to_string(at.join("all/training-steps.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + steps.lines().count());

    // The record of the report is a record, with everything in it.
    let text = fs::read_to_string(at.join("all/results.json")).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    let counts = ["models", "diagnoses", "trainings"].map(|part| record[part].as_array().unwrap().len());
    assert_eq!(counts, [1, 1, 1]);
    assert_eq!(record["trainings"][0]["finished"], true);
    succeed(at, "report all/results.json --out again --format html");
    let again = fs::read_to_string(at.join("again/report.html")).unwrap();
    assert!(again.contains("id=\"training\"") && again.contains("<title>Robustness of tiny</title>"));
}

/// A run that is going on has half a last line, no epoch and no model.
#[test]
fn a_run_is_drawn_as_far_as_it_is() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    fs::create_dir(at.join("going-on")).unwrap();
    fs::copy(at.join("model/recipe.toml"), at.join("going-on/recipe.toml")).unwrap();
    let steps = fs::read_to_string(at.join("model/steps.jsonl")).unwrap();
    fs::write(at.join("going-on/steps.jsonl"), &steps[..steps.len() * 2 / 3]).unwrap();
    succeed(at, "report going-on --out page.md");
    let page = fs::read_to_string(at.join("page.md")).unwrap();
    assert!(page.contains("# Training of tiny") && page.contains("Not finished: tiny."), "{page}");

    // Two runs of one name are told apart by their folders, also where a path ends with dots.
    succeed(at, "report model/. going-on/ --out both --format markdown");
    let both = fs::read_to_string(at.join("both/results.md")).unwrap();
    assert!(both.contains("| tiny (model) | ") && both.contains("| tiny (going-on) | "), "{both}");

    // Damage is named by file and line.
    let damaged = steps.replacen("\"loss\":", "\"loss\" ", 1);
    fs::write(at.join("going-on/steps.jsonl"), damaged).unwrap();
    refuse(at, "report going-on --out no", 2, &["steps.jsonl", "line 1", "correct"]);
    fs::write(at.join("going-on/steps.jsonl"), "").unwrap();
    fs::write(at.join("going-on/recipe.toml"), "name = ").unwrap();
    refuse(at, "report going-on --out no", 2, &["recipe.toml"]);
    assert!(!at.join("no").exists());
}

#[test]
fn what_is_no_record_is_refused_with_what_would_be_one() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    fs::create_dir(at.join("empty")).unwrap();
    refuse(at, "report empty --out no", 2, &["empty", "results.json", "log.jsonl", "train"]);
    refuse(at, "report model/log.jsonl --out no", 2, &["model/log.jsonl", "folder"]);
    refuse(at, "report --out no", 2, &["no records", "train"]);
    refuse(at, "report nowhere --out no", 2, &["nowhere"]);
    assert!(!at.join("no").exists());
}

#[test]
fn the_ending_of_a_file_says_its_format() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    succeed(at, "report model --out t.tex");
    assert!(fs::read_to_string(at.join("t.tex")).unwrap().contains("\\begin{table}"));
    succeed(at, "report model --out page.HTML");
    assert!(fs::read_to_string(at.join("page.HTML")).unwrap().starts_with("<!DOCTYPE html>"));
    // An ending that says nothing leaves it to --format, and without one it is a folder's.
    succeed(at, "report model --out notes.txt --format markdown");
    assert!(fs::read_to_string(at.join("notes.txt")).unwrap().starts_with("# Training of tiny"));
    succeed(at, "report model --out v1.2");
    assert!(at.join("v1.2/report.html").exists() && at.join("v1.2/results.md").exists());
    // A folder that is there already is a folder whatever its name.
    fs::create_dir(at.join("old.tex")).unwrap();
    succeed(at, "report model --out old.tex");
    assert!(at.join("old.tex/report.html").exists());

    for (out, parts) in [
        ("no.tex --format html,latex", ["no.tex", "2 formats"]),
        ("no.tex --format html", ["no.tex", ".html"]),
        ("no.svg", ["no.svg", "folder"]),
        ("no.pdf --format pdf", ["no.pdf", "folder"]),
        ("no.pdf --format latex", ["no.pdf", ".tex"]),
        ("no.html --format html,svg", ["no.html", "folder"]),
    ] {
        refuse(at, &format!("report model --out {out}"), 2, &parts);
        assert!(!at.join(out.split(' ').next().unwrap()).exists(), "{out}");
    }
}
