//! Markdown: the parts of a report one after the other.

use super::Exporter;
use crate::layout::markdown::text;
use crate::sections::SECTIONS;
use crate::{Report, ReportError};

pub(crate) struct Markdown;

impl Exporter for Markdown {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let mut out = format!("# {}\n", text(&report.title));
        SECTIONS.iter().try_for_each(|section| section.markdown(report, &mut out))?;
        Ok(out)
    }
}
