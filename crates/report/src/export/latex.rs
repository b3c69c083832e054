//! LaTeX: `booktabs` tables to paste into a paper, each with its setting in the caption.

use super::Exporter;
use crate::comparison::Comparisons;
use crate::table::{Cell, Table};
use crate::{Report, ReportError, diagnosis, effort, facts, radii, table, verdict};
use std::fmt::Write;

pub(crate) struct Latex;

impl Exporter for Latex {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let mut out = String::new();
        let _ = writeln!(out, "% {}", comment(&report.title));
        out.push_str("% Needs \\usepackage{booktabs} and \\usepackage{adjustbox}.\n");
        if let Some(command) = &report.command {
            let _ = writeln!(out, "% Made by: {}", comment(command));
        }
        sentences(&mut out, report);
        for (setting, models) in facts::by_setting(&report.models) {
            let mut summary = table::summary(&setting, &models);
            // What was tried is a sentence for each row: too long for a column of a paper.
            let tried = summary.remove("Tried");
            let tried: Vec<String> = tried
                .iter()
                .zip(&summary.rows)
                .map(|(tried, row)| format!("{}, {}: {}", row[0].main, row[1].main, tried.main))
                .collect();
            if !tried.is_empty() {
                let _ = write!(summary.caption, " Tried: {}.", tried.join("; "));
            }
            table(&mut out, &summary);
            table(&mut out, &table::verdicts(&setting, &models));
        }
        radii::tables(&report.models).iter().for_each(|one| table(&mut out, one));
        comparisons(&mut out, &Comparisons::of(&report.models));
        for (model, readout) in facts::rows(&report.models) {
            effort::pairs(model, readout).iter().for_each(|pairs| table(&mut out, pairs));
            table(&mut out, &table::cascade(model, readout));
        }
        for part in report.diagnoses.iter().flat_map(diagnosis::parts) {
            part.tables.iter().for_each(|one| table(&mut out, one));
        }
        Ok(out)
    }
}

/// The verdicts as comments, to be taken into a text.
fn sentences(out: &mut String, report: &Report) {
    for model in &report.models {
        for statement in verdict::statements(model) {
            let _ = writeln!(out, "% {}: {}", statement.label, text(&statement.sentence));
        }
    }
    if report.records > 1 {
        let _ =
            writeln!(out, "% Made of {} records; p-values were corrected within each alone.", report.records);
    }
}

/// Every pair as a row, and as a sentence in a comment.
fn comparisons(out: &mut String, comparisons: &Comparisons) {
    let Some(all) = comparisons.table() else { return };
    let _ = write!(out, "\n% {}\n", text(&comparisons.about()));
    for pair in &comparisons.pairs {
        let _ = writeln!(out, "% {}", text(&comparisons.sentence(pair)));
    }
    table(out, &all);
}

fn table(out: &mut String, table: &Table) {
    let layout: String = table.columns.iter().map(|c| if c.numeric { 'r' } else { 'l' }).collect();
    let head: Vec<String> = table.columns.iter().map(|c| text(&c.title)).collect();
    let _ = write!(
        out,
        "\n\\begin{{table}}\n\\centering\n\\caption{{{}}}\n% A wide table shrinks to the line, a narrow one keeps its size.\n\\begin{{adjustbox}}{{max width=\\linewidth}}\n\\begin{{tabular}}{{{layout}}}\n\\toprule\n{} \\\\\n\\midrule\n",
        text(&table.caption),
        head.join(" & ")
    );
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(cell).collect();
        let _ = writeln!(out, "{} \\\\", cells.join(" & "));
    }
    let _ = write!(out, "\\bottomrule\n\\end{{tabular}}\n\\end{{adjustbox}}\n\\end{{table}}\n");
}

fn cell(cell: &Cell) -> String {
    if cell.notes.is_empty() {
        return text(&cell.main);
    }
    format!("{} {{\\scriptsize {}}}", text(&cell.main), text(&cell.notes.join(" ")))
}

/// Plain text as LaTeX that prints it unchanged.
fn text(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '{' | '}' | '$' | '&' | '#' | '%' | '_' => out.extend(['\\', c]),
            // A bracket first in a row would be read as the option of the `\\` before it.
            '[' | ']' => out.extend(['{', c, '}']),
            'ε' => out.push_str("$\\varepsilon$"),
            '∞' => out.push_str("$_\\infty$"),
            '–' => out.push_str("--"),
            '−' => out.push_str("$-$"),
            '·' => out.push_str("$\\cdot$"),
            '‖' => out.push_str("$\\Vert$"),
            '\n' | '\r' | '\t' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}

/// A comment ends with its line.
fn comment(plain: &str) -> String {
    plain.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_prints_unchanged() {
        assert_eq!(text("50% of a_b {x} \\end"), "50\\% of a\\_b \\{x\\} \\textbackslash{}end");
        assert_eq!(text("L∞ ε = 8/255"), "L$_\\infty$ $\\varepsilon$ = 8/255");
    }
}
