//! From the ledger to the record: accuracies, runs, examples, and the counts that the verdict rests on.

use equipoise_record::{
    Accuracy, Aim, Arm, ArmRun, Arms, AttackResult, BrokenBy, BrokenIn, ExampleResult, NotTried, Plan,
    ReadoutResult, Try, Verdict, Yardstick,
};
use equipoise_verdict::{difference_interval, exact_test, paired};

use super::cascade::{Cascade, Run};
use super::ledger::{Ledger, Outcome, PointState};
use super::order::TimeLimit;
use crate::batch::from_vec;

impl Outcome {
    /// The names of a cascade's runs.
    pub(super) fn names(cascade: &Cascade<'_>) -> Vec<String> {
        let name = |(arm, run): &(Arm, &Run<'_>)| {
            format!("{}: {} from start {}", arm.name(), run.label(), run.start)
        };
        cascade.runs().iter().map(name).collect()
    }
}

impl Ledger<'_> {
    /// The record of what is in the ledger.
    pub fn outcome(self, cascade: &Cascade<'_>, limit: Option<TimeLimit>, complete: bool) -> Outcome {
        let images = self.points.images();
        let result = self.result(cascade, limit);
        Outcome {
            result,
            clean_predictions: self.states.iter().map(|state| state.clean).collect(),
            adversarial_predictions: self.states.iter().map(|state| state.last).collect(),
            complete,
            runs: Outcome::names(cascade),
            breaks: self.states.iter().map(|state| state.breaks.clone()).collect(),
            adversarial: from_vec(self.images, images.dims(), &images.device()),
        }
    }

    fn result(&self, cascade: &Cascade<'_>, limit: Option<TimeLimit>) -> ReadoutResult {
        let runs = cascade.runs();
        let finished = self.finished();
        let after_opening =
            |row: usize| self.states[row].correct && self.broken_in(row, Arm::Opening).is_none();
        let opening_done = !cascade.opening.is_empty()
            && (0..self.arms.len()).all(|run| self.arms[run].0 != Arm::Opening || finished.contains(&run));
        let opening = opening_done.then(|| self.share(&after_opening));
        let ready_made = opening_done
            .then(|| self.share(&|row| after_opening(row) && self.broken_in(row, Arm::ReadyMade).is_none()));
        ReadoutResult {
            name: cascade.readout.clone(),
            clean_accuracy: self.share(&|row| self.states[row].correct),
            ready_made_accuracy: ready_made,
            ready_made_opening_accuracy: opening,
            white_box_accuracy: self.share(&|row| self.robust(row)),
            verdict: self.verdict(cascade, &finished),
            radii: Vec::new(),
            attacks: self.attacks(&runs, &finished),
            examples: (0..self.states.len()).map(|row| self.example(row, &runs)).collect(),
            flags: Vec::new(),
            plan: Some(self.plan(cascade, limit)),
            gallery: None,
            randomness: None,
            certificates: Vec::new(),
        }
    }

    fn share(&self, holds: &dyn Fn(usize) -> bool) -> Accuracy {
        Accuracy::new(self.count(holds), self.states.len())
    }

    fn count(&self, holds: &dyn Fn(usize) -> bool) -> usize {
        (0..self.states.len()).filter(|&row| holds(row)).count()
    }

    fn robust(&self, row: usize) -> bool {
        self.states[row].correct && self.states[row].breaks.is_empty()
    }

    /// The runs that are done with every point, in the order in which they were begun.
    fn finished(&self) -> Vec<usize> {
        if !self.unclassified().is_empty() {
            return Vec::new();
        }
        let begun = self.begun().iter().flat_map(|&stage| self.stages[stage].runs.clone());
        begun.take_while(|&run| self.pending_of(&[run]).is_empty()).collect()
    }

    fn attacks(&self, runs: &[(Arm, &Run<'_>)], finished: &[usize]) -> Vec<AttackResult> {
        let mut done: Vec<usize> = Vec::new();
        let mut results = Vec::new();
        for &number in finished {
            done.push(number);
            let (arm, run) = runs[number];
            let (_, place) = self.arms[number];
            let tally = &self.tallies[number];
            let carried =
                self.states.iter().filter(|state| state.correct && state.carried.contains(&number)).count();
            // What was carried over counts from the run that it is named by.
            let stands =
                |state: &PointState| state.correct && !state.breaks.iter().any(|run| done.contains(run));
            results.push(AttackResult {
                name: run.attack.name(),
                estimator: run.estimator_name().to_owned(),
                arm,
                run: place,
                start: run.start,
                ready_made: matches!(arm, Arm::Opening | Arm::ReadyMade),
                accuracy: self.share(&|row| stands(&self.states[row])),
                attempted: tally.attempted,
                broken: tally.broken,
                carried,
                unconfirmed: tally.unconfirmed,
                seconds: tally.cost.seconds,
                cell_evaluations: tally.cost.work.cell_evaluations,
                vjps: tally.cost.work.vjps,
            });
        }
        results
    }

    fn example(&self, row: usize, runs: &[(Arm, &Run<'_>)]) -> ExampleResult {
        let state = &self.states[row];
        let mut broken_in = BrokenIn::default();
        let mut first = None;
        if state.correct {
            for arm in Arm::ALL {
                let run = self.broken_in(row, arm);
                *broken_in.get_mut(arm) = run.map(|run| self.arms[run].1);
                first = first.or(run);
            }
        }
        ExampleResult {
            index: self.points.indices()[row],
            label: self.points.labels()[row],
            clean_correct: state.correct,
            robust: self.robust(row),
            broken_in,
            broken_by: first.map(|run| BrokenBy {
                arm: self.arms[run].0,
                attack: runs[run].1.attack.name(),
                estimator: runs[run].1.estimator_name().to_owned(),
                start: runs[run].1.start,
            }),
            clean_prediction: state.clean,
            adversarial_prediction: first.and(state.last),
            non_finite: state.non_finite,
        }
    }

    /// The counts of the verdict; the finding is made of them once all of a record is there.
    fn verdict(&self, cascade: &Cascade<'_>, finished: &[usize]) -> Verdict {
        let n = self.states.len();
        let mut verdict = Verdict::no_control(n);
        let arm = |arm: Arm| finished.iter().copied().filter(move |&run| self.arms[run].0 == arm);
        verdict.arms = Arms {
            ready_made: self.arm(cascade, arm(Arm::ReadyMade).collect()),
            white_box: self.arm(cascade, arm(Arm::WhiteBox).collect()),
            aimed: self.arm(cascade, arm(Arm::Aimed).collect()),
        };
        verdict.gradient_free_runs = arm(Arm::GradientFree).count();
        let only = |arm: Arm| {
            self.count(&|row: usize| {
                let breaks = &self.states[row].breaks;
                let alone = breaks.iter().all(|&run| self.arms[run].0 == arm);
                self.states[row].correct && !breaks.is_empty() && alone
            })
        };
        verdict.gradient_free_only = only(Arm::GradientFree);
        verdict.transfer_only = only(Arm::Transferred);
        let pairs = verdict.arms.white_box.len();
        if !cascade.has_control() || pairs == 0 || verdict.arms.ready_made.len() != pairs {
            return verdict;
        }
        let (b, c, standing) = self.discordant(Arm::WhiteBox, Arm::ReadyMade);
        let fallen = n - standing - b - c;
        verdict.b = Some(b);
        verdict.c = Some(c);
        verdict.p_value = Some(exact_test(b, c));
        verdict.difference = Some(if n == 0 { 0.0 } else { (b as f64 - c as f64) / n as f64 });
        verdict.difference_interval = Some(difference_interval(fallen, b, c, standing));
        verdict.flattened = flattened(&verdict.arms.ready_made, n);
        if verdict.arms.aimed.len() == pairs {
            let (b, c, _) = self.discordant(Arm::Aimed, Arm::ReadyMade);
            let (left_b, left_c, standing) = self.discordant(Arm::WhiteBox, Arm::Aimed);
            let difference = if n == 0 { 0.0 } else { (b as f64 - c as f64) / n as f64 };
            verdict.aim = Some(Aim { b, c, difference, remainder: paired(n, standing, left_b, left_c) });
        }
        verdict.yardstick = self.yardstick(cascade, finished);
        verdict
    }

    /// Points that stand after the opening and are broken in the first arm only, in the second only, in none.
    fn discordant(&self, first: Arm, second: Arm) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for row in 0..self.states.len() {
            if !self.states[row].correct || self.broken_in(row, Arm::Opening).is_some() {
                continue;
            }
            match (self.broken_in(row, first).is_some(), self.broken_in(row, second).is_some()) {
                (true, false) => counts.0 += 1,
                (false, true) => counts.1 += 1,
                (false, false) => counts.2 += 1,
                (true, true) => {}
            }
        }
        counts
    }

    fn arm(&self, cascade: &Cascade<'_>, of: Vec<usize>) -> Vec<ArmRun> {
        let runs = cascade.runs();
        let mut done: Vec<usize> = Vec::new();
        let mut arm = Vec::new();
        for number in of {
            done.push(number);
            let run = runs[number].1;
            let tally = &self.tallies[number];
            // Among the points that stand after the opening: one that fell there belongs to no arm.
            let after_opening =
                |row: usize| self.states[row].correct && self.broken_in(row, Arm::Opening).is_none();
            let broken =
                |row: usize, by: &[usize]| self.states[row].breaks.iter().any(|run| by.contains(run));
            arm.push(ArmRun {
                attack: run.attack.name(),
                estimator: run.estimator_name().to_owned(),
                start: run.start,
                attempted: tally.attempted,
                broken: tally.broken,
                carried: self
                    .count(&|row| self.states[row].correct && self.states[row].carried.contains(&number)),
                standing: self.count(&|row| after_opening(row) && !broken(row, &done)),
                cell_evaluations: tally.cost.work.cell_evaluations,
                vjps: tally.cost.work.vjps,
            });
        }
        arm
    }

    fn yardstick(&self, cascade: &Cascade<'_>, finished: &[usize]) -> Option<Yardstick> {
        let chosen = self.chosen_yardstick();
        let [other, training] = chosen[..] else { return None };
        // Time may have ended before it began.
        if !chosen.iter().all(|run| finished.contains(run)) || self.tallies[other].attempted == 0 {
            return None;
        }
        let broken = |row: usize, run: usize| self.states[row].breaks.contains(&run);
        let correct = |row: usize| self.states[row].correct;
        let b = self.count(&|row| correct(row) && broken(row, other) && !broken(row, training));
        let c = self.count(&|row| correct(row) && broken(row, training) && !broken(row, other));
        let runs = cascade.runs();
        let chosen_from = cascade.yardsticks.len();
        Some(Yardstick {
            attack: runs[other].1.attack.name(),
            gradient: runs[other].1.estimator_name().to_owned(),
            training: runs[training].1.estimator_name().to_owned(),
            b,
            c,
            p_value: (chosen_from as f64 * exact_test(b, c)).min(1.0),
            chosen_from,
        })
    }

    /// What was begun in which order, and what was not, or not for all points.
    fn plan(&self, cascade: &Cascade<'_>, limit: Option<TimeLimit>) -> Plan {
        let runs = cascade.runs();
        let begun: Vec<usize> =
            self.begun().iter().flat_map(|&stage| self.stages[stage].runs.clone()).collect();
        let tries = begun.iter().map(|&number| {
            let (run, tally) = (runs[number].1, &self.tallies[number]);
            let per_broken = |cost: f64| (tally.broken > 0).then(|| cost / tally.broken as f64);
            let work = tally.cost.work;
            Try {
                attack: run.attack.name(),
                estimator: run.estimator_name().to_owned(),
                ready_made: matches!(self.arms[number].0, Arm::Opening | Arm::ReadyMade),
                seconds_per_broken: per_broken(tally.cost.seconds),
                work_per_broken: per_broken((work.cell_evaluations + work.vjps) as f64),
            }
        });
        let not_tried = |number: usize, reason: String| NotTried {
            attack: runs[number].1.attack.name(),
            estimator: runs[number].1.estimator_name().to_owned(),
            reason,
        };
        let cut = begun.iter().filter(|&&number| self.tallies[number].missed > 0).map(|&number| {
            let (attempted, missed) = (self.tallies[number].attempted, self.tallies[number].missed);
            not_tried(number, format!("time limit: it met {attempted} of {} points", attempted + missed))
        });
        // Where no point is left, nothing is missing; and of several yardsticks only one was to be measured.
        let any_left = (0..self.states.len()).any(|row| !self.states[row].classified || self.robust(row));
        let optional = |number: &usize| {
            matches!(self.arms[*number].0, Arm::YardstickOther | Arm::YardstickTraining)
                && cascade.yardsticks.len() > 1
        };
        let never = (0..runs.len()).filter(|number| any_left && !begun.contains(number) && !optional(number));
        let never = never.map(|number| not_tried(number, "time limit".to_owned()));
        Plan {
            tries: tries.collect(),
            not_tried: cut.chain(never).collect(),
            time_limit: limit.map(|limit| limit.seconds),
        }
    }
}

/// Whether the last quarter of the twins broke next to nothing: at most one image, or half a percent. `None` with fewer
/// than four.
fn flattened(twins: &[ArmRun], n: usize) -> Option<bool> {
    let last = twins.len().div_ceil(4);
    let most = (n / 200).max(1);
    (twins.len() >= 4)
        .then(|| twins[twins.len() - last..].iter().map(|run| run.broken).sum::<usize>() <= most)
}
