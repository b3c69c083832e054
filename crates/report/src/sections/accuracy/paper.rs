//! Accuracies in LaTeX: one table short enough for a paper, one with intervals, and what was tried in words.

use super::tables::{SUMMARY, summary};
use crate::layout::latex::{Tables, explain, text};
use crate::{derived, numbers, verdict};
use equipoise_record::{Accuracy, Evaluation, ReadoutResult};

/// The table for a paper: three accuracies and the finding by model and readout. A model's name stands in its first row.
pub(super) fn short(tables: &mut Tables, setting: &str, models: &[&Evaluation], parts: &[&str]) {
    let several = models.iter().any(|model| model.readouts.len() > 1);
    let mut rows = Vec::new();
    for (i, model) in models.iter().enumerate() {
        let percent = |a: Option<Accuracy>| match a {
            Some(a) if model.count > 0 => format!("{:.1}", 100.0 * a.value),
            _ => "--".to_owned(),
        };
        for (k, readout) in model.readouts.iter().enumerate() {
            let accuracies =
                [Some(readout.clean_accuracy), readout.ready_made_accuracy, derived::white_box(readout)];
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
    let label = tables.label(parts);
    let head = "Model & Readout & Clean & Ready-made & White-box & Finding";
    tables.table(&label, &text(&caption), "llrrrl", head, &rows);
}

/// Accuracies with their intervals, and what was tried. The columns are explained once.
pub(super) fn intervals(
    tables: &mut Tables,
    setting: &str,
    models: &[&Evaluation],
    parts: &[&str],
    explained: &mut Option<String>,
) {
    let mut all = summary(setting, models);
    // What was tried is a sentence for each row: too long for a column of a paper.
    all.remove("Tried");
    let label = tables.label(parts);
    let caption = explain(&all.caption, SUMMARY, &label, explained);
    let caption = format!("{caption} {}", text(&tried(models)));
    tables.whole(&label, &caption, &all);
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
        1..=3 => format!("through {}", numbers::list(&gradients)),
        n => format!("through {n} gradient estimators"),
    };
    let with = [numbers::list(&attacks), through].into_iter().filter(|part| !part.is_empty());
    let with = with.collect::<Vec<_>>().join(" ");
    let without = match numbers::list(&without) {
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
