//! HTML: one self-contained page, verdict first. No scripts, nothing fetched.
//!
//! `maud` escapes every value that is put into the page; only the style sheets of this crate bypass it.
//! It was preferred to `askama` because figures are drawn by code, and one language then serves the page
//! and its SVG.

use super::Exporter;
use crate::svg::{self, Drawing, Layout};
use crate::table::{Cell, Table};
use crate::verdict::{Finding, Verdict};
use crate::{Report, ReportError, facts, table, verdict};
use equipoise_record::Evaluation;
use maud::{DOCTYPE, Markup, PreEscaped, html};

pub(crate) struct Html;

impl Exporter for Html {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let configurations = report
            .models
            .iter()
            .map(|m| serde_json::to_string_pretty(&m.configuration))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(page(report, &configurations).into_string())
    }
}

fn page(report: &Report, configurations: &[String]) -> Markup {
    let title = if report.title.is_empty() { "Robustness report" } else { &report.title };
    let groups = facts::by_setting(&report.models);
    let mut ids = Ids(0);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style {
                    (PreEscaped(include_str!("colours.css"))) (PreEscaped(include_str!("page.css"))) (svg::style())
                }
            }
            body {
                header {
                    h1 { (title) }
                    @for (setting, models) in &groups {
                        p { (models.len()) @if models.len() == 1 { " model" } @else { " models" } " on " (setting) }
                    }
                    (navigation(report))
                }
                main {
                    @if !report.models.is_empty() {
                        (verdicts(&report.models))
                        (accuracy(&groups, &mut ids))
                        (cascades(&report.models, &mut ids))
                    }
                    @if !report.figures.is_empty() {
                        section id="figures" {
                            h2 { "Figures" }
                            @for figure in &report.figures { (drawing(&svg::lines(figure), &mut ids)) }
                        }
                    }
                    @if !report.models.is_empty() { (glossary()) }
                    (reproduce(report, configurations))
                }
                footer { "Written by equipoise-report " (env!("CARGO_PKG_VERSION")) "." }
            }
        }
    }
}

fn navigation(report: &Report) -> Markup {
    let models = !report.models.is_empty();
    html! {
        nav aria-label="Sections" {
            @if models {
                a href="#verdict" { "Verdict" } a href="#accuracy" { "Accuracy" }
                a href="#attacks" { "Attack by attack" }
            }
            @if !report.figures.is_empty() { a href="#figures" { "Figures" } }
            @if models { a href="#words" { "Words" } }
            a href="#reproduce" { "Reproduce" }
        }
    }
}

fn verdicts(models: &[Evaluation]) -> Markup {
    html! {
        section id="verdict" {
            h2 { "Verdict" }
            @for model in models {
                @let verdicts = verdict::verdicts(model);
                @match verdicts.split_first() {
                    Some((deployed, others)) => { (card(deployed, others)) }
                    None => { article.verdict.none { p.sentence { (model.model) ": no readout was evaluated." } } }
                }
            }
            p.quiet { (verdict::HOW_TO_READ) }
        }
    }
}

/// The readout that the model is deployed with, then its others.
fn card(deployed: &Verdict, others: &[Verdict]) -> Markup {
    html! {
        article class=(format!("verdict {}", mood(deployed.finding))) {
            div {
                div.gap-points {
                    @match deployed.gap_points { Some(points) => (format!("{points:.1}")), None => "–" }
                }
                p.finding { (deployed.finding.label()) }
                @if deployed.gap_points.is_some() { p.unit { "points between ready-made and white-box accuracy" } }
            }
            div {
                p.sentence { (sentence(deployed)) }
                (evidence(deployed))
            }
            @for other in others {
                div.other {
                    p { (sentence(other)) }
                    details { summary { "Evidence" } (evidence(other)) }
                }
            }
        }
    }
}

/// The sentence with its subject marked.
fn sentence(verdict: &Verdict) -> Markup {
    match verdict.sentence.strip_prefix(&verdict.model) {
        Some(rest) => html! { strong { (verdict.model) } (breakable(rest)) },
        None => breakable(&verdict.sentence),
    }
}

fn evidence(verdict: &Verdict) -> Markup {
    html! { @if !verdict.evidence.is_empty() { ul { @for line in &verdict.evidence { li { (breakable(line)) } } } } }
}

fn mood(finding: Finding) -> &'static str {
    match finding {
        Finding::Flattered | Finding::Contradiction => "alarm",
        Finding::StrongerAttack | Finding::Unresolved | Finding::Small => "open",
        Finding::NoSign | Finding::NothingLeft => "calm",
        Finding::NoComparison => "none",
    }
}

fn accuracy(groups: &[(String, Vec<&Evaluation>)], ids: &mut Ids) -> Markup {
    html! {
        section id="accuracy" {
            h2 { "Accuracy" }
            @for (setting, models) in groups {
                @if groups.len() > 1 { h3 { (setting) } }
                (drawing_above(&svg::accuracy(setting, models), ids))
                (table_of(&table::summary(setting, models), &ids.next()))
                (drawing(&svg::attribution(setting, models), ids))
            }
        }
    }
}

