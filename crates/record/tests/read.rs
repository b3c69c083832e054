//! Records of version 1 are read: nothing is made up for them, and they too must agree with their examples.

use equipoise_record::{Accuracy, Arm, BrokenBy, Collection, FORMAT_VERSION, Finding, check, read};
use serde_json::{Value, json};

const UNROLLED: &str = "unrolled:state=2,lead=1,steps=4,damping=0.5";

/// What version 1 wrote beside each accuracy.
fn share(mut fields: Value, name: &str, correct: usize, count: usize) -> Value {
    let accuracy = Accuracy::new(correct, count);
    fields[name] = json!(accuracy.value);
    fields[format!("{name}_interval")] = json!(accuracy.interval);
    fields
}

fn run(name: &str, estimator: &str, ready_made: bool, attempted: usize, broken: usize) -> Value {
    let run = json!({
        "name": name, "estimator": estimator, "ready_made": ready_made, "attempted": attempted, "broken": broken,
        "unconfirmed": 0, "seconds": 0.5, "cell_evaluations": 1800, "vjps": 800,
    });
    share(run, "accuracy", attempted - broken, 10)
}

/// 10 points, 8 of them correct: 3 fall to the ready-made attacks, 1 to another gradient, 1 to Square.
fn model() -> Value {
    let breakers = [
        Some("pgd-10/exact".to_owned()),
        Some("pgd-10/exact".to_owned()),
        Some("apgd-ce-50/exact".to_owned()),
        Some(format!("pgd-10/{UNROLLED}")),
        Some("square/none".to_owned()),
        None,
        None,
        None,
    ];
    let mut examples: Vec<Value> = breakers
        .iter()
        .enumerate()
        .map(|(at, by)| {
            json!({
                "index": at, "label": at % 3, "clean_correct": true, "robust": by.is_none(), "broken_by": by,
            })
        })
        .collect();
    for at in [8, 9] {
        examples.push(json!({
            "index": at, "label": 0, "clean_correct": false, "robust": false, "broken_by": null, "non_finite": at == 9,
        }));
    }
    let attacks = [
        run("pgd-10", "exact", true, 8, 2),
        run("apgd-ce-50", "exact", true, 6, 1),
        run("pgd-10", UNROLLED, false, 5, 1),
        run("apgd-ce-50", UNROLLED, false, 4, 0),
        run("square", "none", false, 4, 1),
    ];
    let mut readout = json!({ "name": "final", "attacks": attacks, "examples": examples });
    for (name, correct) in [("clean_accuracy", 8), ("ready_made_accuracy", 5), ("white_box_accuracy", 3)] {
        readout = share(readout, name, correct, 10);
    }
    let mut untried = json!({
        "name": "early(3)", "attacks": [], "ready_made_accuracy": null, "ready_made_accuracy_interval": null,
        "examples": examples.iter().map(|example| {
            let mut example = example.clone();
            example["robust"] = example["clean_correct"].clone();
            example["broken_by"] = Value::Null;
            example
        }).collect::<Vec<Value>>(),
    });
    for name in ["clean_accuracy", "white_box_accuracy"] {
        untried = share(untried, name, 8, 10);
    }
    let model = json!({
        "version": 1, "model": "old", "configuration": {}, "dataset": "digits, test", "norm": "linf", "eps": 0.03,
        "seed": 0, "count": 10, "readouts": [readout, untried],
    });
    share(model, "clean_accuracy", 8, 10)
}

fn assert_upgraded(record: &Collection) {
    assert_eq!(record.version, FORMAT_VERSION);
    for readout in record.models.iter().flat_map(|model| &model.readouts) {
        assert_eq!(readout.verdict.finding, Finding::NoControl);
        assert_eq!((readout.verdict.b, readout.verdict.n), (None, 10));
        assert_eq!(readout.ready_made_accuracy, readout.ready_made_opening_accuracy);
        assert!(readout.radii.is_empty());
    }
    check(record).unwrap();
}

