//! Diagnoses in a report: each with its sections, and the page with its images.

use super::{MEASUREMENTS, Part, diagnosis_csv, parts, setting};
use crate::figure::Figure;
use crate::layout::gallery;
use crate::layout::html::{Page, drawing, table_of};
use crate::layout::latex::{self, Tables};
use crate::layout::markdown::{self, text};
use crate::sections::{Rank, Section};
use crate::svg::{self, Drawing};
use crate::{Report, ReportError, numbers};
use equipoise_record::{Diagnosis, ModelDiagnosis};
use maud::{Markup, html};
use std::fmt::Write;

pub(crate) struct Diagnoses;

impl Section for Diagnoses {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        let all = report.diagnoses.iter().map(|one| diagnosed(one, page)).collect::<Result<Vec<_>, _>>()?;
        Ok(html! { @for one in all { (one) } })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        for one in &report.diagnoses {
            let _ = write!(out, "\n## Diagnosis: {}\n", text(&setting(one)));
            for part in parts(one) {
                let _ = write!(out, "\n### {}\n\n{}\n", part.title, text(part.about));
                for line in &part.absent {
                    let _ = write!(out, "\n{}\n", text(line));
                }
                part.tables.iter().for_each(|table| markdown::table(out, table));
                part.figures.iter().for_each(|figure| markdown::figure(out, "####", figure));
            }
        }
        Ok(())
    }

    fn rank(&self) -> Rank {
        Rank::Background
    }

    fn latex(&self, report: &Report, tables: &mut Tables) {
        for one in &report.diagnoses {
            let model = match one.diagnosed.as_slice() {
                [alone] => alone.model.as_str(),
                _ => "",
            };
            let setting = if report.diagnoses.len() > 1 { setting(one) } else { String::new() };
            for Part { title, tables: own, .. } in parts(one) {
                for table in own {
                    let label = tables.label(&[title, model, &setting]);
                    tables.whole(&label, &latex::text(&table.caption), &table);
                }
            }
        }
    }

    fn drawings(&self, report: &Report) -> Vec<Drawing> {
        report.diagnoses.iter().flat_map(all_figures).map(|figure| svg::lines(&figure)).collect()
    }

    fn sheets(&self, report: &Report) -> Result<Vec<(String, String)>, ReportError> {
        let mut all = Vec::new();
        for (number, one) in (1..).zip(&report.diagnoses) {
            let sheets = diagnosis_csv(one)?.into_iter();
            // Files of one name would replace each other.
            all.extend(sheets.map(|(name, text)| match number {
                1 => (name, text),
                _ => (name.replace(".csv", &format!("-{number}.csv")), text),
            }));
        }
        Ok(all)
    }
}

/// All figures, in the order of their sections.
fn all_figures(diagnosis: &Diagnosis) -> Vec<Figure> {
    MEASUREMENTS.iter().flat_map(|of| of.figures(diagnosis)).collect()
}

/// A diagnosis, section by section. Only the first gets the ids that the navigation points to.
fn diagnosed(one: &Diagnosis, page: &mut Page) -> Result<Markup, ReportError> {
    let galleries = galleries(one)?;
    Ok(html! {
        section id=(page.section("diagnosis", "Diagnosis")) {
            h2 { "Diagnosis" }
            p.quiet { (setting(one)) ". " (costs(one)) }
            @for part in parts(one) {
                h3 { (part.title) }
                p.quiet { (part.about) }
                @for line in &part.absent { p.quiet { (line) } }
                @for figure in &part.figures { (drawing(&svg::lines(figure), page)) }
                @for table in &part.tables { (table_of(table, &page.next())) }
            }
        }
        @if !galleries.is_empty() {
            section id=(page.section("gallery", "Gallery")) {
                h2 { "Gallery" }
                p.quiet {
                    "The first images of the data that are correct when clean, attacked by "
                    (numbers::attack(one.attacked)) "."
                }
                @for gallery in galleries { (gallery) }
            }
        }
    })
}

/// The images of every model of a diagnosis.
fn galleries(diagnosis: &Diagnosis) -> Result<Vec<Markup>, ReportError> {
    let of = |model| MEASUREMENTS.iter().filter_map(move |of| Some((model, of.images(model)?)));
    let with_images = diagnosis.diagnosed.iter().flat_map(of);
    with_images.map(|(model, found): (&ModelDiagnosis, _)| gallery::gallery(&model.model, found)).collect()
}

/// What a diagnosis took, in words.
fn costs(one: &Diagnosis) -> String {
    let (mut seconds, mut evaluations, mut vjps) = (0.0, 0, 0);
    for model in &one.diagnosed {
        for section in MEASUREMENTS.iter().filter_map(|of| of.section(model)) {
            seconds += section.seconds;
            evaluations += section.cell_evaluations;
            vjps += section.vjps;
        }
    }
    format!(
        "It took {}, {} evaluations of the cell and {} vector-Jacobian products, beside those of the attack.",
        numbers::seconds(seconds),
        numbers::thousands(evaluations),
        numbers::thousands(vjps)
    )
}
