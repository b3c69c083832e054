//! What evaluations leave behind: `results.json`, `results.md`, `report.html`, and a table on stdout.

use std::path::Path;

use equipoise_record::{Accuracy, Diagnosis, Evaluation, Verdict};
use equipoise_report::{Format, Report, diagnosis_csv, label, render, statements, write_atomically};

use crate::configuration::command_line;
use crate::error::Error;

/// The files of a report in a folder, by format.
pub fn file_name(format: Format) -> String {
    match format {
        Format::Html => "report.html".to_owned(),
        format => format!("results.{}", format.extension()),
    }
}

/// Writes the three usual files into a folder.
pub fn results(folder: &Path, title: String, models: Vec<Evaluation>) -> Result<(), Error> {
    let report = Report { title, models, records: 1, command: Some(command_line()), ..Report::default() };
    // Everything is laid out before anything is written.
    let formats = [Format::Json, Format::Markdown, Format::Html];
    let texts = formats.map(|format| render(format, &report));
    for (format, text) in formats.into_iter().zip(texts) {
        write_atomically(folder.join(file_name(format)), text?)?;
    }
    Ok(())
}

/// Writes a diagnosis into a folder: `diagnosis.json`, a CSV file for each section, `report.md`, `report.html`.
pub fn diagnosis(folder: &Path, diagnosis: Diagnosis) -> Result<(), Error> {
    let mut files = diagnosis_csv(&diagnosis)?;
    let mut report =
        Report { diagnoses: vec![diagnosis], command: Some(command_line()), ..Report::default() };
    report.title = title_of(&report);
    for (name, format) in
        [("diagnosis.json", Format::Json), ("report.md", Format::Markdown), ("report.html", Format::Html)]
    {
        files.push((name.to_owned(), render(format, &report)?));
    }
    for (name, text) in files {
        write_atomically(folder.join(name), text)?;
    }
    Ok(())
}

/// A title for some models, which may have several records each.
pub fn title(models: &[Evaluation]) -> String {
    let mut names: Vec<&str> = models.iter().map(|model| model.model.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [one] => format!("Robustness of {one}"),
        several => format!("Robustness of {} models", several.len()),
    }
}

/// A title for all that a report holds: models, else diagnoses, else training runs.
pub fn title_of(report: &Report) -> String {
    if !report.models.is_empty() {
        return title(&report.models);
    }
    let (what, names): (&str, Vec<&str>) = match report.diagnoses.is_empty() {
        false => {
            let diagnosed = report.diagnoses.iter().flat_map(|d| &d.diagnosed);
            ("Diagnosis", diagnosed.map(|model| model.model.as_str()).collect())
        }
        true => ("Training", report.trainings.iter().map(|training| training.model.as_str()).collect()),
    };
    match names.as_slice() {
        [one] => format!("{what} of {one}"),
        several => format!("{what} of {} models", several.len()),
    }
}

/// The table and the verdicts, as Markdown.
pub fn summary(models: &[Evaluation]) -> String {
    let statements = models.iter().flat_map(statements);
    let statements = statements.map(|says| {
        let lines = std::iter::once(format!("{}: {}", says.label, says.sentence)).chain(says.warnings);
        format!("\n{}\n", lines.collect::<Vec<_>>().join("\n"))
    });
    table(models) + &statements.collect::<String>()
}

/// Columns of the table; those whose cells are words stand to the left.
const COLUMNS: [(&str, bool); 7] = [
    ("Model", true),
    ("Readout", true),
    ("Clean", false),
    ("Ready-made", false),
    ("White-box", false),
    ("Finding", true),
    ("b/c, p", false),
];

/// Accuracies and the finding, a row for each model and readout, as Markdown.
///
/// b and c are the points broken through other gradients only and through the training gradient only; p is corrected.
pub fn table(models: &[Evaluation]) -> String {
    let percent = |a: Accuracy| format!("{:.1}%", 100.0 * a.value);
    let mut rows = vec![COLUMNS.map(|(title, _)| title.to_owned())];
    for model in models {
        for readout in &model.readouts {
            let white_box = (!readout.attacks.is_empty()).then_some(readout.white_box_accuracy);
            rows.push([
                model.model.clone(),
                readout.name.clone(),
                percent(readout.clean_accuracy),
                readout.ready_made_accuracy.map_or("-".to_owned(), percent),
                white_box.map_or("-".to_owned(), percent),
                label(&readout.verdict).to_owned(),
                test(&readout.verdict),
            ]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS.len()] = std::array::from_fn(width);
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let columns = || widths.into_iter().zip(COLUMNS.map(|(_, words)| words));
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(columns()).map(|(cell, (width, words))| {
            if words { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text += &line(cells.collect());
        if number == 0 {
            let rules =
                columns().map(
                    |(width, words)| {
                        if words { "-".repeat(width) } else { format!("{}:", "-".repeat(width - 1)) }
                    },
                );
            text += &line(rules.collect());
        }
    }
    text
}

/// What the test of the arms says: `17/1, 0.0001`.
fn test(verdict: &Verdict) -> String {
    match (verdict.b, verdict.c, verdict.p_value_corrected) {
        (Some(b), Some(c), Some(p)) if p < 0.001 => format!("{b}/{c}, <0.001"),
        (Some(b), Some(c), Some(p)) => format!("{b}/{c}, {p:.3}"),
        _ => "-".to_owned(),
    }
}
