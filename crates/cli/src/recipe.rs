//! Training recipes: a TOML file, and the one that a run leaves behind.
//!
//! `[model]` is either a name (`name = "mdeq-small"`, with `dropout = 0.1` if wanted; `name = "resnet18"`, with
//! `width = 7`) or an architecture in full; `[init]` names a model file to start from, whose architecture and deployment
//! then need not be given; `[deployment]` and `[train]` are those of the library; `[data]` says what
//! to train on. Every table may be absent: flags give the rest.

use std::ops::Range;
use std::path::{Path, PathBuf};

use equipoise::architecture::Architecture;
use equipoise::train::TrainConfig;
use equipoise::victim::Deployment;
use equipoise_dataset::{Reading, Source};
use serde::{Deserialize, Serialize};

use crate::error::{Error, input};
use crate::files;
use crate::flags::Preparation;

/// `[data]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// As after `--data`.
    pub spec: String,
    /// The first so many training images; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// As after `--resize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<String>,
    /// As after `--crop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<String>,
    /// As after `--layout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
}

impl Data {
    /// All images, as they are.
    pub fn all(spec: &str) -> Self {
        Self { spec: spec.to_owned(), count: None, resize: None, crop: None, layout: None }
    }

    /// How the images are read.
    pub fn reading(&self) -> Result<Reading, Error> {
        let Self { resize, crop, layout, .. } = self.clone();
        Preparation { resize, crop, layout, max_input: None }.check()
    }
}

/// `[init]`: a model file whose weights a run starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Init {
    /// The model file. The folder of a run keeps a copy, which a resumed run uses.
    pub file: PathBuf,
    /// Its SHA-256 in hexadecimal; another file is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A recipe as written: what is absent is left to flags and defaults.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The file; absent where there is none.
    pub file: Option<PathBuf>,
    /// The model's name in tables.
    pub name: Option<String>,
    /// Seed of weights and training.
    pub seed: Option<u64>,
    /// What to train.
    pub model: Option<Architecture>,
    /// What to start from.
    pub init: Option<Init>,
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
    /// What it starts from; random weights when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
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
    init: Option<Init>,
    deployment: Option<Deployment>,
    train: Option<TrainConfig>,
    data: Option<Data>,
}

/// `[model]` by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    width: Option<usize>,
    dropout: Option<f64>,
}

/// An architecture by name.
pub fn architecture(name: &str) -> Result<Architecture, Error> {
    Architecture::named(name)
        .ok_or_else(|| input(format!("unknown model `{name}`: use {}", Architecture::names().join(", "))))
}

/// The same with another width or rate of dropout.
pub fn adapted(
    mut model: Architecture,
    width: Option<usize>,
    dropout: Option<f64>,
) -> Result<Architecture, Error> {
    if let Some(width) = width {
        model = model.with_width(width).ok_or_else(|| {
            input("width: only monotone, monotone-conv, lben, sll, resnet18 and wrn-34-10 have one; an MDEQ's branches are given by `channels`")
        })?;
    }
    if let Some(dropout) = dropout {
        model = model
            .with_dropout(dropout)
            .ok_or_else(|| input("dropout: only MDEQs have variational dropout; leave this out"))?;
    }
    Ok(model)
}

