//! A folder for the Hugging Face Hub: the model file as it is, its configuration, and a model card.

use std::path::Path;

use equipoise::architecture::Architecture;
use equipoise::checkpoint::{Metadata, ModelFile};
use equipoise_files::write_folder_atomically;
use equipoise_record::Evaluation;
use equipoise_report::{ModelCard, distinguish, model_card, training_method};
use serde_json::{Value, json};

use super::print;
use crate::args;
use crate::error::{Error, input};
use crate::files;
use crate::flags::Export;
use crate::records::find;
use crate::setup::Setup;

const MODEL: &str = "model.safetensors";

/// Writes the folder, whole or not at all.
pub fn write(folder: &Path, flags: &Export, setup: &Setup) -> Result<(), Error> {
    let license = flags.license.as_deref().map(license).transpose()?;
    if files::has_content(folder)? {
        return Err(input(format!("{}: the folder is not empty; give another --hub", folder.display())));
    }
    let path = args::model_path(&flags.model);
    let (model, hash) = args::model(&path, &setup.device)?;
    let bytes = std::fs::read(&path).map_err(files::failed(&path, "read"))?;
    let models = evaluations(flags, &path, &hash)?;
    let configuration = configuration(&model, &hash)?;
    let card = model_card(&card(&model, license, models))?;
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        files::make_folder(parent)?;
    }
    let contents = [
        (MODEL, bytes.as_slice()),
        ("config.json", configuration.as_bytes()),
        ("README.md", card.as_bytes()),
    ];
    write_folder_atomically(folder, contents).map_err(files::failed(folder, "write this folder"))?;
    for (name, _) in contents {
        print(&format!("{}\n", folder.join(name).display()))?;
    }
    Ok(())
}

/// An identifier as the Hub has them. Which one is for the model's owner to decide.
fn license(id: &str) -> Result<String, Error> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.+".contains(c);
    match !id.is_empty() && id.chars().all(allowed) {
        true => Ok(id.to_owned()),
        false => Err(input(format!(
            "--license {id}: use an identifier of the Hub, in lower-case letters: mit, apache-2.0, cc-by-4.0 or other"
        ))),
    }
}

/// The evaluations that were given. All must be of this very file.
fn evaluations(flags: &Export, model: &Path, hash: &str) -> Result<Vec<Evaluation>, Error> {
    let (mut models, mut sources) = (Vec::new(), Vec::new());
    for path in &flags.results {
        let before = models.len();
        for found in find(path)? {
            sources.extend(found.collection.models.iter().map(|_| found.source.clone()));
            models.extend(found.collection.models);
        }
        let shown = path.display();
        if models.len() == before {
            return Err(input(format!(
                "--results {shown}: no evaluation in it; give results.json of evaluate"
            )));
        }
        for found in &models[before..] {
            let of = found.configuration.get("model_sha256").and_then(Value::as_str);
            if of != Some(hash) {
                return Err(input(format!(
                    "--results {shown}: the record of {} is of a model file with SHA-256 {}, and {} has {hash}; \
                     evaluate this file, or export the other",
                    found.model,
                    of.unwrap_or("unknown"),
                    model.display()
                )));
            }
        }
    }
    distinguish(&mut models, &sources);
    Ok(models)
}

/// `config.json`: what the model file's metadata says, and what the file is.
fn configuration(model: &ModelFile, hash: &str) -> Result<String, Error> {
    let internal = |error: serde_json::Error| Error::Internal(format!("config.json: {error}"));
    let mut all = serde_json::to_value(&model.metadata).map_err(internal)?;
    all["library_name"] = "equipoise".into();
    all["equipoise"] = env!("CARGO_PKG_VERSION").into();
    all["model_type"] = all["architecture"]["kind"].clone();
    all["model_file"] = MODEL.into();
    all["model_sha256"] = hash.into();
    all["parameters"] = model.model.parameter_count().into();
    Ok(serde_json::to_string_pretty(&all).map_err(internal)? + "\n")
}

fn card(model: &ModelFile, license: Option<String>, models: Vec<Evaluation>) -> ModelCard {
    let Metadata { name, architecture, deployment, training, data, .. } = &model.metadata;
    let mut facts = vec![(
        "Architecture".to_owned(),
        format!("{}, {} parameters", in_words(architecture), model.model.parameter_count()),
    )];
    let equilibrium = model.model.equilibrium().is_some();
    if let Some(recipe) = training.get("recipe") {
        let mut says = training_method(recipe);
        if equilibrium {
            says += &format!(", through the gradient {}", deployment.training_gradient);
        }
        if let Some(epochs) = recipe.get("epochs").and_then(Value::as_u64) {
            says += &format!("; {epochs} epochs");
        }
        facts.push(("Training".to_owned(), says));
    }
    if equilibrium {
        let solver = json!(deployment.solver);
        let text = |field: &str| solver[field].to_string().trim_matches('"').to_owned();
        let says = format!(
            "{}, at most {} steps, tolerance {}; readout {}",
            text("method"),
            text("steps"),
            text("tolerance"),
            deployment.readout
        );
        facts.push(("Solver".to_owned(), says));
    }
    ModelCard { name: name.clone(), equilibrium, license, data: data.clone(), facts, models }
}

fn in_words(architecture: &Architecture) -> String {
    let [c, h, w] = architecture.image();
    format!("{}, {} classes, images of {c} × {h} × {w}", architecture.describe(), architecture.classes())
}
