//! The schema takes every record that the structs can hold, and nothing that lacks a key.

mod support;

use equipoise_record::{Accuracy, Collection, Finding, ModelDiagnosis, SCHEMA, Section, VerdictEvidence};
use jsonschema::Validator;
use serde_json::{Value, json};

fn validator() -> Validator {
    let schema = serde_json::from_str(SCHEMA).unwrap();
    jsonschema::meta::validate(&schema).expect("a schema");
    jsonschema::draft202012::new(&schema).unwrap()
}

/// A few examples of each readout are enough here.
fn small(mut record: Collection) -> Value {
    for readout in record.models.iter_mut().flat_map(|model| &mut model.readouts) {
        readout.examples.sort_by_key(|example| (example.clean_correct, example.broken_by.is_none()));
        let middle = readout.examples.iter().position(|example| example.broken_by.is_some()).unwrap_or(0);
        readout.examples.drain(..middle);
        readout.examples.truncate(1);
    }
    serde_json::to_value(record).unwrap()
}

#[test]
fn records_are_valid() {
    let validator = validator();
    let mut full = support::full();
    let verdict = &mut full.models[0].readouts[0].verdict;
    verdict.finding = Finding::Obfuscated;
    verdict.evidence = Some(VerdictEvidence::GradientFree);
    verdict.p_value_corrected = Some(0.5);
    verdict.would_decide_at = Some(1000);
    for record in [full, support::full(), support::bare()] {
        let value = serde_json::to_value(record).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}", errors.join("\n"));
    }
    let mut with_diagnoses = serde_json::to_value(support::bare()).unwrap();
    with_diagnoses["diagnoses"] = json!([{ "version": 2 }]);
    assert!(validator.is_valid(&with_diagnoses));
    let mut with_trainings = serde_json::to_value(support::bare()).unwrap();
    with_trainings["trainings"] = json!([{ "model": "deq" }]);
    assert!(validator.is_valid(&with_trainings));
}

/// The places of all keys, but for those of lists' later entries and of the configuration, which is open.
fn keys(value: &Value, at: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                found.push((at.to_owned(), key.clone()));
                if key != "configuration" {
                    keys(value, &format!("{at}/{key}"), found);
                }
            }
        }
        Value::Array(entries) => {
            entries
                .iter()
                .enumerate()
                .take(2)
                .for_each(|(k, entry)| keys(entry, &format!("{at}/{k}"), found));
        }
        _ => {}
    }
}

#[test]
fn no_key_may_be_missing_and_none_may_be_added() {
    let validator = validator();
    let record = small(support::full());
    assert!(validator.is_valid(&record));
    let mut found = Vec::new();
    keys(&record, "", &mut found);
    assert!(found.len() > 500);
    for (at, key) in found {
        let mut without = record.clone();
        let fields = without.pointer_mut(&at).unwrap().as_object_mut().unwrap();
        let value = fields.remove(&key).unwrap();
        assert!(!validator.is_valid(&without), "{at} without {key}");
        let fields = without.pointer_mut(&at).unwrap().as_object_mut().unwrap();
        fields.insert(key.clone(), value);
        fields.insert(format!("{key}s_"), json!(0));
        assert!(!validator.is_valid(&without), "{at} with {key}s_");
    }
}

