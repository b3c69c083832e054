//! The ledger: what is known of every point, and what each stage of the cascade has cost.
//!
//! It changes in one way only, by entering the findings of a batch. A resumed run enters the batches of its
//! journal and then goes on, so it cannot arrive anywhere else than an uninterrupted one.

use std::collections::HashSet;

use equipoise_record::{Accuracy, AttackResult, ExampleResult, NotTried, Plan, ReadoutResult, Try};

use super::cascade::Cascade;
use super::points::Points;
use crate::batch::{Images, from_vec, to_vec};
use crate::work::Work;

/// What one batch of one stage found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Findings {
    /// 0 for the clean pass, k for the k-th attack that was begun.
    pub stage: usize,
    /// The points, as positions among the points under evaluation.
    pub rows: Vec<usize>,
    /// The judge's class for each, `None` where its logits are not finite.
    pub predictions: Vec<Option<usize>>,
    /// Where the attack claimed success.
    pub claimed: Vec<bool>,
    /// The adversarial images, row by row; empty for the clean pass.
    pub images: Vec<f32>,
    /// What it took.
    pub cost: Cost,
}

/// What something took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cost {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Cell evaluations and vector-Jacobian products.
    pub work: Work,
}

/// How an evaluation ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The record. If the run is not complete it covers what was done: attacks that were not finished are left
    /// out, points that were not classified yet count as misclassified, and the white-box accuracy lacks the
    /// attacks still to come. Such numbers are not results.
    pub result: ReadoutResult,
    /// `[N, C, H, W]`: the verified adversarial image of each broken point; elsewhere the last attack's last
    /// try, or the unperturbed image where the point was not attacked.
    pub adversarial: Images,
    /// The judge's class on each unperturbed image, `None` where its logits are not finite.
    pub clean_predictions: Vec<Option<usize>>,
    /// The judge's class on each image of `adversarial`.
    pub adversarial_predictions: Vec<Option<usize>>,
    /// Whether everything was run; false if the observer cancelled.
    pub complete: bool,
}

/// The state of one point.
#[derive(Debug, Clone, Default)]
struct PointState {
    /// Stages that it has gone through.
    reached: usize,
    /// The judge's class on the unperturbed image.
    clean: Option<usize>,
    /// The judge's class on the image stored last.
    last: Option<usize>,
    /// Whether the unperturbed image is classified correctly.
    correct: bool,
    /// The stage that broke it.
    broken_by: Option<usize>,
    /// Whether logits were not finite, on the clean or on the adversarial image.
    non_finite: bool,
}

impl PointState {
    /// Whether no attack will meet the point any more: misclassified when clean, or broken.
    fn has_left(&self) -> bool {
        self.reached > 0 && !(self.correct && self.broken_by.is_none())
    }
}

/// The counts of one stage.
#[derive(Debug, Clone, Default)]
struct Tally {
    attempted: usize,
    broken: usize,
    unconfirmed: usize,
    cost: Cost,
    /// Points that the stage was to meet and did not: time was up.
    missed: usize,
    /// Seconds with a batch that was then thrown away.
    lost: f64,
}

pub(super) struct Ledger<'a> {
    points: &'a Points,
    states: Vec<PointState>,
    /// Row-major content of the adversarial images.
    images: Vec<f32>,
    /// The clean pass first.
    tallies: Vec<Tally>,
    /// The cascade's entry behind each stage from 1 on.
    order: Vec<usize>,
}

impl<'a> Ledger<'a> {
    /// A ledger for the clean pass.
    pub fn new(points: &'a Points) -> Self {
        Self {
            points,
            states: vec![PointState::default(); points.len()],
            images: to_vec(points.images().clone()),
            tallies: vec![Tally::default()],
            order: Vec::new(),
        }
    }

    /// Adds a stage: this entry of the cascade comes next.
    pub fn begin(&mut self, entry: usize) {
        self.order.push(entry);
        self.tallies.push(Tally::default());
    }

