//! Runs a cascade: stage after stage, batch after batch, every success verified, everything kept in a journal.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Instant;

use equipoise_record::Arm;

use super::cascade::{Cascade, Phase, Run, Settings, Stage, check};
use super::error::EvaluateError;
use super::forecast::{Forecast, forecast};
use super::journal::{Fingerprint, Journal};
use super::ledger::{Cost, Findings, Ledger, Outcome};
use super::observer::{Observer, Stopping};
use super::order::{Order, TimeLimit};
use super::points::Points;
use crate::attack::{Classifier, Examples, Progress, Question, Step};
use crate::batch::{Images, from_vec, predictions, select, to_vec};
use crate::random::Key;
use crate::work::Work;

/// Most examples of a batch under a time limit: of one that is stopped nothing, or little, is left.
const LIMITED_BATCH: usize = 16;

/// What an evaluation goes on from, and what ends it.
#[derive(Default)]
pub struct Conditions<'a> {
    /// How long it may take.
    pub limit: Option<TimeLimit>,
    /// What the same evaluation found at a smaller radius of the same norm: what fell there counts here, arm by arm.
    pub smaller: Option<&'a Outcome>,
    /// The journal: where to keep what is done, and to find what was.
    pub journal: Option<&'a mut Journal>,
}

/// Evaluates the points.
///
/// With a journal, every batch is kept as soon as it is done, and what the journal holds already is not done
/// again. When the observer cancels, before a batch or within, the outcome says so and the journal can be
/// resumed: a batch that was cut short is done again, so that the result is the same to the bit.
///
/// Seconds and work of a run include the verification of its images.
///
/// # Errors
///
/// [`EvaluateError`] if the cascade, the settings or the points do not fit together, if an attack or the judge
/// breaks its contract, or if the journal belongs to another run or cannot be read or written.
pub fn run(
    cascade: &Cascade<'_>,
    points: &Points,
    settings: &Settings,
    observer: &dyn Observer,
    journal: Option<&mut Journal>,
) -> Result<Outcome, EvaluateError> {
    run_with(cascade, points, settings, observer, Conditions { journal, ..Conditions::default() })
}

/// Evaluates the points under conditions; [`run`] does without.
///
/// # Errors
///
/// As for [`run`].
pub fn run_with(
    cascade: &Cascade<'_>,
    points: &Points,
    settings: &Settings,
    observer: &dyn Observer,
    conditions: Conditions<'_>,
) -> Result<Outcome, EvaluateError> {
    let Conditions { limit, smaller, mut journal } = conditions;
    check(cascade, points, settings)?;
    if let Some(smaller) = smaller {
        let matching =
            smaller.runs == Outcome::names(cascade) && smaller.adversarial.dims() == points.images().dims();
        if !matching || !smaller.complete {
            return Err(EvaluateError::Smaller);
        }
    }
    let order = Order::new(cascade, limit);
    let mut ledger = Ledger::new(cascade, points, smaller);
    if let Some(journal) = journal.as_deref_mut() {
        let fingerprint = Fingerprint::new(cascade, points, settings, limit, smaller);
        journal.replay(&fingerprint, &settings.budget, &mut ledger)?;
        if verify(cascade, &ledger, settings, journal, observer)?.is_break() {
            return Ok(ledger.outcome(cascade, limit, false));
        }
    }
    let batch_size =
        if limit.is_some() { settings.batch_size.min(LIMITED_BATCH) } else { settings.batch_size };
    let work = cascade.runs().iter().map(|(_, run)| run.work).collect();
    let mut driver = Driver { cascade, points, settings, observer, limit, journal, ledger, work };
    let clean = driver.ledger.unclassified();
    observer.stage("clean", points.len());
    if clean.len() < points.len() {
        driver.say_clean(points.len() - clean.len());
    }
    for rows in clean.chunks(batch_size) {
        if observer.cancelled() {
            return Ok(driver.ledger.outcome(cascade, limit, false));
        }
        let findings = classify(cascade, points, rows, settings.seed)?;
        if observer.failed() {
            return Ok(driver.ledger.outcome(cascade, limit, false));
        }
        driver.keep(&findings)?;
        driver.say_clean(rows.len());
    }
    // A resumed run first ends the stage that it was in.
    let mut replayed = driver.ledger.begun().to_vec().into_iter();
    loop {
        let stage = match replayed.next() {
            Some(stage) => stage,
            None => {
                let Some(stage) = order.next(&driver.ledger) else { break };
                driver.ledger.begin(stage);
                if let (Some(_), Some(journal)) = (limit, driver.journal.as_deref_mut()) {
                    journal.keep_order(&driver.ledger)?;
                }
                stage
            }
        };
        let until = order.until(stage);
        if driver.stage(&order.stages()[stage], stage, batch_size, until)?.is_break() {
            return Ok(driver.ledger.outcome(cascade, limit, false));
        }
    }
    Ok(driver.ledger.outcome(cascade, limit, true))
}

