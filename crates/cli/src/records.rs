//! What earlier commands left behind, by its path: a record's file, or a folder of one or of a training run.

use std::path::{Path, PathBuf};

use equipoise_record::{Collection, FORMAT_VERSION, Training, read_epochs, read_steps};

use crate::error::{Error, input};
use crate::files;

/// The files by which a folder is known.
pub const RESULTS: &str = "results.json";
const DIAGNOSIS: &str = "diagnosis.json";
const EPOCHS: &str = "log.jsonl";
const STEPS: &str = "steps.jsonl";

/// What was found, and where it comes from in a word.
pub struct Found {
    /// The records.
    pub collection: Collection,
    /// The file's name, or its folder's where that is the usual one.
    pub source: String,
}

/// Everything at a path: one record, or in a folder results, a diagnosis and the log of a training run.
pub fn find(path: &Path) -> Result<Vec<Found>, Error> {
    if !path.is_dir() {
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            let problem = "the log of a training run: give its folder, which has the recipe too";
            return Err(input(format!("{}: {problem}", path.display())));
        }
        return Ok(vec![Found { collection: read(path)?, source: source(path) }]);
    }
    let mut found = Vec::new();
    for name in [RESULTS, DIAGNOSIS] {
        let path = path.join(name);
        if path.exists() {
            found.push(Found { collection: read(&path)?, source: source(&path) });
        }
    }
    if [EPOCHS, STEPS].iter().any(|name| path.join(name).exists()) {
        let training = training(path)?;
        let collection = Collection {
            version: FORMAT_VERSION,
            models: Vec::new(),
            diagnoses: Vec::new(),
            trainings: vec![training],
        };
        found.push(Found { collection, source: folder_name(path) });
    }
    if found.is_empty() {
        return Err(input(format!(
            "{}: a folder without {RESULTS}, {DIAGNOSIS}, {EPOCHS} or {STEPS}; give a folder that evaluate, diagnose, \
             demo or train wrote, or such a file",
            path.display()
        )));
    }
    Ok(found)
}

/// What a file holds: evaluations, a diagnosis, or both, of any version.
pub fn read(path: &Path) -> Result<Collection, Error> {
    let text = files::read_text(path)?;
    let found = equipoise_record::read(&text).map_err(|error| {
        input(format!(
            "{}: not a results file of equipoise ({error}); give results.json as evaluate or demo wrote it, or \
             diagnosis.json of diagnose",
            path.display()
        ))
    })?;
    equipoise_verdict::check(&found).map_err(|error| {
        input(format!(
            "{}: {error}; the file was changed after it was written: evaluate again",
            path.display()
        ))
    })?;
    Ok(found)
}

/// A training run as far as it has come. It may be going on.
fn training(folder: &Path) -> Result<Training, Error> {
    let recipe = match optional(&folder.join("recipe.toml"))? {
        None => serde_json::Value::Null,
        Some((path, text)) => toml::from_str(&text).map_err(|error: toml::de::Error| {
            input(format!(
                "{}: not a recipe ({}); put it back as train wrote it, or remove it",
                path.display(),
                error.message()
            ))
        })?,
    };
    let damaged =
        |path: &Path, error| input(format!("{}: {error}; correct that line or remove it", path.display()));
    let epochs = match optional(&folder.join(EPOCHS))? {
        None => Vec::new(),
        Some((path, text)) => read_epochs(&text).map_err(|error| damaged(&path, error))?,
    };
    let steps = match optional(&folder.join(STEPS))? {
        None => Vec::new(),
        Some((path, text)) => read_steps(&text).map_err(|error| damaged(&path, error))?,
    };
    let name = recipe.get("name").and_then(|name| name.as_str()).map(str::to_owned);
    let planned = recipe.pointer("/train/epochs").and_then(|epochs| epochs.as_u64());
    let finished = folder.join("model.safetensors").exists() || planned == Some(epochs.len() as u64);
    Ok(Training { model: name.unwrap_or_else(|| folder_name(folder)), recipe, finished, epochs, steps })
}

/// A text file's path and content; nothing if there is no such file.
fn optional(path: &Path) -> Result<Option<(PathBuf, String)>, Error> {
    path.exists().then(|| Ok((path.to_owned(), files::read_text(path)?))).transpose()
}

/// Where a record comes from, in a word.
fn source(path: &Path) -> String {
    match path.file_stem().map(|stem| stem.to_string_lossy().into_owned()) {
        Some(stem) if stem == "results" => path.parent().map_or(stem, folder_name),
        Some(stem) => stem,
        None => path.display().to_string(),
    }
}

/// A folder's own name, also where its path ends with dots.
fn folder_name(folder: &Path) -> String {
    let whole = folder.canonicalize().ok();
    let name = whole.as_deref().unwrap_or(folder).file_name();
    name.map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use equipoise_fuzz::{Sample, Target, mutate};

    use super::*;

    equipoise_fuzz::fuzz!(folders_of_records, 1000, {
        let record = r#"{"version":2,"models":[],"diagnoses":[]}"#;
        let epoch = r#"{"epoch":1,"loss":2.3,"accuracy":0.09,"learning_rate":0.0008,"seconds":3.5}"#;
        let sample = Sample::of(RESULTS, record, mutate::json)
            .and(EPOCHS, epoch, Some(mutate::json_lines))
            .and("recipe.toml", "name = \"tiny\"\n[train]\nepochs = 1\n", Some(mutate::text));
        Target::new(vec![sample], |folder| find(folder).map(drop).map_err(|error| error.to_string()))
    });
}
