//! Which stage comes next: in the order of the cascade, or by expected gain where time is limited.
//!
//! With a time limit the opening, the yardstick, the pairs, the gradient-free runs and transferred images each have a share of the time, and
//! what one leaves goes to the next. Within each, the stage with the highest **expected gain per second** comes next.
//! Expected is the share of the points left that it breaks, times their number, and the seconds that it takes: both are
//! estimated from what has been seen.
//!
//! - *Share*: the mean of a Beta distribution, (1 + b) / (20 + n). Before anything is known a stage is taken to
//!   break one point in twenty; b of n are the points that stages with the same attack, or through the same gradient,
//!   have broken of those that they met. The first stage of all is left out of these: what it breaks any attack
//!   breaks, and it says nothing of those that withstood.
//! - *Seconds*: the work that a point costs which withstands (cell evaluations and vector-Jacobian products of all
//!   questions). The seconds that a unit of work takes are the same for all, so the order depends on verdicts and
//!   counts alone: it is the same on every machine, and only where it ends depends on the clock.
//!
//! A pair counts as one stage: what either of its runs breaks is what it breaks, so that neither the order nor the end
//! depends on one arm alone.

use super::cascade::{Cascade, Phase, Stage};
use super::ledger::Ledger;

/// How long the attacks on one readout may take together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeLimit {
    /// Seconds of attacks and verification. The clean pass is done in any case, and counts.
    pub seconds: f64,
}

/// Points met and broken before anything is known.
const PRIOR: (f64, f64) = (20.0, 1.0);

/// The order of a cascade's stages.
pub(super) struct Order {
    stages: Vec<Stage>,
    /// For each stage the attack's name, its gradient, and its work for a point that withstands.
    facts: Vec<(String, Option<String>, f64)>,
    /// Whether the yardstick is one of several, to be chosen by what the arms have found.
    chosen_late: bool,
    limit: Option<TimeLimit>,
}

impl Order {
    pub fn new(cascade: &Cascade<'_>, limit: Option<TimeLimit>) -> Self {
        let (stages, runs) = (cascade.stages(), cascade.runs());
        let facts = stages
            .iter()
            .map(|stage| {
                let first = runs[stage.runs[0]].1;
                let work = stage.runs.iter().map(|&run| runs[run].1.work).sum();
                (first.attack.name(), first.estimator.clone(), work)
            })
            .collect();
        Self { stages, facts, chosen_late: cascade.yardsticks.len() > 1, limit }
    }

    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The phases in their order, with their shares of a limited time. A yardstick that is fixed beforehand comes before
    /// the pairs there, so that time does not run out on it.
    fn phases(&self) -> Vec<(Phase, f64)> {
        let pairs = (Phase::Pairs, 0.45);
        let yardstick = (Phase::Yardstick, 0.15);
        let middle = match self.limit {
            Some(_) if !self.chosen_late => [yardstick, pairs],
            _ => [pairs, yardstick],
        };
        let all = [
            (Phase::Opening, 0.25),
            middle[0],
            middle[1],
            (Phase::GradientFree, 0.15),
            (Phase::Transferred, 0.1),
        ];
        all.into_iter().filter(|(phase, _)| self.stages.iter().any(|stage| stage.phase == *phase)).collect()
    }

    /// Seconds of the whole run after which a stage must stop, under a limit.
    pub fn until(&self, stage: usize) -> Option<f64> {
        let limit = self.limit?;
        let phases = self.phases();
        let all: f64 = phases.iter().map(|(_, share)| share).sum();
        let place = phases.iter().position(|(phase, _)| *phase == self.stages[stage].phase)?;
        let share: f64 = phases[..=place].iter().map(|(_, share)| share).sum();
        // The last phase ends with the time, whatever rounding says.
        Some(if place + 1 == phases.len() { limit.seconds } else { limit.seconds * share / all })
    }

    /// The stage that comes next; `None` when all are done, or when time is up. A function of what the ledger holds, so
    /// that a resumed run goes on as it would have.
    pub fn next(&self, ledger: &Ledger<'_>) -> Option<usize> {
        self.phases().into_iter().find_map(|(phase, _)| self.next_of(phase, ledger))
    }

    fn next_of(&self, phase: Phase, ledger: &Ledger<'_>) -> Option<usize> {
        let of_phase = |stage: &usize| self.stages[*stage].phase == phase;
        let mut left: Vec<usize> = (0..self.stages.len())
            .filter(|stage| of_phase(stage) && !ledger.begun().contains(stage))
            .collect();
        if phase == Phase::Yardstick {
            let chosen = ledger.chosen_yardstick();
            left.retain(|&stage| self.stages[stage].runs == chosen);
        }
        if self.limit.is_none() {
            return left.first().copied();
        }
        let was_cut =
            ledger.begun().iter().filter(|stage| of_phase(stage)).any(|&stage| ledger.missed(stage) > 0);
        let in_time = |&stage: &usize| self.until(stage).is_some_and(|until| ledger.seconds() < until);
        if was_cut || !left.iter().any(in_time) {
            return None;
        }
        let gain = |stage: usize| self.expected_share(ledger, stage) / self.facts[stage].2;
        // The first of equal ones: the plan's own order.
        left.into_iter().reduce(|best, stage| if gain(stage) > gain(best) { stage } else { best })
    }

    /// The share of the points left that a stage is expected to break.
    fn expected_share(&self, ledger: &Ledger<'_>, stage: usize) -> f64 {
        let (attack, estimator, _) = &self.facts[stage];
        let seen = ledger.begun().iter().skip(1).filter(|&&done| {
            let (done_attack, done_estimator, _) = &self.facts[done];
            done_attack == attack || done_estimator == estimator
        });
        let (met, broken) = seen.fold(PRIOR, |(met, broken), &done| {
            (met + ledger.met(done) as f64, broken + ledger.broken(done) as f64)
        });
        broken / met
    }
}
