//! `info`: what a model file holds, and how large models are beside the usual baselines.

use std::path::Path;

use equipoise::architecture::Architecture;
use equipoise::checkpoint::ModelFile;
use serde_json::{Value, json};

use super::print;
use crate::args;
use crate::error::{Error, input};
use crate::flags::Info;
use crate::setup::Setup;

/// The baselines that parameters are compared with.
const BASELINES: [&str; 2] = ["resnet18", "wrn-34-10"];

/// Runs the command.
pub fn run(flags: &Info, setup: &Setup) -> Result<(), Error> {
    let text = match &flags.model {
        None => known_architectures(flags.json)?,
        Some(path) => match architecture_of(path) {
            Some((name, architecture)) => {
                facts_as_text(&architecture_facts(&name, &architecture)?, flags.json)?
            }
            None if !path.exists() => {
                let names = Architecture::names().join(", ");
                return Err(input(format!(
                    "{}: no such file, and no architecture either: {names}",
                    path.display()
                )));
            }
            None => {
                let (model, hash) = args::model(path, &setup.device)?;
                facts_as_text(&file_facts(path, &model, &hash)?, flags.json)?
            }
        },
    };
    print(&text)
}

/// An architecture of this name, unless there is a file of this name.
fn architecture_of(path: &Path) -> Option<(String, Architecture)> {
    let name = path.to_str().filter(|_| !path.exists())?;
    Some((name.to_owned(), Architecture::named(name)?))
}

fn file_facts(path: &Path, model: &ModelFile, hash: &str) -> Result<Value, Error> {
    let count = model.model.parameter_count();
    Ok(json!({
        "name": model.metadata.name,
        "parameters": count,
        "parameters_beside": beside(count, &baselines()?),
        "data": Some(&model.metadata.data).filter(|data| !data.is_empty()),
        "architecture": model.metadata.architecture,
        "deployment": model.metadata.deployment,
        "training": model.metadata.training,
        "file": path.display().to_string(),
        "sha256": hash,
        "format_version": model.metadata.format_version,
    }))
}

fn architecture_facts(name: &str, architecture: &Architecture) -> Result<Value, Error> {
    let count = count(name, architecture)?;
    Ok(json!({
        "name": name,
        "parameters": count,
        "parameters_beside": beside(count, &baselines()?),
        "architecture": architecture,
    }))
}

/// A table of all known architectures.
fn known_architectures(as_json: bool) -> Result<String, Error> {
    let mut rows = Vec::new();
    for name in Architecture::names() {
        let Some(architecture) = Architecture::named(name) else { continue };
        rows.push((name, count(name, &architecture)?));
    }
    let baselines: Vec<_> = rows.iter().copied().filter(|(name, _)| BASELINES.contains(name)).collect();
    if as_json {
        let facts = rows.iter().map(|&(name, count)| {
            json!({ "name": name, "parameters": count, "parameters_beside": beside(count, &baselines) })
        });
        return pretty(&facts.collect());
    }
    let mut text = format!("{:<14}{:>12}", "architecture", "parameters");
    for (name, _) in &baselines {
        text += &format!("{:>14}", format!("of {name}"));
    }
    text.push('\n');
    for (name, count) in &rows {
        text += &format!("{name:<14}{count:>12}");
        for (_, other) in &baselines {
            text += &format!("{:>14}", ratio(*count, *other));
        }
        text.push('\n');
    }
    Ok(text)
}

/// Sizes of the baselines.
fn baselines() -> Result<Vec<(&'static str, usize)>, Error> {
    let sizes = BASELINES.into_iter().filter_map(|name| {
        let architecture = Architecture::named(name)?;
        Some(count(name, &architecture).map(|count| (name, count)))
    });
    sizes.collect()
}

fn count(name: &str, architecture: &Architecture) -> Result<usize, Error> {
    architecture.parameter_count().map_err(|error| input(format!("{name}: {error}")))
}

/// A size as multiples of the baselines'.
fn beside(count: usize, baselines: &[(&str, usize)]) -> Value {
    let ratios = baselines.iter().map(|(name, other)| ((*name).to_owned(), ratio(count, *other).into()));
    Value::Object(ratios.collect())
}

fn ratio(count: usize, other: usize) -> String {
    let ratio = count as f64 / other as f64;
    let digits = if ratio < 0.095 { 4 } else { 2 };
    format!("{ratio:.digits$}×")
}

fn facts_as_text(facts: &Value, as_json: bool) -> Result<String, Error> {
    if as_json {
        return pretty(facts);
    }
    let mut text = String::new();
    // What one asks first comes first.
    for key in [
        "name",
        "parameters",
        "parameters_beside",
        "data",
        "architecture",
        "deployment",
        "training",
        "file",
        "sha256",
    ] {
        if let Some(value) = facts.get(key) {
            lines(&mut text, &json!({ key.replace('_', " "): value }), 0);
        }
    }
    Ok(text)
}

fn pretty(value: &Value) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(text + "\n")
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