    /// The entries begun so far, in order: stage k is the k-th, from 1.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Lets the points that a stage has still to meet pass it, after `seconds` with a batch that came to nothing.
    pub fn cut(&mut self, stage: usize, seconds: f64) {
        self.tallies[stage].lost = seconds;
        self.tallies[stage].cost.seconds += seconds;
        for row in self.pending(stage) {
            self.states[row].reached = stage + 1;
            self.tallies[stage].missed += 1;
        }
    }

    /// Seconds that all stages took.
    pub fn seconds(&self) -> f64 {
        self.tallies.iter().map(|tally| tally.cost.seconds).sum()
    }

    /// Points that a stage met, and how many of them it broke.
    pub fn met_and_broken(&self, stage: usize) -> (usize, usize) {
        (self.tallies[stage].attempted, self.tallies[stage].broken)
    }

    /// Points that a stage was to meet and did not.
    pub fn missed(&self, stage: usize) -> usize {
        self.tallies[stage].missed
    }

    /// The stages that were cut, with the seconds lost.
    pub fn cuts(&self) -> Vec<(usize, f64)> {
        let cut = (1..self.tallies.len()).filter(|&stage| self.missed(stage) > 0);
        cut.map(|stage| (stage, self.tallies[stage].lost)).collect()
    }

    /// Whether a point is left for another attack.
    pub fn any_left(&self) -> bool {
        self.states.iter().any(|state| !state.has_left())
    }

    /// The points that this stage has still to meet, in order. All earlier stages must be done.
    pub fn pending(&self, stage: usize) -> Vec<usize> {
        let meets = |row: &usize| self.states[*row].reached == stage && !self.states[*row].has_left();
        (0..self.states.len()).filter(meets).collect()
    }

    /// How many points the stage has met so far.
    pub fn attempted(&self, stage: usize) -> usize {
        self.tallies[stage].attempted
    }

    /// How the stage stands, in words.
    pub fn note(&self, stage: usize) -> String {
        let Tally { attempted, broken, unconfirmed, .. } = &self.tallies[stage];
        match (stage, unconfirmed) {
            (0, _) => format!("{} of {attempted} correct", attempted - broken),
            (_, 0) => format!("{broken} of {attempted} broken"),
            _ => format!("{broken} of {attempted} broken, {unconfirmed} claims not confirmed"),
        }
    }

    /// Whether these findings can come next: each point met by this stage once, in its turn.
    pub fn accepts(&self, findings: &Findings) -> bool {
        let stage = findings.stage;
        let n = findings.rows.len();
        let pixels = if stage == 0 { 0 } else { n * self.image_size() };
        let mut met = HashSet::new();
        stage < self.tallies.len()
            && findings.predictions.len() == n
            && findings.claimed.len() == n
            && findings.images.len() == pixels
            && self.states.iter().all(|state| state.reached >= stage || state.has_left())
            && findings.rows.iter().all(|&row| {
                let state = self.states.get(row);
                state.is_some_and(|state| state.reached == stage && !state.has_left()) && met.insert(row)
            })
    }

    /// Enters the findings of a batch.
    pub fn enter(&mut self, findings: &Findings) {
        let size = self.image_size();
        let tally = &mut self.tallies[findings.stage];
        tally.cost.seconds += findings.cost.seconds;
        tally.cost.work = tally.cost.work + findings.cost.work;
        for (k, &row) in findings.rows.iter().enumerate() {
            let state = &mut self.states[row];
            let prediction = findings.predictions[k];
            let correct = prediction == Some(self.points.labels()[row]);
            state.reached = findings.stage + 1;
            state.last = prediction;
            // Such a point meets no further stage, so this is never taken back.
            state.non_finite = prediction.is_none();
            tally.attempted += 1;
            tally.broken += usize::from(!correct);
            tally.unconfirmed += usize::from(findings.claimed[k] && correct);
            if findings.stage == 0 {
                state.clean = prediction;
                state.correct = correct;
            } else {
                self.images[row * size..][..size].copy_from_slice(&findings.images[k * size..][..size]);
                if !correct {
                    state.broken_by = Some(findings.stage);
                }
            }
        }
    }

