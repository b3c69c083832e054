//! Finished sections of a diagnosis or a certification, one file each: what `--resume` goes on from.

use std::path::{Path, PathBuf};

use equipoise_files::{seal, unseal};
use equipoise_record::ModelDiagnosis;
use equipoise_report::write_atomically;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, input};
use crate::files;

/// In the folder of `--out`.
const FOLDER: &str = "sections";

/// The folder of the sections of one run.
pub struct Sections {
    folder: PathBuf,
}

impl Sections {
    /// Whether a folder holds sections.
    pub fn begun(out: &Path) -> Result<bool, Error> {
        files::has_content(&out.join(FOLDER))
    }

    /// `OUT/sections`, empty unless this run resumes one with the same `key`.
    pub fn open(out: &Path, resume: bool, key: &Value) -> Result<Self, Error> {
        let folder = out.join(FOLDER);
        let mark = folder.join("key.json");
        if resume && mark.exists() {
            let found: Value = parse(&mark)?;
            if found != *key {
                return Err(input(format!(
                    "--resume: {} holds sections of a run with other {}; give another --out",
                    folder.display(),
                    differing(&found, key)
                )));
            }
        } else if Self::begun(out)? {
            return Err(input(format!(
                "{}: holds sections of a run, and no key.json that says of which; give another --out",
                folder.display()
            )));
        } else {
            files::make_folder(&folder)?;
            write(&mark, key)?;
        }
        Ok(Self { folder })
    }

    /// A section of one of several models: read if it is done, else measured and written.
    pub fn section(
        &self,
        model: &str,
        section: &str,
        measure: &mut dyn FnMut() -> Result<Value, Error>,
    ) -> Result<Value, Error> {
        let check = |found: &Value| ModelDiagnosis::check_section(section, found);
        self.kept(&format!("{model}-{section}"), check, measure)
    }

    /// Whether what a name stands for is done.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// What a name stands for: read if it is done, else measured and written. `check` is asked of what is read.
    pub fn kept<E: std::fmt::Display>(
        &self,
        name: &str,
        check: impl Fn(&Value) -> Result<(), E>,
        measure: &mut dyn FnMut() -> Result<Value, Error>,
    ) -> Result<Value, Error> {
        let path = self.path(name);
        if !path.exists() {
            write(&path, &measure()?)?;
        }
        let found: Value = parse(&path)?;
        check(&found).map_err(|error| unreadable(&path, &error))?;
        Ok(found)
    }
}

/// With a checksum: a damaged number would be believed.
fn write(path: &Path, value: &Value) -> Result<(), Error> {
    let text = seal(value).map_err(|error| Error::Internal(format!("a section as JSON: {error}")))?;
    Ok(write_atomically(path, text)?)
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    unseal(&std::fs::read(path).map_err(files::failed(path, "read"))?)
        .map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    input(format!("{}: {error}; remove this file to measure it anew", path.display()))
}

/// The names of the settings in which two keys differ.
fn differing(a: &Value, b: &Value) -> String {
    let names = b.as_object().into_iter().flatten().filter(|(name, value)| a.get(*name) != Some(value));
    let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
    if names.is_empty() { "settings".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use equipoise_fuzz::{Sample, Target, mutate};
    use equipoise_record::{Residual, ResidualView, Share, Spread, View};

    use serde_json::json;

    use super::*;

    equipoise_fuzz::fuzz!(finished_sections, 1000, {
        let key = json!({ "model": "m", "count": 10 });
        let view = ResidualView {
            view: View::Clean,
            by_iterate: vec![Spread::of([0.5, 0.1])],
            reached: vec![Share::new(3, 10)],
            steps: Spread::of([2.0]),
            never: Share::new(7, 10),
        };
        let residual = json!({ "tolerance": 1e-3, "horizon": 2, "views": [view] });
        let residual: Residual = serde_json::from_value(residual).unwrap();
        let section = json!({ "result": residual, "seconds": 0.5, "cell_evaluations": 10, "vjps": 0 });
        let sample = Sample::of("sections/key.json", seal(&key).unwrap(), mutate::sealed);
        let sample = sample.and("sections/1-residual.json", seal(&section).unwrap(), Some(mutate::sealed));
        Target::new(vec![sample], move |folder| {
            let sections = Sections::open(folder, true, &key).map_err(|error| error.to_string())?;
            let mut measure = || panic!("the section is there");
            sections.section("1", "residual", &mut measure).map(drop).map_err(|error| error.to_string())
        })
    });
}
