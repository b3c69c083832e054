//! What can go wrong, in words that say what to do.

use std::path::PathBuf;

/// Why a report could not be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The name of a format is not known.
    #[error("there is no report format `{0}`: use one of json, markdown, html, csv, latex")]
    UnknownFormat(String),
    /// A record holds a number that is not finite.
    #[error(
        "`{field}` of model `{model}` is not a finite number: the record is damaged; evaluate the model again"
    )]
    NotFinite {
        /// The model's name.
        model: String,
        /// Which field of its record.
        field: String,
    },
    /// The JSON writer failed.
    #[error("the record could not be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The CSV writer failed.
    #[error("the record could not be written as CSV: {0}")]
    Csv(String),
    /// Pixels of a gallery that do not make an image.
    #[error(
        "the gallery of model `{model}` holds no image of its own shape at image {index}: the record is damaged; \
         diagnose the model again"
    )]
    Png {
        /// The model's name.
        model: String,
        /// The image's index in its data set.
        index: usize,
    },
    /// A figure could not be made a PDF.
    #[error("a figure could not be written as PDF: {0}; write it as svg instead")]
    Pdf(String),
    /// A file could not be written.
    #[error("could not write {path}: {cause}; {advice}", path = .path.display())]
    Write {
        /// The file that was to be written. It is as it was before.
        path: PathBuf,
        /// What the user can do about it.
        advice: &'static str,
        /// What the operating system said.
        #[source]
        cause: std::io::Error,
    },
}
