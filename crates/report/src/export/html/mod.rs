//! HTML: one self-contained page, verdict first. No scripts, nothing fetched.
//!
//! `maud` escapes every value that is put into the page; only the style sheets of this crate bypass it.
//! It was preferred to `askama` because figures are drawn by code, and one language then serves the page
//! and its SVG.

mod cards;
mod checks;
mod diagnosed;
mod dose;
mod gallery;
mod glossary;
mod parts;
mod reproduce;
mod trained;

use self::parts::{Ids, breakable, drawing, drawing_above, table_of};
use super::Exporter;
use crate::comparison::Comparisons;
use crate::{Report, ReportError, classes, diagnosis, effort, facts, radii, svg, table, training};
use equipoise_record::{Diagnosis, Evaluation, Finding, ReadoutResult};
use maud::{DOCTYPE, Markup, PreEscaped, html};

pub(crate) struct Html;

impl Exporter for Html {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let configurations = report
            .models
            .iter()
            .map(|m| serde_json::to_string_pretty(&m.configuration))
            .collect::<Result<Vec<_>, _>>()?;
        let galleries = report.diagnoses.iter().map(diagnosed::galleries).collect::<Result<Vec<_>, _>>()?;
        let images = images(&report.models)?;
        Ok(page(report, &configurations, &galleries, &images).into_string())
    }
}

/// The saved images of every readout.
fn images(models: &[Evaluation]) -> Result<Vec<Markup>, ReportError> {
    let saved = facts::rows(models).filter_map(|(model, readout)| {
        let found = readout.gallery.as_ref()?;
        Some(gallery::gallery(&format!("{}, readout {}", model.model, readout.name), found))
    });
    saved.collect()
}

fn page(report: &Report, configurations: &[String], galleries: &[Vec<Markup>], images: &[Markup]) -> Markup {
    let title = if report.title.is_empty() { "Robustness report" } else { &report.title };
    let groups = facts::by_setting(&report.models);
    let comparisons = Comparisons::of(&report.models);
    let dosed = crate::dose::Section::of(&report.models, &report.diagnoses);
    let mut ids = Ids::new();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style {
                    (PreEscaped(include_str!("../colours.css"))) (PreEscaped(include_str!("../page.css")))
                }
            }
            body {
                header {
                    h1 { (title) }
                    @for (setting, models) in &groups { p { (names(models)) " on " (setting) } }
                    @for setting in diagnosed_on(&report.diagnoses) { p { "Diagnosis on " (setting) } }
                    @if !report.trainings.is_empty() { p { (training::setting(&report.trainings)) } }
                    (navigation(report, &comparisons, dosed.is_some(), images))
                }
                main {
                    @if !report.models.is_empty() {
                        (cards::verdicts(&report.models, report.records))
                        (efforts(&report.models, &mut ids))
                        (accuracy(&groups, &mut ids))
                        (sweeps(&report.models, &mut ids))
                        (compared(&comparisons, &mut ids))
                        (dose::dose(dosed.as_ref(), &mut ids))
                    }
                    (diagnosed::findings(report))
                    @if !report.models.is_empty() {
                        (checks::checks(&report.models))
                        (by_class(&report.models, &mut ids))
                        @if !images.is_empty() { (adversarial(images, &mut ids)) }
                        (runs(&report.models, &mut ids))
                    }
                    @for (one, galleries) in report.diagnoses.iter().zip(galleries) {
                        (diagnosed::diagnosed(one, galleries, &mut ids))
                    }
                    (trained::trained(&report.trainings, &mut ids))
                    @if !report.figures.is_empty() {
                        section id="figures" {
                            h2 { "Figures" }
                            @for figure in &report.figures { (drawing(&svg::lines(figure), &mut ids)) }
                        }
                    }
                    @if !report.models.is_empty() { (glossary::glossary()) }
                    (reproduce::reproduce(report, configurations))
                }
                footer { "Written by equipoise-report " (env!("CARGO_PKG_VERSION")) "." }
            }
        }
    }
}

/// Who was evaluated: by name where there are few.
fn names(models: &[&Evaluation]) -> String {
    let names: Vec<String> = models.iter().map(|model| model.model.clone()).collect();
    if names.len() <= 4 { crate::words::list(&names) } else { format!("{} models", names.len()) }
}

