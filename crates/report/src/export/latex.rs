//! LaTeX: verdicts as comments, then `booktabs` tables, one short enough for a paper first, then all the numbers; each
//! has its setting in the caption and a label.

use super::Exporter;
use crate::comparison::Comparisons;
use crate::svg::slug;
use crate::table::{self, CASCADE, Cell, SUMMARY, Table};
use crate::{Report, ReportError, classes, diagnosis, dose, effort, facts, radii, training, verdict, words};
use equipoise_record::{Accuracy, Diagnosis, Evaluation, ReadoutResult, Training};
use std::fmt::Write;

pub(crate) struct Latex;

impl Exporter for Latex {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let mut tables = Tables::default();
        let _ = writeln!(tables.out, "% {}", comment(&report.title));
        tables.out.push_str("% Needs \\usepackage{booktabs} and \\usepackage{adjustbox}.\n");
        tables.out.push_str(
            "% First the short tables for a paper, then those with all numbers, which refer to each other.\n",
        );
        if let Some(command) = &report.command {
            let _ = writeln!(tables.out, "% Made by: {}", comment(command));
        }
        tables.sentences(report);
        let groups = facts::by_setting(&report.models);
        // A label holds the setting only where it must: then other models in the report do not change it.
        let setting = |says: &str| if groups.len() > 1 { says.to_owned() } else { String::new() };
        for (says, models) in &groups {
            tables.short(says, models, &["accuracy", &setting(says)]);
        }
        let mut explained = None;
        for (says, models) in &groups {
            tables.summary(says, models, &["intervals", &setting(says)], &mut explained);
        }
        let (about, mut explained) = (table::about_verdicts(), None);
        for (says, models) in &groups {
            let verdicts = table::verdicts(says, models);
            tables.explained(&verdicts, &["verdict", &setting(says)], &about, &mut explained);
        }
        tables.of_readouts(report, "radii", &radii::about(), radii::table);
        tables.comparisons(&Comparisons::of(&report.models));
        tables.dose(report);
        tables.of_readouts(report, "effort", effort::PAIRS, effort::pairs);
        tables.of_readouts(report, "attacks", CASCADE, |model, readout| Some(table::cascade(model, readout)));
        tables.of_readouts(report, "classes", classes::ACCURACY, classes::accuracy);
        tables.of_readouts(report, "confusion", "", classes::confusion);
        for one in &report.diagnoses {
            tables.diagnosis(one, report.diagnoses.len() > 1);
        }
        tables.trainings(&report.trainings);
        Ok(tables.out)
    }
}

/// What has been written, and the labels that are taken.
#[derive(Default)]
struct Tables {
    out: String,
    labels: Vec<String>,
}

impl Tables {
    /// The verdicts as comments, to be taken into a text.
    fn sentences(&mut self, report: &Report) {
        for statement in report.models.iter().flat_map(verdict::statements) {
            let _ = writeln!(self.out, "% {}: {}", statement.label, text(&statement.sentence));
        }
        if report.records > 1 {
            let records = report.records;
            let _ =
                writeln!(self.out, "% Made of {records} records; p-values were corrected within each alone.");
        }
    }

    /// A label of these parts that no other table has.
    fn label(&mut self, parts: &[&str]) -> String {
        let slug = format!("tab:{}", slug(&parts.join(" ")));
        let numbered = (2..).map(|i| format!("{slug}-{i}"));
        let free = |label: &String| !self.labels.contains(label);
        let label = std::iter::once(slug.clone()).chain(numbered).find(free).unwrap_or(slug);
        self.labels.push(label.clone());
        label
    }

