//! Diagnoses: each of their sections in a file of its own, and what the formats show of all of them.
//!
//! Models of one diagnosis were measured on the same images, so they share a figure wherever their curves can
//! be told apart.

mod accuracy;
mod alignment;
mod distance;
mod findings;
mod gallery;
mod landscape;
mod spreads;
mod page;
mod residual;
mod spectrum;
mod starts;
mod sweep;
mod targets;
mod work;
mod yardstick;

pub(super) use findings::Findings;
pub use findings::diagnosis_summary;
pub(super) use page::Diagnoses;

use self::spreads::Sheet;
use crate::figure::Figure;
use crate::sheet::sheet;
use crate::table::Table;
use crate::{ReportError, numbers};
use equipoise_record::{Diagnosis, Gallery, ModelDiagnosis, Section};

/// The sections of a diagnosis, in the order of the page. A new one is a line here, and its file.
const MEASUREMENTS: [&dyn Measurement; 12] = [
    &residual::Convergence,
    &accuracy::IterateAccuracy,
    &alignment::Gradients,
    &yardstick::OneAgainstOne,
    &landscape::LossLandscape,
    &spectrum::Jacobian,
    &sweep::Sweeps,
    &distance::Nearest,
    &targets::ClassToClass,
    &work::SolverWork,
    &starts::FixedPoints,
    &gallery::Images,
];

/// A section of a diagnosis, in every form that a format shows.
trait Measurement {
    /// Its key in `diagnosis.json`, and the name of its CSV file.
    fn name(&self) -> &'static str;

    /// Its heading.
    fn title(&self) -> &'static str;

    /// What it asks, and how to read it.
    fn about(&self) -> &'static str;

    /// What the record has of one model: what it cost, and why there may be no result.
    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>>;

    /// Its CSV file; without rows none is written.
    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet;

    fn figures(&self, _: &Diagnosis) -> Vec<Figure> {
        Vec::new()
    }

    fn tables(&self, _: &Diagnosis) -> Vec<Table> {
        Vec::new()
    }

    /// What the sentence on a model says of it.
    fn clause(&self, _: &Diagnosis, _: &ModelDiagnosis) -> Option<Clause> {
        None
    }

    /// Images to look at, which the page has in a section of its own.
    fn images<'a>(&self, _: &'a ModelDiagnosis) -> Option<&'a Gallery> {
        None
    }
}

/// A part of the sentence on a model.
struct Clause {
    /// Clauses stand in the order of these: what matters most comes first.
    place: u8,
    says: String,
}

/// A section of a diagnosis, ready to be laid out.
struct Part {
    title: &'static str,
    about: &'static str,
    figures: Vec<Figure>,
    tables: Vec<Table>,
    /// Models that it makes no sense for, with the reason.
    absent: Vec<String>,
}

/// The sections that were measured, in their order.
fn parts(diagnosis: &Diagnosis) -> Vec<Part> {
    let part = |of: &&dyn Measurement| Part {
        title: of.title(),
        about: of.about(),
        figures: of.figures(diagnosis),
        tables: of.tables(diagnosis),
        absent: absent(diagnosis, *of),
    };
    let parts = MEASUREMENTS.iter().map(part);
    parts
        .filter(|part| !part.figures.is_empty() || !part.tables.is_empty() || !part.absent.is_empty())
        .collect()
}

fn absent(diagnosis: &Diagnosis, of: &dyn Measurement) -> Vec<String> {
    let reason = |model: &ModelDiagnosis| {
        let reason = of.section(model)?.absent?;
        Some(format!("Not measured for {}: {reason}.", model.model))
    };
    diagnosis.diagnosed.iter().filter_map(reason).collect()
}

/// File name and content of each section that was measured, in long form: a row for each number with its spread or
/// interval. Shares are fractions; a field without a value is empty.
///
/// # Errors
/// [`ReportError::Csv`] if the writer fails.
pub fn diagnosis_csv(diagnosis: &Diagnosis) -> Result<Vec<(String, String)>, ReportError> {
    let sheets = MEASUREMENTS.iter().map(|of| (of.name(), of.sheet(diagnosis)));
    let measured = sheets.filter(|(_, sheet)| !sheet.rows.is_empty());
    measured.map(|(name, of)| Ok((format!("{name}.csv"), sheet(&of.head, of.rows)?))).collect()
}

/// A section's result.
fn result<T>(section: &Option<Section<T>>) -> Option<&T> {
    section.as_ref()?.result.as_ref()
}

/// A section's results, by model.
fn results<'a, T>(
    diagnosis: &'a Diagnosis,
    section: impl Fn(&'a ModelDiagnosis) -> Option<&'a Section<T>>,
) -> Vec<(&'a ModelDiagnosis, &'a T)>
where
    T: 'a,
{
    let found = diagnosis.diagnosed.iter().map(|model| (model, section(model)));
    found.filter_map(|(model, section)| Some((model, section?.result.as_ref()?))).collect()
}

/// Where the numbers come from: data set, budget, count.
pub(crate) fn setting(diagnosis: &Diagnosis) -> String {
    format!(
        "{}, {} ε = {}, {}",
        diagnosis.dataset,
        numbers::norm(&diagnosis.norm),
        numbers::eps(diagnosis.eps),
        numbers::images(diagnosis.count)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_of_the_record_is_shown() {
        assert_eq!(MEASUREMENTS.map(|of| of.name()), ModelDiagnosis::SECTIONS);
    }
}
