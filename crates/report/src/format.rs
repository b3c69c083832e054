//! The formats a report can be written in, and their names on the command line and in files.

use crate::ReportError;
use std::fmt;
use std::str::FromStr;

/// A format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The record itself: a `Collection` (the `results.json` contract), or a `Diagnosis` alone.
    Json,
    /// GitHub-flavoured Markdown.
    Markdown,
    /// One self-contained page with figures: no scripts, no network.
    Html,
    /// One row for each measured accuracy, for data frames.
    Csv,
    /// Tables for a paper; needs the packages `booktabs` and `adjustbox`.
    Latex,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 5] = [Format::Json, Format::Markdown, Format::Html, Format::Csv, Format::Latex];

    /// The usual file extension, without a dot.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Markdown => "md",
            Format::Html => "html",
            Format::Csv => "csv",
            Format::Latex => "tex",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Json => "json",
            Format::Markdown => "markdown",
            Format::Html => "html",
            Format::Csv => "csv",
            Format::Latex => "latex",
        })
    }
}

/// Reads a name as [`Display`](fmt::Display) writes it, or a file extension; case does not matter.
impl FromStr for Format {
    type Err = ReportError;

    fn from_str(name: &str) -> Result<Self, ReportError> {
        let wanted = name.trim().to_ascii_lowercase();
        Format::ALL
            .into_iter()
            .find(|f| wanted == f.to_string() || wanted == f.extension())
            .ok_or_else(|| ReportError::UnknownFormat(name.to_owned()))
    }
}
