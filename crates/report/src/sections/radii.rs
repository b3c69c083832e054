//! Several radii: accuracy against ε on one curve, and the verdict at each.

use super::Section;
use super::accuracy::{VERDICT_CAPTION, VERDICT_COLUMNS, verdict_cells};
use crate::derived::{self, Case};
use crate::figure::{Figure, Series};
use crate::layout::html::{Page, drawing, table_of};
use crate::layout::latex::Tables;
use crate::layout::markdown;
use crate::svg::{self, Drawing};
use crate::table::{Cell, Table, columns};
use crate::{Report, ReportError, numbers};
use equipoise_record::{Accuracy, Evaluation, ReadoutResult};
use maud::{Markup, html};

pub(crate) struct Radii;

impl Section for Radii {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        let rows: Vec<(&Evaluation, &ReadoutResult)> =
            derived::rows(&report.models).filter(|(_, readout)| !readout.radii.is_empty()).collect();
        if rows.is_empty() {
            return Ok(html! {});
        }
        Ok(html! {
            section id=(page.section("radii", "Radii")) {
                h2 { "Accuracy against ε" }
                @for (model, readout) in rows {
                    @if let Some(curve) = curve(model, readout) { (drawing(&svg::lines(&curve), page)) }
                    @if let Some(table) = table(model, readout) { (table_of(&table, &page.next())) }
                }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        markdown::section(out, "Accuracy against ε", &tables(&report.models), markdown::table);
        Ok(())
    }

    fn latex(&self, report: &Report, tables: &mut Tables) {
        tables.of_readouts(report, "radii", &about(), table);
    }

    fn drawings(&self, report: &Report) -> Vec<Drawing> {
        let curves = derived::rows(&report.models).filter_map(|(model, readout)| curve(model, readout));
        curves.map(|curve| svg::lines(&curve)).collect()
    }
}

/// Each radius from the smallest up. Empty unless several were asked for.
fn cases<'a>(model: &'a Evaluation, readout: &'a ReadoutResult) -> Vec<Case<'a>> {
    readout.radii.iter().map(|radius| Case::at(model, readout, radius)).collect()
}

/// Opening, ready-made and white-box accuracy from ε = 0 to the largest radius.
fn curve(model: &Evaluation, readout: &ReadoutResult) -> Option<Figure> {
    let cases = cases(model, readout);
    let last = cases.last()?;
    // In grey levels where all radii are whole numbers of them.
    let whole = |eps: f64| (eps * 255.0 - (eps * 255.0).round()).abs() < 1e-6;
    let levels = last.eps < 1.0 && cases.iter().all(|case| whole(case.eps));
    let unit = if levels { 255.0 } else { 1.0 };
    let curve = |name: &str, banded: bool, of: &dyn Fn(&Case) -> Option<Accuracy>| {
        let percent = |a: Accuracy| (100.0 * a.value, (100.0 * a.interval[0], 100.0 * a.interval[1]));
        let found = cases.iter().filter_map(|case| Some((case.eps * unit, of(case)?)));
        let found: Vec<(f64, Accuracy)> = found.collect();
        if found.is_empty() {
            return None;
        }
        let all = std::iter::once((0.0, readout.clean_accuracy)).chain(found);
        let (points, band): (Vec<_>, Vec<_>) = all
            .map(|(eps, accuracy)| {
                let (value, band) = percent(accuracy);
                ((eps, value), band)
            })
            .unzip();
        Some(Series { name: name.to_owned(), points, band: banded.then_some(band) })
    };
    let series = [
        curve("ready-made, equal effort", true, &|case| case.ready_made),
        curve("white-box", true, &|case| Some(case.white_box)),
        // A third band would hide the other two.
        curve("ready-made, opening alone", false, &|case| case.opening),
    ];
    Some(Figure {
        title: format!("{}, readout {}: accuracy against ε", model.model, readout.name),
        caption: format!(
            "{}, {}, {}. At ε = 0 the accuracy when clean. An image that falls at one radius counts as fallen at all \
             larger ones, arm by arm. Bands are 95% Wilson intervals; that of the opening is in the table.",
            model.dataset,
            numbers::norm(&model.norm),
            numbers::images(model.count)
        ),
        x_label: format!("ε, {}{}", numbers::norm(&model.norm), if levels { ", in 1/255" } else { "" }),
        y_label: "accuracy in %".into(),
        series: series.into_iter().flatten().collect(),
        ..Figure::default()
    })
}

/// Accuracies and the verdict, a row for each radius.
fn table(model: &Evaluation, readout: &ReadoutResult) -> Option<Table> {
    let n = model.count;
    let row = |case: &Case| {
        let optional = |a: Option<Accuracy>| a.map_or("not run".into(), Cell::accuracy);
        let mut verdict = verdict_cells(case.verdict);
        let mut row = vec![numbers::eps(case.eps).into(), verdict.remove(0)];
        row.extend([optional(case.opening), optional(case.ready_made), Cell::accuracy(case.white_box)]);
        row.extend(verdict);
        row
    };
    let rows: Vec<Vec<Cell>> = cases(model, readout).iter().map(row).collect();
    let accuracies = ["Opening", "Ready-made", "White-box"];
    let numeric: Vec<&str> = accuracies.into_iter().chain(VERDICT_COLUMNS).collect();
    (!rows.is_empty()).then(|| Table {
        caption: format!(
            "{}, readout {}: {}, {}, {}. {}",
            model.model,
            readout.name,
            model.dataset,
            numbers::norm(&model.norm),
            numbers::images(n),
            about()
        ),
        columns: columns(&["ε", "Finding"], &numeric),
        rows,
    })
}

/// What the columns of [`table`] hold.
fn about() -> String {
    format!("Accuracy in %, with its 95% Wilson interval and count. {VERDICT_CAPTION}")
}

/// The tables of every readout with several radii.
pub(crate) fn tables(models: &[Evaluation]) -> Vec<Table> {
    derived::rows(models).filter_map(|(model, readout)| table(model, readout)).collect()
}
