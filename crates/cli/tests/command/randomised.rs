//! Models that draw random numbers: evaluated by a named protocol, scored draw by draw, and verified.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{folder, refuse, succeed, train_longer, train_tiny};

fn record(at: &Path, folder: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(at.join(folder).join("results.json")).unwrap()).unwrap()
}

#[test]
fn random_deployments_are_evaluated_and_verified() {
    let folder = folder();
    let at = folder.path();
    train_longer(at);
    let evaluate = "evaluate --model model/model.safetensors --data digits --count 24 --eps 0.15 --attacks pgd-3 \
                    --gradients through-solver --no-flags --save-adversarial";
    let robust = |record: &Value| record["models"][0]["readouts"][0]["white_box_accuracy"].as_f64().unwrap();
    let mut accuracies = Vec::new();
    for (name, flags) in [
        ("one", "--readouts random-states"),
        ("ten", "--readouts random-states --protocol any-of-10"),
        ("known", "--readouts random-states(2) --protocol fixed-seed"),
        ("noisy", "--noise 0.1 --mean-of 3 --protocol any-of-3"),
        ("starts", "--readouts random-starts(2) --mean-of 3 --protocol any-of-3"),
    ] {
        succeed(at, &format!("{evaluate} {flags} --out {name}"));
        let found = record(at, name);
        let readout = &found["models"][0]["readouts"][0];
        let drawn = &readout["randomness"];
        let sampled = ["noisy", "starts"].contains(&name);
        assert_eq!(drawn["exact"], !sampled);
        let expected = if sampled { "any-of-3" } else { drawn["protocol"].as_str().unwrap() };
        assert_eq!(found["models"][0]["configuration"]["randomness"]["protocol"], expected);
        let rate = |key: &str| drawn[key]["value"].as_f64().unwrap();
        assert!(rate("every") <= rate("expected") && rate("every") <= rate("majority"), "{drawn}");
        assert!(rate("expected") <= rate("clean_expected"), "{drawn}");
        let page = fs::read_to_string(at.join(name).join("results.md")).unwrap();
        assert!(page.contains("## Draws") && page.contains("Expected, attacked"), "{page}");
        let said = succeed(at, &format!("verify {name}"));
        assert!(said.contains("24 of 24 as recorded") && !said.contains("differs"), "{said}");
        accuracies.push(robust(&found));
    }
    assert!(accuracies[1] <= accuracies[0], "ten draws break what one does: {accuracies:?}");
    // The same in another batch, and interrupted by nothing.
    succeed(at, &format!("{evaluate} --readouts random-states --batch-size 5 --out again"));
    let (one, again) = (record(at, "one"), record(at, "again"));
    let examples = |record: &Value| record["models"][0]["readouts"][0]["examples"].clone();
    assert_eq!(examples(&one), examples(&again));
    assert_eq!(
        one["models"][0]["readouts"][0]["randomness"],
        again["models"][0]["readouts"][0]["randomness"]
    );
}

#[test]
fn flags_of_randomness_are_checked() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let evaluate = "evaluate --model model/model.safetensors --data digits --count 2 --out e";
    for (flags, parts) in [
        ("--protocol any-of-10", &["--protocol", "nothing is drawn", "random-states or random-starts"][..]),
        ("--protocol twice --noise 0.1", &["protocol `twice`", "one-shot, any-of-N"]),
        ("--noise 0", &["--noise 0", "above 0"]),
        ("--noise -1", &["--noise -1", "above 0"]),
        ("--noise 0.1 --mean-of 0", &["--mean-of 0", "1 to 10000"]),
        ("--mean-of 3", &["--mean-of", "no mean of draws is taken"]),
        ("--readouts random-starts(0)", &["random-starts(0)", "N is a whole number from 1"]),
        ("--readouts random-states(99)", &["random-states(99)", "choose LEAST"]),
    ] {
        refuse(at, &format!("{evaluate} {flags}"), 2, parts);
    }
}
