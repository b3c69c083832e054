//! The verdict on each model; in the page as a card: the finding, the three accuracies, the sentence, and the other
//! readouts.

use super::Section;
use crate::layout::html::{Page, breakable};
use crate::layout::latex::{self, Tables};
use crate::layout::markdown::text;
use crate::verdict::{self, Statement};
use crate::{Report, ReportError, derived, numbers};
use equipoise_record::{Accuracy, Evaluation, Finding, ReadoutResult};
use maud::{Markup, html};
use std::fmt::Write;

pub(crate) struct Verdicts;

impl Section for Verdicts {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        let Report { models, records, .. } = report;
        if models.is_empty() {
            return Ok(html! {});
        }
        Ok(html! {
            section id=(page.section("verdict", "Verdict")) {
                h2 { "Verdict" }
                @for model in models { (card(model)) }
                details { summary { "How to read this" } p.quiet { (verdict::how_to_read(*records)) } }
                @if *records > 1 { p.quiet { "Made of " (records) " records; each was corrected alone." } }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        if report.models.is_empty() {
            return Ok(());
        }
        out.push_str("\n## Verdict\n");
        for model in &report.models {
            if model.readouts.is_empty() {
                let _ = write!(out, "\n**{}**: no readout was evaluated.\n", text(&model.model));
            }
            for (i, statement) in verdict::statements(model).into_iter().enumerate() {
                let sentence = text(&statement.sentence);
                // The first readout is the one the model is deployed with.
                let sentence = if i == 0 { format!("**{sentence}**") } else { sentence };
                let _ = write!(out, "\n**{}.** {sentence}\n", text(statement.label));
                let lines: Vec<&String> = statement.warnings.iter().chain(&statement.reasons).collect();
                out.push_str(if lines.is_empty() { "" } else { "\n" });
                for line in lines {
                    let _ = writeln!(out, "- {}", text(line));
                }
            }
        }
        let _ = write!(out, "\n{}\n", text(&verdict::how_to_read(report.records)));
        Ok(())
    }

    /// As comments, to be taken into a text.
    fn latex(&self, report: &Report, tables: &mut Tables) {
        for statement in report.models.iter().flat_map(verdict::statements) {
            tables.comment(&format!("{}: {}", statement.label, latex::text(&statement.sentence)));
        }
        if report.records > 1 {
            let records = report.records;
            tables.comment(&format!("Made of {records} records; p-values were corrected within each alone."));
        }
    }
}

/// The readout that the model is deployed with, then its others.
fn card(model: &Evaluation) -> Markup {
    let statements = verdict::statements(model);
    let Some((deployed, others)) = statements.split_first() else {
        return html! { article.verdict.none { p.sentence { (model.model) ": no readout was evaluated." } } };
    };
    html! {
        article class=(format!("verdict {}", mood(deployed.finding))) {
            div.head {
                div {
                    p.whose { (deployed.model) ", readout " (deployed.readout) }
                    p.finding { (deployed.label) }
                }
                (accuracies(model, &model.readouts[0]))
            }
            p.sentence { (sentence(deployed)) }
            (support(deployed))
            @for (other, readout) in others.iter().zip(&model.readouts[1..]) { (folded(model, other, readout)) }
        }
    }
}

/// A readout in one line that unfolds; open where obfuscation was found.
fn folded(model: &Evaluation, statement: &Statement, readout: &ReadoutResult) -> Markup {
    let found = statement.finding == Finding::Obfuscated;
    html! {
        details class=(format!("other {}", mood(statement.finding))) open[found] {
            summary {
                span.name { (statement.readout) }
                span.label { (statement.label) }
                span.short { (in_short(model, readout)) }
            }
            p { (sentence(statement)) }
            (support(statement))
        }
    }
}

/// What weakens a statement, then what it rests on.
fn support(statement: &Statement) -> Markup {
    html! {
        @if !statement.warnings.is_empty() {
            ul.warnings { @for line in &statement.warnings { li { (breakable(line)) } } }
        }
        @if !statement.reasons.is_empty() {
            details {
                summary { "Evidence" }
                ul { @for line in &statement.reasons { li { (breakable(line)) } } }
            }
        }
    }
}

/// Clean, ready-made and white-box accuracy, where they were measured.
fn measured(readout: &ReadoutResult) -> [(&'static str, Option<Accuracy>); 3] {
    [
        ("clean", Some(readout.clean_accuracy)),
        ("ready-made", readout.ready_made_accuracy),
        ("white-box", derived::white_box(readout)),
    ]
}

/// The three figures, large.
fn accuracies(model: &Evaluation, readout: &ReadoutResult) -> Markup {
    html! {
        ol.three {
            @for (name, accuracy) in measured(readout) {
                li {
                    @match accuracy.filter(|_| model.count > 0) {
                        Some(a) => {
                            span.figure { (numbers::percent(a.value)) }
                            span.unit { (name) } " "
                            span.unit { (numbers::interval(a.interval)) }
                        }
                        None => { span.figure { "–" } span.unit { (name) } " " span.unit { "not measured" } }
                    }
                }
            }
        }
    }
}

/// The same in a line: `73.4% → 41.2% → 33.0%`.
fn in_short(model: &Evaluation, readout: &ReadoutResult) -> String {
    let says = |accuracy: Option<Accuracy>| match accuracy.filter(|_| model.count > 0) {
        Some(a) => numbers::percent(a.value),
        None => "–".to_owned(),
    };
    measured(readout).map(|(_, accuracy)| says(accuracy)).join(" → ")
}

/// The sentence with its subject marked.
fn sentence(statement: &Statement) -> Markup {
    match statement.sentence.strip_prefix(&statement.model) {
        Some(rest) => html! { strong { (statement.model) } (breakable(rest)) },
        None => breakable(&statement.sentence),
    }
}

fn mood(finding: Finding) -> &'static str {
    match finding {
        Finding::Obfuscated => "alarm",
        Finding::Undecided => "open",
        Finding::NotObfuscated => "calm",
        Finding::NoRobustnessLeft | Finding::NoControl => "none",
    }
}
