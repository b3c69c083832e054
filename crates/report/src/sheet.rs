//! Tables for other programs: CSV with a head.

use crate::ReportError;

/// Text of a CSV file. Every row must be as long as the head.
///
/// # Errors
/// [`ReportError::Csv`] if the writer fails, or a row is of another length.
pub(crate) fn sheet(
    head: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Result<String, ReportError> {
    let failed = |error: &dyn std::fmt::Display| ReportError::Csv(error.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(head).map_err(|e| failed(&e))?;
    for row in rows {
        writer.write_record(row).map_err(|e| failed(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|e| failed(&e))
}
