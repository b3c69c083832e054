//! LaTeX: verdicts as comments, then `booktabs` tables, one short enough for a paper first, then all the numbers; each
//! has its setting in the caption and a label.

use super::Exporter;
use crate::layout::latex::{Tables, comment};
use crate::sections::SECTIONS;
use crate::{Report, ReportError};

pub(crate) struct Latex;

impl Exporter for Latex {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let mut tables = Tables::default();
        tables.comment(&comment(&report.title));
        tables.comment("Needs \\usepackage{booktabs} and \\usepackage{adjustbox}.");
        tables.comment(
            "First the short tables for a paper, then those with all numbers, which refer to each other.",
        );
        if let Some(command) = &report.command {
            tables.comment(&format!("Made by: {}", comment(command)));
        }
        let mut sections = SECTIONS;
        sections.sort_by_key(|section| section.rank());
        sections.iter().for_each(|section| section.latex(report, &mut tables));
        Ok(tables.out)
    }
}
