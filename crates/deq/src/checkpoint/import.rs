//! Models from elsewhere: a checkpoint and a configuration become a [`ModelFile`].

use std::path::Path;

use burn::tensor::Device;

use super::choose::{self, Candidate, Choice, Unchosen, is_counter, summary};
use super::configuration::Configuration;
use super::error::ImportError;
use super::model_file::{FORMAT_VERSION, Metadata, ModelFile};
use super::tensors::{self, Tensors};
use crate::architecture::Architecture;
use crate::model::ConfigError;
use crate::model::normalisation::Normalisation;
use crate::model::state_dict::{StateDict, StateDictError};

/// How images are normalised inside of an imported model.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Normalise {
    /// By the mean and deviation in the file, if it has them; else not at all, or as the configuration says.
    #[default]
    AsInFile,
    /// By these, whatever the file has.
    By(Normalisation),
    /// Not at all, whatever the file has.
    No,
}

/// What to take from a checkpoint.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// A part of the path to the weights, where several dictionaries hold the model; `.` for the top level.
    pub key: Option<String>,
    /// What images are normalised by.
    pub normalise: Normalise,
    /// Tensors between the model's that are not needed: names, or what names begin with up to a dot.
    pub ignore: Vec<String>,
}

/// An imported model, and what was found on the way.
#[derive(Debug)]
pub struct Imported {
    /// The model.
    pub model: ModelFile,
    /// In sentences: which part of the file was taken, what was left aside, how images are normalised.
    pub notes: Vec<String>,
}

/// Reads the weights of a model: a PyTorch checkpoint (zip, tar or legacy pickle), a `.safetensors` file, or the arrays of an
/// `.npz` or `.mat` file, all in the same way. The state dict is found by its names, in whatever dictionaries and behind whatever prefixes it stands;
/// weight norm in either spelling; half, bfloat16 and double precision are converted; counters are passed over.
///
/// Nothing from a pickle is run. The training recipe and the data are left unknown.
///
/// # Errors
///
/// If a file cannot be read, the configuration contradicts itself, or names, shapes or types of the weights do not
/// fit it: the message is a diagnosis, [`ImportError::lines`] has all of it.
pub fn import(
    checkpoint: &Path,
    configuration: Configuration,
    name: &str,
    options: &ImportOptions,
    device: &Device,
) -> Result<Imported, ImportError> {
    let Configuration { architecture, deployment } = configuration;
    architecture.validate()?;
    deployment.validate()?;
    let path = || checkpoint.to_owned();
    let mut file = tensors::read(checkpoint)?;
    let mut notes = Vec::new();
    let architecture = normalised(architecture, checkpoint, &mut file, &options.normalise, &mut notes)?;
    let renamed = |name: String| architecture.own_name(&name).unwrap_or(name);
    let mut file: Tensors = file.into_iter().map(|(name, tensor)| (renamed(name), tensor)).collect();
    let model = architecture.shapes_alone(device)?;
    let needed = model.shapes();
    for (name, tensor) in &mut file {
        if let Some(shape) = needed.get(name) {
            tensor.reshape(shape);
        }
    }
    let keys = |all: Vec<Candidate>| all.iter().map(|candidate| candidate.key().to_owned()).collect();

    let all = file.clone();
    let chosen = choose::choose(file, &needed, options.key.as_deref());
    let Choice { candidate, tensors, aside } = chosen.map_err(|why| match (why, &options.key) {
        (Unchosen::Several(all), _) => ImportError::Several { path: path(), keys: keys(all) },
        (Unchosen::NoSuchKey(all), Some(key)) => {
            ImportError::NoSuchKey { path: path(), key: key.clone(), keys: keys(all) }
        }
        (Unchosen::Nothing | Unchosen::NoSuchKey(_), _) => ImportError::Foreign {
            path: path(),
            diagnosis: choose::diagnosis(&all, &needed, None),
            names: all.keys().cloned().collect(),
        },
    })?;
    if !candidate.prefix.is_empty() {
        notes.push(format!("weights taken from under `{}`", candidate.prefix));
    }
    let aside: Tensors =
        aside.into_iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).collect();
    if !aside.is_empty() {
        notes.push(format!("left aside, unexpected: {}", summary(&aside)));
    }

    let mut weights = StateDict::new();
    let mut ignored = Vec::new();
    let mut others = Vec::new();
    for (name, tensor) in tensors {
        let is = |pattern: &String| name == *pattern || name.starts_with(&format!("{pattern}."));
        if needed.contains_key(&name) {
            let wrong = |problem: String| ImportError::Checkpoint {
                path: path(),
                problem: format!("tensor {}{name} {problem}", candidate.prefix),
            };
            let mut entry = tensor.to_f32().map_err(|problem| wrong(problem.to_string()))?;
            // PyTorch's scalars: parameters here have at least one dimension.
            if entry.shape.is_empty() {
                entry.shape = vec![1];
            }
            let entry = architecture.own_entry(&name, entry);
            if let Some(problem) = architecture.misread(&name, &entry.values) {
                return Err(wrong(problem));
            }
            weights.insert(name, entry);
        } else if options.ignore.iter().any(is) || architecture.is_unused(&name) {
            ignored.push(name);
        } else if !is_counter(&name) {
            others.push(name);
        }
    }
    if !ignored.is_empty() {
        notes.push(format!("not used by the model: {}", ignored.join(", ")));
    }
    let misfit = |mut source: StateDictError| {
        source.unexpected.extend(others.iter().cloned());
        ImportError::Weights {
            path: path(),
            diagnosis: choose::diagnosis(&all, &needed, Some((&candidate, &source))),
            source: Box::new(source),
        }
    };
    let model = match model.with_weights(weights) {
        Err(source) => return Err(misfit(source)),
        Ok(_) if !others.is_empty() => return Err(misfit(StateDictError::default())),
        Ok(model) => model,
    };
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        name: name.to_owned(),
        architecture,
        deployment,
        training: serde_json::Value::Null,
        data: String::new(),
    };
    Ok(Imported { model: ModelFile { metadata, model }, notes })
}

