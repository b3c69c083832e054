//! One file for each format, all behind one trait.

mod csv;
mod figures;
mod html;
mod json;
mod latex;
mod markdown;

pub use self::csv::csv_files;
pub use figures::{PdfFile, SvgFile, pdf_files, svg_files};

use crate::{Format, Report, ReportError};

/// Lays a report out in one format. Every string of the report is a user's: escape it.
pub(crate) trait Exporter {
    fn render(&self, report: &Report) -> Result<String, ReportError>;
}

pub(crate) fn exporter(format: Format) -> &'static dyn Exporter {
    match format {
        Format::Json => &json::Json,
        Format::Markdown => &markdown::Markdown,
        Format::Html => &html::Html,
        Format::Csv => &csv::Csv,
        Format::Latex => &latex::Latex,
    }
}
