//! Effort: what each arm leaves standing against the work that it took, run by run, as a curve and as a table.

use super::Section;
use crate::figure::{Figure, Series};
use crate::layout::html::{Page, drawing};
use crate::layout::markdown::{figure, section};
use crate::svg::{self, Drawing};
use crate::table::{Cell, Table, columns};
use crate::{Report, ReportError, derived};
use equipoise_record::{ArmRun, Evaluation, Finding, ReadoutResult, Verdict};
use maud::{Markup, html};

pub(crate) struct Effort;

impl Section for Effort {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        Ok(efforts(&report.models, page))
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        section(out, "Effort", &all(report), |out, curve| figure(out, "###", curve));
        Ok(())
    }

    fn drawings(&self, report: &Report) -> Vec<Drawing> {
        all(report).iter().map(svg::lines).collect()
    }
}

/// The curves of every readout that has arms.
fn all(report: &Report) -> Vec<Figure> {
    derived::rows(&report.models).filter_map(|(model, readout)| curves(model, readout)).collect()
}

/// The arms that were run, with their names in legends.
fn arms(verdict: &Verdict) -> Vec<(&'static str, &[ArmRun])> {
    let arms = &verdict.arms;
    [
        ("ready-made arm (training gradient)", arms.ready_made.as_slice()),
        ("white-box arm (other gradients)", &arms.white_box),
        ("aimed arm (pointed at the readout)", &arms.aimed),
    ]
    .into_iter()
    .filter(|(_, runs)| !runs.is_empty())
    .collect()
}

/// Accuracy against work per image after every run of each arm. Nothing where no arm was run.
fn curves(model: &Evaluation, readout: &ReadoutResult) -> Option<Figure> {
    let n = model.count;
    let arms = arms(&readout.verdict);
    // All arms begin with what stands after the opening, or without one with what is correct when clean.
    let begin = readout.ready_made_opening_accuracy.unwrap_or(readout.clean_accuracy).value;
    if arms.is_empty() || n == 0 || begin == 0.0 {
        return None;
    }
    let counted = arms.iter().flat_map(|(_, runs)| *runs).any(|run| run.cell_evaluations + run.vjps > 0);
    let series = arms.iter().map(|(name, runs)| {
        let mut work = 0;
        let after = runs.iter().enumerate().map(|(j, run)| {
            work += run.cell_evaluations + run.vjps;
            let x = if counted { work as f64 / n as f64 } else { (j + 1) as f64 };
            (x, 100.0 * run.standing as f64 / n as f64)
        });
        let points = std::iter::once((0.0, 100.0 * begin)).chain(after).collect();
        Series { name: (*name).to_owned(), points, band: None }
    });
    Some(Figure {
        title: format!("{}, readout {}: accuracy against effort", model.model, readout.name),
        caption: format!(
            "{}. Share of images that stand in each arm, after every run. All arms begin with what stands after the \
             opening and see the same images, so the interval that counts is that of their difference, in the verdict.",
            derived::setting(model)
        ),
        x_label: if counted {
            "work per image: cell evaluations and VJPs"
        } else {
            "runs (a feedforward network has no cell whose work could be counted)"
        }
        .into(),
        y_label: "accuracy in %".into(),
        from_zero: true,
        series: series.collect(),
        ..Figure::default()
    })
}

/// What the columns of [`pairs`] hold.
pub(super) const PAIRS: &str = "A run through another gradient and its twin through the training gradient have the \
    same attack and start. Another start with the same gradient is a restart. Broken: of the images that stood in that \
    arm; standing: of all images.";

/// Run j of each arm in a row: what it broke, what its twins broke, what was left. Nothing where no arm was run.
pub(super) fn pairs(model: &Evaluation, readout: &ReadoutResult) -> Option<Table> {
    let arms = &readout.verdict.arms;
    if arms.white_box.is_empty() {
        return None;
    }
    let aimed = !arms.aimed.is_empty();
    let mut numeric = vec!["Start", "Broken", "Twin broken"];
    numeric.extend(aimed.then_some("Aimed twin broken"));
    numeric.extend(["Standing", "Standing, twins"]);
    numeric.extend(aimed.then_some("Standing, aimed"));
    let broken = |run: Option<&ArmRun>| match run {
        None => "–".into(),
        Some(run) if run.carried > 0 => {
            Cell::noted(run.broken.to_string(), vec![format!("{} at a smaller ε", run.carried)])
        }
        Some(run) => run.broken.to_string().into(),
    };
    let standing =
        |run: Option<&ArmRun>| run.map_or("–".into(), |run| Cell::from(run.standing.to_string()));
    let row = |(j, run): (usize, &ArmRun)| {
        let (twin, pointed) = (arms.ready_made.get(j), arms.aimed.get(j));
        let mut row: Vec<Cell> = vec![
            (j + 1).to_string().into(),
            run.attack.clone().into(),
            derived::gradient(&run.estimator).into(),
            run.start.to_string().into(),
            broken(Some(run)),
            broken(twin),
        ];
        row.extend(aimed.then(|| broken(pointed)));
        row.extend([standing(Some(run)), standing(twin)]);
        row.extend(aimed.then(|| standing(pointed)));
        row
    };
    let training = arms
        .ready_made
        .first()
        .map_or(String::new(), |twin| format!(" Training gradient: {}.", twin.estimator));
    Some(Table {
        caption: format!(
            "{}, readout {}: {}.{training} {PAIRS}",
            model.model,
            readout.name,
            derived::setting(model)
        ),
        columns: columns(&["Run", "Attack", "Gradient"], &numeric),
        rows: arms.white_box.iter().enumerate().map(row).collect(),
    })
}

/// Effort curves that are shown at once.
const CURVES: usize = 3;

/// The effort curves: of the deployed readout, and of every one with obfuscation; the others folded.
fn efforts<'a>(models: &'a [Evaluation], page: &mut Page) -> Markup {
    let row = |(model, readout): (&'a Evaluation, &'a ReadoutResult)| {
        Some((model, readout, curves(model, readout)?))
    };
    let all: Vec<(&Evaluation, &ReadoutResult, Figure)> = derived::rows(models).filter_map(row).collect();
    if all.is_empty() {
        return html! {};
    }
    let deployed =
        |model: &Evaluation, readout| model.readouts.first().is_some_and(|r| std::ptr::eq(r, readout));
    let matters = |(model, readout, _): &(&Evaluation, &ReadoutResult, Figure)| {
        deployed(model, *readout) || readout.verdict.finding == Finding::Obfuscated
    };
    let (mut shown, others): (Vec<_>, Vec<_>) = all.into_iter().partition(matters);
    let mut folded = shown.split_off(shown.len().min(CURVES));
    folded.extend(others);
    html! {
        section id=(page.section("effort", "Effort")) {
            h2 { "Effort" }
            p.quiet {
                "What stands in each arm, against the work that it took. Where the curve of the training gradient is "
                "level and the other lies below it, more of the same would not close the gap."
            }
            @for (.., curves) in &shown { (drawing(&svg::lines(curves), page)) }
            @if !folded.is_empty() {
                details.more {
                    summary { (folded.len()) " more" }
                    @for (.., curves) in &folded { (drawing(&svg::lines(curves), page)) }
                }
            }
        }
    }
}
