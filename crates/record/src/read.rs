//! Reads records of every version: those of version 1 are brought up to date, without a control, and a record
//! that contradicts itself is refused.

use serde::de::Error as _;
use serde_json::{Map, Value, json};

use crate::{Arm, BrokenIn, Collection, Diagnosis, FORMAT_VERSION, NO_GRADIENT, Verdict, check};

/// Reads `results.json` or `diagnosis.json` of any version.
///
/// A record of version 1 has no twins, so its verdicts are `no-control`.
///
/// # Errors
///
/// If the text is not JSON, not such a record, or a record that contradicts itself ([`check`]).
pub fn read(text: &str) -> Result<Collection, serde_json::Error> {
    let value: Value = serde_json::from_str(text)?;
    if value.get("diagnosed").is_some() {
        let diagnosis: Diagnosis = serde_json::from_str(text)?;
        return Ok(Collection {
            version: FORMAT_VERSION,
            models: Vec::new(),
            diagnoses: vec![diagnosis],
            trainings: Vec::new(),
        });
    }
    match value.get("version").and_then(Value::as_u64) {
        // From the text, not the value: then errors name line and column.
        Some(2) => checked(serde_json::from_str(text)?),
        Some(1) => checked(serde_json::from_value(upgrade(value)?)?),
        Some(other) => Err(serde_json::Error::custom(format!(
            "format version {other}, and this build reads up to {FORMAT_VERSION}; use a newer build"
        ))),
        None => Err(serde_json::Error::custom("the field `version` is missing")),
    }
}

fn checked(collection: Collection) -> Result<Collection, serde_json::Error> {
    check(&collection).map_err(serde_json::Error::custom)?;
    Ok(collection)
}

/// Version 1, one model or several, as version 2.
fn upgrade(mut value: Value) -> Result<Value, serde_json::Error> {
    if value.get("models").is_none() {
        value = json!({ "models": [value] });
    }
    value["version"] = json!(FORMAT_VERSION);
    for model in objects(value.get_mut("models"), "model")? {
        let count = model.get("count").and_then(Value::as_u64).unwrap_or(0) as usize;
        model.insert("version".to_owned(), json!(FORMAT_VERSION));
        for readout in objects(model.get_mut("readouts"), "readout")? {
            upgrade_readout(readout, count)?;
        }
    }
    Ok(value)
}

/// The entries of a list, each of which must be an object.
fn objects<'a>(
    list: Option<&'a mut Value>,
    what: &str,
) -> Result<Vec<&'a mut Map<String, Value>>, serde_json::Error> {
    let entries = list.and_then(Value::as_array_mut).into_iter().flatten();
    let wrong = || serde_json::Error::custom(format!("a {what} is no object"));
    entries.map(|entry| entry.as_object_mut().ok_or_else(wrong)).collect()
}

/// A run of version 1: the label by which examples named it, its arm and its place there.
struct Place {
    label: String,
    arm: Arm,
    run: usize,
    /// Points that it broke and that no example has named yet.
    left: u64,
}

fn upgrade_readout(readout: &mut Map<String, Value>, count: usize) -> Result<(), serde_json::Error> {
    for suffix in ["", "_interval"] {
        let opening = readout.get(&format!("ready_made_accuracy{suffix}")).cloned().unwrap_or(Value::Null);
        readout.insert(format!("ready_made_opening_accuracy{suffix}"), opening);
    }
    readout.insert("radii".to_owned(), json!([]));
    let mut places: Vec<Place> = Vec::new();
    for attack in objects(readout.get_mut("attacks"), "run")? {
        let text = |field: &str| attack.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, estimator) = (text("name"), text("estimator"));
        let arm = match (attack.get("ready_made").and_then(Value::as_bool), estimator.as_str()) {
            (_, NO_GRADIENT) => Arm::GradientFree,
            (Some(true), _) => Arm::Opening,
            _ => Arm::WhiteBox,
        };
        let run = places.iter().filter(|place| place.arm == arm).count();
        for (field, value) in
            [("arm", json!(arm)), ("run", json!(run)), ("start", json!(0)), ("carried", json!(0))]
        {
            attack.insert(field.to_owned(), value);
        }
        let left = attack.get("broken").and_then(Value::as_u64).unwrap_or(0);
        places.push(Place { label: format!("{name}/{estimator}"), arm, run, left });
    }
    let mut verdict = Verdict::no_control(count);
    verdict.gradient_free_runs = places.iter().filter(|place| place.arm == Arm::GradientFree).count();
    for example in objects(readout.get_mut("examples"), "example")? {
        let mut broken_in = BrokenIn::default();
        let mut broken_by = Value::Null;
        if let Some(label) = example.get("broken_by").and_then(Value::as_str) {
            // The same attack may stand there twice: then the first that has broken more than was named so far.
            let known = places.iter_mut().filter(|place| place.label == label);
            let place = known.min_by_key(|place| place.left == 0).ok_or_else(|| {
                serde_json::Error::custom(format!(
                    "an example is broken by {label:?}, which is none of the attacks"
                ))
            })?;
            place.left = place.left.saturating_sub(1);
            *broken_in.get_mut(place.arm) = Some(place.run);
            verdict.gradient_free_only += usize::from(place.arm == Arm::GradientFree);
            let (attack, estimator) = label.split_once('/').unwrap_or((label, NO_GRADIENT));
            broken_by = json!({ "arm": place.arm, "attack": attack, "estimator": estimator, "start": 0 });
        }
        for (field, value) in [
            ("broken_in", serde_json::to_value(broken_in)?),
            ("broken_by", broken_by),
            ("clean_prediction", Value::Null),
            ("adversarial_prediction", Value::Null),
        ] {
            example.insert(field.to_owned(), value);
        }
    }
    readout.insert("verdict".to_owned(), serde_json::to_value(verdict)?);
    Ok(())
}
