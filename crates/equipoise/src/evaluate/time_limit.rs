//! A cascade with too little time: which attack comes next, and until when.
//!
//! The attack with the highest **expected gain per second** comes next. Expected is the share of the points left
//! that it breaks, times their number, and the seconds that it takes: both are estimated from what has been seen.
//!
//! - *Share*: the mean of a Beta distribution, (1 + b) / (20 + n). Before anything is known an attack is taken to
//!   break one point in twenty; b of n are the points that attacks of the same kind, or through the same gradient,
//!   have broken of those that they met. The first attack of all is left out of these: what it breaks any attack
//!   breaks, and it says nothing of those that withstood.
//! - *Seconds*: the work that a point costs which withstands (cell evaluations and vector-Jacobian products of all
//!   questions). The seconds that a unit of work takes are the same for all, so the order depends on verdicts and
//!   counts alone: it is the same on every machine, and only where it ends depends on the clock.
//!
//! Ready-made attacks come before all others, for the ready-made accuracy to be what they leave, and may take half
//! of the time.

use super::cascade::Cascade;
use super::ledger::Ledger;

/// How long the attacks on one readout may take together.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeLimit {
    /// Seconds of attacks and verification. The clean pass is done in any case, and counts.
    pub seconds: f64,
    /// For each entry of the cascade the work for a point that withstands it, in any unit.
    pub work: Vec<f64>,
}

/// Points met and broken before anything is known.
const PRIOR: (f64, f64) = (20.0, 1.0);

/// The share of the time that ready-made attacks may take.
const READY_MADE_SHARE: f64 = 0.5;

/// Batches are small under a limit: one that is stopped is lost.
pub(super) const BATCH: usize = 16;

impl TimeLimit {
    /// Seconds of the whole run after which an entry must stop.
    pub(super) fn until(&self, cascade: &Cascade<'_>, entry: usize) -> f64 {
        let others = cascade.entries.iter().any(|entry| !entry.ready_made);
        if cascade.entries[entry].ready_made && others {
            READY_MADE_SHARE * self.seconds
        } else {
            self.seconds
        }
    }

    /// The entry that comes next; `None` when all are done, no point is left, or time is up. A function of what the
    /// ledger holds, so that a resumed run goes on as it would have.
    pub(super) fn next(&self, cascade: &Cascade<'_>, ledger: &Ledger<'_>) -> Option<usize> {
        let begun = ledger.order();
        let last_was_cut = begun.last().is_some_and(|&entry| {
            ledger.missed(begun.len()) > 0 && self.until(cascade, entry) >= self.seconds
        });
        if last_was_cut || ledger.seconds() >= self.seconds || !ledger.any_left() {
            return None;
        }
        let ready_made_over = begun
            .last()
            .is_some_and(|&entry| !cascade.entries[entry].ready_made || ledger.missed(begun.len()) > 0);
        let left = |ready_made: bool| {
            let left = (0..cascade.entries.len()).filter(|entry| !begun.contains(entry));
            left.filter(move |&entry| cascade.entries[entry].ready_made == ready_made)
        };
        let in_time = |&entry: &usize| !ready_made_over && ledger.seconds() < self.until(cascade, entry);
        let best = |entries: Vec<usize>| {
            let gain = |entry: usize| expected_share(cascade, ledger, entry) / self.work[entry];
            // The first of equal ones: the plan's own order.
            entries.into_iter().reduce(|best, entry| if gain(entry) > gain(best) { entry } else { best })
        };
        best(left(true).filter(in_time).collect()).or_else(|| best(left(false).collect()))
    }
}

/// The share of the points left that an entry is expected to break.
fn expected_share(cascade: &Cascade<'_>, ledger: &Ledger<'_>, entry: usize) -> f64 {
    let candidate = &cascade.entries[entry];
    let name = candidate.attack.name();
    let (met, broken) =
        ledger.order().iter().zip(1..).skip(1).fold(PRIOR, |(met, broken), (&done, stage)| {
            let done = &cascade.entries[done];
            if done.attack.name() != name && done.estimator != candidate.estimator {
                return (met, broken);
            }
            let (here, here_broken) = ledger.met_and_broken(stage);
            (met + here as f64, broken + here_broken as f64)
        });
    broken / met
}
