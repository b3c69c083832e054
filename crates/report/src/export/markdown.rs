//! Markdown in GitHub's flavour: verdict first, then tables; figures as tables of their points, folded.

use super::Exporter;
use crate::comparison::Comparisons;
use crate::figure::Figure;
use crate::table::{Cell, Table};
use crate::{Report, ReportError, classes, diagnosis, dose, effort, facts, radii, table, training, verdict};
use equipoise_record::{Evaluation, ReadoutResult};
use std::fmt::Write;

pub(crate) struct Markdown;

impl Exporter for Markdown {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let mut out = format!("# {}\n", text(&report.title));
        verdicts(&mut out, report);
        effort(&mut out, report);
        accuracy(&mut out, report);
        radii(&mut out, report);
        comparisons(&mut out, report);
        dose(&mut out, report);
        findings(&mut out, report);
        checks(&mut out, report);
        classes(&mut out, report);
        runs(&mut out, report);
        diagnoses(&mut out, report);
        trainings(&mut out, report);
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
}

/// What each arm left, by the work that it took.
fn effort(out: &mut String, report: &Report) {
    let curves = facts::rows(&report.models).filter_map(|(model, readout)| effort::curves(model, readout));
    let curves: Vec<Figure> = curves.collect();
    section(out, "Effort", &curves, |out, curve| figure(out, "###", curve));
}

fn accuracy(out: &mut String, report: &Report) {
    section(out, "Accuracy", &facts::by_setting(&report.models), |out, (setting, models)| {
        table(out, &table::summary(setting, models));
        table(out, &table::verdicts(setting, models));
    });
}

fn radii(out: &mut String, report: &Report) {
    section(out, "Accuracy against ε", &radii::tables(&report.models), table);
}

fn comparisons(out: &mut String, report: &Report) {
    let comparisons = Comparisons::of(&report.models);
    if let Some(all) = comparisons.table() {
        let _ = write!(out, "\n## Paired comparisons\n\n{}\n\n", text(&comparisons.about()));
        for pair in &comparisons.pairs {
            let _ = writeln!(out, "- {}", text(&comparisons.sentence(pair)));
        }
        table(out, &all);
    }
}

/// How the gaps depend on residuals and cosines; every point folded.
fn dose(out: &mut String, report: &Report) {
    let Some(section) = dose::Section::of(&report.models, &report.diagnoses) else { return };
    let _ = write!(out, "\n## Gap against residual\n\n{}\n", text(dose::ABOUT));
    for group in &section.groups {
        out.push('\n');
        for dose in dose::Dose::ALL {
            let _ = writeln!(out, "- {}. {}", text(&group.setting), text(&group.sentence(dose)));
        }
        for one in dose::figures(group) {
            figure(out, "###", &one);
        }
        let _ = write!(out, "\n<details><summary>Every point, {}</summary>\n", group.rung.name());
        table(out, &dose::table(group));
        out.push_str("\n</details>\n");
    }
    out.push_str(if section.notes.is_empty() { "" } else { "\n" });
    for note in &section.notes {
        let _ = writeln!(out, "- {}", text(note));
    }
}

/// Accuracy by true class, and what the broken images are taken for.
fn classes(out: &mut String, report: &Report) {
    let tables = facts::rows(&report.models).flat_map(|(model, readout)| {
        [classes::accuracy(model, readout), classes::confusion(model, readout)].into_iter().flatten()
    });
    section(out, "Classes", &tables.collect::<Vec<_>>(), table);
}

fn runs(out: &mut String, report: &Report) {
    let rows: Vec<(&Evaluation, &ReadoutResult)> = facts::rows(&report.models).collect();
    section(out, "Attack by attack", &rows, |out, (model, readout)| {
        let _ = write!(out, "\n### {}, readout {}\n", text(&model.model), text(&readout.name));
        match effort::pairs(model, readout) {
            Some(pairs) => {
                table(out, &pairs);
                out.push_str("\n<details><summary>Every run</summary>\n");
                table(out, &table::cascade(model, readout));
                out.push_str("\n</details>\n");
            }
            None => table(out, &table::cascade(model, readout)),
        }
        table::not_tried(model, readout).iter().for_each(|missing| table(out, missing));
    });
}

