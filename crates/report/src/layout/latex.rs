//! LaTeX: text that prints unchanged, and `booktabs` tables, each with a label.

use crate::svg::slug;
use crate::table::{Cell, Table};
use crate::{Report, derived};
use equipoise_record::{Evaluation, ReadoutResult};
use std::fmt::Write;

/// What has been written, and the labels that are taken.
#[derive(Default)]
pub(crate) struct Tables {
    pub out: String,
    labels: Vec<String>,
}

impl Tables {
    /// A line that is no part of the text. Its content is LaTeX, so that it can be taken into one.
    pub(crate) fn comment(&mut self, latex: &str) {
        let _ = writeln!(self.out, "% {latex}");
    }

    /// A label of these parts that no other table has.
    pub(crate) fn label(&mut self, parts: &[&str]) -> String {
        let slug = format!("tab:{}", slug(&parts.join(" ")));
        let numbered = (2..).map(|i| format!("{slug}-{i}"));
        let free = |label: &String| !self.labels.contains(label);
        let label = std::iter::once(slug.clone()).chain(numbered).find(free).unwrap_or(slug);
        self.labels.push(label.clone());
        label
    }

    /// A table; caption, head and rows are LaTeX.
    pub(crate) fn table(&mut self, label: &str, caption: &str, layout: &str, head: &str, rows: &[String]) {
        let _ = write!(
            self.out,
            "\n\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\label{{{label}}}\n\\smallskip\n% A wide table shrinks to the line, \
             a narrow one keeps its size.\n\\begin{{adjustbox}}{{max width=\\linewidth}}\n\\begin{{tabular}}{{{layout}}}\n\
             \\toprule\n{head} \\\\\n\\midrule\n"
        );
        for row in rows {
            let _ = writeln!(self.out, "{row} \\\\");
        }
        self.out.push_str("\\bottomrule\n\\end{tabular}\n\\end{adjustbox}\n\\end{table}\n");
    }

    /// All of a table under a caption, which is LaTeX.
    pub(crate) fn whole(&mut self, label: &str, caption: &str, table: &Table) {
        let layout: String = table.columns.iter().map(|c| if c.numeric { 'r' } else { 'l' }).collect();
        let head: Vec<String> = table.columns.iter().map(|c| text(&c.title)).collect();
        let row = |row: &Vec<Cell>| row.iter().map(cell).collect::<Vec<_>>().join(" & ");
        let rows: Vec<String> = table.rows.iter().map(row).collect();
        self.table(label, caption, &layout, &head.join(" & "), &rows);
    }

    /// All of a table. What its columns hold, `about`, ends its caption: that is said once.
    pub(crate) fn explained(
        &mut self,
        table: &Table,
        parts: &[&str],
        about: &str,
        explained: &mut Option<String>,
    ) {
        let label = self.label(parts);
        let caption = explain(&table.caption, about, &label, explained);
        self.whole(&label, &caption, table);
    }

    /// The tables of one kind, of every readout that has one.
    pub(crate) fn of_readouts(
        &mut self,
        report: &Report,
        kind: &str,
        about: &str,
        of: impl Fn(&Evaluation, &ReadoutResult) -> Option<Table>,
    ) {
        let mut explained = None;
        for (model, readout) in derived::rows(&report.models) {
            let Some(table) = of(model, readout) else { continue };
            let namesakes = report.models.iter().filter(|other| other.model == model.model).count();
            let setting = if namesakes > 1 { derived::setting(model) } else { String::new() };
            self.explained(&table, &[kind, &model.model, &readout.name, &setting], about, &mut explained);
        }
    }
}

/// A caption, as LaTeX. It ends with what the columns hold; if that was said already, it refers to where.
pub(crate) fn explain(caption: &str, columns: &str, label: &str, explained: &mut Option<String>) -> String {
    match (explained.as_ref(), caption.strip_suffix(columns)) {
        // Columns that each caption explains itself.
        _ if columns.is_empty() => text(caption),
        (Some(first), Some(what)) => {
            format!("{} Columns as in Table~\\ref{{{first}}}.", text(what.trim_end()))
        }
        _ => {
            explained.get_or_insert_with(|| label.to_owned());
            text(caption)
        }
    }
}

fn cell(cell: &Cell) -> String {
    if cell.notes.is_empty() {
        return text(&cell.main);
    }
    format!("{} {{\\scriptsize {}}}", text(&cell.main), text(&cell.notes.join(" ")))
}

/// Plain text as LaTeX that prints it; numbers with a sign or an exponent, and iterates, are set as formulas.
pub(crate) fn text(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    let mut rest = plain;
    let mut before = None;
    while let Some(c) = rest.chars().next() {
        let (latex, length) = formula(before, rest).unwrap_or_else(|| (letter(c), c.len_utf8()));
        out.push_str(&latex);
        before = rest[..length].chars().last();
        rest = &rest[length..];
    }
    out
}

