//! `export --hub`: a folder that the Hub can show and that `evaluate` can use.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{folder, refuse, succeed, train_tiny};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_hub_folder_holds_the_model_its_configuration_and_its_card() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let evaluate = "evaluate --data digits --count 6 --attacks pgd-2 --eps 0.1 --no-flags";
    succeed(at, &format!("{evaluate} --model model/model.safetensors --out evaluation"));
    let export = "export --model model --hub new/hub --results evaluation --license cc-by-4.0";
    assert_eq!(succeed(at, export).lines().count(), 3);
    let hub = at.join("new/hub");
    assert_eq!(names(&hub), ["README.md", "config.json", "model.safetensors"]);
    assert_eq!(names(&at.join("new")), ["hub"], "nothing temporary is left");
    assert!(
        fs::read(hub.join("model.safetensors")).unwrap()
            == fs::read(at.join("model/model.safetensors")).unwrap()
    );

    let config: Value = serde_json::from_str(&fs::read_to_string(hub.join("config.json")).unwrap()).unwrap();
    assert_eq!((&config["library_name"], &config["model_type"]), (&"equipoise".into(), &"mdeq".into()));
    assert_eq!((&config["format_version"], &config["name"]), (&1.into(), &"tiny".into()));
    assert_eq!(config["architecture"]["channels"], serde_json::json!([4]));
    assert_eq!(config["deployment"]["solver"]["steps"], 4);
    assert_eq!(config["training"]["recipe"]["epochs"], 2);
    let record: Value =
        serde_json::from_str(&fs::read_to_string(at.join("evaluation/results.json")).unwrap()).unwrap();
    let record = &record["models"][0];
    assert_eq!(config["model_sha256"], record["configuration"]["model_sha256"]);

    let card = fs::read_to_string(hub.join("README.md")).unwrap();
    let white_box = format!("value: {}", record["readouts"][0]["white_box_accuracy"].as_f64().unwrap());
    for part in [
        "---\nlicense: \"cc-by-4.0\"\nlibrary_name: \"equipoise\"\n",
        "model-index:\n",
        "eps: 0.1",
        "norm: \"linf\"",
        "count: 6",
        &white_box,
        "# tiny",
        "single-scale DEQ with 4 channels",
        "standard, through the gradient exact; 2 epochs",
        "```bibtex",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }

    // The folder is a model, by itself and by its file.
    for model in ["new/hub", "new/hub/model.safetensors"] {
        succeed(at, &format!("{evaluate} --model {model} --out again-{}", model.len()));
    }
    assert!(succeed(at, "info --model new/hub").contains("name: tiny"));
}

#[test]
fn a_card_is_of_this_model_or_there_is_none() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    succeed(at, "train --config recipe.toml --seed 9 --out other");
    let evaluate = "evaluate --data digits --count 2 --attacks pgd-1 --no-flags";
    succeed(at, &format!("{evaluate} --model model --out mine"));
    succeed(at, &format!("{evaluate} --model other --out theirs"));
    let hash = |folder: &str| {
        let text = fs::read_to_string(at.join(folder).join("results.json")).unwrap();
        let record: Value = serde_json::from_str(&text).unwrap();
        record["models"][0]["configuration"]["model_sha256"].as_str().unwrap().to_owned()
    };
    let export = "export --model model/model.safetensors";
    let parts = [&hash("mine"), &hash("theirs"), "theirs"];
    refuse(at, &format!("{export} --hub hub --results mine theirs/results.json"), 2, &parts);
    refuse(at, &format!("{export} --hub hub --results model"), 2, &["no evaluation"]);
    refuse(at, &format!("{export} --hub hub --license MIT,BSD"), 2, &["--license", "mit"]);
    refuse(at, &format!("{export} --hub hub --out weights.pth"), 2, &["--hub"]);
    refuse(at, &format!("{export} --out weights.pth --license mit"), 2, &["--hub"]);
    refuse(at, export, 2, &["--out"]);
    refuse(at, &format!("{export} --hub model"), 2, &["model", "not empty"]);
    assert!(!at.join("hub").exists());
    // Without a record the card says so, and an empty folder gives way.
    fs::create_dir(at.join("hub")).unwrap();
    succeed(at, &format!("{export} --hub hub"));
    assert!(fs::read_to_string(at.join("hub/README.md")).unwrap().contains("no evaluation was given"));
}
