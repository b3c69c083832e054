//! The leaderboard as CSV: a line for each row, shares as fractions, for pandas and R.

use equipoise_record::Accuracy;

use super::Standing;
use crate::ReportError;

/// The rows as CSV.
///
/// # Errors
///
/// [`ReportError::Csv`] if the writer fails.
pub fn table(rows: &[Standing]) -> Result<String, ReportError> {
    write(rows).map_err(|error| ReportError::Csv(error.to_string()))
}

fn write(rows: &[Standing]) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "model",
        "architecture",
        "weights_sha256",
        "readout",
        "dataset",
        "norm",
        "eps",
        "images",
        "clean",
        "robust",
        "robust_low",
        "robust_high",
        "lowest_alone",
        "autoattack",
        "certified",
        "certified_by",
        "findings",
        "checks_raised",
        "evidence",
        "records",
    ])?;
    for row in rows {
        let share = |accuracy: Accuracy| accuracy.value.to_string();
        let [low, high] = row.robust.interval;
        let certified = row.certified.as_ref();
        writer.write_record([
            row.model.clone(),
            row.architecture.clone(),
            row.weights.clone(),
            row.readout.clone(),
            row.dataset.clone(),
            row.norm.clone(),
            row.eps.to_string(),
            row.robust.count().to_string(),
            share(row.clean),
            share(row.robust),
            low.to_string(),
            high.to_string(),
            share(row.lowest_alone),
            row.autoattack.map(share).unwrap_or_default(),
            certified.map(|(accuracy, _)| share(*accuracy)).unwrap_or_default(),
            certified.map(|(_, method)| method.clone()).unwrap_or_default(),
            row.findings.join("; "),
            row.raised.join("; "),
            row.trust.name().to_owned(),
            row.links.join("; "),
        ])?;
    }
    let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(String::from_utf8(bytes).expect("text was written"))
}
