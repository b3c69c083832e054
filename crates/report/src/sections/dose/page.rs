//! Gaps against residuals and cosines in a report: the sentences, the figures, and every point folded.

use super::epochs;
use super::figures::figures;
use super::tables::table;
use super::{ABOUT, Dose, Dosed, dose_csv};
use crate::layout::html::{Page, drawing, table_of};
use crate::layout::latex::{self, Tables};
use crate::layout::markdown::{self, folded, text};
use crate::sections::Section;
use crate::svg::{self, Drawing};
use crate::table::Table;
use crate::{Report, ReportError};
use maud::{Markup, html};
use std::fmt::Write;

pub(crate) struct GapAgainstResidual;

impl Section for GapAgainstResidual {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        let Some(found) = of(report) else { return Ok(html! {}) };
        Ok(html! {
            section id=(page.section("dose", "Gap against residual")) {
                h2 { "Gap against residual" }
                p.quiet { (ABOUT) }
                @for group in &found.groups {
                    ul { @for dose in Dose::ALL { li { (group.setting) ". " (group.sentence(dose)) } } }
                    @for figure in figures(group) { (drawing(&svg::lines(&figure), page)) }
                    @for course in epochs::drawings(group) { (drawing(&course, page)) }
                    details.more {
                        summary { "Every point, " (group.rung.name()) }
                        (table_of(&table(group), &page.next()))
                    }
                }
                @if !found.notes.is_empty() { ul { @for note in &found.notes { li { (note) } } } }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        let Some(found) = of(report) else { return Ok(()) };
        let _ = write!(out, "\n## Gap against residual\n\n{}\n", text(ABOUT));
        for group in &found.groups {
            out.push('\n');
            for dose in Dose::ALL {
                let _ = writeln!(out, "- {}. {}", text(&group.setting), text(&group.sentence(dose)));
            }
            figures(group).iter().for_each(|figure| markdown::figure(out, "###", figure));
            for course in epochs::drawings(group) {
                let _ = write!(out, "\n### {}\n\n{}\n", text(&course.title), text(&course.caption));
                let points = Table { caption: String::new(), ..course.table };
                folded(out, "Points", |out| markdown::table(out, &points));
            }
            let summary = format!("Every point, {}", group.rung.name());
            folded(out, &summary, |out| markdown::table(out, &table(group)));
        }
        out.push_str(if found.notes.is_empty() { "" } else { "\n" });
        for note in &found.notes {
            let _ = writeln!(out, "- {}", text(note));
        }
        Ok(())
    }

    /// Every point as a row, and what the trends are in comments.
    fn latex(&self, report: &Report, tables: &mut Tables) {
        let Some(found) = of(report) else { return };
        tables.out.push('\n');
        tables.comment(&latex::text(ABOUT));
        for group in &found.groups {
            for dose in Dose::ALL {
                let says = [&group.setting, &group.sentence(dose)].map(|says| latex::text(says));
                tables.comment(&says.join(". "));
            }
        }
        for note in &found.notes {
            tables.comment(&latex::text(note));
        }
        let several = found.groups.iter().any(|group| group.setting != found.groups[0].setting);
        for group in &found.groups {
            let setting = if several { group.setting.as_str() } else { "" };
            let label = tables.label(&["dose", group.rung.name(), setting]);
            let table = table(group);
            tables.whole(&label, &latex::text(&table.caption), &table);
        }
    }

    fn drawings(&self, report: &Report) -> Vec<Drawing> {
        let found = of(report);
        let groups = found.iter().flat_map(|found| &found.groups);
        let drawings = groups.flat_map(|group| {
            let relations = figures(group).into_iter().map(|figure| svg::lines(&figure));
            relations.chain(epochs::drawings(group)).collect::<Vec<_>>()
        });
        drawings.collect()
    }

    fn sheets(&self, report: &Report) -> Result<Vec<(String, String)>, ReportError> {
        let sheet = dose_csv(&report.models, &report.diagnoses)?;
        Ok(sheet.map(|text| ("dose.csv".to_owned(), text)).into_iter().collect())
    }
}

fn of(report: &Report) -> Option<Dosed<'_>> {
    Dosed::of(&report.models, &report.diagnoses)
}
