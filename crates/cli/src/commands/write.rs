//! What evaluations leave behind: `results.json`, `results.md`, `report.html`, and a table on stdout.

use std::path::Path;

use equipoise_record::{Accuracy, Diagnosis, Evaluation};
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
    let report = Report {
        title,
        models,
        diagnoses: Vec::new(),
        figures: Vec::new(),
        records: 1,
        command: Some(command_line()),
    };
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
    let title = title_of(&[], std::slice::from_ref(&diagnosis));
    let report =
        Report { title, diagnoses: vec![diagnosis], command: Some(command_line()), ..Report::default() };
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

/// A title for some models.
pub fn title(models: &[Evaluation]) -> String {
    match models {
        [one] => format!("Robustness of {}", one.model),
        several => format!("Robustness of {} models", several.len()),
    }
}

/// A title for models and diagnoses.
pub fn title_of(models: &[Evaluation], diagnoses: &[Diagnosis]) -> String {
    if !models.is_empty() {
        return title(models);
    }
    let names: Vec<&str> =
        diagnoses.iter().flat_map(|d| &d.diagnosed).map(|model| model.model.as_str()).collect();
    match names.as_slice() {
        [one] => format!("Diagnosis of {one}"),
        several => format!("Diagnosis of {} models", several.len()),
    }
}

/// The table and the verdicts, as Markdown.
pub fn summary(models: &[Evaluation]) -> String {
    let verdicts = models.iter().flat_map(statements);
    let verdicts = verdicts.map(|verdict| format!("\n{}: {}\n", verdict.label, verdict.sentence));
    table(models) + &verdicts.collect::<String>()
}

/// Accuracies and the finding, a row for each model and readout, as Markdown.
pub fn table(models: &[Evaluation]) -> String {
    let percent = |a: Accuracy| format!("{:.1}%", 100.0 * a.value);
    let header = ["Model", "Readout", "Clean", "Ready-made", "White-box", "Finding"].map(str::to_owned);
    let mut rows = vec![header];
    for model in models {
        for readout in &model.readouts {
            rows.push([
                model.model.clone(),
                readout.name.clone(),
                percent(readout.clean_accuracy),
                readout.ready_made_accuracy.map_or("-".to_owned(), percent),
                percent(readout.white_box_accuracy),
                label(&readout.verdict).to_owned(),
            ]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                0 | 1 | 5 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        text += &format!("| {} |\n", cells.join(" | "));
        if number == 0 {
            let rules: Vec<String> = widths
                .iter()
                .enumerate()
                .map(|(column, &width)| match column {
                    0 | 1 | 5 => "-".repeat(width),
                    _ => format!("{}:", "-".repeat(width - 1)),
                })
                .collect();
            text += &format!("| {} |\n", rules.join(" | "));
        }
    }
    text
}
