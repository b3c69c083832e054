//! Which of two models or readouts is more robust: paired comparisons on the images that both have seen.

use super::Section;
use crate::layout::html::{Page, breakable, table_of};
use crate::layout::latex::{self, Tables};
use crate::layout::markdown::{self, text};
use crate::sheet::sheet;
use crate::table::{Cell, Table, columns};
use crate::{Report, ReportError, derived, numbers};
use equipoise_record::Evaluation;
use equipoise_verdict::{Comparison, Side, compare};
use maud::{Markup, html};
use std::fmt::Write;

pub(crate) struct Paired;

/// Sentences that are shown at once; the others are folded.
const SENTENCES: usize = 5;

/// Pairs that are shown, the clearest: their number grows with the square of that of the models. All of them are compared,
/// so that their p-values are corrected together, and stand in the CSV file.
const SHOWN: usize = 100;

impl Section for Paired {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        let comparisons = Comparisons::of(&report.models);
        let Some(table) = comparisons.table() else { return Ok(html! {}) };
        let sentences: Vec<String> =
            comparisons.shown().iter().map(|pair| comparisons.sentence(pair)).collect();
        let (first, rest) = sentences.split_at(sentences.len().min(SENTENCES));
        Ok(html! {
            section id=(page.section("comparison", "Comparison")) {
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
                    (table_of(&table, &page.next()))
                } @else {
                    details {
                        summary {
                            (if comparisons.left_out() == 0 { "All " } else { "These " }) (sentences.len()) " as a table"
                        }
                        (table_of(&table, &page.next()))
                    }
                }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        let comparisons = Comparisons::of(&report.models);
        if let Some(all) = comparisons.table() {
            let _ = write!(out, "\n## Paired comparisons\n\n{}\n\n", text(&comparisons.about()));
            for pair in comparisons.shown() {
                let _ = writeln!(out, "- {}", text(&comparisons.sentence(pair)));
            }
            markdown::table(out, &all);
        }
        Ok(())
    }

    /// Every pair as a row, and as a sentence in a comment.
    fn latex(&self, report: &Report, tables: &mut Tables) {
        let comparisons = Comparisons::of(&report.models);
        let Some(all) = comparisons.table() else { return };
        tables.out.push('\n');
        tables.comment(&latex::text(&comparisons.about()));
        for pair in comparisons.shown() {
            tables.comment(&latex::text(&comparisons.sentence(pair)));
        }
        let label = tables.label(&["comparison"]);
        tables.whole(&label, &latex::text(&all.caption), &all);
    }

    fn sheets(&self, report: &Report) -> Result<Vec<(String, String)>, ReportError> {
        let sheet = comparison_csv(&report.models)?;
        Ok(sheet.map(|text| ("comparisons.csv".to_owned(), text)).into_iter().collect())
    }
}

/// Significance of a difference after correction.
const LEVEL: f64 = 0.05;

/// Every comparison, the clearest first.
struct Comparisons<'a> {
    models: &'a [Evaluation],
    pairs: Vec<Comparison>,
}

impl<'a> Comparisons<'a> {
    /// Of every two models or readouts that saw the same images.
    fn of(models: &'a [Evaluation]) -> Self {
        let mut pairs = compare(models);
        let by_p = |a: &Comparison, b: &Comparison| {
            a.p_value_corrected.total_cmp(&b.p_value_corrected).then(a.p_value.total_cmp(&b.p_value))
        };
        pairs.sort_by(by_p);
        Self { models, pairs }
    }

    /// Those that a reader gets to see.
    fn shown(&self) -> &[Comparison] {
        &self.pairs[..self.pairs.len().min(SHOWN)]
    }

    fn left_out(&self) -> usize {
        self.pairs.len() - self.shown().len()
    }

    fn name(&self, side: Side) -> String {
        let model = &self.models[side.model];
        format!("{}/{}", model.model, model.readouts[side.readout].name)
    }

    /// What all of them have in common, to be said once.
    fn about(&self) -> String {
        let count = self.pairs.len();
        let left_out = match self.left_out() {
            0 => String::new(),
            rest => format!(
                " Shown are the {SHOWN} with the smallest p-values; the other {} stand with them in comparisons.csv \
                 (format csv), and a report on fewer models shows theirs.",
                numbers::thousands(rest as u64)
            ),
        };
        let corrected = match count {
            1 => "There is one comparison, so nothing is corrected".to_owned(),
            _ => format!("p-values are corrected over all {count} comparisons of this page (Holm)"),
        };
        format!(
            "White-box robustness of two models or readouts on the images that both have seen, pair by pair: an exact \
             two-sided test of the images on which only one of them is robust (McNemar 1947). {corrected}. The \
             difference is that of the two white-box accuracies, with its 95% interval for paired shares (Newcombe, \
             method 10). It is as fair as the attacks were the same on both sides.{left_out}"
        )
    }

