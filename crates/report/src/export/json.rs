//! JSON: the record itself, always as a [`Collection`], as other tools rely on it.

use super::Exporter;
use crate::{Report, ReportError};
use equipoise_record::{Collection, FORMAT_VERSION};

pub(crate) struct Json;

impl Exporter for Json {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let mut text = match (report.models.as_slice(), report.diagnoses.as_slice()) {
            ([], [diagnosis]) => serde_json::to_string_pretty(diagnosis)?,
            (models, diagnoses) => {
                let (models, diagnoses) = (models.to_vec(), diagnoses.to_vec());
                let collection = Collection { version: FORMAT_VERSION, models, diagnoses };
                serde_json::to_string_pretty(&collection)?
            }
        };
        text.push('\n');
        Ok(text)
    }
}
