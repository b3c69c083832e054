//! HTML: one self-contained page, verdict first. No scripts, nothing fetched.
//!
//! `maud` escapes every value that is put into the page; only the style sheets of this crate bypass it.
//! It was preferred to `askama` because figures are drawn by code, and one language then serves the page
//! and its SVG.

use super::{Exporter, gallery};
use crate::svg::{self, Drawing, Layout};
use crate::table::{Cell, Table};
use crate::verdict::{Finding, Verdict};
use crate::{Report, ReportError, diagnosis, facts, table, verdict, words};
use equipoise_record::{Diagnosis, Evaluation};
use maud::{DOCTYPE, Markup, PreEscaped, html};

pub(crate) struct Html;

impl Exporter for Html {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let configurations = report
            .models
            .iter()
            .map(|m| serde_json::to_string_pretty(&m.configuration))
            .collect::<Result<Vec<_>, _>>()?;
        let galleries = report.diagnoses.iter().map(galleries).collect::<Result<Vec<_>, _>>()?;
        Ok(page(report, &configurations, &galleries).into_string())
    }
}

/// The images of every model of a diagnosis.
fn galleries(diagnosis: &Diagnosis) -> Result<Vec<Markup>, ReportError> {
    let with_images = diagnosis.diagnosed.iter().filter_map(|model| {
        let found = model.gallery.as_ref()?.result.as_ref()?;
        Some(gallery::gallery(&model.model, found))
    });
    with_images.collect()
}

