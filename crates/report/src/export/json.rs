//! JSON: the record itself, as other tools rely on it.

use super::Exporter;
use crate::{Report, ReportError};
use equipoise_record::{Collection, FORMAT_VERSION};

pub(crate) struct Json;

impl Exporter for Json {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let mut text = match report.models.as_slice() {
            [model] => serde_json::to_string_pretty(model)?,
            models => {
                let collection = Collection { version: FORMAT_VERSION, models: models.to_vec() };
                serde_json::to_string_pretty(&collection)?
            }
        };
        text.push('\n');
        Ok(text)
    }
}