    /// The record of what is in the ledger.
    pub fn outcome(self, cascade: &Cascade<'_>, time_limit: Option<f64>, complete: bool) -> Outcome {
        let n = self.states.len();
        let share = |survives: &dyn Fn(&PointState) -> bool| {
            Accuracy::new(self.states.iter().filter(|state| survives(state)).count(), n)
        };
        let after = |stage: usize| {
            share(&|state: &PointState| {
                state.correct && state.broken_by.is_none_or(|breaker| breaker > stage)
            })
        };
        let finished = (0..self.tallies.len()).take_while(|&stage| self.pending(stage).is_empty()).count();
        let begun = || self.order.iter().map(|&entry| &cascade.entries[entry]);
        let attacks: Vec<AttackResult> = begun()
            .zip(1..finished)
            .map(|(entry, stage)| {
                let tally = &self.tallies[stage];
                AttackResult {
                    name: entry.attack.name(),
                    estimator: entry.estimator.clone(),
                    ready_made: entry.ready_made,
                    accuracy: after(stage),
                    attempted: tally.attempted,
                    broken: tally.broken,
                    unconfirmed: tally.unconfirmed,
                    seconds: tally.cost.seconds,
                    cell_evaluations: tally.cost.work.cell_evaluations,
                    vjps: tally.cost.work.vjps,
                }
            })
            .collect();
        let ready_made = begun().take_while(|entry| entry.ready_made).count();
        let examples = self
            .states
            .iter()
            .enumerate()
            .map(|(row, state)| ExampleResult {
                index: self.points.indices()[row],
                label: self.points.labels()[row],
                clean_correct: state.correct,
                robust: state.correct && state.broken_by.is_none(),
                broken_by: state.broken_by.map(|stage| cascade.entries[self.order[stage - 1]].label()),
                non_finite: state.non_finite,
            })
            .collect();
        let result = ReadoutResult {
            name: cascade.readout.clone(),
            clean_accuracy: after(0),
            ready_made_accuracy: (ready_made > 0 && ready_made < finished).then(|| after(ready_made)),
            white_box_accuracy: after(self.tallies.len()),
            plan: Some(self.plan(cascade, time_limit)),
            attacks,
            examples,
            flags: Vec::new(),
        };
        let images = self.points.images();
        Outcome {
            result,
            clean_predictions: self.states.iter().map(|state| state.clean).collect(),
            adversarial_predictions: self.states.iter().map(|state| state.last).collect(),
            adversarial: from_vec(self.images, images.dims(), &images.device()),
            complete,
        }
    }

    /// What was begun in which order, and what was not, or not for all points.
    fn plan(&self, cascade: &Cascade<'_>, time_limit: Option<f64>) -> Plan {
        let tries = self.order.iter().zip(&self.tallies[1..]).map(|(&entry, tally)| {
            let entry = &cascade.entries[entry];
            let per_broken = |cost: f64| (tally.broken > 0).then(|| cost / tally.broken as f64);
            let work = tally.cost.work;
            Try {
                attack: entry.attack.name(),
                estimator: entry.estimator.clone(),
                ready_made: entry.ready_made,
                seconds_per_broken: per_broken(tally.cost.seconds),
                work_per_broken: per_broken((work.cell_evaluations + work.vjps) as f64),
            }
        });
        let not_tried = |entry: usize, reason: String| NotTried {
            attack: cascade.entries[entry].attack.name(),
            estimator: cascade.entries[entry].estimator.clone(),
            reason,
        };
        let cut = self.order.iter().zip(&self.tallies[1..]).filter(|(_, tally)| tally.missed > 0);
        let cut = cut.map(|(&entry, tally)| {
            let Tally { attempted, missed, .. } = tally;
            let reason = format!("time limit: it met {attempted} of {} points", attempted + missed);
            not_tried(entry, reason)
        });
        // Where no point is left, nothing is missing.
        let never = (0..cascade.entries.len()).filter(|entry| self.any_left() && !self.order.contains(entry));
        let never = never.map(|entry| not_tried(entry, "time limit".to_owned()));
        Plan { tries: tries.collect(), not_tried: cut.chain(never).collect(), time_limit }
    }

    fn image_size(&self) -> usize {
        let [_, channels, height, width] = self.points.images().dims();
        channels * height * width
    }
}