/// An evaluation at work.
struct Driver<'a, 'j, 'c> {
    cascade: &'a Cascade<'c>,
    points: &'a Points,
    settings: &'a Settings,
    observer: &'a dyn Observer,
    limit: Option<TimeLimit>,
    journal: Option<&'j mut Journal>,
    ledger: Ledger<'a>,
    /// Of each run for a point that withstands it.
    work: Vec<f64>,
}

impl Driver<'_, '_, '_> {
    /// Whatever a stage has still to do. Breaks if the observer cancelled.
    fn stage(
        &mut self,
        stage: &Stage,
        number: usize,
        batch_size: usize,
        until: Option<f64>,
    ) -> Result<ControlFlow<()>, EvaluateError> {
        let pending: HashSet<usize> = self.ledger.pending_of(&stage.runs).into_iter().collect();
        let done = self.ledger.met(number);
        self.observer.stage(&stage.label(self.cascade), done + pending.len());
        if done > 0 {
            self.say(done, stage);
        }
        // Batches are cut from all that the stage meets, whatever was done before: a run that was killed between two runs of a
        // batch goes on with that batch, and its journal is that of an uninterrupted one.
        for rows in self.ledger.points_of(&stage.runs).chunks(batch_size) {
            let left_over = rows.iter().filter(|row| pending.contains(row)).count();
            if left_over == 0 {
                continue;
            }
            if self.observer.cancelled() {
                return Ok(ControlFlow::Break(()));
            }
            let left = until.map(|until| until - self.ledger.seconds());
            let watch = Watch::new(self.observer, left);
            // Under a limit the runs of a stage are kept together or not at all.
            let mut held = Vec::new();
            for &run in &stage.runs {
                let rows = self.ledger.meets(run, rows);
                if rows.is_empty() {
                    continue;
                }
                let mut findings = self.attack(run, &rows, &watch)?;
                if watch.observer.stopped() || self.observer.failed() {
                    return Ok(ControlFlow::Break(()));
                }
                if watch.late.get() {
                    // What a run of its own broke before is broken; half a pair would favour one arm.
                    let alone = matches!(stage.phase, Phase::Opening | Phase::GradientFree);
                    findings.keep_broken(self.points.labels());
                    let found = alone && !findings.rows.is_empty();
                    if found {
                        self.keep(&findings)?;
                        self.say(findings.rows.len(), stage);
                    }
                    let lost = if found { 0.0 } else { watch.started.elapsed().as_secs_f64() };
                    self.ledger.cut(number, lost);
                    if let Some(journal) = self.journal.as_deref_mut() {
                        journal.keep_order(&self.ledger)?;
                    }
                    return Ok(ControlFlow::Continue(()));
                }
                if self.limit.is_none() {
                    self.keep(&findings)?;
                } else {
                    held.push(findings);
                }
            }
            for findings in &held {
                self.keep(findings)?;
            }
            self.say(left_over, stage);
            self.forecast();
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Enters findings, and keeps them in the journal first.
    fn keep(&mut self, findings: &Findings) -> Result<(), EvaluateError> {
        if let Some(journal) = self.journal.as_deref_mut() {
            journal.append(findings, self.points.images().dims())?;
        }
        self.ledger.enter(findings);
        Ok(())
    }

    /// Says how long it still takes: no longer than it may.
    fn forecast(&self) {
        if let Some(Forecast { spent, left }) = forecast(&self.ledger, &self.work) {
            let most = self.limit.map_or(f64::INFINITY, |limit| (limit.seconds - spent).max(0.0));
            self.observer.forecast(Forecast { spent, left: left.min(most) });
        }
    }

    /// Says that a stage is done with so many more points, and how it stands.
    fn say(&self, done: usize, stage: &Stage) {
        let (met, broken) = self.ledger.counts(stage);
        self.observer.counts(met, broken);
        self.observer.advance(done, &self.ledger.note(stage));
    }

    /// The same of the clean pass.
    fn say_clean(&self, done: usize) {
        let (met, broken) = self.ledger.clean_counts();
        self.observer.counts(met, broken);
        self.observer.advance(done, &self.ledger.clean_note());
    }

    /// One run on some points, verified.
    fn attack(
        &self,
        number: usize,
        rows: &[usize],
        progress: &dyn Progress,
    ) -> Result<Findings, EvaluateError> {
        let (_, run) = self.cascade.runs()[number];
        let (points, settings) = (self.points, self.settings);
        let clean = select(points.images(), rows);
        let labels: Vec<usize> = rows.iter().map(|&row| points.labels()[row]).collect();
        let indices: Vec<usize> = rows.iter().map(|&row| points.indices()[row]).collect();
        let Run { start, victim, .. } = *run;
        let examples =
            Examples { images: &clean, labels: &labels, indices: &indices, seed: settings.seed, start };

        let started = Instant::now();
        let before = victim.work();
        let attempt = run.attack.run_with(victim, &examples, &settings.budget, progress);
        let (given, returned) = (clean.dims(), attempt.images.dims());
        if given != returned || attempt.claimed.len() != rows.len() {
            let claims = attempt.claimed.len();
            return Err(EvaluateError::Shape { attack: run.label(), given, returned, claims });
        }
        // Through the host and back: what is judged is what is stored, with no graph or lazy operation attached.
        let images = to_vec(attempt.images);
        let spent = victim.work() - before;
        let seconds = started.elapsed().as_secs_f64();

        let stored = from_vec(images.clone(), given, &clean.device());
        let distances = settings.budget.distances(&clean, &stored);
        let limit = settings.budget.eps() + settings.budget.slack(given);
        if let Some(k) = distances.iter().position(|&distance| distance > limit) {
            return Err(EvaluateError::OutsideBudget {
                attack: run.label(),
                index: indices[k],
                distance: distances[k],
                budget: settings.budget,
            });
        }
        // Victim and judge may share a work counter, so the two are never measured at the same time.
        let (predictions, verified) = judge(self.cascade.judge, (points, rows), settings.seed, &stored)?;
        let cost = Cost { seconds: seconds + verified.seconds, work: spent + verified.work };
        let (rows, claimed) = (rows.to_vec(), attempt.claimed);
        Ok(Findings { run: Some(number), rows, predictions, claimed, images, cost })
    }
}

/// Stops an attack on one batch when the observer asks, or when time is up. A batch that was over before is kept
/// even if it is late.
struct Watch<'a> {
    observer: Stopping<'a>,
    started: Instant,
    /// Seconds that are left for the batch.
    left: Option<f64>,
    late: Cell<bool>,
}