    /// A table; caption, head and rows are LaTeX.
    fn table(&mut self, label: &str, caption: &str, layout: &str, head: &str, rows: &[String]) {
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
    fn whole(&mut self, label: &str, caption: &str, table: &Table) {
        let layout: String = table.columns.iter().map(|c| if c.numeric { 'r' } else { 'l' }).collect();
        let head: Vec<String> = table.columns.iter().map(|c| text(&c.title)).collect();
        let row = |row: &Vec<Cell>| row.iter().map(cell).collect::<Vec<_>>().join(" & ");
        let rows: Vec<String> = table.rows.iter().map(row).collect();
        self.table(label, caption, &layout, &head.join(" & "), &rows);
    }

    /// The table for a paper: three accuracies and the finding by model and readout. A model's name stands in its first row.
    fn short(&mut self, setting: &str, models: &[&Evaluation], parts: &[&str]) {
        let several = models.iter().any(|model| model.readouts.len() > 1);
        let mut rows = Vec::new();
        for (i, model) in models.iter().enumerate() {
            let percent = |a: Option<Accuracy>| match a {
                Some(a) if model.count > 0 => format!("{:.1}", 100.0 * a.value),
                _ => "--".to_owned(),
            };
            for (k, readout) in model.readouts.iter().enumerate() {
                let accuracies =
                    [Some(readout.clean_accuracy), readout.ready_made_accuracy, facts::white_box(readout)];
                let [clean, ready_made, white_box] = accuracies.map(percent);
                // Space between models, where they have several rows.
                let space = if i > 0 && k == 0 && several { "\\addlinespace\n" } else { "" };
                let name = if k == 0 { text(&model.model) } else { String::new() };
                let readout = text(&readout.name);
                let finding = verdict::label(&model.readouts[k].verdict);
                rows.push(format!(
                    "{space}{name} & {readout} & {clean} & {ready_made} & {white_box} & {finding}"
                ));
            }
        }
        let absent = if rows.iter().any(|row| row.contains(" & --")) { " A dash: not run." } else { "" };
        let caption = format!(
            "{setting}. Accuracy in %: clean, under ready-made attacks with as many runs as through other gradients, \
             and under all attacks that were tried (white-box). Finding: whether other gradients break more than the \
             training gradient does in as many runs, by an exact test, corrected over the record.{absent}"
        );
        let label = self.label(parts);
        let head = "Model & Readout & Clean & Ready-made & White-box & Finding";
        self.table(&label, &text(&caption), "llrrrl", head, &rows);
    }

    /// Accuracies with their intervals, and what was tried. The columns are explained once.
    fn summary(
        &mut self,
        setting: &str,
        models: &[&Evaluation],
        parts: &[&str],
        explained: &mut Option<String>,
    ) {
        let mut summary = table::summary(setting, models);
        // What was tried is a sentence for each row: too long for a column of a paper.
        summary.remove("Tried");
        let label = self.label(parts);
        let caption = explain(&summary.caption, SUMMARY, &label, explained);
        let caption = format!("{caption} {}", text(&tried(models)));
        self.whole(&label, &caption, &summary);
    }

    /// All of a table. What its columns hold, `about`, ends its caption: that is said once.
    fn explained(&mut self, table: &Table, parts: &[&str], about: &str, explained: &mut Option<String>) {
        let label = self.label(parts);
        let caption = explain(&table.caption, about, &label, explained);
        self.whole(&label, &caption, table);
    }

    /// The tables of one kind, of every readout that has one.
    fn of_readouts(
        &mut self,
        report: &Report,
        kind: &str,
        about: &str,
        of: impl Fn(&Evaluation, &ReadoutResult) -> Option<Table>,
    ) {
        let mut explained = None;
        for (model, readout) in facts::rows(&report.models) {
            let Some(table) = of(model, readout) else { continue };
            let namesakes = report.models.iter().filter(|other| other.model == model.model).count();
            let setting = if namesakes > 1 { facts::setting(model) } else { String::new() };
            self.explained(&table, &[kind, &model.model, &readout.name, &setting], about, &mut explained);
        }
    }

    /// Every pair as a row, and as a sentence in a comment.
    fn comparisons(&mut self, comparisons: &Comparisons) {
        let Some(all) = comparisons.table() else { return };
        let _ = write!(self.out, "\n% {}\n", text(&comparisons.about()));
        for pair in &comparisons.pairs {
            let _ = writeln!(self.out, "% {}", text(&comparisons.sentence(pair)));
        }
        let label = self.label(&["comparison"]);
        self.whole(&label, &text(&all.caption), &all);
    }

    /// Every point as a row, and what the trends are in comments.
    fn dose(&mut self, report: &Report) {
        let Some(section) = dose::Section::of(&report.models, &report.diagnoses) else { return };
        let _ = write!(self.out, "\n% {}\n", text(dose::ABOUT));
        for group in &section.groups {
            for dose in dose::Dose::ALL {
                let _ = writeln!(self.out, "% {}. {}", text(&group.setting), text(&group.sentence(dose)));
            }
        }
        for note in &section.notes {
            let _ = writeln!(self.out, "% {}", text(note));
        }
        let several = section.groups.iter().any(|group| group.setting != section.groups[0].setting);
        for group in &section.groups {
            let setting = if several { group.setting.as_str() } else { "" };
            let label = self.label(&["dose", group.rung.name(), setting]);
            let table = dose::table(group);
            self.whole(&label, &text(&table.caption), &table);
        }
    }

    fn trainings(&mut self, trainings: &[Training]) {
        let summary = training::summary(trainings).map(|table| (String::new(), table));
        let epochs = trainings.iter().filter_map(|one| Some((one.model.clone(), training::epochs(one)?)));
        for (model, table) in summary.into_iter().chain(epochs) {
            let label = self.label(&["training", &model]);
            self.whole(&label, &text(&table.caption), &table);
        }
    }

    fn diagnosis(&mut self, one: &Diagnosis, among_others: bool) {
        let model = match one.diagnosed.as_slice() {
            [alone] => alone.model.as_str(),
            _ => "",
        };
        let setting = if among_others { diagnosis::setting(one) } else { String::new() };
        for part in diagnosis::parts(one) {
            for table in &part.tables {
                let label = self.label(&[part.title, model, &setting]);
                self.whole(&label, &text(&table.caption), table);
            }
        }
    }
}

/// A caption, as LaTeX. It ends with what the columns hold; if that was said already, it refers to where.
fn explain(caption: &str, columns: &str, label: &str, explained: &mut Option<String>) -> String {
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

/// What an attempt is made of; which attacks met which gradients stands in the tables of the attacks.
#[derive(Debug, Clone, PartialEq)]
enum What {
    Attack(String),
    Gradient(String),
    WithoutGradient(String),
}

fn attempts(readout: &ReadoutResult) -> Vec<What> {
    let mut found = Vec::new();
    for attack in &readout.attacks {
        let of_attack = match attack.gradient() {
            None => vec![What::WithoutGradient(attack.name.clone())],
            Some(estimator) => vec![What::Attack(attack.name.clone()), What::Gradient(estimator.to_owned())],
        };
        found.extend(of_attack);
    }
    let mut distinct: Vec<What> = Vec::new();
    for what in found {
        if !distinct.contains(&what) {
            distinct.push(what);
        }
    }
    distinct
}

fn in_words(attempts: &[What]) -> String {
    let (mut attacks, mut gradients, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for what in attempts {
        match what {
            What::Attack(name) => attacks.push(name.clone()),
            What::Gradient(name) => gradients.push(name.clone()),
            What::WithoutGradient(name) => without.push(name.clone()),
        }
    }
    let through = match gradients.len() {
        0 => String::new(),
        1..=3 => format!("through {}", words::list(&gradients)),
        n => format!("through {n} gradient estimators"),
    };
    let with = [words::list(&attacks), through].into_iter().filter(|part| !part.is_empty());
    let with = with.collect::<Vec<_>>().join(" ");
    let without = match words::list(&without) {
        names if names.is_empty() => names,
        names => format!("{names} without gradients"),
    };
    let parts = [with, without].into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("; ")
}

/// What was tried on the rows of a summary: once what all attacked rows share, then what only some had.
fn tried(models: &[&Evaluation]) -> String {
    let rows: Vec<(String, Vec<What>)> = models
        .iter()
        .flat_map(|m| m.readouts.iter().map(|r| (format!("{}, {}", m.model, r.name), attempts(r))))
        .collect();
    let attacked = || rows.iter().map(|(_, attempts)| attempts).filter(|attempts| !attempts.is_empty());
    let everywhere = |what: &&What| attacked().all(|attempts| attempts.contains(what));
    let common: Vec<What> = attacked().next().into_iter().flatten().filter(everywhere).cloned().collect();
    // Rows with the same further attempts share a sentence.
    let mut further: Vec<(Option<Vec<What>>, Vec<&str>)> = Vec::new();
    for (name, attempts) in &rows {
        let own = attempts.iter().filter(|what| !common.contains(what)).cloned().collect();
        let own = (!attempts.is_empty()).then_some(own);
        match further.iter_mut().find(|(known, _)| *known == own) {
            Some((_, names)) => names.push(name),
            None => further.push((own, vec![name])),
        }
    }
    let mut says = Vec::new();
    if !common.is_empty() {
        let rows = if attacked().count() > 1 { " on every row" } else { "" };
        says.push(format!("Tried{rows}: {}.", in_words(&common)));
    }
    for (own, names) in further {
        let names = names.join("; ");
        match own {
            None => says.push(format!("No attack was run on {names}.")),
            Some(own) if own.is_empty() => {}
            Some(own) if common.is_empty() => says.push(format!("Tried on {names}: {}.", in_words(&own))),
            Some(own) => says.push(format!("Further on {names}: {}.", in_words(&own))),
        }
    }
    says.join(" ")
}

fn cell(cell: &Cell) -> String {
    if cell.notes.is_empty() {
        return text(&cell.main);
    }
    format!("{} {{\\scriptsize {}}}", text(&cell.main), text(&cell.notes.join(" ")))
}

/// Plain text as LaTeX that prints it; numbers with a sign or an exponent, and iterates, are set as formulas.
fn text(plain: &str) -> String {
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