/// What was diagnosed on, each setting once.
fn diagnosed_on(diagnoses: &[Diagnosis]) -> Vec<String> {
    let mut settings: Vec<String> = Vec::new();
    for setting in diagnoses.iter().map(diagnosis::setting) {
        if !settings.contains(&setting) {
            settings.push(setting);
        }
    }
    settings
}

fn navigation(report: &Report, comparisons: &Comparisons, dosed: bool, images: &[Markup]) -> Markup {
    let models = !report.models.is_empty();
    let any = |has: &dyn Fn(&ReadoutResult) -> bool| facts::rows(&report.models).any(|(_, r)| has(r));
    html! {
        nav aria-label="Sections" {
            @if models {
                a href="#verdict" { "Verdict" }
                @if facts::rows(&report.models).any(has_arms) { a href="#effort" { "Effort" } }
                a href="#accuracy" { "Accuracy" }
                @if any(&|r| !r.radii.is_empty()) { a href="#radii" { "Radii" } }
                @if !comparisons.pairs.is_empty() { a href="#comparison" { "Comparison" } }
                @if dosed { a href="#dose" { "Gap against residual" } }
            }
            @if !report.diagnoses.is_empty() { a href="#findings" { "Findings" } }
            @if models {
                @if !facts::checks(&report.models).is_empty() { a href="#checks" { "Checks" } }
                @if any(&has_classes) { a href="#classes" { "Classes" } }
                @if !images.is_empty() { a href="#images" { "Images" } }
                a href="#attacks" { "Attack by attack" }
            }
            @if let Some(first) = report.diagnoses.first() {
                a href="#diagnosis" { "Diagnosis" }
                @if first.diagnosed.iter().any(|m| m.gallery.is_some()) { a href="#gallery" { "Gallery" } }
            }
            @if !report.trainings.is_empty() { a href="#training" { "Training" } }
            @if !report.figures.is_empty() { a href="#figures" { "Figures" } }
            @if models { a href="#words" { "Words" } }
            a href="#reproduce" { "Reproduce" }
        }
    }
}

fn has_arms((model, readout): (&Evaluation, &ReadoutResult)) -> bool {
    effort::curves(model, readout).is_some()
}

fn has_classes(readout: &ReadoutResult) -> bool {
    !readout.examples.is_empty() && !readout.attacks.is_empty()
}

/// Effort curves that are shown at once.
const CURVES: usize = 3;

/// The effort curves: of the deployed readout, and of every one with obfuscation; the others folded.
fn efforts(models: &[Evaluation], ids: &mut Ids) -> Markup {
    let all: Vec<(&Evaluation, &ReadoutResult)> = facts::rows(models).filter(|row| has_arms(*row)).collect();
    if all.is_empty() {
        return html! {};
    }
    let deployed =
        |model: &Evaluation, readout| model.readouts.first().is_some_and(|r| std::ptr::eq(r, readout));
    let matters = |(model, readout): &(&Evaluation, &ReadoutResult)| {
        deployed(model, *readout) || readout.verdict.finding == Finding::Obfuscated
    };
    let (mut shown, others): (Vec<_>, Vec<_>) = all.into_iter().partition(matters);
    let mut folded = shown.split_off(shown.len().min(CURVES));
    folded.extend(others);
    html! {
        section id="effort" {
            h2 { "Effort" }
            p.quiet {
                "What stands in each arm, against the work that it took. Where the curve of the training gradient is "
                "level and the other lies below it, more of the same would not close the gap."
            }
            @for (model, readout) in &shown { (effort_of(model, readout, ids)) }
            @if !folded.is_empty() {
                details.more {
                    summary { (folded.len()) " more" }
                    @for (model, readout) in &folded { (effort_of(model, readout, ids)) }
                }
            }
        }
    }
}

fn effort_of(model: &Evaluation, readout: &ReadoutResult, ids: &mut Ids) -> Markup {
    match effort::curves(model, readout) {
        Some(curves) => drawing(&svg::lines(&curves), ids),
        None => html! {},
    }
}

fn accuracy(groups: &[(String, Vec<&Evaluation>)], ids: &mut Ids) -> Markup {
    html! {
        section id="accuracy" {
            h2 { "Accuracy" }
            @for (setting, models) in groups {
                @if groups.len() > 1 { h3 { (setting) } }
                (drawing_above(&svg::accuracy(setting, models), ids))
                @let mut summary = table::summary(setting, models);
                // What was tried stands with the evidence of each verdict.
                @let _ = summary.remove("Tried");
                (table_of(&summary, &ids.next()))
                (table_of(&table::verdicts(setting, models), &ids.next()))
                (drawing(&svg::attribution(setting, models), ids))
            }
        }
    }
}