/// The formula that `rest` begins with, and how many bytes it stands for.
fn formula(before: Option<char>, rest: &str) -> Option<(String, usize)> {
    for (plain, latex) in [
        ("L∞", "$L_\\infty$"),
        ("‖J‖_F", "$\\Vert J\\Vert_F$"),
        ("L2 ε", "$L_2$ $\\varepsilon$"),
        ("L1 ε", "$L_1$ $\\varepsilon$"),
    ] {
        if rest.starts_with(plain) {
            return Some((latex.to_owned(), plain.len()));
        }
    }
    // A part of a name is no number: `pgd-10`.
    if before.is_some_and(|c| !c.is_whitespace() && !"([,;=:".contains(c)) {
        return None;
    }
    let ends = |c: char| c.is_whitespace() || ")],;:%".contains(c);
    let end = rest.find(ends).unwrap_or(rest.len());
    // The full stop after a number.
    let word = rest[..end].trim_end_matches('.');
    let latex = match word.strip_prefix("z_") {
        Some(index) if is_digits(index) && index.len() == 1 => format!("$z_{index}$"),
        Some(index) if is_digits(index) => format!("$z_{{{index}}}$"),
        _ => number(word)?,
    };
    Some((latex, word.len()))
}

/// `9.464e-4`, `-0.047` and `−0.5` as formulas; plain digits are none.
fn number(word: &str) -> Option<String> {
    let (mantissa, exponent) = match word.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (word, None),
    };
    let (sign, unsigned) = match mantissa.strip_prefix(['-', '−']) {
        Some(unsigned) => ("-", unsigned),
        None => ("", mantissa),
    };
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    if !is_digits(whole) || !is_digits(part) || (exponent.is_none() && sign.is_empty()) {
        return None;
    }
    match exponent {
        None => Some(format!("${sign}{unsigned}$")),
        Some(exponent) if !is_digits(exponent.strip_prefix('-').unwrap_or(exponent)) => None,
        Some(exponent) if unsigned == "1" => Some(format!("${sign}10^{{{exponent}}}$")),
        Some(exponent) => Some(format!("${sign}{unsigned}\\cdot10^{{{exponent}}}$")),
    }
}

fn is_digits(says: &str) -> bool {
    !says.is_empty() && says.bytes().all(|b| b.is_ascii_digit())
}

/// A character so that LaTeX prints it.
fn letter(c: char) -> String {
    let fixed = match c {
        '\\' => "\\textbackslash{}",
        '~' => "\\textasciitilde{}",
        '^' => "\\textasciicircum{}",
        '<' => "\\textless{}",
        '>' => "\\textgreater{}",
        // A bracket first in a row would be read as the option of the `\\` before it.
        '[' => "{[}",
        ']' => "{]}",
        'α' => "$\\alpha$",
        'β' => "$\\beta$",
        'γ' => "$\\gamma$",
        'ε' => "$\\varepsilon$",
        'λ' => "$\\lambda$",
        'ρ' => "$\\rho$",
        'σ' => "$\\sigma$",
        '∂' => "$\\partial$",
        '∞' => "$_\\infty$",
        '−' => "$-$",
        '×' => "$\\times$",
        '·' => "$\\cdot$",
        '≤' => "$\\le$",
        '≥' => "$\\ge$",
        '→' => "$\\to$",
        '‖' => "$\\Vert$",
        '²' => "$^2$",
        '–' => "--",
        '…' => "\\ldots{}",
        '\n' | '\r' | '\t' => " ",
        '{' | '}' | '$' | '&' | '#' | '%' | '_' => return format!("\\{c}"),
        // Accented letters of Latin scripts are known to every LaTeX; others would stop pdfTeX.
        ' '..='~' | '\u{c0}'..='\u{17f}' => return c.to_string(),
        _ => return format!("{{[}}U+{:04X}{{]}}", u32::from(c)),
    };
    fixed.to_owned()
}

/// Plain text in a comment, which ends with its line.
pub(crate) fn comment(plain: &str) -> String {
    plain.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_prints_unchanged() {
        assert_eq!(text("50% of a_b {x} \\end"), "50\\% of a\\_b \\{x\\} \\textbackslash{}end");
        assert_eq!(text("L∞ ε = 8/255"), "$L_\\infty$ $\\varepsilon$ = 8/255");
        assert_eq!(text("é 中\u{1}"), "é {[}U+4E2D{]}{[}U+0001{]}");
    }

    #[test]
    fn numbers_are_formulas() {
        assert_eq!(text("9.464e-4"), "$9.464\\cdot10^{-4}$");
        assert_eq!(text("[-0.047, 1e-4]"), "{[}$-0.047$, $10^{-4}${]}");
        assert_eq!(text("at -3."), "at $-3$.");
        assert_eq!(text("[−0.7, 0.7], b − c"), "{[}$-0.7$, 0.7{]}, b $-$ c");
        assert_eq!(text("60% if z_8 or z_12 is read"), "60\\% if $z_8$ or $z_{12}$ is read");
        for same in ["pgd-10", "0.5", "8/255", "12.5 s", "steps-1e-4x", "e-4", "1e", "-"] {
            assert_eq!(text(same), same);
        }
    }
}
