//! p-values, intervals and findings that were changed by hand are refused, with the field's name.

#[path = "../../record/tests/support/mod.rs"]
mod support;

use equipoise_record::{Collection, Finding, Paired, Verdict, VerdictEvidence};
use equipoise_verdict::{check, conclude, paired};
use serde_json::{Value, json};

/// The record of the support file with its intervals and findings.
fn concluded(mut record: Collection) -> Collection {
    for readout in record.models.iter_mut().flat_map(|model| &mut model.readouts) {
        let outer = readout.ready_made_accuracy;
        let radii = readout.radii.iter_mut().map(|radius| (&mut radius.verdict, radius.ready_made_accuracy));
        for (verdict, ready_made) in std::iter::once((&mut readout.verdict, outer)).chain(radii) {
            let standing =
                ready_made.map_or(0, |accuracy| (accuracy.value * verdict.n as f64).round() as usize);
            fill(verdict, standing);
        }
    }
    conclude(&mut record.models);
    record
}

fn fill(verdict: &mut Verdict, ready_made: usize) {
    let Some((b, c)) = verdict.b.zip(verdict.c) else { return };
    let Paired { difference_interval, p_value, .. } = paired(verdict.n, ready_made - b, b, c);
    verdict.difference_interval = Some(difference_interval);
    verdict.p_value = Some(p_value);
    if let Some(aim) = &mut verdict.aim {
        let standing = ready_made + aim.c - aim.b - aim.remainder.b;
        aim.remainder = paired(verdict.n, standing, aim.remainder.b, aim.remainder.c);
    }
}

fn honest() -> Collection {
    concluded(support::full())
}

#[test]
fn honest_records_pass() {
    let record = honest();
    check(&record).unwrap();
    let findings = |readout: usize| {
        let verdict = &record.models[0].readouts[readout].verdict;
        (verdict.finding, verdict.evidence)
    };
    assert_eq!(findings(0), (Finding::NotObfuscated, None));
    assert_eq!(findings(1), (Finding::Obfuscated, Some(VerdictEvidence::Gradient)));
    assert_eq!(findings(2), (Finding::NoControl, None));
    let smaller = &record.models[0].readouts[1].radii[0].verdict;
    assert_eq!(smaller.finding, Finding::Undecided);
    assert!(smaller.would_decide_at.is_some());
    assert_eq!(record.models[1].readouts[0].verdict.finding, Finding::NoControl);
    // Through text and back.
    let read = equipoise_record::read(&serde_json::to_string(&record).unwrap()).unwrap();
    check(&read).unwrap();
    check(&support::bare()).unwrap();
}

#[test]
fn a_record_of_version_1_passes() {
    let record = equipoise_record::read(include_str!("records/version-1.json")).unwrap();
    check(&record).unwrap();
    let findings = record.models.iter().flat_map(|model| &model.readouts);
    assert!(findings.map(|readout| readout.verdict.finding).eq([Finding::NoControl; 2]));
}

/// Field that is named, place of the edit below `/models/0/readouts`, what is put there.
fn edits() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("verdict.p_value", "/1/verdict/p_value", json!(0.04)),
        ("verdict.p_value", "/0/verdict/p_value", json!(0.499)),
        ("verdict.p_value_corrected", "/0/verdict/p_value_corrected", json!(0.9)),
        ("verdict.p_value_corrected", "/0/verdict/p_value_corrected", json!(null)),
        ("verdict.difference_interval", "/0/verdict/difference_interval/1", json!(0.02)),
        ("verdict.difference_interval", "/1/verdict/difference_interval/0", json!(0.005)),
        ("verdict.finding", "/0/verdict/finding", json!("undecided")),
        ("verdict.finding", "/0/verdict/finding", json!("no-control")),
        ("verdict.finding", "/0/verdict/finding", json!("no-robustness-left")),
        ("verdict.evidence", "/1/verdict/evidence", json!("aim")),
        ("verdict.finding", "/0/verdict/margin", json!(0.01)),
        ("verdict.aim.remainder.p_value", "/1/verdict/aim/remainder/p_value", json!(0.5)),
        (
            "verdict.aim.remainder.difference_interval",
            "/1/verdict/aim/remainder/difference_interval/1",
            json!(0.06),
        ),
        ("verdict.yardstick.p_value", "/0/verdict/yardstick/p_value", json!(0.001)),
        ("verdict.yardstick.p_value", "/1/verdict/yardstick/chosen_from", json!(20)),
        ("radii[0].verdict.p_value", "/1/radii/0/verdict/p_value", json!(0.01)),
        ("radii[0].verdict.yardstick.p_value", "/1/radii/0/verdict/yardstick/b", json!(9)),
        ("radii[0].verdict.would_decide_at", "/1/radii/0/verdict/would_decide_at", json!(100_000)),
        ("radii[0].verdict.would_decide_at", "/1/radii/0/verdict/would_decide_at", json!(null)),
        ("radii[0].verdict.finding", "/1/radii/0/verdict/finding", json!("not-obfuscated")),
        // Counts are looked at first.
        ("verdict.b", "/0/verdict/b", json!(5)),
        ("white_box_accuracy", "/0/white_box_accuracy", json!(0.9)),
    ]
}

