//! What one draw of a model is worth that draws random numbers.

use super::Section;
use crate::layout::html::{Page, table_of};
use crate::layout::latex::Tables;
use crate::layout::markdown;
use crate::table::{Cell, Table, columns};
use crate::{Report, ReportError, derived, numbers};
use equipoise_record::{Evaluation, Rate, ReadoutResult};
use maud::{Markup, html};

pub(crate) struct Draws;

const TITLE: &str = "Draws";

impl Section for Draws {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        let tables = tables(&report.models);
        if tables.is_empty() {
            return Ok(html! {});
        }
        Ok(html! {
            section id=(page.section("draws", TITLE)) {
                h2 { (TITLE) }
                @for table in &tables { (table_of(table, &page.next())) }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        markdown::section(out, TITLE, &tables(&report.models), markdown::table);
        Ok(())
    }

    fn latex(&self, report: &Report, tables: &mut Tables) {
        tables.of_readouts(report, "draws", ABOUT, table);
    }
}

/// What the columns of [`table`] hold.
const ABOUT: &str = "Expected accuracy: the mean over images of the share of outcomes that are right, in % with its 95% interval. \
                     Attacked: where an attack on the mean loss ends that takes all its steps. Every and majority: images that \
                     all outcomes, or more than half, have right there.";

/// Expected accuracies of one draw, a row for each readout that draws.
fn table(model: &Evaluation, readout: &ReadoutResult) -> Option<Table> {
    let drawn = readout.randomness.as_ref()?;
    let rate = |Rate { value, interval: [low, high] }: Rate| {
        Cell::from(format!("{:.1} [{:.1}, {:.1}]", 100.0 * value, 100.0 * low, 100.0 * high))
    };
    let outcomes = match drawn.exact {
        true => format!("all {} outcomes", drawn.outcomes),
        false => format!("{} fresh draws of each image", drawn.outcomes),
    };
    let noise = drawn.noise.map_or(String::new(), |sigma| format!(", noise of deviation {sigma}"));
    let rates = [drawn.clean_expected, drawn.expected, drawn.every, drawn.majority];
    Some(Table {
        caption: format!(
            "{}, readout {}: {}, {}, ε = {}, {}; {outcomes}{noise}; attack {}. {ABOUT}",
            model.model,
            readout.name,
            model.dataset,
            numbers::norm(&model.norm),
            numbers::eps(model.eps),
            numbers::images(model.count),
            drawn.attack,
        ),
        columns: columns(&["Verdicts"], &["Expected, clean", "Expected, attacked", "Every", "Majority"]),
        rows: vec![std::iter::once(drawn.protocol.as_str().into()).chain(rates.map(rate)).collect()],
    })
}

fn tables(models: &[Evaluation]) -> Vec<Table> {
    derived::rows(models).filter_map(|(model, readout)| table(model, readout)).collect()
}