fn cascades(models: &[Evaluation], ids: &mut Ids) -> Markup {
    html! {
        section id="attacks" {
            h2 { "Attack by attack" }
            p.quiet {
                "Attacks run one after another; each meets only the images that survived those before it. "
                "What it costs is counted per image: evaluations of the cell and vector-Jacobian products (VJPs)."
            }
            @for model in models {
                @for readout in &model.readouts {
                    (drawing_above(&svg::cascade(model, readout), ids))
                    (table_of(&table::cascade(model, readout), &ids.next()))
                    @if let Some(missing) = table::not_tried(model, readout) {
                        (table_of(&missing, &ids.next()))
                    }
                }
            }
        }
    }
}

/// Numbers figures and tables, so that their parts have ids of their own.
struct Ids(usize);

impl Ids {
    fn next(&mut self) -> String {
        self.0 += 1;
        format!("item-{}", self.0)
    }
}

/// A figure with its numbers folded below.
fn drawing(drawing: &Drawing, ids: &mut Ids) -> Markup {
    let data = html! {
        details { summary { "Data of this figure" } (table_of(&drawing.table, &ids.next())) }
    };
    figure(drawing, ids, data)
}

/// A figure whose numbers stand in the table that follows it in the text.
fn drawing_above(drawing: &Drawing, ids: &mut Ids) -> Markup {
    figure(drawing, ids, html! {})
}

fn figure(drawing: &Drawing, ids: &mut Ids, data: Markup) -> Markup {
    let id = ids.next();
    html! {
        figure id=(id) {
            figcaption { strong { (drawing.title) } span { (drawing.caption) } }
            (drawing.svg(&id, Layout::Wide))
            (drawing.svg(&id, Layout::Narrow))
            (data)
        }
    }
}

/// A table that scrolls inside its own container; `id` must be unique in the page.
fn table_of(table: &Table, id: &str) -> Markup {
    let caption = format!("{id}-caption");
    html! {
        div.table {
            // Outside of what scrolls, so that it wraps to the screen and not to the table.
            p.caption id=(caption) { (table.caption) }
            // Focusable, so that the keyboard can scroll it.
            div.scroll role="region" tabindex="0" aria-labelledby=(caption) {
                table aria-labelledby=(caption) {
                    thead { tr {
                        @for column in &table.columns { th scope="col" class=(class(column.numeric)) { (column.title) } }
                    } }
                    tbody {
                        @for row in &table.rows {
                            tr { @for (cell, column) in row.iter().zip(&table.columns) { (cell_of(cell, column.numeric)) } }
                        }
                    }
                }
            }
        }
    }
}

fn class(numeric: bool) -> &'static str {
    if numeric { "n" } else { "t" }
}

fn cell_of(cell: &Cell, numeric: bool) -> Markup {
    let class = if !numeric && cell.main.chars().count() > 20 { "long" } else { class(numeric) };
    html! {
        td class=(class) {
            @if class == "long" { (breakable(&cell.main)) } @else { (cell.main) }
            @for note in &cell.notes { " " small { (note) } }
        }
    }
}

/// An estimator is one long word: let it break after its commas and pluses.
fn breakable(says: &str) -> Markup {
    html! { @for part in says.split_inclusive([',', '+']) { (part) wbr; } }
}

fn glossary() -> Markup {
    let words = [
        (
            "Ready-made attack",
            "An attack through the model's own training gradient on its final state: what a \
          standard tool runs.",
        ),
        (
            "Adaptive attack",
            "An attack through another gradient estimator, such as the gradient at an intermediate \
          state of the solver.",
        ),
        (
            "White-box accuracy",
            "The share of images that are classified correctly and survive everything that was \
          tried, image by image. It is an upper bound on the true robust accuracy.",
        ),
        (
            "Gradient obfuscation",
            "A gradient that hides the way to an adversarial image from attacks that follow it. \
          The model then looks more robust than it is.",
        ),
        ("Readout", "Which state or states of the solver the classifying head sees."),
        ("Interval", "95% Wilson score interval: the sampling error of that many images, nothing else."),
    ];
    html! {
        section id="words" {
            h2 { "Words" }
            dl.words { @for (word, meaning) in words { dt { (word) } dd { (meaning) } } }
        }
    }
}

fn reproduce(report: &Report, configurations: &[String]) -> Markup {
    html! {
        section id="reproduce" {
            h2 { "Reproduce" }
            @match &report.command {
                Some(command) => { pre tabindex="0" { code { (command) } } }
                None => { p.quiet { "No command was recorded." } }
            }
            @for (model, configuration) in report.models.iter().zip(configurations) {
                h3 { (model.model) }
                dl {
                    dt { "Data" } dd { (model.dataset) }
                    dt { "Budget" } dd { (facts::budget(model)) }
                    dt { "Images" } dd { (model.count) }
                    dt { "Seed" } dd { (model.seed) }
                    dt { "Record format" } dd { (model.version) }
                }
                details { summary { "Configuration and versions" } pre tabindex="0" { code { (configuration) } } }
            }
        }
    }
}
