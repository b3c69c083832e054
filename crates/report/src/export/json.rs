//! JSON: the record itself, always as a [`Collection`], as other tools rely on it.

use super::Exporter;
use crate::{Report, ReportError};
use equipoise_record::{Collection, FORMAT_VERSION};

pub(crate) struct Json;

impl Exporter for Json {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let Report { models, diagnoses, trainings, .. } = report;
        let mut text = match (models.as_slice(), diagnoses.as_slice(), trainings.as_slice()) {
            ([], [diagnosis], []) => serde_json::to_string_pretty(diagnosis)?,
            _ => serde_json::to_string_pretty(&Collection {
                version: FORMAT_VERSION,
                models: models.clone(),
                diagnoses: diagnoses.clone(),
                trainings: trainings.clone(),
            })?,
        };
        text.push('\n');
        Ok(text)
    }
}
