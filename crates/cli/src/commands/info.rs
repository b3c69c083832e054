//! `info`: what a model file holds.

use equipoise::checkpoint::ModelFile;
use serde_json::{Value, json};

use super::print;
use crate::args;
use crate::error::Error;
use crate::flags::Info;
use crate::setup::Setup;

/// Runs the command.
pub fn run(flags: &Info, setup: &Setup) -> Result<(), Error> {
    let (model, hash) = args::model(&flags.model, &setup.device)?;
    let facts = json!({
        "file": flags.model.display().to_string(),
        "sha256": hash,
        "format_version": model.metadata.format_version,
        "name": model.metadata.name,
        "parameters": parameters(&model),
        "architecture": model.metadata.architecture,
        "deployment": model.metadata.deployment,
        "data": model.metadata.data,
        "training": model.metadata.training,
    });
    if flags.json {
        let text =
            serde_json::to_string_pretty(&facts).map_err(|error| Error::Internal(error.to_string()))?;
        return print(&format!("{text}\n"));
    }
    let mut text = String::new();
    // What one asks first comes first.
    for key in ["name", "parameters", "data", "architecture", "deployment", "training", "file", "sha256"] {
        lines(&mut text, &json!({ key: facts[key] }), 0);
    }
    print(&text)
}

/// Numbers that are trained: the running statistics of batch normalisations are not.
fn parameters(model: &ModelFile) -> usize {
    let weights = model.network.weights();
    let trained = |name: &str| !name.ends_with("running_mean") && !name.ends_with("running_var");
    weights.iter().filter(|(name, _)| trained(name)).map(|(_, entry)| entry.values.len()).sum()
}

/// `key: value`, nested by indentation; lists of plain values on one line.
fn lines(text: &mut String, value: &Value, depth: usize) {
    let Value::Object(entries) = value else { return };
    for (key, value) in entries {
        let indent = "  ".repeat(depth);
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                *text += &format!("{indent}{key}:\n");
                lines(text, value, depth + 1);
            }
            Value::Null => *text += &format!("{indent}{key}: none\n"),
            Value::String(string) => *text += &format!("{indent}{key}: {string}\n"),
            value => *text += &format!("{indent}{key}: {value}\n"),
        }
    }
}
