//! A record whose figures were changed by hand is refused, with the field's name; an honest one is read.

mod support;

use equipoise_record::{Arm, check, read};
use serde_json::{Value, json};

/// The record of [`support::full`]: readout 0 is healthy, 1 obfuscated at two radii, 2 untried.
fn honest() -> Value {
    serde_json::to_value(support::full()).unwrap()
}

fn error_of(record: &Value) -> String {
    match read(&record.to_string()) {
        Ok(_) => "it was believed".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn honest_records_are_read() {
    for record in [support::full(), support::bare()] {
        check(&record).unwrap();
        assert_eq!(read(&serde_json::to_string_pretty(&record).unwrap()).unwrap(), record);
    }
    let mut empty = support::bare();
    empty.models = vec![support::model("empty", vec![support::readout("final", 0, &[], &[])])];
    check(&empty).unwrap();
    let all_wrong = support::readout("final", 30, &[], &support::RUNS);
    empty.models = vec![support::model("wrong", vec![all_wrong])];
    check(&empty).unwrap();
    empty.models.clear();
    check(&empty).unwrap();
}

#[test]
fn points_that_fell_to_transferred_images_are_taken_from_the_verdict() {
    let mut record = support::full();
    let readout = &mut record.models[0].readouts[0];
    let standing = readout.examples.iter_mut().filter(|example| example.robust);
    standing.take(2).for_each(|example| example.robust = false);
    readout.white_box_accuracy = equipoise_record::Accuracy::new(91, 200);
    let error = check(&record).unwrap_err();
    assert_eq!(error.field, "examples[107].robust", "{error}");
    record.models[0].readouts[0].verdict.transfer_only = 2;
    check(&record).unwrap();
    record.models[0].readouts[0].verdict.transfer_only = 3;
    assert_eq!(check(&record).unwrap_err().field, "verdict.transfer_only");
}

#[test]
fn a_contradiction_says_what_stands_there_and_what_follows() {
    let mut record = honest();
    record["models"][0]["readouts"][0]["white_box_accuracy"] = json!(0.9);
    assert_eq!(
        error_of(&record),
        "model deep, readout final: white_box_accuracy is 0.9, and 93 of 200 examples are robust (0.465)"
    );
    record["models"][0]["model"] = json!("\u{1b}]0;owned\u{7}");
    assert!(error_of(&record).starts_with("model \\u{1b}]0;owned\\u{7}, readout final"));
}

/// Field that is named, place of the edit below `/models/0`, what is put there.
fn edits() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        // The setting.
        ("version", "/version", json!(1)),
        ("norm", "/norm", json!("linfinity")),
        ("eps", "/eps", json!(-0.03)),
        ("eps", "/eps", json!(0.1)),
        ("eps", "/configuration/eps/1", json!(0.01)),
        ("readouts[1].name", "/readouts/1/name", json!("final")),
        ("gallery.items[0].distance", "/readouts/0/gallery/items/0/distance", json!(0.5)),
        ("gallery.items[0].distance", "/readouts/0/gallery/items/0/distance", json!(-0.01)),
        ("count", "/count", json!(0)),
        ("count", "/count", json!(201)),
        ("clean_accuracy", "/clean_accuracy", json!(0.9)),
        ("clean_accuracy_interval", "/clean_accuracy_interval", json!([0.7, 0.8])),
        // Accuracies.
        ("clean_accuracy", "/readouts/0/clean_accuracy", json!(0.9)),
        ("clean_accuracy_interval", "/readouts/0/clean_accuracy_interval", json!([0.9, 0.6])),
        ("ready_made_accuracy", "/readouts/0/ready_made_accuracy", json!(17.0)),
        ("ready_made_accuracy_interval", "/readouts/0/ready_made_accuracy_interval", json!([0.0, 1.0])),
        ("ready_made_opening_accuracy", "/readouts/0/ready_made_opening_accuracy", json!(-3.0)),
        (
            "ready_made_opening_accuracy_interval",
            "/readouts/0/ready_made_opening_accuracy_interval/1",
            json!(0.9),
        ),
        ("white_box_accuracy", "/readouts/0/white_box_accuracy", json!(0.9)),
        ("white_box_accuracy", "/readouts/0/white_box_accuracy", json!(1e308)),
        ("white_box_accuracy_interval", "/readouts/0/white_box_accuracy_interval/0", json!(0.46)),
        ("white_box_accuracy", "/readouts/2/white_box_accuracy", json!(0.55)),
        // Examples.
        ("examples[3].robust", "/readouts/0/examples/3/robust", json!(true)),
        ("examples[60].robust", "/readouts/0/examples/60/robust", json!(true)),
        ("examples[199].robust", "/readouts/0/examples/199/robust", json!(false)),
        ("examples[60].clean_correct", "/readouts/0/examples/60/clean_correct", json!(false)),
        ("examples[3].clean_prediction", "/readouts/0/examples/3/clean_correct", json!(true)),
        ("examples[60].clean_prediction", "/readouts/0/examples/60/clean_prediction", json!(9)),
        ("examples[60].adversarial_prediction", "/readouts/0/examples/60/adversarial_prediction", json!(0)),
        ("examples[60].adversarial_prediction", "/readouts/0/examples/60/adversarial_prediction", json!(10)),
        ("examples[199].adversarial_prediction", "/readouts/0/examples/199/adversarial_prediction", json!(0)),
        ("examples[60].non_finite", "/readouts/0/examples/60/adversarial_prediction", json!(null)),
        ("examples[60].label", "/readouts/0/examples/60/label", json!(10)),
        ("examples[60].label", "/readouts/1/examples/60/label", json!(1)),
        ("examples[4].index", "/readouts/0/examples/4/index", json!(103)),
        ("examples[60].broken_by", "/readouts/0/examples/60/broken_by", json!(null)),
        ("examples[60].broken_by", "/readouts/0/examples/60/broken_by/arm", json!("white-box")),
        ("examples[60].broken_by", "/readouts/0/examples/60/broken_by/estimator", json!("none")),
        ("examples[60].broken_by", "/readouts/0/examples/60/broken_in/opening", json!(1)),
        ("examples[60].broken_in.opening", "/readouts/0/examples/60/broken_in/opening", json!(2)),
        ("attacks[5].broken", "/readouts/0/examples/100/broken_in/ready_made", json!(2)),
        // Runs.
        ("attacks[0].broken", "/readouts/0/attacks/0/broken", json!(47)),
        ("attacks[0].broken", "/readouts/0/attacks/0/broken", json!(900)),
        ("attacks[0].attempted", "/readouts/0/attacks/0/attempted", json!(47)),
        ("attacks[0].attempted", "/readouts/0/attacks/0/attempted", json!(151)),
        ("attacks[0].carried", "/readouts/0/attacks/0/carried", json!(60)),
        ("attacks[0].carried", "/readouts/0/attacks/0/carried", json!(1)),
        ("attacks[0].carried", "/readouts/1/attacks/0/carried", json!(60)),
        ("attacks[0].unconfirmed", "/readouts/0/attacks/0/unconfirmed", json!(103)),
        ("attacks[0].seconds", "/readouts/0/attacks/0/seconds", json!(-1.0)),
        ("attacks[1].run", "/readouts/0/attacks/1/run", json!(2)),
        ("attacks[2].ready_made", "/readouts/0/attacks/2/ready_made", json!(true)),
        ("attacks[12].estimator", "/readouts/0/attacks/12/estimator", json!("exact")),
        ("attacks[1].accuracy", "/readouts/0/attacks/1/accuracy", json!(0.52)),
        ("attacks[1].accuracy", "/readouts/0/attacks/1/accuracy", json!(0.5001)),
        ("attacks[1].accuracy_interval", "/readouts/0/attacks/1/accuracy_interval", json!([0.5, 0.5])),
        // The verdict.
        ("verdict.n", "/readouts/0/verdict/n", json!(2000)),
        ("verdict.b", "/readouts/0/verdict/b", json!(0)),
        ("verdict.b", "/readouts/0/verdict/b", json!(null)),
        ("verdict.b", "/readouts/2/verdict/b", json!(0)),
        ("verdict.c", "/readouts/0/verdict/c", json!(2)),
        ("verdict.c", "/readouts/0/verdict/c", json!(null)),
        ("verdict.p_value", "/readouts/0/verdict/p_value", json!(null)),
        ("verdict.p_value", "/readouts/0/verdict/p_value", json!(1.5)),
        ("verdict.p_value_corrected", "/readouts/0/verdict/p_value_corrected", json!(-0.01)),
        ("verdict.difference", "/readouts/0/verdict/difference", json!(0.0)),
        ("verdict.difference_interval", "/readouts/0/verdict/difference_interval", json!([0.01, -0.01])),
        ("verdict.difference_interval", "/readouts/0/verdict/difference_interval", json!(null)),
        ("verdict.finding", "/readouts/2/verdict/finding", json!("not-obfuscated")),
        ("verdict.evidence", "/readouts/0/verdict/evidence", json!("gradient")),
        ("verdict.evidence", "/readouts/0/verdict/finding", json!("obfuscated")),
        ("verdict.flattened", "/readouts/0/verdict/flattened", json!(false)),
        ("verdict.flattened", "/readouts/2/verdict/flattened", json!(true)),
        ("verdict.would_decide_at", "/readouts/0/verdict/would_decide_at", json!(100)),
        ("verdict.gradient_free_only", "/readouts/0/verdict/gradient_free_only", json!(0)),
        ("verdict.gradient_free_runs", "/readouts/0/verdict/gradient_free_runs", json!(0)),
        ("verdict.transfer_only", "/readouts/0/verdict/transfer_only", json!(500)),
        ("verdict.looks", "/readouts/0/verdict/looks", json!([200, 400])),
        ("verdict.level", "/readouts/0/verdict/level", json!(0.5)),
        ("verdict.margin", "/readouts/0/verdict/margin", json!(3.0)),
        ("verdict.yardstick.b", "/readouts/0/verdict/yardstick/b", json!(0)),
        ("verdict.yardstick.c", "/readouts/0/verdict/yardstick/c", json!(9)),
        ("verdict.yardstick.chosen_from", "/readouts/0/verdict/yardstick/chosen_from", json!(0)),
        ("verdict.aim", "/readouts/1/verdict/aim", json!(null)),
        ("verdict.aim.b", "/readouts/1/verdict/aim/b", json!(0)),
        ("verdict.aim.difference", "/readouts/1/verdict/aim/difference", json!(0.0)),
        ("verdict.aim.remainder.b", "/readouts/1/verdict/aim/remainder/b", json!(0)),
        ("verdict.arms.ready_made", "/readouts/0/verdict/arms/ready_made/3", json!("removed")),
        ("verdict.arms.white_box[0].broken", "/readouts/0/verdict/arms/white_box/0/broken", json!(0)),
        ("verdict.arms.white_box[0].vjps", "/readouts/0/verdict/arms/white_box/0/vjps", json!(1)),
        ("verdict.arms.ready_made[1].standing", "/readouts/0/verdict/arms/ready_made/1/standing", json!(98)),
        (
            "verdict.arms.ready_made[1].estimator",
            "/readouts/0/verdict/arms/ready_made/1/estimator",
            json!("x"),
        ),
        // Radii.
        ("radii[0].eps", "/readouts/1/radii/0/eps", json!(0.5)),
        ("radii[1].eps", "/readouts/1/radii/1/eps", json!(0.5)),
        ("radii[0].clean_accuracy", "/readouts/1/radii/0/clean_accuracy", json!(0.75)),
        ("radii[0].ready_made_accuracy", "/readouts/1/radii/0/ready_made_accuracy", json!(0.9)),
        ("radii[0].verdict.gradient_free_only", "/readouts/1/radii/0/verdict/gradient_free_only", json!(1)),
        (
            "radii[0].verdict.arms.white_box[0].carried",
            "/readouts/1/radii/0/verdict/arms/white_box/0/carried",
            json!(1),
        ),
        ("radii[0].white_box_accuracy", "/readouts/1/radii/0/white_box_accuracy", json!(0.9)),
        (
            "radii[0].white_box_accuracy_interval",
            "/readouts/1/radii/0/white_box_accuracy_interval",
            json!([0.5, 0.6]),
        ),
        ("radii[1].white_box_accuracy", "/readouts/1/radii/1/white_box_accuracy", json!(0.355)),
        ("radii[1].verdict.b", "/readouts/1/radii/1/verdict/b", json!(3)),
        ("radii[0].verdict.n", "/readouts/1/radii/0/verdict/n", json!(100)),
        ("radii[0].verdict.difference", "/readouts/1/radii/0/verdict/b", json!(3)),
        ("radii[0].verdict.b", "/readouts/1/radii/0/verdict/b", json!(u64::MAX)),
        ("radii[0].verdict.yardstick.b", "/readouts/1/radii/0/verdict/yardstick/b", json!(u64::MAX)),
        (
            "radii[0].verdict.arms.white_box[3].standing",
            "/readouts/1/radii/0/verdict/arms/white_box/3/standing",
            json!(115),
        ),
    ]
}

