//! The ledger: what is known of every point, and what each run has cost.
//!
//! It changes in one way only, by entering an [`Event`]. A resumed run enters the events of its journal and then goes on, so it
//! cannot arrive anywhere else than an uninterrupted one. A point goes its own way through the runs, so that points can be
//! added to a run that is complete.

use std::collections::HashSet;

use equipoise_record::{Arm, ReadoutResult};
use serde::{Deserialize, Serialize};

use super::cascade::{Cascade, Phase, Stage};
use super::points::Points;
use crate::attack::Budget;
use crate::batch::{Images, from_vec, select, to_vec};
use crate::work::Work;

/// What happens in an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// A batch is done.
    Found(Findings),
    /// A stage begins or ends.
    Turn(Turn),
}

/// How an evaluation goes from stage to stage: under a time limit that depends on what it found and on the clock.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Turn {
    /// A stage of the cascade begins.
    Begins(usize),
    /// Time cut the stage that was begun last short.
    Cut {
        /// With a batch that came to nothing.
        seconds: f64,
    },
}

/// What one batch of one run found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Findings {
    /// The number of the run, `None` for the clean pass.
    pub run: Option<usize>,
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

impl Findings {
    /// Without the points that withstood: of an attack that was cut short only its successes say anything.
    pub fn broken(&self, labels: &[usize]) -> Self {
        let broken: Vec<usize> =
            (0..self.rows.len()).filter(|&k| self.predictions[k] != Some(labels[self.rows[k]])).collect();
        self.select(&broken)
    }

    /// The findings at these places, at the cost of all.
    fn select(&self, places: &[usize]) -> Self {
        let size = self.images.len() / self.rows.len().max(1);
        Self {
            run: self.run,
            rows: places.iter().map(|&k| self.rows[k]).collect(),
            predictions: places.iter().map(|&k| self.predictions[k]).collect(),
            claimed: places.iter().map(|&k| self.claimed[k]).collect(),
            images: places.iter().flat_map(|&k| self.images[k * size..][..size].to_vec()).collect(),
            cost: self.cost,
        }
    }
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
    /// The record. If the run is not complete it covers what was done: runs that were not finished are left
    /// out, points that were not classified yet count as misclassified, and the white-box accuracy lacks the
    /// attacks still to come. Such numbers are not results. The verdict holds counts;
    /// [`equipoise_verdict::conclude`] makes a finding of them, over all that stands in one record.
    pub result: ReadoutResult,
    /// `[N, C, H, W]`: the verified adversarial image of each broken point, of the run in `broken_by`; elsewhere the
    /// last attack's last try, or the unperturbed image where the point was not attacked.
    pub adversarial: Images,
    /// The judge's class on each unperturbed image, `None` where its logits are not finite.
    pub clean_predictions: Vec<Option<usize>>,
    /// The judge's class on each image of `adversarial`.
    pub adversarial_predictions: Vec<Option<usize>>,
    /// Whether everything was run; false if the observer cancelled.
    pub complete: bool,
    /// Names of the runs, and for each point those that broke it: what a larger radius goes on from.
    pub(super) runs: Vec<String>,
    pub(super) breaks: Vec<Vec<usize>>,
}

/// The state of one point.
#[derive(Debug, Clone, Default)]
pub(super) struct PointState {
    /// Whether the unperturbed image has been classified.
    pub classified: bool,
    /// The judge's class on the unperturbed image.
    pub clean: Option<usize>,
    /// The judge's class on the image stored.
    pub last: Option<usize>,
    /// Whether the unperturbed image is classified correctly.
    pub correct: bool,
    /// For each run whether the point has gone through it, or past it.
    passed: Vec<bool>,
    /// The runs that broke it, at this radius or at a smaller one.
    pub breaks: Vec<usize>,
    /// Those of them at a smaller radius.
    pub carried: Vec<usize>,
    /// The run whose image is stored: of several that broke the point the one that stands first in [`Arm::ALL`].
    breaker: Option<usize>,
    /// Whether logits were not finite, on the clean or on the stored image.
    pub non_finite: bool,
}

/// The counts of one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub attempted: usize,
    pub broken: usize,
    pub unconfirmed: usize,
    pub cost: Cost,
    /// Points that the run was to meet and did not: time was up.
    pub missed: usize,
}

pub(super) struct Ledger<'a> {
    pub(super) points: &'a Points,
    /// For each run its arm, and its place there.
    pub(super) arms: Vec<(Arm, usize)>,
    pub(super) stages: Vec<Stage>,
    /// For each yardstick the runs of the white-box arm through its gradient.
    yardsticks: Vec<Vec<usize>>,
    pub(super) states: Vec<PointState>,
    /// Row-major content of the adversarial images.
    pub(super) images: Vec<f32>,
    clean: Tally,
    pub(super) tallies: Vec<Tally>,
    /// The stages begun, in order.
    begun: Vec<usize>,
}

