//! Accuracies and findings as tables with all their numbers.

use crate::table::{Cell, Column, Table, columns};
use crate::{derived, numbers, verdict};
use equipoise_record::{Evaluation, Verdict};

/// What the columns of [`summary`] hold.
pub(crate) const SUMMARY: &str = "Accuracy in %, with its 95% Wilson interval and count. Ready-made: after the \
    opening and, where there are, the twins of the runs through other gradients; white-box: after everything.";

/// What the columns of [`verdicts`] hold.
pub(crate) fn about_verdicts() -> String {
    format!(
        "{VERDICT_CAPTION} One against one: b, c and p of one other gradient against the training gradient. \
         Gradient-free only: images that fell to attacks without gradients alone. Images to decide: so many with the \
         same shares would give a finding."
    )
}

/// Clean, ready-made and white-box accuracy by model and readout, with the finding.
pub(crate) fn summary(setting: &str, models: &[&Evaluation]) -> Table {
    let mut columns = columns(&["Model", "Readout"], &["Clean", "Ready-made", "White-box"]);
    columns.extend(["Finding", "Tried"].map(|title| Column { title: title.to_owned(), numeric: false }));
    let mut rows = Vec::new();
    for model in models {
        for readout in &model.readouts {
            rows.push(vec![
                model.model.clone().into(),
                readout.name.clone().into(),
                Cell::accuracy(readout.clean_accuracy),
                readout.ready_made_accuracy.map_or("not run".into(), Cell::accuracy),
                derived::white_box(readout).map_or("not run".into(), Cell::accuracy),
                verdict::label(&readout.verdict).into(),
                derived::tried(readout).into(),
            ]);
        }
    }
    Table { caption: format!("{setting}. {SUMMARY}"), columns, rows }
}

/// What the test of the arms found, by model and readout.
pub(crate) fn verdicts(setting: &str, models: &[&Evaluation]) -> Table {
    let rows = models.iter().flat_map(|model| model.readouts.iter().map(move |readout| (model, readout)));
    let rows = rows.map(|(model, readout)| {
        let v = &readout.verdict;
        let mut row = vec![Cell::noted(model.model.clone(), vec![readout.name.clone()])];
        row.extend(verdict_cells(v));
        row.extend([
            v.yardstick.as_ref().map_or("–".into(), |y| {
                Cell::noted(format!("{}, {}", y.b, y.c), vec![numbers::p_value(y.p_value)])
            }),
            match v.gradient_free_runs {
                0 => "not run".into(),
                _ => v.gradient_free_only.to_string().into(),
            },
            v.would_decide_at.map_or("–".into(), |n| numbers::thousands(n as u64).into()),
        ]);
        row
    });
    let numeric: Vec<&str> = VERDICT_COLUMNS
        .into_iter()
        .chain(["One against one", "Gradient-free only", "Images to decide"])
        .collect();
    Table {
        caption: format!("{setting}. {}", about_verdicts()),
        columns: columns(&["Model", "Finding"], &numeric),
        rows: rows.collect(),
    }
}

/// How the columns of a verdict are read.
pub(crate) const VERDICT_CAPTION: &str = "b, c: images broken through other gradients only, and in as many runs through \
    the training gradient only. Difference: (b − c)/n in points, with its 95% interval. p: exact one-sided test, corrected \
    over the record.";

/// The columns that [`verdict_cells`] fills after the finding.
pub(crate) const VERDICT_COLUMNS: [&str; 4] = ["Runs", "b, c", "Difference", "p, corrected"];

/// The finding, and the numbers that it rests on.
pub(crate) fn verdict_cells(v: &Verdict) -> Vec<Cell> {
    vec![
        verdict::label(v).into(),
        v.arms.white_box.len().to_string().into(),
        v.b.zip(v.c).map_or("–".into(), |(b, c)| format!("{b}, {c}").into()),
        verdict::difference(v).map_or("–".into(), |(difference, interval)| {
            Cell::noted(difference, vec![numbers::points_interval(interval)])
        }),
        v.p_value_corrected.map_or("–".into(), |p| numbers::p_cell(p).into()),
    ]
}