fn page(report: &Report, configurations: &[String], galleries: &[Vec<Markup>]) -> Markup {
    let title = if report.title.is_empty() { "Robustness report" } else { &report.title };
    let groups = facts::by_setting(&report.models);
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
                    (PreEscaped(include_str!("colours.css"))) (PreEscaped(include_str!("page.css")))
                }
            }
            body {
                header {
                    h1 { (title) }
                    @for (setting, models) in &groups {
                        p { (models.len()) @if models.len() == 1 { " model" } @else { " models" } " on " (setting) }
                    }
                    @for one in &report.diagnoses { p { "Diagnosis on " (diagnosis::setting(one)) } }
                    (navigation(report))
                }
                main {
                    @if !report.models.is_empty() {
                        (verdicts(&report.models))
                    }
                    (findings(report))
                    @if !report.models.is_empty() {
                        (checks(&report.models))
                        (accuracy(&groups, &mut ids))
                        (cascades(&report.models, &mut ids))
                    }
                    @for (one, galleries) in report.diagnoses.iter().zip(galleries) {
                        (diagnosed(one, galleries, &mut ids))
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
                a href="#verdict" { "Verdict" }
            }
            @if !report.diagnoses.is_empty() { a href="#findings" { "Findings" } }
            @if models {
                @if !facts::checks(&report.models).is_empty() { a href="#checks" { "Checks" } }
                a href="#accuracy" { "Accuracy" } a href="#attacks" { "Attack by attack" }
            }
            @if let Some(first) = report.diagnoses.first() {
                a href="#diagnosis" { "Diagnosis" }
                @if first.diagnosed.iter().any(|m| m.gallery.is_some()) { a href="#gallery" { "Gallery" } }
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
        Finding::StrongerAttack | Finding::Unresolved | Finding::Small | Finding::ChecksRaised => "open",
        Finding::NoSign | Finding::NothingLeft => "calm",
        Finding::NoComparison => "none",
    }
}

/// What the diagnoses found, a sentence for each model.
fn findings(report: &Report) -> Markup {
    html! {
        @if !report.diagnoses.is_empty() {
            section id="findings" {
                h2 { "Findings" }
                @for one in &report.diagnoses {
                    @for finding in diagnosis::findings(one) {
                        article.finding-card {
                            p { strong { (finding.model) } " on " (breakable(&finding.setting)) }
                            ul { @for clause in &finding.clauses { li { (breakable(clause)) } } }
                        }
                    }
                }
            }
        }
    }
}

/// Checks for obfuscation that were made, with what they found.
fn checks(models: &[Evaluation]) -> Markup {
    let checks = facts::checks(models);
    html! {
        @if !checks.is_empty() {
            section id="checks" {
                h2 { "Checks" }
                p.quiet {
                    "Signs of gradient obfuscation, or of an evaluation that cannot be trusted. "
                    "A check that found nothing is listed too."
                }
                @for (whose, flags) in &checks {
                    h3 { (whose) }
                    ul.checks {
                        @for flag in flags {
                            li.raised[flag.raised] {
                                span.state { @if flag.raised { "▲ raised" } @else { "clear" } }
                                div {
                                    p { strong { (flag.name) ":" } " " (breakable(&flag.statement)) }
                                    @if !flag.evidence.is_empty() {
                                        details {
                                            summary { "Evidence" }
                                            dl {
                                                @for e in &flag.evidence {
                                                    dt { (breakable(&e.name)) }
                                                    dd { (e.value.map_or("not finite".to_owned(), words::number)) }
                                                }
                                            }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A diagnosis, section by section. Only the first gets the ids that the navigation points to.
fn diagnosed(one: &Diagnosis, galleries: &[Markup], ids: &mut Ids) -> Markup {
    let id = |name: &str, ids: &mut Ids| if ids.first(name) { name.to_owned() } else { ids.next() };
    html! {
        section id=(id("diagnosis", ids)) {
            h2 { "Diagnosis" }
            p.quiet { (diagnosis::setting(one)) ". " (costs(one)) }
            @for part in diagnosis::parts(one) {
                h3 { (part.title) }
                p.quiet { (part.about) }
                @for line in &part.absent { p.quiet { (line) } }
                @for figure in &part.figures { (drawing(&svg::lines(figure), ids)) }
                @for table in &part.tables { (table_of(table, &ids.next())) }
            }
        }
        @if !galleries.is_empty() {
            section id=(id("gallery", ids)) {
                h2 { "Gallery" }
                p.quiet { "The first images of the data, attacked by " (words::attack(one.attacked)) "." }
                @for gallery in galleries { (gallery) }
            }
        }
    }
}

/// What a diagnosis took, in words.
fn costs(one: &Diagnosis) -> String {
    let (mut seconds, mut evaluations, mut vjps) = (0.0, 0, 0);
    let mut add =
        |s: f64, e: u64, v: u64| (seconds, evaluations, vjps) = (seconds + s, evaluations + e, vjps + v);
    macro_rules! sections { ($model:ident: $($name:ident)*) => { $(
        if let Some(s) = &$model.$name { add(s.seconds, s.cell_evaluations, s.vjps) }
    )* } }
    for model in &one.diagnosed {
        sections!(model: residual accuracy alignment landscape spectrum sweep gallery);
    }
    format!(
        "It took {}, {} evaluations of the cell and {} vector-Jacobian products, beside those of the attack.",
        words::seconds(seconds),
        words::thousands(evaluations),
        words::thousands(vjps)
    )
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
struct Ids {
    count: usize,
    named: Vec<String>,
}

impl Ids {
    fn new() -> Self {
        Self { count: 0, named: Vec::new() }
    }

    /// Whether a name has not been an id yet.
    fn first(&mut self, name: &str) -> bool {
        let new = !self.named.iter().any(|named| named == name);
        self.named.extend(new.then(|| name.to_owned()));
        new
    }

    fn next(&mut self) -> String {
        self.count += 1;
        format!("item-{}", self.count)
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

/// The command that made a record, unless it is the report's own, which is shown already.
fn command<'a>(configuration: &'a serde_json::Value, report: &Report) -> Option<&'a str> {
    let command = configuration.get("command")?.as_str()?;
    (report.command.as_deref() != Some(command)).then_some(command)
}

/// JSON with indents; a JSON value can always be written.
fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}")
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
                @if let Some(command) = command(&model.configuration, report) {
                    pre tabindex="0" { code { (command) } }
                }
                details { summary { "Configuration and versions" } pre tabindex="0" { code { (configuration) } } }
            }
            @for one in &report.diagnoses {
                h3 { "Diagnosis of " (words::list(&one.diagnosed.iter().map(|m| m.model.clone()).collect::<Vec<_>>())) }
                dl {
                    dt { "Data" } dd { (one.dataset) }
                    dt { "Budget" } dd { (words::norm(&one.norm)) " ε = " (words::eps(one.eps)) }
                    dt { "Images" } dd { (one.count) }
                    dt { "Seed" } dd { (one.seed) }
                    dt { "Record format" } dd { (one.version) }
                }
                @if let Some(command) = command(&one.configuration, report) {
                    pre tabindex="0" { code { (command) } }
                }
                details {
                    summary { "Configuration and versions" }
                    pre tabindex="0" { code { (pretty(&one.configuration)) } }
                    @for model in &one.diagnosed {
                        pre tabindex="0" { code { (model.model) ": " (pretty(&model.configuration)) } }
                    }
                }
            }
        }
    }
}