impl<'a> Ledger<'a> {
    /// A ledger for the clean pass, with what fell at a smaller radius.
    pub fn new(cascade: &Cascade<'_>, points: &'a Points, smaller: Option<&Outcome>) -> Self {
        let runs = cascade.runs();
        let mut places = [0; Arm::ALL.len()];
        let arms = runs
            .iter()
            .map(|(arm, _)| {
                let place = &mut places[*arm as usize];
                *place += 1;
                (*arm, *place - 1)
            })
            .collect();
        let through = |estimator: &Option<String>| {
            let same = |&run: &usize| runs[run].0 == Arm::WhiteBox && runs[run].1.estimator == *estimator;
            (0..runs.len()).filter(same).collect()
        };
        let fresh = PointState { passed: vec![false; runs.len()], ..PointState::default() };
        let mut ledger = Self {
            points,
            arms,
            stages: cascade.stages(),
            yardsticks: cascade.yardsticks.iter().map(|duel| through(&duel.other.estimator)).collect(),
            states: vec![fresh; points.len()],
            images: to_vec(points.images().clone()),
            clean: Tally::default(),
            tallies: vec![Tally::default(); runs.len()],
            begun: Vec::new(),
        };
        if let Some(smaller) = smaller {
            ledger.carry(smaller);
        }
        ledger
    }

    /// What was broken at a smaller radius is broken at this one, by the same runs.
    fn carry(&mut self, smaller: &Outcome) {
        let size = self.image_size();
        let images = to_vec(smaller.adversarial.clone());
        for (row, breaks) in smaller.breaks.iter().enumerate() {
            let Some(&first) = breaks.iter().min_by_key(|&&run| self.rank(run)) else { continue };
            let last = smaller.adversarial_predictions[row];
            let state = &mut self.states[row];
            state.breaks = breaks.clone();
            state.carried = breaks.clone();
            state.breaker = Some(first);
            state.last = last;
            state.non_finite = last.is_none();
            self.images[row * size..][..size].copy_from_slice(&images[row * size..][..size]);
        }
    }

    /// Where a run stands among those that may be named as the one that broke a point.
    fn rank(&self, run: usize) -> (Arm, usize) {
        self.arms[run]
    }

    /// The stages begun so far, in order.
    pub fn begun(&self) -> &[usize] {
        &self.begun
    }

    /// Seconds that everything took.
    pub fn seconds(&self) -> f64 {
        self.clean.cost.seconds + self.tallies.iter().map(|tally| tally.cost.seconds).sum::<f64>()
    }

    /// Points that a stage met, the most that one of its runs did.
    pub fn met(&self, stage: usize) -> usize {
        self.stages[stage].runs.iter().map(|&run| self.tallies[run].attempted).max().unwrap_or(0)
    }

    /// Points that a stage broke, whichever of its runs.
    pub fn broken(&self, stage: usize) -> usize {
        let runs = &self.stages[stage].runs;
        let here = |state: &&PointState| {
            runs.iter().any(|run| state.breaks.contains(run) && !state.carried.contains(run))
        };
        self.states.iter().filter(here).count()
    }

    /// Points that a stage was to meet and did not.
    pub fn missed(&self, stage: usize) -> usize {
        self.stages[stage].runs.iter().map(|&run| self.tallies[run].missed).max().unwrap_or(0)
    }

    /// The runs of the yardstick that is to be measured: the only one, or the one whose gradient broke most in the
    /// white-box arm, the first of equal ones.
    pub fn chosen_yardstick(&self) -> Vec<usize> {
        let mut best: Option<(usize, usize)> = None;
        for (place, runs) in self.yardsticks.iter().enumerate() {
            let broken = runs.iter().map(|&run| self.broken_by(run)).sum();
            if best.is_none_or(|(most, _)| broken > most) {
                best = Some((broken, place));
            }
        }
        let stages = self.stages.iter().filter(|stage| stage.phase == Phase::Yardstick);
        best.and_then(|(_, place)| stages.clone().nth(place))
            .map(|stage| stage.runs.clone())
            .unwrap_or_default()
    }

    /// Points that a run broke, here or at a smaller radius.
    pub fn broken_by(&self, run: usize) -> usize {
        self.states.iter().filter(|state| state.breaks.contains(&run)).count()
    }

    /// Points whose unperturbed image has not been classified.
    pub fn unclassified(&self) -> Vec<usize> {
        (0..self.states.len()).filter(|&row| !self.states[row].classified).collect()
    }

