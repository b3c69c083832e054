//! Every figure of a report as a file of its own: those drawn from its records, then those it was given.

use crate::sections::SECTIONS;
use crate::svg::{self, Drawing};
use crate::{Report, ReportError};

/// A figure as an SVG file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SvgFile {
    /// A file name without folder: lower-case letters, digits and hyphens, `.svg`.
    pub name: String,
    /// The document. Colours are attributes of their elements: light, without style sheet.
    pub contents: String,
}

/// A figure as a PDF file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PdfFile {
    /// The same name as that of the SVG file, but `.pdf`.
    pub name: String,
    /// The document: one page, as large as the figure, with its fonts.
    pub contents: Vec<u8>,
}

/// Every figure of a report as an SVG file: those drawn from the records, then the report's own.
pub fn svg_files(report: &Report) -> Vec<SvgFile> {
    let file = |(name, drawing): (String, Drawing)| SvgFile {
        name: format!("{name}.svg"),
        contents: format!("{}\n", svg::file(&drawing).into_string()),
    };
    named(report).map(file).collect()
}

/// Every figure of a report as a PDF file, in the order of [`svg_files`]; the same report gives the same bytes.
///
/// # Errors
/// [`ReportError::Pdf`] if the fonts that this crate brings along cannot be put into a file.
pub fn pdf_files(report: &Report) -> Result<Vec<PdfFile>, ReportError> {
    let file = |(name, drawing): (String, Drawing)| {
        Ok(PdfFile { name: format!("{name}.pdf"), contents: svg::pdf(&drawing)? })
    };
    named(report).map(file).collect()
}

/// Drawings with the names of their files, without what follows the dot.
fn named(report: &Report) -> impl Iterator<Item = (String, Drawing)> {
    let drawings: Vec<Drawing> = SECTIONS.iter().flat_map(|section| section.drawings(report)).collect();
    let names = svg::names(&drawings);
    names.into_iter().zip(drawings)
}
