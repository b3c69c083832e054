//! The leaderboard as one page: a table that is sorted by a click on a column's head, or by the name of the column after `#` in the
//! address. Nothing is fetched; without scripts the table stands in its first order.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Standing, Trust};
use crate::ReportError;
use crate::numbers;

/// The columns that can be sorted: what the address says, and what the reader sees.
const COLUMNS: [(&str, &str); 11] = [
    ("model", "Model"),
    ("readout", "Readout"),
    ("setting", "Data and budget"),
    ("images", "Images"),
    ("clean", "Clean"),
    ("robust", "Robust"),
    ("autoattack", "AutoAttack alone"),
    ("certified", "Certified"),
    ("finding", "Finding"),
    ("checks", "Checks raised"),
    ("evidence", "Evidence"),
];

/// Those of shares and counts, which stand to the right.
const NUMERIC: [&str; 5] = ["images", "clean", "robust", "autoattack", "certified"];

/// The page, with rows in the given order.
///
/// # Errors
///
/// [`ReportError::NotFinite`] if a radius or a share is not a finite number.
pub fn page(title: &str, rows: &[Standing]) -> Result<String, ReportError> {
    let finite =
        |row: &Standing| [row.eps, row.clean.value, row.robust.value].iter().all(|number| number.is_finite());
    if let Some(row) = rows.iter().find(|row| !finite(row)) {
        return Err(ReportError::NotFinite {
            model: row.model.clone(),
            field: "an accuracy, or eps".to_owned(),
        });
    }
    Ok(whole(title, rows).into_string())
}

fn whole(title: &str, rows: &[Standing]) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style {
                    (PreEscaped(include_str!("../export/colours.css"))) (PreEscaped(include_str!("../export/page.css")))
                    (PreEscaped(include_str!("board.css")))
                }
            }
            body {
                header {
                    h1 { (title) }
                    p {
                        "Each row is one network behind one readout. " em { "Robust" } " is the share of images that everything ever tried \
                         on it left standing: the pointwise worst of all its records, so that a later attack can only lower it. In \
                         brackets 95% Wilson intervals. Accuracy under attack is an upper bound, what is certified a lower one."
                    }
                    p.quiet {
                        em { "Verified" } ": every stored image was judged again by " code { "equipoise verify" } "; " em { "claimed" }
                        ": none were stored. Defences that draw random numbers or iterate may stand here; RobustBench refuses them."
                    }
                }
                main {
                    div.table { div.scroll role="region" tabindex="0" aria-label="Leaderboard" {
                        table id="board" {
                            thead { tr {
                                @for (key, name) in COLUMNS {
                                    th scope="col" class=(if NUMERIC.contains(&key) { "n" } else { "" }) data-key=(key) { button type="button" { (name) } }
                                }
                            } }
                            tbody { @for row in rows { (row_of(row)) } }
                        }
                    } }
                }
                footer { "Written by equipoise-report " (env!("CARGO_PKG_VERSION")) "." }
                script { (PreEscaped(include_str!("sort.js"))) }
            }
        }
    }
}

fn row_of(row: &Standing) -> Markup {
    let setting = format!("{}, {} {}", row.dataset, numbers::norm(&row.norm), numbers::eps(row.eps));
    let share = |accuracy: equipoise_record::Accuracy| {
        html! {
            td.n data-value=(accuracy.value) { (numbers::percent(accuracy.value)) br; span.quiet { (numbers::interval(accuracy.interval)) } }
        }
    };
    let mut findings = row.findings.clone();
    findings.dedup();
    html! {
        tr {
            td title=(row.weights) { (row.model) @if !row.architecture.is_empty() { br; span.quiet { (row.architecture) } } }
            td { code { (row.readout) } }
            td { (setting) }
            td.n data-value=(row.robust.count()) { (row.robust.count()) }
            (share(row.clean))
            (share(row.robust))
            @match row.autoattack { Some(accuracy) => (share(accuracy)), None => td.n data-value="-1" { "–" } }
            @match &row.certified {
                Some((accuracy, method)) => td.n data-value=(accuracy.value) {
                    (numbers::percent(accuracy.value)) br; span.quiet { (method) " of " (accuracy.count()) }
                },
                None => td.n data-value="-1" { "–" },
            }
            td { (findings.join("; ")) }
            td data-value=(row.raised.len()) { @if row.raised.is_empty() { "none" } @else { (row.raised.join(", ")) } }
            td class=(if row.trust == Trust::Refuted { "refuted" } else { "" }) {
                (row.trust.name()) ": "
                @for (k, link) in row.links.iter().enumerate() {
                    @if k > 0 { ", " }
                    a href=(link) { (k + 1) }
                }
            }
        }
    }
}