    /// Whether a point is still to be met by a run. All runs before it must be done with the point.
    pub fn is_pending(&self, run: usize, row: usize) -> bool {
        let state = &self.states[row];
        let broken = |arm: Arm| self.broken_in(row, arm).is_some();
        state.classified
            && state.correct
            && !state.passed[run]
            // What this very run broke at a smaller radius it need not meet again.
            && !state.carried.contains(&run)
            && stands_in(self.arms[run].0, &broken)
    }

    /// The run of an arm that broke a point: the first of them.
    pub fn broken_in(&self, row: usize, arm: Arm) -> Option<usize> {
        let of_arm = self.states[row].breaks.iter().filter(|&&run| self.arms[run].0 == arm);
        of_arm.copied().min()
    }

    /// The points that some of these runs have still to meet, in order.
    pub fn pending_of(&self, runs: &[usize]) -> Vec<usize> {
        (0..self.states.len()).filter(|&row| runs.iter().any(|&run| self.is_pending(run, row))).collect()
    }

    /// The points that some of these runs have met or have still to meet, in order.
    pub fn points_of(&self, runs: &[usize]) -> Vec<usize> {
        let of =
            |row: usize| runs.iter().any(|&run| self.states[row].passed[run] || self.is_pending(run, row));
        (0..self.states.len()).filter(|&row| of(row)).collect()
    }

    /// Those of the rows that a run has still to meet.
    pub fn meets(&self, run: usize, rows: &[usize]) -> Vec<usize> {
        rows.iter().copied().filter(|&row| self.is_pending(run, row)).collect()
    }

    /// How the clean pass stands, in words.
    pub fn clean_note(&self) -> String {
        let Tally { attempted, broken, .. } = &self.clean;
        format!("{} of {attempted} correct", attempted - broken)
    }

    /// Points that the clean pass classified and misclassified.
    pub fn clean_counts(&self) -> (usize, usize) {
        (self.clean.attempted, self.clean.broken)
    }

    /// Points that the first run of a stage met and broke.
    pub fn counts(&self, stage: &Stage) -> (usize, usize) {
        let Tally { attempted, broken, .. } = self.tallies[stage.runs[0]];
        (attempted, broken)
    }

    /// How a stage stands, in words: what each of its runs broke.
    pub fn note(&self, stage: &Stage) -> String {
        let of = |run: usize| {
            let Tally { attempted, broken, unconfirmed, .. } = &self.tallies[run];
            match unconfirmed {
                0 => format!("{broken} of {attempted} broken"),
                _ => format!("{broken} of {attempted} broken, {unconfirmed} claims not confirmed"),
            }
        };
        match stage.runs.as_slice() {
            [run] => of(*run),
            runs => {
                let parts: Vec<String> =
                    runs.iter().map(|&run| format!("{} {}", self.arms[run].0.name(), of(run))).collect();
                parts.join("; ")
            }
        }
    }

    /// Whether an event can come next.
    fn accepts(&self, event: &Event) -> bool {
        match event {
            Event::Found(findings) => self.accepts_findings(findings),
            Event::Turn(Turn::Begins(stage)) => *stage < self.stages.len() && !self.begun.contains(stage),
            Event::Turn(Turn::Cut { .. }) => !self.begun.is_empty(),
        }
    }

    /// Each point is met by a run once, in its turn.
    fn accepts_findings(&self, findings: &Findings) -> bool {
        let n = findings.rows.len();
        let pixels = if findings.run.is_none() { 0 } else { n * self.image_size() };
        let mut met = HashSet::new();
        let in_turn = |row: usize| match findings.run {
            None => !self.states[row].classified,
            Some(run) => run < self.arms.len() && self.is_pending(run, row),
        };
        findings.predictions.len() == n
            && findings.claimed.len() == n
            && findings.images.len() == pixels
            && findings.rows.iter().all(|&row| row < self.states.len() && in_turn(row) && met.insert(row))
    }

    /// Whether an event that somebody says has happened can come next.
    ///
    /// # Errors
    ///
    /// What is wrong with it, if it cannot, or has images outside of the budget.
    pub fn check(&self, event: &Event, budget: &Budget) -> Result<(), String> {
        if !self.accepts(event) {
            return Err("it does not follow from what came before it".to_owned());
        }
        if let Event::Found(findings) = event
            && let Some(index) = self.outside(findings, budget)
        {
            return Err(format!("what it has for image {index} is outside of [0, 1] or of the budget"));
        }
        Ok(())
    }

    /// Findings of a part of the points, the rows of which are these, as those of all; `None` if it has no such row.
    pub fn of_all(&self, findings: Findings, rows: &[usize]) -> Option<Findings> {
        let rows = findings.rows.iter().map(|&row| rows.get(row).copied()).collect::<Option<Vec<_>>>()?;
        Some(Findings { rows, ..findings })
    }