#[test]
fn wrong_values_are_refused() {
    let validator = validator();
    let record = small(support::full());
    for (place, value) in [
        ("/version", json!(1)),
        ("/models/0/version", json!(1)),
        ("/models/0/norm", json!("l3")),
        ("/models/0/eps", json!(-1)),
        ("/models/0/count", json!(1.5)),
        ("/models/0/configuration", json!("none")),
        ("/models/0/clean_accuracy", json!(1.1)),
        ("/models/0/readouts/0/ready_made_accuracy", json!(17)),
        ("/models/0/readouts/0/ready_made_accuracy_interval", json!([0.1])),
        ("/models/0/readouts/0/white_box_accuracy", json!(null)),
        ("/models/0/readouts/0/white_box_accuracy_interval", json!([0.1, 0.2, 0.3])),
        ("/models/0/readouts/0/verdict/finding", json!("obfuscation")),
        ("/models/0/readouts/0/verdict/finding", json!("not_obfuscated")),
        ("/models/0/readouts/0/verdict/finding", json!("obfuscated")),
        ("/models/0/readouts/0/verdict/evidence", json!("gradient")),
        ("/models/0/readouts/0/verdict/b", json!(-1)),
        ("/models/0/readouts/0/verdict/difference", json!(2)),
        ("/models/0/readouts/0/verdict/difference_interval", json!([-2, 0])),
        ("/models/0/readouts/0/verdict/p_value", json!(1.5)),
        ("/models/0/readouts/0/verdict/flattened", json!("yes")),
        ("/models/0/readouts/0/verdict/level", json!(0.5)),
        ("/models/0/readouts/0/attacks/0/arm", json!("whitebox")),
        ("/models/0/readouts/0/attacks/0/seconds", json!(null)),
        ("/models/0/readouts/0/examples/0/broken_by", json!("pgd-10/exact")),
        ("/models/0/readouts/0/examples/0/broken_in/opening", json!("pgd-10")),
        ("/models/0/readouts/0/gallery/items/0/clean", json!("0g")),
    ] {
        let mut edited = record.clone();
        *edited.pointer_mut(place).expect(place) = value.clone();
        assert!(!validator.is_valid(&edited), "{place} = {value}");
    }
    // Findings and their evidence, each in its turn.
    for finding in ["no-control", "no-robustness-left", "not-obfuscated", "undecided"] {
        let mut edited = record.clone();
        edited["models"][0]["readouts"][0]["verdict"]["finding"] = json!(finding);
        assert!(validator.is_valid(&edited), "{finding}");
    }
}

#[test]
fn every_key_of_the_schema_is_described() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let definitions = schema["$defs"].as_object().unwrap();
    let objects = definitions.values().chain([&schema]).filter_map(|definition| definition.get("properties"));
    for (key, property) in objects.flat_map(|properties| properties.as_object().unwrap()) {
        let target =
            property.get("$ref").and_then(Value::as_str).map(|target| target.replace("#/$defs/", ""));
        let described = property.get("description").or_else(|| definitions.get(&target?)?.get("description"));
        assert!(described.and_then(Value::as_str).is_some_and(|text| text.ends_with('.')), "{key}");
    }
}

#[test]
fn accuracies_without_examples_are_valid() {
    let mut record = support::bare();
    record.models = vec![support::model("empty", vec![support::readout("final", 0, &[], &[])])];
    assert_eq!(record.models[0].clean_accuracy, Accuracy::new(0, 0));
    assert!(validator().is_valid(&serde_json::to_value(record).unwrap()));
}

#[test]
fn a_diagnosis_leaves_no_key_out() {
    // A record of an earlier build, which wrote no key for what it had not measured.
    let earlier =
        json!({ "model": "m", "configuration": {}, "training_gradient": "exact", "solver_steps": 8 });
    let diagnosis: ModelDiagnosis = serde_json::from_value(earlier).unwrap();
    let value = serde_json::to_value(diagnosis).unwrap();
    let sections: Vec<&str> = value
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(key, value)| value.is_null().then_some(key.as_str()))
        .collect();
    assert_eq!(sections.len(), ModelDiagnosis::SECTIONS.len(), "{sections:?}");
    for section in ModelDiagnosis::SECTIONS {
        assert_eq!(value.get(section), Some(&Value::Null), "{section}");
    }
    let section = serde_json::to_value(Section::<f64>::absent("no cell")).unwrap();
    assert_eq!((section.get("result"), &section["absent"]), (Some(&Value::Null), &json!("no cell")));
}