/// Puts a value at a place of the first model's readouts; the last radius has what the readout itself has.
fn edited(place: &str, value: &Value) -> Collection {
    let mut record = serde_json::to_value(honest()).unwrap();
    let readouts = record.pointer_mut("/models/0/readouts").unwrap();
    assert_ne!(readouts.pointer(place), Some(value), "{place} says so already");
    *readouts.pointer_mut(place).expect(place) = value.clone();
    if place.starts_with("/1/verdict") {
        readouts[1]["radii"][1]["verdict"] = readouts[1]["verdict"].clone();
    }
    serde_json::from_value(record).unwrap()
}

#[test]
fn every_edit_is_refused_by_the_field_s_name() {
    let mut believed = Vec::new();
    for (field, place, value) in edits() {
        match check(&edited(place, &value)) {
            Err(error) if error.field == field && error.model == "deep" => {}
            other => believed.push(format!("{place} = {value}: {other:?}")),
        }
    }
    assert!(believed.is_empty(), "{}", believed.join("\n"));
}

#[test]
fn an_edit_is_told_in_words() {
    let error = check(&edited("/0/verdict/finding", &json!("undecided"))).unwrap_err().to_string();
    assert_eq!(
        error,
        "model deep, readout final: verdict.finding is undecided, and by the rules it is not-obfuscated"
    );
    let error = check(&edited("/0/verdict/p_value", &json!(0.25))).unwrap_err().to_string();
    let told =
        "model deep, readout final: verdict.p_value is 0.25, and the exact test of 2 against 1 gives 0.5";
    assert!(error.starts_with(told), "{error}");
}

/// Every number, truth value and null of the verdicts, with its place.
fn leaves(value: &Value, at: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| leaves(value, &format!("{at}/{key}"), found))
        }
        Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(k, value)| leaves(value, &format!("{at}/{k}"), found));
        }
        Value::String(_) => {}
        leaf => found.push((at.to_owned(), leaf.clone())),
    }
}

/// What nothing else in a record depends on, or not for so small a change: `(end of its place, part of its place)`.
const FREE: [(&str, &str); 14] = [
    ("/seconds", "/attacks"),
    ("/unconfirmed", "/attacks"),
    ("/attempted", "/"),
    ("/cell_evaluations", "/"),
    ("/vjps", "/"),
    ("/start", "/attacks"),
    ("/ready_made", "/attacks"),
    ("/clean_prediction", "/examples"),
    ("/adversarial_prediction", "/examples"),
    ("/non_finite", "/examples"),
    ("/transfer_only", "/verdict"),
    ("/margin", "/verdict"),
    ("/eps", "/radii/0"),
    ("/gradient_free_runs", "/radii/0"),
];

/// The numbers of the readouts of the honest record, as JSON, with their places. Of the examples a few will do, and notes
/// are not counted again.
fn numbers(record: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    leaves(&record["models"][0]["readouts"], "", &mut found);
    found.retain(|(place, _)| {
        let example = place.split_once("/examples/").and_then(|(_, rest)| rest.split('/').next());
        example.is_none_or(|at| at.parse::<usize>().unwrap() % 37 == 0)
            && ["/gallery", "/plan", "/flags"].iter().all(|part| !place.contains(part))
    });
    found
}

/// The record with another value there, if it can be read at all.
fn with(record: &Value, place: &str, value: &Value) -> Option<Collection> {
    let mut edited = record.clone();
    *edited.pointer_mut(&format!("/models/0/readouts{place}")).unwrap() = value.clone();
    serde_json::from_value(edited).ok()
}

#[test]
fn extreme_numbers_are_no_failure() {
    let record = serde_json::to_value(honest()).unwrap();
    // All of them take long, and are alike.
    for (place, _) in numbers(&record).into_iter().step_by(7) {
        let extremes =
            [json!(u64::MAX), json!(1_u64 << 62), json!(1e308), json!(-1e308), json!(0), json!(null)];
        for edited in extremes.iter().filter_map(|value| with(&record, &place, value)) {
            let _ = check(&edited);
        }
    }
}

#[test]
fn no_number_of_a_readout_can_be_changed_alone() {
    let record = serde_json::to_value(honest()).unwrap();
    let mut believed = Vec::new();
    for (place, leaf) in numbers(&record) {
        let value = match &leaf {
            Value::Bool(value) => json!(!value),
            Value::Number(number) if number.is_f64() => json!(number.as_f64().unwrap() + 0.001),
            Value::Number(number) => json!(number.as_u64().unwrap() + 1),
            _ => json!(1),
        };
        // A null that takes no number is refused when it is read.
        let Some(edited) = with(&record, &place, &value) else { continue };
        if check(&edited).is_ok() {
            believed.push(place);
        }
    }
    believed.retain(|place| !FREE.iter().any(|(end, part)| place.ends_with(end) && place.contains(part)));
    assert!(believed.is_empty(), "{}", believed.join("\n"));
}