    /// One comparison as a sentence with its setting.
    fn sentence(&self, pair: &Comparison) -> String {
        let (first, second) = (self.name(pair.first), self.name(pair.second));
        let model = &self.models[pair.first.model];
        let sides = |result: &Side| derived::tried(&self.models[result.model].readouts[result.readout]);
        let attacks = if sides(&pair.first) == sides(&pair.second) {
            ""
        } else {
            " They were not attacked with the same attacks and gradients."
        };
        let conclusion = match pair.difference {
            _ if pair.p_value_corrected >= LEVEL => "no difference is shown".to_owned(),
            difference if difference > 0.0 => format!("{first} is more robust"),
            _ => format!("{second} is more robust"),
        };
        format!(
            "{}, {}: of {} in common {first} alone is robust on {} and {second} alone on {}, a difference of {} \
             points, 95% interval {}, exact {}, corrected {}: {conclusion}.{attacks}",
            model.dataset,
            derived::budget(model),
            numbers::images(pair.n),
            numbers::thousands(pair.first_only as u64),
            numbers::thousands(pair.second_only as u64),
            numbers::points(pair.difference),
            numbers::points_interval(pair.interval),
            numbers::p_value(pair.p_value),
            numbers::p_value(pair.p_value_corrected)
        )
    }

    /// All comparisons as one table. Nothing without any.
    fn table(&self) -> Option<Table> {
        let row = |pair: &Comparison| -> Vec<Cell> {
            let model = &self.models[pair.first.model];
            vec![
                self.name(pair.first).into(),
                self.name(pair.second).into(),
                format!("{}, {}", model.dataset, derived::budget(model)).into(),
                pair.n.to_string().into(),
                pair.first_only.to_string().into(),
                pair.second_only.to_string().into(),
                Cell::noted(numbers::points(pair.difference), vec![numbers::points_interval(pair.interval)]),
                numbers::p_cell(pair.p_value).into(),
                numbers::p_cell(pair.p_value_corrected).into(),
            ]
        };
        let numeric =
            ["Images", "Only A robust", "Only B robust", "Difference, points", "p, exact", "p, corrected"];
        (!self.pairs.is_empty()).then(|| Table {
            caption: "White-box robustness on the same images. Difference: A less B, with its 95% interval."
                .to_owned(),
            columns: columns(&["A", "B", "Setting"], &numeric),
            rows: self.shown().iter().map(row).collect(),
        })
    }
}

/// The comparisons of some models as CSV, a row for each pair; `None` where there is nothing to compare.
///
/// Differences are fractions: white-box accuracy of the first less that of the second.
///
/// # Errors
/// [`ReportError::Csv`] if the writer fails.
pub fn comparison_csv(models: &[Evaluation]) -> Result<Option<String>, ReportError> {
    let comparisons = Comparisons::of(models);
    if comparisons.pairs.is_empty() {
        return Ok(None);
    }
    let head = [
        "first_model",
        "first_readout",
        "second_model",
        "second_readout",
        "dataset",
        "norm",
        "eps",
        "n",
        "first_only",
        "second_only",
        "difference",
        "difference_low",
        "difference_high",
        "p_value",
        "p_value_corrected",
    ];
    let row = |pair: &Comparison| {
        let names = |side: Side| {
            let model = &models[side.model];
            [model.model.clone(), model.readouts[side.readout].name.clone()]
        };
        let ([a, a_readout], [b, b_readout]) = (names(pair.first), names(pair.second));
        let model = &models[pair.first.model];
        vec![
            a,
            a_readout,
            b,
            b_readout,
            model.dataset.clone(),
            model.norm.clone(),
            model.eps.to_string(),
            pair.n.to_string(),
            pair.first_only.to_string(),
            pair.second_only.to_string(),
            pair.difference.to_string(),
            pair.interval[0].to_string(),
            pair.interval[1].to_string(),
            numbers::p_exact(pair.p_value),
            numbers::p_exact(pair.p_value_corrected),
        ]
    };
    sheet(&head, comparisons.pairs.iter().map(row)).map(Some)
}
