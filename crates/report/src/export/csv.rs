//! CSV: one row for each measured accuracy and for each verdict, in long form, so that a data frame needs no reshaping.
//!
//! `measure` is `clean`, `attack` (accuracy after that run), `ready-made-opening`, `ready-made`, `white-box` or
//! `verdict`. Where there are several radii, the rows of the smaller ones come first, each with its `eps`. Accuracies
//! and differences are fractions; a field that does not apply is empty.

use super::Exporter;
use crate::derived::{self, Case};
use crate::sections::SECTIONS;
use crate::sheet::sheet;
use crate::{Report, ReportError, numbers};
use equipoise_record::{Accuracy, AttackResult, Verdict, VerdictEvidence};

pub(crate) struct Csv;

/// Where a number comes from.
const SETTING: [&str; 8] = ["model", "dataset", "norm", "eps", "seed", "count", "readout", "measure"];
/// A run; filled for the measure `attack`.
const RUN: [&str; 10] =
    ["step", "attack", "estimator", "ready_made", "arm", "run", "start", "attempted", "broken", "carried"];
/// What a run left and cost.
const RESULT: [&str; 8] = [
    "unconfirmed",
    "correct",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "seconds",
    "cell_evaluations",
    "vjps",
];
/// Filled for the measure `verdict`.
const VERDICT: [&str; 9] = [
    "finding",
    "evidence",
    "b",
    "c",
    "p_value",
    "p_value_corrected",
    "difference",
    "difference_low",
    "difference_high",
];

impl Exporter for Csv {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let mut rows = Vec::new();
        for (model, readout) in derived::rows(&report.models) {
            // The largest radius is the readout's own, below.
            let (_, smaller) =
                readout.radii.split_last().map_or((None, [].as_slice()), |(l, s)| (Some(l), s));
            for radius in smaller {
                rows.extend(accuracies(&Case::at(model, readout, radius), false));
            }
            rows.extend(accuracies(&Case::largest(model, readout), true));
        }
        sheet(&[SETTING.as_slice(), &RUN, &RESULT, &VERDICT].concat(), rows)
    }
}

/// What a report holds as CSV beside the accuracies, which [`render`](crate::render) has: names and contents of files,
/// each where there is anything to hold. Every part of a report has its own: sections of diagnoses, classes,
/// comparisons, gaps against residuals, training runs.
///
/// # Errors
/// [`ReportError::Csv`] if the writer fails.
pub fn csv_files(report: &Report) -> Result<Vec<(String, String)>, ReportError> {
    let sheets = SECTIONS.iter().map(|section| section.sheets(report)).collect::<Result<Vec<_>, _>>()?;
    Ok(sheets.concat())
}

/// Every row of one radius. The runs in the record are those at the largest.
fn accuracies(case: &Case, largest: bool) -> Vec<Vec<String>> {
    let attacks = if largest { case.readout.attacks.as_slice() } else { &[] };
    let mut rows = vec![row(case, "clean", None, Some(case.clean), None)];
    for (i, attack) in attacks.iter().enumerate() {
        rows.push(row(case, "attack", Some((i + 1, attack)), Some(attack.accuracy), None));
    }
    for (measure, accuracy) in [("ready-made-opening", case.opening), ("ready-made", case.ready_made)] {
        rows.extend(accuracy.map(|accuracy| row(case, measure, None, Some(accuracy), None)));
    }
    rows.push(row(case, "white-box", None, Some(case.white_box), None));
    rows.push(row(case, "verdict", None, None, Some(case.verdict)));
    rows
}

fn row(
    case: &Case,
    measure: &str,
    attack: Option<(usize, &AttackResult)>,
    accuracy: Option<Accuracy>,
    verdict: Option<&Verdict>,
) -> Vec<String> {
    let model = case.model;
    let of =
        |field: &dyn Fn(usize, &AttackResult) -> String| attack.map_or(String::new(), |(i, a)| field(i, a));
    let share = |field: &dyn Fn(Accuracy) -> String| accuracy.map_or(String::new(), field);
    let judged = |field: &dyn Fn(&Verdict) -> Option<String>| verdict.and_then(field).unwrap_or_default();
    vec![
        model.model.clone(),
        model.dataset.clone(),
        model.norm.clone(),
        case.eps.to_string(),
        model.seed.to_string(),
        model.count.to_string(),
        case.readout.name.clone(),
        measure.to_owned(),
        of(&|i, _| i.to_string()),
        of(&|_, a| a.name.clone()),
        of(&|_, a| a.estimator.clone()),
        of(&|_, a| a.ready_made.to_string()),
        of(&|_, a| a.arm.name().to_owned()),
        of(&|_, a| a.run.to_string()),
        of(&|_, a| a.start.to_string()),
        of(&|_, a| a.attempted.to_string()),
        of(&|_, a| a.broken.to_string()),
        of(&|_, a| a.carried.to_string()),
        of(&|_, a| a.unconfirmed.to_string()),
        share(&|a| a.correct().to_string()),
        share(&|a| a.value.to_string()),
        share(&|a| a.interval[0].to_string()),
        share(&|a| a.interval[1].to_string()),
        of(&|_, a| a.seconds.to_string()),
        of(&|_, a| a.cell_evaluations.to_string()),
        of(&|_, a| a.vjps.to_string()),
        judged(&|v| Some(numbers::finding(v.finding).to_owned())),
        judged(&|v| v.evidence.map(|kind| evidence(kind).to_owned())),
        judged(&|v| v.b.map(|n| n.to_string())),
        judged(&|v| v.c.map(|n| n.to_string())),
        judged(&|v| v.p_value.map(numbers::p_exact)),
        judged(&|v| v.p_value_corrected.map(numbers::p_exact)),
        judged(&|v| v.difference.map(|d| d.to_string())),
        judged(&|v| v.difference_interval.map(|i| i[0].to_string())),
        judged(&|v| v.difference_interval.map(|i| i[1].to_string())),
    ]
}

/// As in `results.json`.
fn evidence(evidence: VerdictEvidence) -> &'static str {
    match evidence {
        VerdictEvidence::Gradient => "gradient",
        VerdictEvidence::Aim => "aim",
        VerdictEvidence::GradientFree => "gradient-free",
    }
}
