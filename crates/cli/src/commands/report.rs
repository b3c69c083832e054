//! `report`: records to tables and pages.

use std::path::{Path, PathBuf};

use equipoise_record::Collection;
use equipoise_report::{
    Format, Report as Contents, comparison_csv, diagnosis_csv, distinguish, pdf_files, render, svg_files,
    write_atomically,
};
use equipoise_verdict::conclude;

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
    let (mut models, mut diagnoses, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    let mut records = 0;
    let named = flags.results.iter().chain(&flags.records);
    for path in named.clone() {
        let found = read(path)?;
        records += usize::from(!found.models.is_empty());
        sources.extend(found.models.iter().map(|_| source(path)));
        models.extend(found.models);
        diagnoses.extend(found.diagnoses);
    }
    if named.count() == 0 {
        return Err(input("no records: name results.json or diagnosis.json files"));
    }
    let title = flags.title.clone().unwrap_or_else(|| write::title_of(&models, &diagnoses));
    // The title counts models; rows of the same model get names of their own.
    distinguish(&mut models, &sources);
    let report =
        Contents { title, models, diagnoses, records, command: Some(command_line()), ..Contents::default() };
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
            if let Some(text) = comparison_csv(&report.models)? {
                outputs.push((text.into(), path.with_file_name("comparisons.csv")));
            }
        }
        // Without an evaluation its table would be a head alone.
        if format == Format::Json && records > 1 {
            // One record of several: its p-values are corrected together.
            let mut together = report.clone();
            conclude(&mut together.models);
            outputs.push((render(format, &together)?.into(), path));
        } else if format != Format::Csv || !report.models.is_empty() {
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

/// Where a record comes from, in a word: its file's name, or its folder's where that is the usual one.
fn source(path: &Path) -> String {
    let name = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    match (name(path.file_stem()), name(path.parent().and_then(Path::file_name))) {
        (Some(stem), Some(folder)) if stem == "results" => folder,
        (Some(stem), _) => stem,
        (None, _) => path.display().to_string(),
    }
}

/// What a file holds: evaluations, a diagnosis, or both, of any version.
fn read(path: &Path) -> Result<Collection, Error> {
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
