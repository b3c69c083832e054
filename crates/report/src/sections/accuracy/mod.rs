//! Clean, ready-made and white-box accuracy by model and readout, with the numbers of the finding.

mod paper;
mod tables;

pub(crate) use tables::summary;
pub(super) use tables::{VERDICT_CAPTION, VERDICT_COLUMNS, verdict_cells};

use self::tables::{about_verdicts, verdicts};
use super::Section;
use crate::layout::html::{Page, drawing, drawing_above, table_of};
use crate::layout::latex::Tables;
use crate::layout::markdown::{section, table};
use crate::svg::{self, Drawing};
use crate::{Report, ReportError, derived};
use maud::{Markup, html};

pub(crate) struct Accuracies;

impl Section for Accuracies {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        let groups = derived::by_setting(&report.models);
        if groups.is_empty() {
            return Ok(html! {});
        }
        Ok(html! {
            section id=(page.section("accuracy", "Accuracy")) {
                h2 { "Accuracy" }
                @for (setting, models) in &groups {
                    @if groups.len() > 1 { h3 { (setting) } }
                    @let mut summary = summary(setting, models);
                    (drawing_above(&svg::accuracy(setting, models, summary.clone()), page))
                    // What was tried stands with the evidence of each verdict.
                    @let _ = summary.remove("Tried");
                    (table_of(&summary, &page.next()))
                    (table_of(&verdicts(setting, models), &page.next()))
                    (drawing(&svg::attribution(setting, models), page))
                }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        section(out, "Accuracy", &derived::by_setting(&report.models), |out, (setting, models)| {
            table(out, &summary(setting, models));
            table(out, &verdicts(setting, models));
        });
        Ok(())
    }

    fn latex(&self, report: &Report, tables: &mut Tables) {
        let groups = derived::by_setting(&report.models);
        // A label holds the setting only where it must: then other models in the report do not change it.
        let setting = |says: &str| if groups.len() > 1 { says.to_owned() } else { String::new() };
        for (says, models) in &groups {
            paper::short(tables, says, models, &["accuracy", &setting(says)]);
        }
        let mut explained = None;
        for (says, models) in &groups {
            paper::intervals(tables, says, models, &["intervals", &setting(says)], &mut explained);
        }
        let (about, mut explained) = (about_verdicts(), None);
        for (says, models) in &groups {
            let verdicts = verdicts(says, models);
            tables.explained(&verdicts, &["verdict", &setting(says)], &about, &mut explained);
        }
    }

    fn drawings(&self, report: &Report) -> Vec<Drawing> {
        let groups = derived::by_setting(&report.models);
        let drawings = groups.iter().flat_map(|(setting, models)| {
            [svg::accuracy(setting, models, summary(setting, models)), svg::attribution(setting, models)]
        });
        drawings.collect()
    }
}
