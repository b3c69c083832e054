//! `report`: records to tables and pages.

use std::path::{Path, PathBuf};

use equipoise_record::{Collection, Diagnosis, Evaluation, FORMAT_VERSION};
use equipoise_report::{
    Format, Report as Contents, diagnosis_csv, pdf_files, render, svg_files, write_atomically,
};
use serde_json::Value;

use super::{print, write};
use crate::configuration::command_line;
use crate::error::{Error, input};
use crate::files;
use crate::flags::Report;

/// Runs the command.
pub fn run(flags: &Report) -> Result<(), Error> {
    // Figures are several files, so they are no format of a report.
    let (figures, formats): (Vec<&str>, Vec<&str>) =
        flags.format.split(',').map(str::trim).partition(|format| ["svg", "pdf"].contains(format));
    let format = |name: &str| name.parse().map_err(|error| input(format!("--format: {error}, svg, pdf")));
    let formats = formats.into_iter().map(format).collect::<Result<Vec<Format>, Error>>()?;
    let (mut models, mut diagnoses) = (Vec::new(), Vec::new());
    let named = flags.results.iter().chain(&flags.records);
    for path in named.clone() {
        let found = read(path)?;
        models.extend(found.models);
        diagnoses.extend(found.diagnoses);
    }
    if named.count() == 0 {
        return Err(input("no records: name results.json or diagnosis.json files"));
    }
    let title = flags.title.clone().unwrap_or_else(|| write::title_of(&models, &diagnoses));
    let report = Contents { title, models, diagnoses, figures: Vec::new(), command: Some(command_line()) };
    let targets: Vec<(Format, PathBuf)> = match formats.as_slice() {
        [format] if figures.is_empty() && names_a_file(&flags.out) => vec![(*format, flags.out.clone())],
        formats => formats.iter().map(|&format| (format, flags.out.join(write::file_name(format)))).collect(),
    };
    let mut outputs: Vec<(Vec<u8>, PathBuf)> = Vec::new();
    for (format, path) in targets {
        // Every section of a diagnosis is a table of its own.
        if format == Format::Csv {
            for diagnosis in &report.diagnoses {
                for (name, text) in diagnosis_csv(diagnosis)? {
                    outputs.push((text.into(), path.with_file_name(name)));
                }
            }
        }
        // Without an evaluation its table would be a head alone.
        if format != Format::Csv || !report.models.is_empty() {
            outputs.push((render(format, &report)?.into(), path));
        }
    }
    if figures.contains(&"svg") {
        let files = svg_files(&report).into_iter();
        outputs.extend(files.map(|file| (file.contents.into(), flags.out.join(file.name))));
    }
    if figures.contains(&"pdf") {
        let files = pdf_files(&report)?.into_iter();
        outputs.extend(files.map(|file| (file.contents, flags.out.join(file.name))));
    }
    for (contents, path) in outputs {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            files::make_folder(folder)?;
        }
        write_atomically(&path, contents)?;
        print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

/// A path with an extension, unless there is a folder of that name.
fn names_a_file(path: &Path) -> bool {
    path.extension().is_some() && !path.is_dir()
}

/// What a file holds: an evaluation, a diagnosis, or a collection of both.
fn read(path: &Path) -> Result<Collection, Error> {
    let text = files::read_text(path)?;
    let wrong = |error: serde_json::Error| {
        input(format!(
            "{}: not a results file of equipoise ({error}); give results.json as evaluate or demo wrote it, or \
             diagnosis.json of diagnose",
            path.display()
        ))
    };
    let value: Value = serde_json::from_str(&text).map_err(wrong)?;
    if let Some(version) = value.get("version").and_then(Value::as_u64)
        && version > u64::from(FORMAT_VERSION)
    {
        return Err(input(format!(
            "{}: format version {version}, and this build reads up to {FORMAT_VERSION}; use a newer build",
            path.display()
        )));
    }
    // From the text, not the value: then errors name line and column.
    let alone = |models, diagnoses| Collection { version: FORMAT_VERSION, models, diagnoses };
    if value.get("models").is_some() {
        serde_json::from_str::<Collection>(&text).map_err(wrong)
    } else if value.get("diagnosed").is_some() {
        Ok(alone(Vec::new(), vec![serde_json::from_str::<Diagnosis>(&text).map_err(wrong)?]))
    } else {
        Ok(alone(vec![serde_json::from_str::<Evaluation>(&text).map_err(wrong)?], Vec::new()))
    }
}