    /// Findings without the points that have gone through their run already.
    pub fn unknown(&self, findings: Findings) -> Findings {
        let known = |row: usize| match findings.run {
            None => self.states[row].classified,
            Some(run) => self.states[row].passed.get(run).copied().unwrap_or(false),
        };
        let places: Vec<usize> = (0..findings.rows.len()).filter(|&k| !known(findings.rows[k])).collect();
        findings.select(&places)
    }

    /// The index of the first point for which findings have an image outside of \[0, 1\] or of the budget.
    fn outside(&self, findings: &Findings, budget: &Budget) -> Option<usize> {
        findings.run?;
        let clean = select(self.points.images(), &findings.rows);
        let stored = from_vec(findings.images.clone(), clean.dims(), &clean.device());
        let row = budget.contains(&clean, &stored).iter().position(|inside| !inside)?;
        Some(self.points.indices()[findings.rows[row]])
    }

    /// The points whose stored image is one that broke them here, not at a smaller radius.
    pub fn fooled(&self) -> Vec<usize> {
        let here = |state: &PointState| state.breaker.is_some_and(|run| !state.carried.contains(&run));
        (0..self.states.len()).filter(|&row| here(&self.states[row])).collect()
    }

    /// The stored images `[rows, C, H, W]` of some points.
    pub fn stored(&self, rows: &[usize]) -> Images {
        let size = self.image_size();
        let [_, channels, height, width] = self.points.images().dims();
        let pixels = rows.iter().flat_map(|&row| self.images[row * size..][..size].to_vec()).collect();
        from_vec(pixels, [rows.len(), channels, height, width], &self.points.images().device())
    }

    /// Enters an event.
    pub fn enter(&mut self, event: &Event) {
        match event {
            Event::Found(findings) => self.enter_findings(findings),
            Event::Turn(Turn::Begins(stage)) => self.begun.push(*stage),
            Event::Turn(Turn::Cut { seconds }) => self.cut(*seconds),
        }
    }

    /// Lets the points that the stage begun last has still to meet pass it, after `seconds` with a batch that came to
    /// nothing.
    fn cut(&mut self, seconds: f64) {
        let Some(&stage) = self.begun.last() else { return };
        let runs = self.stages[stage].runs.clone();
        self.tallies[runs[0]].cost.seconds += seconds;
        for run in runs {
            for row in self.pending_of(&[run]) {
                self.states[row].passed[run] = true;
                self.tallies[run].missed += 1;
            }
        }
    }

    fn enter_findings(&mut self, findings: &Findings) {
        let size = self.image_size();
        let tally = match findings.run {
            None => &mut self.clean,
            Some(run) => &mut self.tallies[run],
        };
        tally.cost.seconds += findings.cost.seconds;
        tally.cost.work = tally.cost.work + findings.cost.work;
        for (k, &row) in findings.rows.iter().enumerate() {
            let prediction = findings.predictions[k];
            let correct = prediction == Some(self.points.labels()[row]);
            tally.attempted += 1;
            tally.broken += usize::from(!correct);
            tally.unconfirmed += usize::from(findings.claimed[k] && correct);
            let arms = &self.arms;
            let state = &mut self.states[row];
            let Some(run) = findings.run else {
                state.classified = true;
                state.clean = prediction;
                state.correct = correct;
                if state.breaker.is_none() {
                    state.last = prediction;
                    state.non_finite = prediction.is_none();
                }
                continue;
            };
            state.passed[run] = true;
            if !correct {
                state.breaks.push(run);
            }
            // The image of the run that is named as the one that broke the point; until there is one, the last try.
            let named = match state.breaker {
                Some(before) => !correct && arms[run] < arms[before],
                None => true,
            };
            if named {
                state.breaker = if correct { None } else { Some(run) };
                state.last = prediction;
                state.non_finite = prediction.is_none();
                self.images[row * size..][..size].copy_from_slice(&findings.images[k * size..][..size]);
            }
        }
    }

    pub(super) fn image_size(&self) -> usize {
        let [_, channels, height, width] = self.points.images().dims();
        channels * height * width
    }
}

/// The arms in which a point that stands is met.
fn stands_in(arm: Arm, broken: &dyn Fn(Arm) -> bool) -> bool {
    match arm {
        Arm::Opening => !broken(Arm::Opening),
        Arm::WhiteBox | Arm::ReadyMade | Arm::Aimed => !broken(Arm::Opening) && !broken(arm),
        // Each side of a yardstick is one run: it meets every point once.
        Arm::YardstickOther | Arm::YardstickTraining => true,
        Arm::GradientFree => !Arm::ALL.into_iter().any(|arm| arm != Arm::Transferred && broken(arm)),
        Arm::Transferred => !Arm::ALL.into_iter().any(broken),
    }
}