#[test]
fn a_model_of_version_1_is_read() {
    let record = read(&model().to_string()).unwrap();
    assert_upgraded(&record);
    let [tried, untried] = record.models[0].readouts.as_slice() else { panic!("two readouts") };
    let runs: Vec<(Arm, usize)> = tried.attacks.iter().map(|run| (run.arm, run.run)).collect();
    let (opening, white_box) = (Arm::Opening, Arm::WhiteBox);
    assert_eq!(runs, [(opening, 0), (opening, 1), (white_box, 0), (white_box, 1), (Arm::GradientFree, 0)]);
    assert_eq!(tried.ready_made_accuracy, Some(Accuracy::new(5, 10)));
    assert_eq!((tried.verdict.gradient_free_only, tried.verdict.gradient_free_runs), (1, 1));
    let by = |arm, attack: &str, estimator: &str| {
        Some(BrokenBy { arm, attack: attack.into(), estimator: estimator.into(), start: 0 })
    };
    assert_eq!(tried.examples[2].broken_by, by(opening, "apgd-ce-50", "exact"));
    assert_eq!(tried.examples[2].broken_in.opening, Some(1));
    assert_eq!(tried.examples[3].broken_by, by(white_box, "pgd-10", UNROLLED));
    assert_eq!(tried.examples[4].broken_by, by(Arm::GradientFree, "square", "none"));
    assert_eq!(tried.examples[4].broken_in.gradient_free, Some(0));
    assert!(tried.examples[9].non_finite && !tried.examples[8].non_finite);
    assert_eq!(untried.ready_made_accuracy, None);
    assert_eq!(untried.verdict.gradient_free_runs, 0);
    // Written, it is a record of version 2, and read again it is the same.
    assert_eq!(read(&serde_json::to_string(&record).unwrap()).unwrap(), record);
}

#[test]
fn a_collection_of_version_1_is_read() {
    let mut second = model();
    second["model"] = json!("other");
    let record = read(&json!({ "version": 1, "models": [model(), second] }).to_string()).unwrap();
    assert_upgraded(&record);
    assert_eq!(record.models.iter().map(|model| model.model.as_str()).collect::<Vec<_>>(), ["old", "other"]);
}

#[test]
fn records_of_version_1_are_held_against_their_examples() {
    for (field, place, value) in [
        ("count", "/count", json!(11)),
        ("clean_accuracy", "/clean_accuracy", json!(0.9)),
        ("ready_made_opening_accuracy", "/readouts/0/ready_made_accuracy", json!(0.9)),
        ("white_box_accuracy", "/readouts/0/white_box_accuracy", json!(0.9)),
        ("white_box_accuracy_interval", "/readouts/0/white_box_accuracy_interval", json!([0.9, 0.1])),
        ("attacks[0].broken", "/readouts/0/attacks/0/broken", json!(3)),
        ("attacks[2].accuracy", "/readouts/0/attacks/2/accuracy", json!(0.7)),
        ("examples[5].robust", "/readouts/0/examples/5/robust", json!(false)),
        ("examples[0].robust", "/readouts/0/examples/0/robust", json!(true)),
    ] {
        let mut record = model();
        *record.pointer_mut(place).unwrap() = value;
        let error = read(&record.to_string()).unwrap_err().to_string();
        assert!(error.contains(&format!(": {field} is ")), "{place}: {error}");
    }
    let mut record = model();
    record["readouts"][0]["examples"][0]["broken_by"] = json!("pgd-100/exact");
    let error = read(&record.to_string()).unwrap_err().to_string();
    assert!(error.contains("pgd-100/exact"), "{error}");
}

#[test]
fn the_same_attack_may_stand_twice_in_a_record_of_version_1() {
    let mut record = model();
    record["readouts"][0]["attacks"][1]["name"] = json!("pgd-10");
    record["readouts"][0]["examples"][2]["broken_by"] = json!("pgd-10/exact");
    let record = read(&record.to_string()).unwrap();
    let runs = record.models[0].readouts[0].examples.iter().filter_map(|example| example.broken_in.opening);
    assert_eq!(runs.collect::<Vec<_>>(), [0, 0, 1]);
}

#[test]
fn what_is_no_record_is_an_error() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"version": 3, "models": []}"#,
        r#"{"version": 2}"#,
        r#"{"version": 1}"#,
        r#"{"version": 1, "models": [5]}"#,
        r#"{"version": 1, "models": 5}"#,
        r#"{"version": 1, "readouts": [{"attacks": [5]}]}"#,
        r#"{"version": 1, "readouts": [{"examples": ["x"]}]}"#,
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn the_published_records_are_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reproduction");
    let mut found = [0, 0];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let record = read(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|error| {
                panic!("{}: {error}", path.display());
            });
            found[0] += record.models.len();
            found[1] += record.diagnoses.len();
        }
    }
    assert!(found.iter().all(|count| *count > 0), "evaluations and diagnoses: {found:?}");
}