impl<'a> Watch<'a> {
    fn new(observer: &'a dyn Observer, left: Option<f64>) -> Self {
        Self { observer: Stopping::new(observer), started: Instant::now(), left, late: Cell::new(false) }
    }
}

impl Progress for Watch<'_> {
    fn step(&self, step: Step) -> ControlFlow<()> {
        if self.left.is_some_and(|left| self.started.elapsed().as_secs_f64() >= left) {
            self.late.set(true);
            return ControlFlow::Break(());
        }
        self.observer.step(step)
    }
}

/// The clean pass over one batch.
fn classify(
    cascade: &Cascade<'_>,
    points: &Points,
    rows: &[usize],
    seed: u64,
) -> Result<Findings, EvaluateError> {
    let (predictions, cost) = judge(cascade.judge, (points, rows), seed, &select(points.images(), rows))?;
    let claimed = vec![false; rows.len()];
    Ok(Findings { run: None, rows: rows.to_vec(), predictions, claimed, images: Vec::new(), cost })
}

/// Whether the judge is fooled by the images that a journal has kept as those that broke their points. What this takes
/// belongs to no run. Breaks if the observer cancelled.
fn verify(
    cascade: &Cascade<'_>,
    ledger: &Ledger<'_>,
    settings: &Settings,
    journal: &Journal,
    observer: &dyn Observer,
) -> Result<ControlFlow<()>, EvaluateError> {
    let fooled = ledger.fooled();
    if fooled.is_empty() {
        return Ok(ControlFlow::Continue(()));
    }
    observer.stage("verifying what was kept", fooled.len());
    for rows in fooled.chunks(settings.batch_size) {
        if observer.cancelled() {
            return Ok(ControlFlow::Break(()));
        }
        let (classes, _) = judge(cascade.judge, (ledger.points, rows), settings.seed, &ledger.stored(rows))?;
        if observer.failed() {
            return Ok(ControlFlow::Break(()));
        }
        let points = ledger.points;
        let unfooled = |(row, class): (&usize, &Option<usize>)| *class == Some(points.labels()[*row]);
        if let Some(k) = rows.iter().zip(&classes).position(unfooled) {
            return Err(journal.unfooled(points.indices()[rows[k]]).into());
        }
        observer.advance(rows.len(), "still adversarial");
    }
    Ok(ControlFlow::Continue(()))
}

