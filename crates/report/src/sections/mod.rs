//! The parts of a report, a file or a folder each: what a part shows in every format.
//!
//! The formats walk [`SECTIONS`]. Numbers become tables ([`crate::table`]) and figures ([`crate::figure`]) once, and each
//! format lays these out, so that formats cannot disagree.

mod accuracy;
mod certified;
mod checks;
mod classes;
mod comparison;
mod diagnosis;
mod dose;
mod effort;
mod figures;
mod glossary;
mod images;
mod radii;
mod randomness;
mod reproduce;
mod runs;
mod training;
mod verdict;

pub(crate) use accuracy::summary;
pub(crate) use certified::tables as certified_tables;
pub use classes::classes_csv;
pub use comparison::comparison_csv;
pub(crate) use diagnosis::setting as diagnosis_setting;
pub use diagnosis::{diagnosis_csv, diagnosis_summary};
pub use dose::dose_csv;
pub(crate) use radii::tables as radii_tables;
pub(crate) use training::setting as training_setting;
pub use training::{training_csv, training_method};

use crate::layout::html::Page;
use crate::layout::latex::Tables;
use crate::svg::Drawing;
use crate::{Report, ReportError};
use maud::Markup;

/// Every part, in the order of the page. A new one is a line here, and its file.
pub(crate) const SECTIONS: [&dyn Section; 18] = [
    &verdict::Verdicts,
    &effort::Effort,
    &accuracy::Accuracies,
    &radii::Radii,
    &randomness::Draws,
    &certified::Certified,
    &comparison::Paired,
    &dose::GapAgainstResidual,
    &diagnosis::Findings,
    &checks::Flags,
    &classes::Classes,
    &images::Adversarial,
    &runs::Runs,
    &diagnosis::Diagnoses,
    &training::Trainings,
    &figures::Given,
    &glossary::Glossary,
    &reproduce::Reproduce,
];

/// A part of a report. Where it has nothing to say, or a format does not show it, it adds nothing.
pub(crate) trait Section {
    /// Its `section` of the page, which names itself to the navigation ([`Page::section`]).
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError>;

    /// Its chapter in Markdown.
    fn markdown(&self, _: &Report, _: &mut String) -> Result<(), ReportError> {
        Ok(())
    }

    /// Its tables, and sentences as comments.
    fn latex(&self, _: &Report, _: &mut Tables) {}

    /// Where its tables stand in LaTeX.
    fn rank(&self) -> Rank {
        Rank::Results
    }

    /// Its figures as files.
    fn drawings(&self, _: &Report) -> Vec<Drawing> {
        Vec::new()
    }

    /// CSV files beside that of the accuracies: their names and contents.
    fn sheets(&self, _: &Report) -> Result<Vec<(String, String)>, ReportError> {
        Ok(Vec::new())
    }
}

/// The order of LaTeX: what a paper shows first comes first, sections of one rank in the order of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Accuracies, comparisons, and the runs that they rest on.
    Results,
    /// What becomes of single classes.
    Details,
    /// Diagnoses and training.
    Background,
}
