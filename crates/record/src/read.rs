//! Reads records of every version: those of version 1 are brought up to date, without a control.

use serde::de::Error as _;
use serde_json::{Map, Value, json};

use crate::{Collection, Diagnosis, FORMAT_VERSION, Verdict};

/// Reads `results.json` or `diagnosis.json` of any version.
///
/// A record of version 1 has no twins, so its verdicts are `no-control`.
///
/// # Errors
///
/// If the text is not JSON, or not such a record.
pub fn read(text: &str) -> Result<Collection, serde_json::Error> {
    let value: Value = serde_json::from_str(text)?;
    if value.get("diagnosed").is_some() {
        let diagnosis: Diagnosis = serde_json::from_str(text)?;
        return Ok(Collection { version: FORMAT_VERSION, models: Vec::new(), diagnoses: vec![diagnosis] });
    }
    match value.get("version").and_then(Value::as_u64) {
        // From the text, not the value: then errors name line and column.
        Some(2) => serde_json::from_str(text),
        Some(1) => serde_json::from_value(upgrade(value)?),
        Some(other) => Err(serde_json::Error::custom(format!(
            "format version {other}, and this build reads up to {FORMAT_VERSION}; use a newer build"
        ))),
        None => Err(serde_json::Error::custom("the field `version` is missing")),
    }
}

/// Version 1, one model or several, as version 2.
fn upgrade(mut value: Value) -> Result<Value, serde_json::Error> {
    if value.get("models").is_none() {
        value = json!({ "models": [value] });
    }
    value["version"] = json!(FORMAT_VERSION);
    let models = value["models"].as_array_mut().into_iter().flatten();
    for model in models {
        let count = model["count"].as_u64().unwrap_or(0) as usize;
        model["version"] = json!(FORMAT_VERSION);
        let readouts = model.get_mut("readouts").and_then(Value::as_array_mut).into_iter().flatten();
        for readout in readouts {
            let readout =
                readout.as_object_mut().ok_or_else(|| serde_json::Error::custom("a readout is no object"))?;
            upgrade_readout(readout, count)?;
        }
    }
    Ok(value)
}

fn upgrade_readout(readout: &mut Map<String, Value>, count: usize) -> Result<(), serde_json::Error> {
    for suffix in ["", "_interval"] {
        let opening = readout.get(&format!("ready_made_accuracy{suffix}")).cloned().unwrap_or(Value::Null);
        readout.insert(format!("ready_made_opening_accuracy{suffix}"), opening);
    }
    readout.insert("radii".to_owned(), json!([]));
    readout.insert("verdict".to_owned(), serde_json::to_value(Verdict::no_control(count))?);
    // What stood in the cascade under which name: its arm, and its place there.
    let mut places: Vec<(String, &str, usize)> = Vec::new();
    let attacks = readout.get_mut("attacks").and_then(Value::as_array_mut).into_iter().flatten();
    for attack in attacks {
        let text = |field: &str| attack[field].as_str().unwrap_or_default().to_owned();
        let (name, estimator) = (text("name"), text("estimator"));
        let arm = match (attack["ready_made"].as_bool(), estimator.as_str()) {
            (_, "none") => "gradient-free",
            (Some(true), _) => "opening",
            _ => "white-box",
        };
        let run = places.iter().filter(|(_, known, _)| *known == arm).count();
        places.push((format!("{name}/{estimator}"), arm, run));
        attack["arm"] = json!(arm);
        attack["run"] = json!(run);
        attack["start"] = json!(0);
        attack["carried"] = json!(0);
    }
    let examples = readout.get_mut("examples").and_then(Value::as_array_mut).into_iter().flatten();
    for example in examples {
        let breaker = example["broken_by"].as_str().map(str::to_owned);
        let mut broken_in =
            json!({ "opening": null, "white_box": null, "ready_made": null, "gradient_free": null });
        example["clean_prediction"] = Value::Null;
        example["adversarial_prediction"] = Value::Null;
        example["broken_by"] = match breaker {
            None => Value::Null,
            Some(label) => {
                // A run that was not finished is not in the list.
                let place = places.iter().find(|(known, ..)| *known == label);
                let (arm, run) = place.map_or(("white-box", None), |(_, arm, run)| (*arm, Some(*run)));
                broken_in[arm.replace('-', "_")] = json!(run);
                let (attack, estimator) = label.split_once('/').unwrap_or((&label, "none"));
                json!({ "arm": arm, "attack": attack, "estimator": estimator, "start": 0 })
            }
        };
        example["broken_in"] = broken_in;
    }
    Ok(())
}
