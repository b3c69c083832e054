//! Model configurations from files: ours (TOML, JSON or YAML) and the authors' release's (YAML).
//!
//! Ours has an `[architecture]` table, the fields of [`MdeqConfig`](crate::model::mdeq::MdeqConfig) or of a
//! baseline with its `kind`, and optionally a `[deployment]` table, the fields of [`Deployment`]. What `info --json`
//! prints is such a file. A file with a `MODEL` key is the release's.

mod release;
mod yaml;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::error::ImportError;
use crate::architecture::Architecture;
use crate::victim::Deployment;

/// A model without its weights, and how it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// What kind of model, and its sizes.
    pub architecture: Architecture,
    /// How it is used.
    pub deployment: Deployment,
}

impl Configuration {
    /// Reads and validates a `.toml`, `.json`, `.yaml` or `.yml` file.
    ///
    /// The release's files do not say whether a model was trained with the exact or the unrolled gradient: exact
    /// is assumed, and [`Deployment::unrolled`] has the other tail.
    ///
    /// # Errors
    ///
    /// Names the file, and the key that is missing, unknown or cannot be honoured.
    pub fn read(path: &Path) -> Result<Self, ImportError> {
        let key = |(key, problem)| ImportError::Key { path: path.to_owned(), key, problem };
        let whole = |problem: String| key(("configuration".into(), problem));
        let unreadable = |source| ImportError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_LENGTH as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > MAX_LENGTH {
            return Err(whole(format!("longer than {MAX_LENGTH} bytes: this is no configuration")));
        }
        let text = String::from_utf8(bytes).map_err(|error| whole(format!("not text: {error}")))?;
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let tree: Value = match ending {
            "toml" => toml::from_str(&text).map_err(|e| whole(toml_problem(&text, &e)))?,
            "json" => serde_json::from_str(&text).map_err(|e| whole(e.to_string()))?,
            "yaml" | "yml" => yaml::parse(&text).map_err(|e| whole(e.replace('\n', " ")))?,
            _ => return Err(whole(format!("ending `{ending}`: use .toml, .json, .yaml or .yml"))),
        };
        let own = tree.get("MODEL").is_none();
        let found = if own { ours(tree) } else { release::understand(&tree) }.map_err(key)?;
        found
            .architecture
            .validate()
            .map_err(|error| key((place("architecture", error.field, own), error.problem)))?;
        found
            .deployment
            .validate()
            .map_err(|error| key((place("deployment", error.field, own), error.problem)))?;
        Ok(found)
    }
}

/// A field as its file has it: the release's keys are others.
fn place(table: &str, field: &str, own: bool) -> String {
    if own { format!("{table}.{field}") } else { field.to_owned() }
}

/// The most bytes of a file. The longest in use has some ten thousand.
const MAX_LENGTH: usize = 1 << 20;

/// What is wrong and in which line, without the line: it may be the whole file.
fn toml_problem(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("{}, line {}", error.message().replace('\n', " "), before.matches('\n').count() + 1)
}

/// The key and what is wrong with it.
type KeyError = (String, String);

/// What `info --json` says of a model beside its configuration.
const FACTS: [&str; 8] =
    ["name", "parameters", "parameters_beside", "data", "training", "file", "sha256", "format_version"];

fn ours(tree: Value) -> Result<Configuration, KeyError> {
    let whole = |problem: &str| ("configuration".to_owned(), problem.to_owned());
    let Value::Object(mut tables) = tree else {
        return Err(whole("needs an `architecture` table"));
    };
    let mut architecture = tables
        .remove("architecture")
        .ok_or_else(|| whole("needs an `architecture` table (or, in the release's form, a `MODEL` table)"))?;
    if let Value::Object(fields) = &mut architecture {
        fields.entry("kind").or_insert_with(|| "mdeq".into());
    }
    let deployment = tables.remove("deployment");
    // `info --json` of a model file: a configuration among other facts.
    if tables.contains_key("parameters_beside") {
        tables.retain(|key, _| !FACTS.contains(&key.as_str()));
    }
    if let Some(unknown) = tables.keys().next() {
        return Err((unknown.clone(), "unknown; a configuration has `architecture` and `deployment`".into()));
    }
    let architecture =
        serde_json::from_value(architecture).map_err(|e| ("architecture".to_owned(), e.to_string()))?;
    let deployment = match deployment {
        None => Deployment::default(),
        Some(table) => serde_json::from_value(table).map_err(|e| ("deployment".to_owned(), e.to_string()))?,
    };
    Ok(Configuration { architecture, deployment })
}
