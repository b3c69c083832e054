//! Finished sections of a diagnosis, one file each: what `--resume` goes on from.

use std::fs;
use std::path::{Path, PathBuf};

use equipoise_record::Section;
use equipoise_report::write_atomically;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{Error, input};
use crate::files;

/// The folder of the sections of one diagnosis.
pub struct Sections {
    folder: PathBuf,
}

impl Sections {
    /// `OUT/sections`, empty unless this run resumes one with the same `key`.
    pub fn open(out: &Path, resume: bool, key: &Value) -> Result<Self, Error> {
        let folder = out.join("sections");
        let mark = folder.join("key.json");
        if resume && mark.exists() {
            let found: Value = parse(&mark)?;
            if found != *key {
                return Err(input(format!(
                    "--resume: {} holds sections of a diagnosis with other {}; leave --resume out to begin anew, or \
                     give another --out",
                    folder.display(),
                    differing(&found, key)
                )));
            }
        } else {
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(files::failed(&folder, "remove"))?;
            }
            files::make_folder(&folder)?;
            write_atomically(&mark, format!("{key}\n"))?;
        }
        Ok(Self { folder })
    }

    /// A section by the name of its file: read if it is done, else measured and written. `None` if it has no name:
    /// then nobody asked for it.
    pub fn section<T: Serialize + DeserializeOwned>(
        &self,
        name: Option<String>,
        measure: impl FnOnce() -> Result<Value, Error>,
    ) -> Result<Option<Section<T>>, Error> {
        let Some(name) = name else { return Ok(None) };
        let path = self.folder.join(format!("{name}.json"));
        if !path.exists() {
            write_atomically(&path, format!("{}\n", json!(measure()?)))?;
        }
        parse(&path).map(Some)
    }
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    serde_json::from_str(&files::read_text(path)?)
        .map_err(|error| input(format!("{}: {error}; remove this file to measure it anew", path.display())))
}

/// The names of the settings in which two keys differ.
fn differing(a: &Value, b: &Value) -> String {
    let names = b.as_object().into_iter().flatten().filter(|(name, value)| a.get(*name) != Some(value));
    let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
    if names.is_empty() { "settings".into() } else { names.join(", ") }
}
