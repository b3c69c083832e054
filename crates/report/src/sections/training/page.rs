//! Training runs in a report: where each has come to, the curves, and the epochs folded.

use super::figures::figures;
use super::tables::{epochs, summary};
use super::{ABOUT, training_csv, unfinished};
use crate::layout::html::{Page, drawing, table_of};
use crate::layout::latex::{self, Tables};
use crate::layout::markdown::{self, folded, text};
use crate::sections::{Rank, Section};
use crate::svg::{self, Drawing};
use crate::{Report, ReportError};
use maud::{Markup, html};
use std::fmt::Write;

pub(crate) struct Trainings;

impl Section for Trainings {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        let trainings = &report.trainings;
        let Some(summary) = summary(trainings) else { return Ok(html! {}) };
        Ok(html! {
            section id=(page.section("training", "Training")) {
                h2 { "Training" }
                p.quiet { (ABOUT) }
                @if let Some(open) = unfinished(trainings) { p { (open) } }
                (table_of(&summary, &page.next()))
                @for figure in figures(trainings) { (drawing(&svg::lines(&figure), page)) }
                @for one in trainings {
                    @if let Some(epochs) = epochs(one) {
                        details.more {
                            summary { (one.model) ": every epoch" }
                            (table_of(&epochs, &page.next()))
                        }
                    }
                }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        let trainings = &report.trainings;
        let Some(summary) = summary(trainings) else { return Ok(()) };
        let _ = write!(out, "\n## Training\n\n{}\n", text(ABOUT));
        if let Some(open) = unfinished(trainings) {
            let _ = write!(out, "\n{}\n", text(&open));
        }
        markdown::table(out, &summary);
        figures(trainings).iter().for_each(|figure| markdown::figure(out, "###", figure));
        for one in trainings {
            if let Some(epochs) = epochs(one) {
                let summary = format!("{}: every epoch", text(&one.model));
                folded(out, &summary, |out| markdown::table(out, &epochs));
            }
        }
        Ok(())
    }

    fn rank(&self) -> Rank {
        Rank::Background
    }

    fn latex(&self, report: &Report, tables: &mut Tables) {
        let summary = summary(&report.trainings).map(|table| (String::new(), table));
        let epochs = report.trainings.iter().filter_map(|one| Some((one.model.clone(), epochs(one)?)));
        for (model, table) in summary.into_iter().chain(epochs) {
            let label = tables.label(&["training", &model]);
            tables.whole(&label, &latex::text(&table.caption), &table);
        }
    }

    fn drawings(&self, report: &Report) -> Vec<Drawing> {
        figures(&report.trainings).iter().map(svg::lines).collect()
    }

    fn sheets(&self, report: &Report) -> Result<Vec<(String, String)>, ReportError> {
        training_csv(&report.trainings)
    }
}
