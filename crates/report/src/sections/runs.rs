//! Attack by attack: the pairs of the arms, then every run in order, and what was not tried.

use super::Section;
use super::effort::{PAIRS, pairs};
use crate::layout::html::{Page, drawing_above, table_of};
use crate::layout::latex::Tables;
use crate::layout::markdown::{self, folded, text};
use crate::svg::{self, Drawing};
use crate::table::{Cell, Table, columns};
use crate::{Report, ReportError, derived, numbers};
use equipoise_record::{Evaluation, NotTried, ReadoutResult};
use maud::{Markup, html};
use std::fmt::Write;

pub(crate) struct Runs;

impl Section for Runs {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        if report.models.is_empty() {
            return Ok(html! {});
        }
        Ok(html! {
            section id=(page.section("attacks", "Attack by attack")) {
                h2 { "Attack by attack" }
                p.quiet {
                    "Each run meets only the images that stand in its arm. What it costs is counted per image: evaluations "
                    "of the cell and vector-Jacobian products (VJPs)."
                }
                @for (model, readout) in derived::rows(&report.models) { (runs_of(model, readout, page)) }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        let rows: Vec<(&Evaluation, &ReadoutResult)> = derived::rows(&report.models).collect();
        markdown::section(out, "Attack by attack", &rows, |out, (model, readout)| {
            let _ = write!(out, "\n### {}, readout {}\n", text(&model.model), text(&readout.name));
            let every = cascade(model, readout);
            match pairs(model, readout) {
                Some(pairs) => {
                    markdown::table(out, &pairs);
                    folded(out, "Every run", |out| markdown::table(out, &every));
                }
                None => markdown::table(out, &every),
            }
            not_tried(model, readout).iter().for_each(|missing| markdown::table(out, missing));
        });
        Ok(())
    }

    fn latex(&self, report: &Report, tables: &mut Tables) {
        tables.of_readouts(report, "effort", PAIRS, pairs);
        tables.of_readouts(report, "attacks", CASCADE, |model, readout| Some(cascade(model, readout)));
    }

    fn drawings(&self, report: &Report) -> Vec<Drawing> {
        derived::rows(&report.models).map(|(model, readout)| drawn(model, readout)).collect()
    }
}

fn drawn(model: &Evaluation, readout: &ReadoutResult) -> Drawing {
    svg::cascade(model, readout, cascade(model, readout))
}

/// The pairs of the arms, and every run folded; without arms every run at once.
fn runs_of(model: &Evaluation, readout: &ReadoutResult, page: &mut Page) -> Markup {
    let pairs = pairs(model, readout);
    let every = html! {
        (drawing_above(&drawn(model, readout), page))
        (table_of(&cascade(model, readout), &page.next()))
    };
    html! {
        @match pairs {
            Some(pairs) => {
                (table_of(&pairs, &page.next()))
                details.more {
                    summary { (model.model) ", readout " (readout.name) ": every run" }
                    (every)
                }
            }
            None => { (every) }
        }
        @if let Some(missing) = not_tried(model, readout) { (table_of(&missing, &page.next())) }
    }
}

/// What the columns of [`cascade`] hold.
const CASCADE: &str = "Every run in order. Each meets only what stands in its arm; accuracy after it, of \
    what stands after it and all above it, in %, with its 95% Wilson interval and count.";

/// All runs of one readout in order, with what each broke and cost.
fn cascade(model: &Evaluation, readout: &ReadoutResult) -> Table {
    let n = model.count;
    let numeric = ["Start", "Attempted", "Broken", "Accuracy after", "Time", "Cell evaluations", "VJPs"];
    let wrong = n.saturating_sub(readout.clean_accuracy.correct());
    let none = || Cell::from("–");
    let clean = vec![
        "clean".into(),
        none(),
        none(),
        none(),
        n.to_string().into(),
        wrong.to_string().into(),
        Cell::accuracy(readout.clean_accuracy),
        none(),
        none(),
        none(),
    ];
    let attacks = readout.attacks.iter().map(|a| {
        let mut notes = Vec::new();
        if a.carried > 0 {
            notes.push(format!("{} at a smaller ε", a.carried));
        }
        if a.unconfirmed > 0 {
            notes.push(format!("{} unconfirmed", a.unconfirmed));
        }
        vec![
            a.name.clone().into(),
            derived::estimator(a).into(),
            format!("{} {}", derived::arm(a.arm), a.run + 1).into(),
            a.start.to_string().into(),
            a.attempted.to_string().into(),
            Cell::noted(a.broken.to_string(), notes),
            Cell::accuracy(a.accuracy),
            numbers::seconds(a.seconds).into(),
            numbers::thousands(a.cell_evaluations).into(),
            numbers::thousands(a.vjps).into(),
        ]
    });
    Table {
        caption: format!("{}, readout {}: {}. {CASCADE}", model.model, readout.name, derived::setting(model)),
        columns: columns(&["Attack", "Gradient", "Part"], &numeric),
        rows: std::iter::once(clean).chain(attacks).collect(),
    }
}

/// What a readout was not attacked with although it was planned, and why; `None` if there is nothing of the kind.
fn not_tried(model: &Evaluation, readout: &ReadoutResult) -> Option<Table> {
    let plan = readout.plan.as_ref().filter(|plan| !plan.not_tried.is_empty())?;
    let limit = plan.time_limit.map_or(String::new(), |seconds| {
        let seconds = numbers::seconds(seconds);
        format!(
            " The attacks were given {seconds}: with more time, or on a faster machine, more may be broken."
        )
    });
    let row = |not: &NotTried| {
        vec![not.attack.clone().into(), not.estimator.clone().into(), not.reason.clone().into()]
    };
    Some(Table {
        caption: format!(
            "{}, readout {}: not tried, or not on all images.{limit}",
            model.model, readout.name
        ),
        columns: columns(&["Attack", "Gradient", "Why"], &[]),
        rows: plan.not_tried.iter().map(row).collect(),
    })
}