/// The judge's classes of images of the points in these rows, and what they took. A judge that draws random numbers draws the
/// same ones for an example whenever it is asked: a verdict is one draw, which nobody had seen before.
fn judge(
    judge: &dyn Classifier,
    (points, rows): (&Points, &[usize]),
    seed: u64,
    images: &Images,
) -> Result<(Vec<Option<usize>>, Cost), EvaluateError> {
    let started = Instant::now();
    let before: Work = judge.work();
    let indices: Vec<usize> = rows.iter().map(|&row| points.indices()[row]).collect();
    let keys = Key::first(seed, "verdict", &indices);
    let logits = judge.answer(&Question { images, keys: &keys });
    let (examples, classes) = (images.dims()[0], judge.classes());
    if logits.dims() != [examples, classes] {
        return Err(EvaluateError::Logits { returned: logits.dims(), examples, classes });
    }
    let classes = predictions(&logits);
    let cost = Cost { seconds: started.elapsed().as_secs_f64(), work: judge.work() - before };
    Ok((classes, cost))
}

/// The arms in which a point that stands is met.
pub(super) fn stands_in(arm: Arm, broken: &dyn Fn(Arm) -> bool) -> bool {
    match arm {
        Arm::Opening => !broken(Arm::Opening),
        Arm::WhiteBox | Arm::ReadyMade | Arm::Aimed => !broken(Arm::Opening) && !broken(arm),
        // Each side of a yardstick is one run: it meets every point once.
        Arm::YardstickOther | Arm::YardstickTraining => true,
        Arm::GradientFree => !Arm::ALL.into_iter().any(broken),
    }
}