#[test]
fn every_edit_is_refused_by_the_field_s_name() {
    let mut believed = Vec::new();
    for (field, place, value) in edits() {
        let mut record = honest();
        let pointer = format!("/models/0{place}");
        assert_ne!(record.pointer(&pointer), Some(&value), "{pointer} says so already");
        if value == json!("removed") {
            let (list, last) = pointer.rsplit_once('/').unwrap();
            record.pointer_mut(list).unwrap().as_array_mut().unwrap().remove(last.parse().unwrap());
        } else {
            *record.pointer_mut(&pointer).expect(place) = value.clone();
        }
        let error = error_of(&record);
        if !error.contains(&format!(": {field} is ")) || !error.starts_with("model deep") {
            believed.push(format!("{place} = {value}: {error}"));
        }
    }
    assert!(believed.is_empty(), "{}", believed.join("\n"));
}

#[test]
fn an_accuracy_cannot_go_missing() {
    for name in ["ready_made_accuracy", "ready_made_opening_accuracy"] {
        for at in ["/models/0/readouts/0", "/models/0/readouts/1/radii/0"] {
            let mut record = honest();
            let fields = record.pointer_mut(at).unwrap();
            fields[name] = Value::Null;
            let error = error_of(&record);
            assert!(error.starts_with(&format!("{name} is null, and {name}_interval is not")), "{error}");
            let fields = record.pointer_mut(at).unwrap();
            fields[format!("{name}_interval")] = Value::Null;
            let error = error_of(&record);
            assert!(error.contains(&format!("{name} is null")) && error.starts_with("model deep"), "{error}");
        }
    }
}

#[test]
fn an_example_that_is_missing_is_missed() {
    let mut record = support::full();
    record.models[0].readouts[0].examples.pop();
    assert_eq!(check(&record).unwrap_err().field, "count");
}

#[test]
fn a_run_cannot_move_to_another_arm() {
    for arm in Arm::ALL {
        let mut record = support::full();
        let run = &mut record.models[0].readouts[0].attacks[2];
        if run.arm != arm {
            run.arm = arm;
            let error = check(&record).unwrap_err();
            assert!(error.field.contains("examples") || error.field.contains("attacks"), "{error}");
        }
    }
}
