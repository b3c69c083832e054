//! How long an evaluation still takes, from what it has taken.
//!
//! A run that has met points costs as much for each that it has still to meet. One that has met none costs its planned work
//! at the pace of those that have. Points that the opening has still to meet are expected to stand as often as those that
//! it has met: most of an evaluation is spent on what stands.

use equipoise_record::Arm;

use super::cascade::Phase;
use super::ledger::Ledger;

/// What a point that falls costs, beside one that withstands: attacks stop early on it, or find it at their start.
const FALLEN: f64 = 0.3;

/// Where an evaluation stands in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Seconds that it has taken, in all sittings.
    pub spent: f64,
    /// Seconds that it is expected to take yet.
    pub left: f64,
}

/// The forecast for an evaluation whose clean pass is done; `None` before any attack has met a point. `work` is each run's
/// for a point that withstands.
pub(super) fn forecast(ledger: &Ledger<'_>, work: &[f64]) -> Option<Forecast> {
    let paid = |run: usize| {
        let tally = &ledger.tallies[run];
        let standing = (tally.attempted - tally.broken) as f64;
        work[run] * (standing + FALLEN * tally.broken as f64)
    };
    let runs = 0..work.len();
    let (seconds, units) = runs.clone().fold((0.0, 0.0), |(seconds, units), run| {
        (seconds + ledger.tallies[run].cost.seconds, units + paid(run))
    });
    if units == 0.0 {
        return None;
    }
    let pace = seconds / units;
    // Several yardsticks are planned, and one is measured.
    let yardsticks: Vec<&Vec<usize>> = ledger
        .stages
        .iter()
        .filter(|stage| stage.phase == Phase::Yardstick)
        .map(|stage| &stage.runs)
        .collect();
    let unmeasured = |run: usize| yardsticks.iter().skip(1).any(|runs| runs.contains(&run));
    let opening: Vec<usize> = runs.clone().filter(|&run| ledger.arms[run].0 == Arm::Opening).collect();
    // The share that stood after each run of the opening; of one to come, as if it broke nothing more.
    let stands = |run: usize| {
        let tally = &ledger.tallies[run];
        if tally.attempted == 0 { 1.0 } else { 1.0 - tally.broken as f64 / tally.attempted as f64 }
    };
    let mut left = 0.0;
    for run in runs {
        if unmeasured(run) {
            continue;
        }
        let expected: f64 = ledger
            .pending_of(&[run])
            .into_iter()
            .map(|row| {
                let before = opening.iter().filter(|&&first| first < run && ledger.is_pending(first, row));
                // The yardstick meets every point, fallen or not.
                let thins = !matches!(ledger.arms[run].0, Arm::YardstickOther | Arm::YardstickTraining);
                if thins { before.map(|&first| stands(first)).product::<f64>() } else { 1.0 }
            })
            .sum();
        let tally = &ledger.tallies[run];
        let each = match tally.attempted {
            0 => work[run] * pace,
            met => tally.cost.seconds / met as f64,
        };
        left += expected * each;
    }
    Some(Forecast { spent: ledger.seconds(), left })
}
