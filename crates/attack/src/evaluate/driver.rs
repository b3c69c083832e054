//! Runs a cascade: stage after stage, batch after batch, every success verified, everything kept in a journal.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Instant;

use super::cascade::{Cascade, Phase, Run, Settings, Stage, check};
use super::error::{EvaluateError, JournalError};
use super::forecast::{Forecast, forecast};
use super::journal::{Fingerprint, Journal};
use super::ledger::{Cost, Event, Findings, Ledger, Outcome, Turn};
use super::observer::{Observer, Stopping};
use super::order::{Order, TimeLimit};
use super::points::Points;
use crate::attack::{Classifier, Progress, Question, Step};
use crate::batch::{Images, from_vec, predictions, to_vec};
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
    /// Evaluations of parts of these points, which need not be done again.
    pub shards: &'a [Shard],
}

/// The same evaluation of some of the points, on this machine or another.
#[derive(Debug)]
pub struct Shard {
    /// Which points: their places among all.
    pub rows: Vec<usize>,
    /// What was found.
    pub journal: Journal,
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
/// breaks its contract, or if a journal belongs to another run or cannot be read or written.
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
/// What shards found is taken over, and what they have not done is done here, so that the result is that of one run on all
/// points. Their adversarial images are judged once more; the observer is told of those that do not fool the judge here, which
/// count as their shard found them.
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
    let Conditions { limit, smaller, mut journal, shards } = conditions;
    check(cascade, points, settings)?;
    if !shards.is_empty() && (limit.is_some() || cascade.yardsticks.len() > 1) {
        return Err(EvaluateError::Sharded);
    }
    if let Some(smaller) = smaller {
        let matching =
            smaller.runs == Outcome::names(cascade) && smaller.adversarial.dims() == points.images().dims();
        if !matching || !smaller.complete {
            return Err(EvaluateError::Smaller);
        }
    }
    let order = Order::new(cascade, limit);
    let mut ledger = Ledger::new(cascade, points, smaller);
    let fallen = smaller.map(|smaller| smaller.breaks.as_slice());
    if let Some(journal) = journal.as_deref_mut() {
        let fingerprint = Fingerprint::new(cascade, points, settings, limit, fallen);
        journal.replay(&fingerprint, &settings.budget, &mut ledger)?;
    }
    let batch_size =
        if limit.is_some() { settings.batch_size.min(LIMITED_BATCH) } else { settings.batch_size };
    let work = cascade.runs().iter().map(|(_, run)| run.work).collect();
    let mut driver = Driver { cascade, points, settings, observer, limit, journal, ledger, work };
    for shard in shards {
        driver.take_over(shard, fallen)?;
    }
    if driver.verify(shards)?.is_break() {
        return Ok(driver.ledger.outcome(cascade, limit, false));
    }
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
        driver.keep(&Event::Found(findings))?;
        driver.say_clean(rows.len());
    }
    // A resumed run first ends the stage that it was in.
    let mut replayed = driver.ledger.begun().to_vec().into_iter();
    loop {
        let stage = match replayed.next() {
            Some(stage) => stage,
            None => {
                let Some(stage) = order.next(&driver.ledger) else { break };
                driver.keep(&Event::Turn(Turn::Begins(stage)))?;
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
                let findings = self.attack(run, &rows, &watch)?;
                if watch.observer.stopped() || self.observer.failed() {
                    return Ok(ControlFlow::Break(()));
                }
                if watch.late.get() {
                    // What a run of its own broke before is broken; half a pair would favour one arm.
                    let alone =
                        matches!(stage.phase, Phase::Opening | Phase::GradientFree | Phase::Transferred);
                    let findings = findings.broken(self.points.labels());
                    let found = findings.rows.len();
                    let kept = alone && found > 0;
                    if kept {
                        self.keep(&Event::Found(findings))?;
                        self.say(found, stage);
                    }
                    let seconds = if kept { 0.0 } else { watch.started.elapsed().as_secs_f64() };
                    self.keep(&Event::Turn(Turn::Cut { seconds }))?;
                    return Ok(ControlFlow::Continue(()));
                }
                let found = Event::Found(findings);
                if self.limit.is_none() {
                    self.keep(&found)?;
                } else {
                    held.push(found);
                }
            }
            for found in &held {
                self.keep(found)?;
            }
            self.say(left_over, stage);
            self.forecast();
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Enters an event, and keeps it in the journal first.
    fn keep(&mut self, event: &Event) -> Result<(), EvaluateError> {
        if let Some(journal) = self.journal.as_deref_mut() {
            journal.append(event, self.points.images().dims())?;
        }
        self.ledger.enter(event);
        Ok(())
    }

    /// Takes over what a shard found, but for what is known already.
    fn take_over(&mut self, shard: &Shard, fallen: Option<&[Vec<usize>]>) -> Result<(), EvaluateError> {
        let Shard { rows, journal } = shard;
        let part = self.points.select(rows);
        let fallen = fallen.map(|fallen| rows.iter().map(|&row| fallen[row].clone()).collect::<Vec<_>>());
        let fingerprint = Fingerprint::new(self.cascade, &part, self.settings, None, fallen.as_deref());
        for (path, findings) in journal.findings(&fingerprint)? {
            let taken = self
                .ledger
                .of_all(findings, rows)
                .ok_or("it is of more images than its shard has".to_owned());
            let taken = taken.map(|findings| self.ledger.unknown(findings)).and_then(|findings| {
                let event = Event::Found(findings);
                self.ledger.check(&event, &self.settings.budget).map(|()| event)
            });
            match taken {
                Ok(Event::Found(findings)) if findings.rows.is_empty() => {}
                Ok(event) => self.keep(&event)?,
                Err(problem) => return Err(JournalError::Corrupt { path, problem }.into()),
            }
        }
        Ok(())
    }

    /// Whether the judge is fooled by the images that journals have kept as those that broke their points. What this takes
    /// belongs to no run. Breaks if the observer cancelled.
    fn verify(&self, shards: &[Shard]) -> Result<ControlFlow<()>, EvaluateError> {
        let fooled = self.ledger.fooled();
        if fooled.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        self.observer.stage("verifying what was kept", fooled.len());
        let mut disputed = Vec::new();
        for rows in fooled.chunks(self.settings.batch_size) {
            if self.observer.cancelled() {
                return Ok(ControlFlow::Break(()));
            }
            let batch = self.points.select(rows);
            let (classes, _) = judge(self.cascade, &batch, self.settings.seed, &self.ledger.stored(rows))?;
            if self.observer.failed() {
                return Ok(ControlFlow::Break(()));
            }
            let unfooled = (0..rows.len()).filter(|&k| classes[k] == Some(batch.labels()[k]));
            let unfooled: Vec<usize> = unfooled.map(|k| batch.indices()[k]).collect();
            // What this machine found it finds again; of another one, the last digit of a logit may differ.
            if let (Some(&first), true, Some(journal)) = (unfooled.first(), shards.is_empty(), &self.journal)
            {
                return Err(journal.unfooled(first).into());
            }
            disputed.extend(unfooled);
            self.observer.advance(rows.len(), "still adversarial");
        }
        if !disputed.is_empty() {
            self.observer.disputed(&disputed);
        }
        Ok(ControlFlow::Continue(()))
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
        let (batch, settings) = (self.points.select(rows), self.settings);
        let clean = batch.images();
        let Run { start, victim, .. } = *run;

        let started = Instant::now();
        let before = victim.work();
        let examples = batch.examples(settings.seed, start);
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
        let distances = settings.budget.distances(clean, &stored);
        let limit = settings.budget.eps() + settings.budget.slack(given);
        if let Some(k) = distances.iter().position(|&distance| distance > limit) {
            return Err(EvaluateError::OutsideBudget {
                attack: run.label(),
                index: batch.indices()[k],
                distance: distances[k],
                budget: settings.budget,
            });
        }
        // Victim and judge may share a work counter, so the two are never measured at the same time.
        let (predictions, verified) = judge(self.cascade, &batch, settings.seed, &stored)?;
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
    let batch = points.select(rows);
    let (predictions, cost) = judge(cascade, &batch, seed, batch.images())?;
    let claimed = vec![false; rows.len()];
    Ok(Findings { run: None, rows: rows.to_vec(), predictions, claimed, images: Vec::new(), cost })
}

/// The judge's classes of images of some points, and what they took. A judge that draws random numbers draws the
/// same ones for an example whenever it is asked: a verdict is of draws that nobody had seen before.
fn judge(
    cascade: &Cascade<'_>,
    batch: &Points,
    seed: u64,
    images: &Images,
) -> Result<(Vec<Option<usize>>, Cost), EvaluateError> {
    let judge = cascade.judge;
    let started = Instant::now();
    let before: Work = judge.work();
    let classes = judged(judge, batch, images, seed, cascade.draws);
    let classes = classes.map_err(|returned| EvaluateError::Logits {
        returned,
        examples: images.dims()[0],
        classes: judge.classes(),
    })?;
    let cost = Cost { seconds: started.elapsed().as_secs_f64(), work: judge.work() - before };
    Ok((classes, cost))
}

/// What a judge makes of images of some points, asked so many times: of each the first class that is wrong, or the true one.
///
/// # Errors
///
/// The shape of logits that is not `[N, K]`.
pub(crate) fn judged(
    judge: &dyn Classifier,
    batch: &Points,
    images: &Images,
    seed: u64,
    draws: usize,
) -> Result<Vec<Option<usize>>, [usize; 2]> {
    let keys = batch.keys(seed, Key::VERDICT);
    let mut classes: Vec<Option<usize>> = batch.labels().iter().copied().map(Some).collect();
    for draw in 0..draws {
        let keys: Vec<Key> = keys.iter().map(|key| Key { draw, ..*key }).collect();
        let logits = judge.answer(&Question { images, keys: &keys });
        if logits.dims() != [images.dims()[0], judge.classes()] {
            return Err(logits.dims());
        }
        for ((class, answer), &label) in classes.iter_mut().zip(predictions(&logits)).zip(batch.labels()) {
            if *class == Some(label) {
                *class = answer;
            }
        }
    }
    Ok(classes)
}
