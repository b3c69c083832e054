//! Records to files that people and other tools read: HTML, Markdown, JSON, CSV, LaTeX, and figures as SVG and PDF.
//!
//! A [`Report`] holds evaluations ([`equipoise_record::Evaluation`]), diagnoses, training runs and line charts ([`Figure`]);
//! [`render`] makes text of it in one [`Format`], [`write_atomically`] puts text into a file. Nothing here
//! computes an accuracy or a finding: everything shown is in the record, and [`statement`] puts its finding into words.
//! Its rules stand in the crate `equipoise-verdict`, which compares models as well.
//!
//! ```
//! use equipoise_report::{Format, Report, render};
//!
//! let report = Report { title: "No models yet".into(), ..Report::default() };
//! let page = render(Format::Html, &report)?;
//! assert!(page.starts_with("<!DOCTYPE html>"));
//! # Ok::<(), equipoise_report::ReportError>(())
//! ```

pub mod board;
mod card;
mod distinguish;
mod error;
mod export;
mod derived;
mod figure;
mod format;
mod layout;
mod sections;
mod sheet;
mod svg;
mod table;
mod verdict;
mod numbers;
mod write;

pub use card::{ModelCard, model_card};
pub use distinguish::{distinguish, distinguish_trainings};
pub use error::ReportError;
pub use export::{PdfFile, SvgFile, csv_files, pdf_files, svg_files};
pub use figure::{Figure, Kind, Mark, Scale, Series};
pub use format::Format;
pub use sections::{
    classes_csv, comparison_csv, diagnosis_csv, diagnosis_summary, dose_csv, training_csv, training_method,
};
pub use verdict::{Statement, label, statement, statements};
pub use write::write_atomically;

use equipoise_record::{Diagnosis, Evaluation, Training};

/// What a report is made from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The title of the page.
    pub title: String,
    /// The models, in the order that they should be shown. May be empty, for a report of figures alone.
    pub models: Vec<Evaluation>,
    /// Diagnoses, shown after the evaluations.
    pub diagnoses: Vec<Diagnosis>,
    /// Training runs, shown after the diagnoses.
    pub trainings: Vec<Training>,
    /// Line charts beside those that every report draws from its records. JSON and CSV hold the record
    /// only and LaTeX tables only: there the figures are left out.
    pub figures: Vec<Figure>,
    /// How many record files the models come from: p-values are corrected within each alone, which is said where there
    /// are several.
    pub records: usize,
    /// The command line that repeats the run.
    pub command: Option<String>,
}

/// The report as text in `format`.
///
/// # Errors
/// [`ReportError::NotFinite`] if a record holds a number that is not finite: no format could say it
/// truthfully. [`ReportError::Json`] and [`ReportError::Csv`] if the writer fails.
pub fn render(format: Format, report: &Report) -> Result<String, ReportError> {
    derived::check_finite(&report.models)?;
    export::exporter(format).render(report)
}
