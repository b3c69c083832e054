//! `report`: records and logs to tables and pages.

use std::path::PathBuf;

use equipoise_report::{
    Format, Report as Contents, csv_files, distinguish, distinguish_trainings, pdf_files, render, svg_files,
    write_atomically,
};
use equipoise_verdict::conclude;

use super::{print, write};
use crate::configuration::command_line;
use crate::error::{Error, input};
use crate::files;
use crate::flags::Report;
use crate::records::{Found, find};

/// Runs the command.
pub fn run(flags: &Report) -> Result<(), Error> {
    let wanted = Wanted::of(flags)?;
    let report = contents(flags)?;
    for (contents, path) in outputs(&report, &wanted)? {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            files::make_folder(folder)?;
        }
        write_atomically(&path, contents)?;
        print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

/// Everything at the paths that were given.
fn contents(flags: &Report) -> Result<Contents, Error> {
    let mut report = Contents { command: Some(command_line()), ..Contents::default() };
    let (mut of_models, mut of_trainings) = (Vec::new(), Vec::new());
    let named = flags.results.iter().chain(&flags.records);
    if named.clone().count() == 0 {
        return Err(input(
            "no records: name folders of evaluate, diagnose, demo or train, or results.json and diagnosis.json files",
        ));
    }
    for path in named {
        for Found { collection, source } in find(path)? {
            report.records += usize::from(!collection.models.is_empty());
            of_models.extend(collection.models.iter().map(|_| source.clone()));
            of_trainings.extend(collection.trainings.iter().map(|_| source.clone()));
            report.models.extend(collection.models);
            report.diagnoses.extend(collection.diagnoses);
            report.trainings.extend(collection.trainings);
        }
    }
    // The title counts models; rows of the same model get names of their own.
    report.title = flags.title.clone().unwrap_or_else(|| write::title_of(&report));
    distinguish(&mut report.models, &of_models);
    distinguish_trainings(&mut report.trainings, &of_trainings);
    Ok(report)
}

/// What is to be written, and where to.
struct Wanted {
    /// Each with its file.
    formats: Vec<(Format, PathBuf)>,
    /// Figures are several files, so they are no format of a report.
    svg: bool,
    pdf: bool,
    /// Where figures go.
    folder: PathBuf,
}

/// The extensions of figures.
const FIGURES: [&str; 2] = ["svg", "pdf"];

impl Wanted {
    /// `--format` and `--out`. Without a format the ending of `--out` says it, if it is that of one.
    fn of(flags: &Report) -> Result<Self, Error> {
        let out = &flags.out;
        let shown = out.display();
        let ending = out.extension().filter(|_| !out.is_dir());
        let ending = ending.map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        // What the ending says, if it says a format.
        let said: Option<Format> = ending.as_deref().and_then(|ending| ending.parse().ok());
        let figure = ending.as_deref().filter(|ending| FIGURES.contains(ending));
        let list = match (&flags.format, &ending) {
            (Some(list), _) => list.as_str(),
            (None, Some(ending)) if said.is_some() || figure.is_some() => ending,
            (None, _) => "html,markdown",
        };
        let (figures, formats): (Vec<&str>, Vec<&str>) =
            list.split(',').map(str::trim).partition(|format| FIGURES.contains(format));
        let parse = |name: &str| name.parse().map_err(|error| input(format!("--format: {error}, svg, pdf")));
        let formats = formats.into_iter().map(parse).collect::<Result<Vec<Format>, Error>>()?;
        let in_folder = |format: Format| (format, out.join(write::file_name(format)));
        let file = said.is_some() || figure.is_some();
        let formats = match formats.as_slice() {
            _ if file && !figures.is_empty() => {
                return Err(input(format!("--out {shown}: figures are several files; name a folder")));
            }
            [format] if figure.is_some() || said.is_some_and(|said| said != *format) => {
                return Err(input(format!(
                    "--out {shown} and --format {format}: the ending says another format; name a file that ends in \
                     .{}, or leave out --format",
                    format.extension()
                )));
            }
            [format] if figures.is_empty() && ending.is_some() => vec![(*format, out.clone())],
            several if file => {
                return Err(input(format!(
                    "--out {shown}: one file for {} formats; name a folder, or one format",
                    several.len()
                )));
            }
            formats => formats.iter().copied().map(in_folder).collect(),
        };
        let (svg, pdf) = (figures.contains(&"svg"), figures.contains(&"pdf"));
        Ok(Self { formats, svg, pdf, folder: out.clone() })
    }
}

/// Every file with its contents. Everything is laid out before anything is written.
fn outputs(report: &Contents, wanted: &Wanted) -> Result<Vec<(Vec<u8>, PathBuf)>, Error> {
    let mut outputs: Vec<(Vec<u8>, PathBuf)> = Vec::new();
    for (format, path) in &wanted.formats {
        if *format == Format::Csv {
            let beside = |(name, text): (String, String)| (text.into(), path.with_file_name(name));
            outputs.extend(csv_files(report)?.into_iter().map(beside));
        }
        if *format == Format::Json && report.records > 1 {
            // One record of several: its p-values are corrected together.
            let mut together = report.clone();
            conclude(&mut together.models);
            outputs.push((render(*format, &together)?.into(), path.clone()));
        } else if *format != Format::Csv || !report.models.is_empty() {
            // Without an evaluation the table of accuracies would be a head alone.
            outputs.push((render(*format, report)?.into(), path.clone()));
        }
    }
    let at = |name: String| wanted.folder.join(name);
    if wanted.svg {
        outputs.extend(svg_files(report).into_iter().map(|file| (file.contents.into(), at(file.name))));
    }
    if wanted.pdf {
        outputs.extend(pdf_files(report)?.into_iter().map(|file| (file.contents, at(file.name))));
    }
    Ok(outputs)
}
