//! Records as pages, tables and sentences.

use equipoise_record::{Collection, read};
use equipoise_report::{Format, Report, render as render_report, statements as statements_of};
use pyo3::prelude::*;

use crate::errors::value_error;

fn record(text: &str) -> PyResult<Collection> {
    read(text).map_err(|error| value_error(format!("not a record: {error}")))
}

/// Records on one page, in a format: `html`, `markdown`, `json`, `csv` or `latex`.
#[pyfunction]
pub fn render(records: Vec<String>, format: &str, title: &str) -> PyResult<String> {
    let format: Format = format.parse().map_err(value_error)?;
    let mut report = Report { title: title.to_owned(), records: records.len(), ..Report::default() };
    for text in &records {
        let Collection { models, diagnoses, trainings, .. } = record(text)?;
        report.models.extend(models);
        report.diagnoses.extend(diagnoses);
        report.trainings.extend(trainings);
    }
    render_report(format, &report).map_err(value_error)
}

/// Label, sentence, reasons, warnings.
type Says = (String, String, Vec<String>, Vec<String>);

/// What is said of each readout of each model of a record.
#[pyfunction]
pub fn statements(record: &str) -> PyResult<Vec<Says>> {
    let of = |model| {
        statements_of(model)
            .into_iter()
            .map(|says| (says.label.to_owned(), says.sentence, says.reasons, says.warnings))
    };
    Ok(self::record(record)?.models.iter().flat_map(of).collect())
}