/// Accuracy against ε and the verdict at each, where there are several radii.
fn sweeps(models: &[Evaluation], ids: &mut Ids) -> Markup {
    let rows: Vec<(&Evaluation, &ReadoutResult)> =
        facts::rows(models).filter(|(_, readout)| !readout.radii.is_empty()).collect();
    html! {
        @if !rows.is_empty() {
            section id="radii" {
                h2 { "Accuracy against ε" }
                @for (model, readout) in rows {
                    @if let Some(curve) = radii::curve(model, readout) { (drawing(&svg::lines(&curve), ids)) }
                    @if let Some(table) = radii::table(model, readout) { (table_of(&table, &ids.next())) }
                }
            }
        }
    }
}

/// Sentences that are shown at once; the others are folded.
const SENTENCES: usize = 5;

/// Paired comparisons, the clearest first.
fn compared(comparisons: &Comparisons, ids: &mut Ids) -> Markup {
    let Some(table) = comparisons.table() else { return html! {} };
    let sentences: Vec<String> = comparisons.pairs.iter().map(|pair| comparisons.sentence(pair)).collect();
    let (first, rest) = sentences.split_at(sentences.len().min(SENTENCES));
    html! {
        section id="comparison" {
            h2 { "Paired comparisons" }
            p.quiet { (comparisons.about()) }
            ul { @for says in first { li { (breakable(says)) } } }
            @if !rest.is_empty() {
                details {
                    summary { (rest.len()) " more" }
                    ul { @for says in rest { li { (breakable(says)) } } }
                }
            }
            @if rest.is_empty() {
                (table_of(&table, &ids.next()))
            } @else {
                details { summary { "All " (sentences.len()) " as a table" } (table_of(&table, &ids.next())) }
            }
        }
    }
}

/// Accuracy by class and confusions: of the first readout, the others folded.
fn by_class(models: &[Evaluation], ids: &mut Ids) -> Markup {
    let mut rows = facts::rows(models).filter(|(_, readout)| has_classes(readout));
    let Some((model, readout)) = rows.next() else { return html! {} };
    let mut of = |model: &Evaluation, readout: &ReadoutResult| {
        html! {
            @if let Some(table) = classes::accuracy(model, readout) { (table_of(&table, &ids.next())) }
            @if let Some(table) = classes::confusion(model, readout) { (table_of(&table, &ids.next())) }
        }
    };
    html! {
        section id="classes" {
            h2 { "Classes" }
            (of(model, readout))
            @for (model, readout) in rows {
                details.more {
                    summary { (model.model) ", readout " (readout.name) }
                    (of(model, readout))
                }
            }
        }
    }
}

/// Saved adversarial images.
fn adversarial(images: &[Markup], ids: &mut Ids) -> Markup {
    let id = if ids.first("images") { "images".to_owned() } else { ids.next() };
    html! {
        section id=(id) {
            h2 { "Images" }
            p.quiet { "Adversarial images that were saved, of images that are correct when clean." }
            @for gallery in images { (gallery) }
        }
    }
}

fn runs(models: &[Evaluation], ids: &mut Ids) -> Markup {
    html! {
        section id="attacks" {
            h2 { "Attack by attack" }
            p.quiet {
                "Each run meets only the images that stand in its arm. What it costs is counted per image: evaluations of "
                "the cell and vector-Jacobian products (VJPs)."
            }
            @for (model, readout) in facts::rows(models) { (runs_of(model, readout, ids)) }
        }
    }
}

/// The pairs of the arms, and every run folded; without arms every run at once.
fn runs_of(model: &Evaluation, readout: &ReadoutResult, ids: &mut Ids) -> Markup {
    let pairs = effort::pairs(model, readout);
    let every = html! {
        (drawing_above(&svg::cascade(model, readout), ids))
        (table_of(&table::cascade(model, readout), &ids.next()))
    };
    html! {
        @match pairs {
            Some(pairs) => {
                (table_of(&pairs, &ids.next()))
                details.more {
                    summary { (model.model) ", readout " (readout.name) ": every run" }
                    (every)
                }
            }
            None => { (every) }
        }
        @if let Some(missing) = table::not_tried(model, readout) { (table_of(&missing, &ids.next())) }
    }
}
