//! Model configurations from files: ours (TOML, JSON or YAML) and the authors' release's (YAML).
//!
//! Ours has an `[architecture]` table, the fields of [`MdeqConfig`](crate::model::mdeq::MdeqConfig) or of a
//! baseline with its `kind`, and optionally a `[deployment]` table, the fields of [`Deployment`]. What `info --json`
//! prints is such a file. A file with a `MODEL` key is the release's.

mod release;
mod yaml;

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::import::ImportError;
use crate::deployed::Deployment;
use crate::network::Architecture;

/// A model without its weights, and how it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// What kind of model, and its sizes.
    pub architecture: Architecture,
    /// How it is used.
    pub deployment: Deployment,
}

impl Configuration {
    /// Reads a `.toml`, `.json`, `.yaml` or `.yml` file.
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
        let text =
            fs::read_to_string(path).map_err(|source| ImportError::Io { path: path.to_owned(), source })?;
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let tree: Value = match ending {
            "toml" => toml::from_str(&text).map_err(|e| whole(e.to_string().replace('\n', " ")))?,
            "json" => serde_json::from_str(&text).map_err(|e| whole(e.to_string()))?,
            "yaml" | "yml" => yaml::parse(&text).map_err(|e| whole(e.replace('\n', " ")))?,
            _ => return Err(whole(format!("ending `{ending}`: use .toml, .json, .yaml or .yml"))),
        };
        if tree.get("MODEL").is_some() { release::understand(&tree) } else { ours(tree) }.map_err(key)
    }
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