impl Draft {
    /// Reads a recipe. Errors name the file, line and column.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = files::read_text_within(path, files::SHORT)?;
        let wrong = |error: toml::de::Error| input(located(path, &text, &error));
        let table: toml::Table = text.parse().map_err(wrong)?;
        let by_name = table.get("model").and_then(|model| model.get("name")).is_some();
        let draft = if by_name {
            let Document { name, seed, model, init, deployment, train, data } =
                toml::from_str::<Document<Named>>(&text).map_err(wrong)?;
            let model = model
                .map(|Named { name, width, dropout }| adapted(architecture(&name)?, width, dropout))
                .transpose();
            let model = model.map_err(|error| input(format!("{}, [model]: {error}", path.display())))?;
            Self { file: Some(path.to_owned()), name, seed, model, init, deployment, train, data }
        } else {
            let Document { name, seed, model, init, deployment, train, data } =
                toml::from_str::<Document<Architecture>>(&text).map_err(wrong)?;
            Self { file: Some(path.to_owned()), name, seed, model, init, deployment, train, data }
        };
        draft.validate().map_err(|problem| input(format!("{}: {problem}", path.display())))?;
        Ok(draft)
    }

    /// What can be checked before flags are added. The sizes of the model depend on the data.
    fn validate(&self) -> Result<(), String> {
        if let Some(deployment) = &self.deployment {
            deployment.validate().map_err(|error| error.to_string())?;
        }
        if let Some(train) = &self.train {
            train.validate().map_err(|error| error.to_string())?;
        }
        if let Some(data) = &self.data {
            data.reading().map_err(|error| format!("[data] {error}"))?;
            data.spec.parse::<Source>().map_err(|error| format!("[data] {error}"))?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn recipes(folder: &Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { recipes(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn every_recipe_of_the_repository_can_be_trained_by() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        let all = recipes(&folder);
        for path in &all {
            let place = path.display();
            let draft = Draft::read(path).unwrap_or_else(|error| panic!("{error}"));
            assert!(draft.name.is_some() && draft.seed.is_some(), "{place}: a recipe has a name and a seed");
            let (model, train) = (draft.model.unwrap(), draft.train.unwrap());
            let deployment = draft.deployment.unwrap_or_default();
            model.validate().unwrap_or_else(|error| panic!("{place}: {error}"));
            deployment.validate().unwrap_or_else(|error| panic!("{place}: {error}"));
            train.validate_for(&model, &deployment).unwrap_or_else(|error| panic!("{place}: {error}"));
            // The check of the sizes is enough, without half a gigabyte of random weights.
            if !path.parent().unwrap().ends_with("paper") {
                model.init(0, &Device::default()).unwrap_or_else(|error| panic!("{place}: {error}"));
            }
        }
        let of = |kind: &str| all.iter().filter(|path| path.parent().unwrap().ends_with(kind)).count();
        let folders = ["paper", "small", "dose", "defended"].map(of);
        assert_eq!((folders[0], folders.iter().sum::<usize>()), (12, all.len()));
    }

    #[test]
    fn models_by_name_can_be_adapted() {
        let model = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("recipe.toml");
            std::fs::write(&path, format!("[model]\n{text}")).unwrap();
            Draft::read(&path).map(|draft| draft.model.unwrap()).map_err(|error| error.to_string())
        };
        let narrow = architecture("resnet18").unwrap().with_width(7);
        assert_eq!(model("name = \"resnet18\"\nwidth = 7").ok(), narrow);
        let dropping = architecture("mdeq-small").unwrap().with_dropout(0.2);
        assert_eq!(model("name = \"mdeq-small\"\ndropout = 0.2").ok(), dropping);
        assert!(model("name = \"mdeq-small\"\nwidth = 7").unwrap_err().contains("width"));
        assert!(model("name = \"resnet18\"\ndropout = 0.2").unwrap_err().contains("dropout"));
    }

    /// Every table, and most keys.
    const WHOLE: &str = r#"name = "tiny"
seed = 1
[model]
kind = "mdeq"
channels = [4, 4]
head_channels = [1, 1]
final_channels = 4
groups = 2
expansion = 1
image = [3, 32, 32]
[init]
file = "model.safetensors"
[deployment]
training_gradient = "exact"
tail = { lead = 1, steps = 0, damping = 0.5 }
readout = "final"
solver = { method = "broyden", steps = 4, tolerance = 1e-3, scope = "example" }
[data]
spec = "digits"
count = 48
resize = "32x32"
[train]
epochs = 1
batch_size = 4
development = 4
checkpoint_steps = 1
clip_norm = 1.0
schedule = "cosine"
optimizer = { kind = "adam", learning_rate = 1e-3 }
warmup = { steps = 1, layers = 2 }
augment = { crop = 2, flip = true }
adversary = { kind = "trades", beta = 6.0, norm = "linf", eps = "8/255", steps = 2 }
jacobian = { weight = 0.1, frequency = 0.5 }
random_budget = { steps = [2, 4] }
early_stopping = { patience = 2 }
"#;

    equipoise_fuzz::fuzz!(damaged_recipes, 1500, {
        let named = "[model]\nname = \"resnet18\"\nwidth = 7\n[train]\nepochs = 2\n";
        let sample =
            |text: &str| equipoise_fuzz::Sample::of("recipe.toml", text, equipoise_fuzz::mutate::text);
        equipoise_fuzz::Target::new(vec![sample(WHOLE), sample(named)], |folder| {
            let draft = Draft::read(&folder.join("recipe.toml")).map_err(|error| error.to_string())?;
            // The rest is checked with the data: it may be refused, and no more.
            let deployment = draft.deployment.unwrap_or_default();
            if let Some((model, train)) = draft.model.zip(draft.train) {
                let _ = (model.validate(), train.validate_for(&model, &deployment));
            }
            Ok(())
        })
    });
}
