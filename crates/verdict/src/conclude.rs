//! From the counts of a whole record to its findings: p-values corrected together, then the rules.

use equipoise_record::{Accuracy, Evaluation, Finding, ReadoutResult, Verdict};

use crate::rules::{Facts, decide, would_decide_at};
use crate::statistics::holm;

/// One test of the record, with what its rules need beside the verdict.
struct Case<'a> {
    verdict: &'a mut Verdict,
    clean: usize,
    opening: usize,
    ready_made: usize,
}

/// Fills in the findings of a record, with p-values corrected over all its models, readouts and radii (Holm 1979).
///
/// What it reads of a verdict are the counts (b, c, n, yardstick, aim, gradient-free, arms, level, margin); what it
/// writes are `finding`, `evidence`, `p_value_corrected` and `would_decide_at`. Doing it twice changes nothing.
pub fn conclude(models: &mut [Evaluation]) {
    conclude_readouts(models.iter_mut().flat_map(|model| &mut model.readouts).collect());
}

/// The same for one readout that stands alone.
pub fn conclude_alone(readout: &mut ReadoutResult) {
    conclude_readouts(vec![readout]);
}

fn conclude_readouts(mut readouts: Vec<&mut ReadoutResult>) {
    let mut cases = Vec::new();
    for readout in &mut readouts {
        let outermost = readout.radii.len().checked_sub(1);
        let counts = |clean: Accuracy, opening: Option<Accuracy>, ready_made: Option<Accuracy>| {
            let of = |accuracy: Accuracy| accuracy.correct();
            (of(clean), opening.map_or(0, of), ready_made.map_or(0, of))
        };
        for (place, radius) in readout.radii.iter_mut().enumerate() {
            // The largest radius is the readout's own verdict: one test, not two.
            if Some(place) == outermost {
                continue;
            }
            let (clean, opening, ready_made) =
                counts(radius.clean_accuracy, radius.ready_made_opening_accuracy, radius.ready_made_accuracy);
            cases.push(Case { verdict: &mut radius.verdict, clean, opening, ready_made });
        }
        let (clean, opening, ready_made) =
            counts(readout.clean_accuracy, readout.ready_made_opening_accuracy, readout.ready_made_accuracy);
        cases.push(Case { verdict: &mut readout.verdict, clean, opening, ready_made });
    }
    cases.retain_mut(|case| {
        let verdict = &mut *case.verdict;
        let compares = case.clean > 0 && !verdict.arms.white_box.is_empty() && verdict.b.is_some();
        if !compares {
            verdict.finding = Finding::NoControl;
            verdict.evidence = None;
            verdict.p_value_corrected = None;
            verdict.would_decide_at = None;
        }
        compares && verdict.p_value.is_some()
    });
    let p_values: Vec<f64> = cases.iter().filter_map(|case| case.verdict.p_value).collect();
    for (case, corrected) in cases.iter_mut().zip(holm(&p_values)) {
        let facts = Facts::of(case.verdict, case.opening, case.ready_made, corrected.factor);
        let Some(facts) = facts else { continue };
        let (finding, evidence) = decide(&facts, corrected.p_value);
        case.verdict.p_value_corrected = Some(corrected.p_value);
        case.verdict.finding = finding;
        case.verdict.evidence = evidence;
        case.verdict.would_decide_at =
            if finding == Finding::Undecided { would_decide_at(&facts) } else { None };
    }
    for readout in readouts {
        if let Some(outermost) = readout.radii.last_mut() {
            outermost.verdict = readout.verdict.clone();
        }
    }
}
