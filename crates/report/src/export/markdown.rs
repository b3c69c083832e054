//! Markdown in GitHub's flavour: verdict first, then tables; figures as tables of their points, folded.

use super::Exporter;
use crate::table::{Cell, Table};
use crate::{Report, ReportError, facts, table, verdict};
use std::fmt::Write;

pub(crate) struct Markdown;

impl Exporter for Markdown {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let mut out = format!("# {}\n", text(&report.title));
        verdicts(&mut out, report);
        tables(&mut out, report);
        figures(&mut out, report);
        reproduce(&mut out, report)?;
        Ok(out)
    }
}

fn verdicts(out: &mut String, report: &Report) {
    if report.models.is_empty() {
        return;
    }
    out.push_str("\n## Verdict\n");
    for model in &report.models {
        if model.readouts.is_empty() {
            let _ = write!(out, "\n**{}**: no readout was evaluated.\n", text(&model.model));
        }
        for (i, verdict) in verdict::verdicts(model).into_iter().enumerate() {
            let sentence = text(&verdict.sentence);
            // The first readout is the one the model is deployed with.
            let sentence = if i == 0 { format!("**{sentence}**") } else { sentence };
            let gap = if verdict.evidence.is_empty() { "" } else { "\n" };
            let _ = write!(out, "\n{sentence}\n{gap}");
            for line in &verdict.evidence {
                let _ = writeln!(out, "- {}", text(line));
            }
        }
    }
    let _ = write!(out, "\n{}\n", text(verdict::HOW_TO_READ));
}

fn tables(out: &mut String, report: &Report) {
    if !report.models.is_empty() {
        out.push_str("\n## Accuracy\n");
    }
    for (setting, models) in facts::by_setting(&report.models) {
        table(out, &table::summary(&setting, &models));
    }
    if report.models.iter().any(|m| !m.readouts.is_empty()) {
        out.push_str("\n## Attack by attack\n");
    }
    for model in &report.models {
        for readout in &model.readouts {
            let _ = write!(out, "\n### {}, readout {}\n", text(&model.model), text(&readout.name));
            table(out, &table::cascade(model, readout));
            table::not_tried(model, readout).iter().for_each(|missing| table(out, missing));
        }
    }
}

fn figures(out: &mut String, report: &Report) {
    if !report.figures.is_empty() {
        out.push_str("\n## Figures\n");
    }
    for figure in &report.figures {
        let _ = write!(out, "\n### {}\n\n{}\n", text(&figure.title), text(&figure.caption));
        out.push_str("\n<details><summary>Points</summary>\n");
        table(out, &Table { caption: String::new(), ..table::points(figure) });
        out.push_str("\n</details>\n");
    }
}

fn reproduce(out: &mut String, report: &Report) -> Result<(), ReportError> {
    out.push_str("\n## Reproduce\n");
    if let Some(command) = &report.command {
        out.push_str(&fenced("sh", command));
    }
    for model in &report.models {
        let configuration = serde_json::to_string_pretty(&model.configuration)?;
        let _ = write!(
            out,
            "\n**{}**: {}, seed {}, record format {}.\n",
            text(&model.model),
            text(&facts::setting(model)),
            model.seed,
            model.version
        );
        let block = fenced("json", &configuration);
        let _ = write!(out, "\n<details><summary>Configuration</summary>\n{block}\n</details>\n");
    }
    let _ = write!(out, "\nWritten by equipoise-report {}.\n", env!("CARGO_PKG_VERSION"));
    Ok(())
}

fn table(out: &mut String, table: &Table) {
    if !table.caption.is_empty() {
        let _ = write!(out, "\n{}\n", text(&table.caption));
    }
    out.push('\n');
    line(out, table.columns.iter().map(|c| text(&c.title)));
    line(out, table.columns.iter().map(|c| if c.numeric { "---:" } else { "---" }.to_owned()));
    for row in &table.rows {
        line(out, row.iter().map(cell));
    }
}

fn line(out: &mut String, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn cell(cell: &Cell) -> String {
    let parts: Vec<String> = std::iter::once(&cell.main).chain(&cell.notes).map(|part| text(part)).collect();
    parts.join(" ")
}

/// Plain text as Markdown that shows it unchanged, in a table as well: no markup, no HTML, one line.
fn text(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '|' | '#' | '~' | '!' => out.extend(['\\', c]),
            '\n' | '\r' | '\t' => out.push(' '),
            _ => out.push(c),
        }
    }
    // Brackets stay as they are, since intervals are everywhere; only `](` and `][` make links.
    out.replace("](", "]\\(").replace("][", "]\\[")
}

/// A code block whose fence is longer than any run of backticks inside.
fn fenced(language: &str, code: &str) -> String {
    let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("\n{fence}{language}\n{}\n{fence}\n", code.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_unchanged() {
        assert_eq!(text("41.2% [37.0, 45.6]"), "41.2% [37.0, 45.6]");
        assert_eq!(text("a|b_c*<b>"), "a\\|b\\_c\\*&lt;b&gt;");
        assert_eq!(text("[x](http://example.org)\nb"), "[x]\\(http://example.org) b");
    }

    #[test]
    fn fences_hold_what_they_fence() {
        assert!(fenced("sh", "a ```` b").contains("\n`````sh\n"));
        assert!(fenced("sh", "a").contains("\n```sh\na\n```\n"));
    }
}