/// The architecture with the normalisation that was asked for, or else that of the file, whose tensors are taken out.
fn normalised(
    architecture: Architecture,
    path: &Path,
    file: &mut Tensors,
    asked: &Normalise,
    notes: &mut Vec<String>,
) -> Result<Architecture, ImportError> {
    let channels = architecture.image()[0];
    let found = normalisation_of(file, channels);
    let own = match (asked, found.as_slice()) {
        (Normalise::No, _) => None,
        (Normalise::By(asked), _) => Some(asked.clone()),
        (Normalise::AsInFile, []) => architecture.normalisation().cloned(),
        (Normalise::AsInFile, [(name, first), rest @ ..]) => {
            let key =
                |problem: String| ImportError::Key { path: path.to_owned(), key: name.clone(), problem };
            if let Some((other, _)) = rest.iter().find(|(_, other)| other != first) {
                return Err(key(format!(
                    "another normalisation than {other}: give the mean and deviation to be used"
                )));
            }
            if first.mean.iter().any(|mean| mean.abs() > 1.0) {
                return Err(key(format!(
                    "{:?} is no mean of intensities in [0, 1]: give the mean and deviation on that scale",
                    first.mean
                )));
            }
            notes.push(format!("normalisation taken from {name} and its deviation"));
            Some(first.clone())
        }
    };
    if let Some(Normalisation { mean, std }) = &own {
        notes.push(format!("images are normalised inside of the model: mean {mean:?}, deviation {std:?}"));
    }
    let from_file = matches!(asked, Normalise::AsInFile) && !found.is_empty();
    let architecture = match (architecture.with_normalisation(own.clone()), own) {
        (Some(architecture), _) => architecture,
        (None, None) => architecture,
        (None, Some(_)) => {
            let problem = format!("models of kind {} do not normalise images", architecture.kind());
            return Err(ConfigError { field: "normalisation", problem }.into());
        }
    };
    architecture.validate().map_err(|error| match found.into_iter().next() {
        Some((key, _)) if from_file => {
            ImportError::Key { path: path.to_owned(), key, problem: error.problem }
        }
        _ => error.into(),
    })?;
    Ok(architecture)
}

/// Pairs of tensors that are the mean and the deviation of so many channels, with the name of the mean: `mu` and `sigma`,
/// `normalize.mean` and `normalize.std`, and the like. They are taken out of the file.
fn normalisation_of(file: &mut Tensors, channels: usize) -> Vec<(String, Normalisation)> {
    const PAIRS: [[&str; 2]; 4] = [["mean", "std"], ["mu", "sigma"], ["_mean", "_std"], ["mean", "sigma"]];
    let mut found = Vec::new();
    let names: Vec<String> = file.keys().cloned().collect();
    for name in names {
        for [mean, std] in PAIRS {
            let Some(prefix) = name.strip_suffix(mean) else { continue };
            if !(prefix.is_empty() || prefix.ends_with('.')) {
                continue;
            }
            let values = |name: &str| {
                let entry = file.get(name)?.to_f32().ok()?;
                (entry.values.len() == channels).then_some(entry.values)
            };
            let other = format!("{prefix}{std}");
            let (Some(mean), Some(std)) = (values(&name), values(&other)) else { continue };
            found.push((name.clone(), Normalisation { mean, std }));
            file.remove(&name);
            file.remove(&other);
            break;
        }
    }
    found
}
