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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::attack::{Attack, Classifier, Pgd, PgdConfig, Question, ValueAndGradient, WhiteBox};
    use crate::batch::{Logits, from_vec};
    use crate::evaluate::cascade::{Cascade, Duel, Pair, Run};
    use crate::evaluate::ledger::{Cost, Event, Findings};
    use crate::evaluate::points::Points;
    use crate::loss::Objective;
    use crate::work::Work;

    /// Stands in the cascade; a forecast asks nobody.
    struct Unasked;

    impl Classifier for Unasked {
        fn classes(&self) -> usize {
            2
        }

        fn answer(&self, _question: &Question<'_>) -> Logits {
            unreachable!("a forecast asks nobody")
        }
    }

    impl WhiteBox for Unasked {
        fn differentiate(&self, _question: &Question<'_>, _objective: &dyn Objective) -> ValueAndGradient {
            unreachable!("a forecast asks nobody")
        }
    }

    /// What a run found in so many seconds: the first points of `rows` fell.
    fn findings(run: Option<usize>, rows: &[usize], fell: usize, seconds: f64) -> Findings {
        Findings {
            run,
            rows: rows.to_vec(),
            predictions: (0..rows.len()).map(|k| Some(usize::from(k < fell))).collect(),
            claimed: vec![false; rows.len()],
            images: vec![0.0; if run.is_none() { 0 } else { 4 * rows.len() }],
            cost: Cost { seconds, work: Work::default() },
        }
    }

    #[test]
    fn time_is_told_from_what_was_met_and_what_stands() {
        let device = burn::tensor::Device::default();
        let victim = Unasked;
        let attack: Arc<dyn Attack> = Arc::new(Pgd::new(PgdConfig::default()).unwrap());
        let pgd = Run::new(attack, "exact", &victim);
        let run = |work| pgd.clone().costing(work);
        let cascade = Cascade {
            opening: vec![run(10.0), run(20.0)],
            pairs: vec![Pair { white_box: run(30.0), twin: Some(run(10.0)), aimed: None }],
            yardsticks: vec![
                Duel { other: run(2.0), training: run(3.0) },
                Duel { other: run(50.0), training: run(60.0) },
            ],
            ..Cascade::new("final", &victim)
        };
        let work: Vec<f64> = cascade.runs().iter().map(|(_, run)| run.work).collect();
        let images = from_vec(vec![0.5; 40], [10, 1, 2, 2], &device);
        let points = Points::new((0..10).collect(), images, vec![0; 10]).unwrap();
        let mut ledger = Ledger::new(&cascade, &points, None);
        let all: Vec<usize> = (0..10).collect();
        ledger.enter(&Event::Found(findings(None, &all, 0, 5.0)));
        assert_eq!(forecast(&ledger, &work), None, "no attack has met a point");

        // Four fall, six stand: 10 · (6 + 0.3 · 4) units in as many seconds, a unit a second. Six are left to the second
        // attack and, as if it broke none, to the pair. A yardstick meets all ten, and the second one is not measured.
        ledger.enter(&Event::Found(findings(Some(0), &all, 4, 72.0)));
        let Forecast { spent, left } = forecast(&ledger, &work).unwrap();
        assert_eq!(spent, 77.0);
        assert!((left - (6.0 * 20.0 + 6.0 * 40.0 + 10.0 * 5.0)).abs() < 1e-9, "{left}");

        // The second attack meets two of them, 40 seconds each, and breaks one. So half of the four to come are left to the
        // pair, beside the one that stood.
        ledger.enter(&Event::Found(findings(Some(1), &[4, 5], 1, 80.0)));
        let Forecast { spent, left } = forecast(&ledger, &work).unwrap();
        let pace = (72.0 + 80.0) / (72.0 + 20.0 * 1.3);
        assert_eq!(spent, 157.0);
        let expected = 4.0 * 40.0 + (1.0 + 4.0 * 0.5) * 40.0 * pace + 10.0 * 5.0 * pace;
        assert!((left - expected).abs() < 1e-9, "{left} {expected}");
    }
}
