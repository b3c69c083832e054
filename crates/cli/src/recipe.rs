//! Training recipes: a TOML file, and the one that a run leaves behind.
//!
//! `[model]` is either `name = "mdeq-small"` or an architecture in full; `[deployment]` and `[train]` are those of
//! the library; `[data]` says what to train on. Every table may be absent: flags give the rest.

use std::ops::Range;
use std::path::Path;

use equipoise::deployed::Deployment;
use equipoise::network::Architecture;
use equipoise::train::TrainConfig;
use serde::{Deserialize, Serialize};

use crate::error::{Error, input};

/// `[data]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// As after `--data`.
    pub spec: String,
    /// The first so many training images; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// A recipe as written: what is absent is left to flags and defaults.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The model's name in tables.
    pub name: Option<String>,
    /// Seed of weights and training.
    pub seed: Option<u64>,
    /// What to train.
    pub model: Option<Architecture>,
    /// How it is used.
    pub deployment: Option<Deployment>,
    /// How to train it.
    pub train: Option<TrainConfig>,
    /// What to train it on.
    pub data: Option<Data>,
}

/// A recipe with everything decided: what `recipe.toml` of a run holds. Reads back as a [`Draft`].
#[derive(Debug, Clone, Serialize)]
pub struct Recipe {
    /// The model's name in tables.
    pub name: String,
    /// Seed of weights and training.
    pub seed: u64,
    /// What is trained, adapted to the data.
    pub model: Architecture,
    /// How it is used.
    pub deployment: Deployment,
    /// What it is trained on.
    pub data: Data,
    /// How it is trained.
    pub train: TrainConfig,
}

impl Recipe {
    /// As TOML.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|error| Error::Internal(format!("recipe.toml: {error}")))
    }
}

/// The file's layout; `M` is the form of `[model]` that it uses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<M> {
    name: Option<String>,
    seed: Option<u64>,
    model: Option<M>,
    deployment: Option<Deployment>,
    train: Option<TrainConfig>,
    data: Option<Data>,
}

/// `[model]` by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

/// An architecture by name.
pub fn architecture(name: &str) -> Result<Architecture, Error> {
    Architecture::named(name)
        .ok_or_else(|| input(format!("unknown model `{name}`: use {}", Architecture::names().join(", "))))
}

impl Draft {
    /// Reads a recipe. Errors name the file, line and column.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = crate::files::read_text(path)?;
        let wrong = |error: toml::de::Error| input(located(path, &text, &error));
        let table: toml::Table = text.parse().map_err(wrong)?;
        let by_name = table.get("model").and_then(|model| model.get("name")).is_some();
        if by_name {
            let Document { name, seed, model, deployment, train, data } =
                toml::from_str::<Document<Named>>(&text).map_err(wrong)?;
            let model = model.map(|model| architecture(&model.name)).transpose();
            let model = model.map_err(|error| input(format!("{}, [model]: {error}", path.display())))?;
            Ok(Self { name, seed, model, deployment, train, data })
        } else {
            let Document { name, seed, model, deployment, train, data } =
                toml::from_str::<Document<Architecture>>(&text).map_err(wrong)?;
            Ok(Self { name, seed, model, deployment, train, data })
        }
    }
}

/// `FILE, line L, column C: what is wrong`.
fn located(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let span = error.span().map(|span| narrowed(text, span, message));
    let place = span.map(|span| {
        let before = &text[..span.start.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count()) + 1;
        format!(", line {line}, column {column}")
    });
    format!("{}{}: {message}; correct it or remove it", path.display(), place.unwrap_or_default())
}

/// Where a key is unknown in a table whose kind is chosen by another key, the parser only knows the table. The key
/// itself stands at the start of one of its lines.
fn narrowed(text: &str, span: Range<usize>, message: &str) -> Range<usize> {
    let key = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let Some(key) = key else { return span };
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        let rest = line.trim_start().strip_prefix(key).map(str::trim_start);
        if start + line.len() > span.start && rest.is_some_and(|rest| rest.starts_with(['=', '.'])) {
            return start + indent..start + indent + key.len();
        }
        start += line.len();
    }
    span
}