/// A section with its parts, unless there are none.
fn section<T>(out: &mut String, title: &str, parts: &[T], write: impl Fn(&mut String, &T)) {
    if !parts.is_empty() {
        let _ = write!(out, "\n## {title}\n");
    }
    parts.iter().for_each(|part| write(out, part));
}

fn figures(out: &mut String, report: &Report) {
    section(out, "Figures", &report.figures, |out, one| figure(out, "###", one));
}

fn figure(out: &mut String, heading: &str, figure: &Figure) {
    let _ = write!(out, "\n{heading} {}\n\n{}\n", text(&figure.title), text(&figure.caption));
    out.push_str("\n<details><summary>Points</summary>\n");
    table(out, &Table { caption: String::new(), ..table::points(figure) });
    out.push_str("\n</details>\n");
}

/// A sentence for each model that was diagnosed.
fn findings(out: &mut String, report: &Report) {
    let sentences: Vec<String> =
        report.diagnoses.iter().flat_map(diagnosis::diagnosis_summary).map(|s| text(&s)).collect();
    if !sentences.is_empty() {
        let _ = write!(out, "\n## Findings\n\n- {}\n", sentences.join("\n- "));
    }
}

/// Checks that were made: a line for each readout, and those that found something.
fn checks(out: &mut String, report: &Report) {
    section(out, "Checks", &facts::checks(&report.models), |out, checks| {
        let _ = write!(out, "\n**{}**: {}.\n", text(&checks.whose), text(&checks.in_short()));
        out.push_str(if checks.raised.is_empty() { "" } else { "\n" });
        for flag in &checks.raised {
            let _ = writeln!(out, "- {}, **raised**: {}", text(&flag.name), text(&flag.statement));
        }
    });
}

fn diagnoses(out: &mut String, report: &Report) {
    for one in &report.diagnoses {
        let _ = write!(out, "\n## Diagnosis: {}\n", text(&diagnosis::setting(one)));
        for part in diagnosis::parts(one) {
            let _ = write!(out, "\n### {}\n\n{}\n", part.title, text(part.about));
            for line in &part.absent {
                let _ = write!(out, "\n{}\n", text(line));
            }
            for one in &part.tables {
                table(out, one);
            }
            for one in &part.figures {
                figure(out, "####", one);
            }
        }
    }
}

/// Where each training run has come to, its curves, and its epochs folded.
fn trainings(out: &mut String, report: &Report) {
    let Some(summary) = training::summary(&report.trainings) else { return };
    let _ = write!(out, "\n## Training\n\n{}\n", text(training::ABOUT));
    if let Some(open) = training::unfinished(&report.trainings) {
        let _ = write!(out, "\n{}\n", text(&open));
    }
    table(out, &summary);
    for one in training::figures(&report.trainings) {
        figure(out, "###", &one);
    }
    for one in &report.trainings {
        if let Some(epochs) = training::epochs(one) {
            let _ = write!(out, "\n<details><summary>{}: every epoch</summary>\n", text(&one.model));
            table(out, &epochs);
            out.push_str("\n</details>\n");
        }
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
    for one in &report.diagnoses {
        let _ = write!(out, "\n**Diagnosis**: {}, seed {}.\n", text(&diagnosis::setting(one)), one.seed);
        let mut all = vec![serde_json::to_string_pretty(&one.configuration)?];
        for model in &one.diagnosed {
            all.push(serde_json::to_string_pretty(&model.configuration)?);
        }
        let block = fenced("json", &all.join("\n"));
        let _ = write!(out, "\n<details><summary>Configuration</summary>\n{block}\n</details>\n");
    }
    for one in report.trainings.iter().filter(|one| !one.recipe.is_null()) {
        let block = fenced("json", &serde_json::to_string_pretty(&one.recipe)?);
        let _ = write!(
            out,
            "\n**Training of {}**.\n\n<details><summary>Recipe</summary>\n{block}\n</details>\n",
            text(&one.model)
        );
    }
    let _ = write!(out, "\nWritten by equipoise-report {}.\n", env!("CARGO_PKG_VERSION"));
    Ok(())
}

pub(crate) fn table(out: &mut String, table: &Table) {
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
pub(crate) fn text(plain: &str) -> String {
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
