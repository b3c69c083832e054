//! The cascade: attacks in order, each on the survivors of those before it, each success verified.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Instant;

use super::error::EvaluateError;
use super::journal::{Fingerprint, Journal};
use super::ledger::{Cost, Findings, Ledger, Outcome};
use super::observer::{Observer, Stopping};
use super::points::Points;
use super::time_limit::{BATCH, TimeLimit};
use crate::attack::{Attack, Beat, Budget, Classifier, Pulse, Targets, WhiteBox};
use crate::batch::{Images, from_vec, predictions, select, to_vec};
use crate::work::Work;

/// One attack through one gradient estimator.
pub struct Entry<'a> {
    /// The attack.
    pub attack: Box<dyn Attack>,
    /// The gradient estimator behind `victim`, as it should stand in the record; `none` for a black-box attack.
    pub estimator: String,
    /// Whether the estimator is the model's own training gradient on its final state.
    pub ready_made: bool,
    /// What the attack sees: the deployed readout's logits with the estimator's gradients.
    pub victim: &'a dyn WhiteBox,
}

impl Entry<'_> {
    /// `attack/estimator`.
    pub(super) fn label(&self) -> String {
        format!("{}/{}", self.attack.name(), self.estimator)
    }
}

/// Attacks on one readout.
pub struct Cascade<'a> {
    /// The readout's name in the record.
    pub readout: String,
    /// The deployed model: its forward pass decides what is broken.
    pub judge: &'a dyn Classifier,
    /// The attacks, the ready-made ones first.
    pub entries: Vec<Entry<'a>>,
}

/// How to evaluate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The budget of the perturbations.
    pub budget: Budget,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Most examples in a batch. Changes speed and memory, not results.
    pub batch_size: usize,
}

/// Evaluates the points.
///
/// With a journal, every batch is kept as soon as it is done, and what the journal holds already is not done
/// again. When the observer cancels, before a batch or within, the outcome says so and the journal can be
/// resumed: a batch that was cut short is done again, so that the result is the same to the bit.
///
/// Seconds and work of an attack include the verification of its images.
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
    run_within(cascade, points, settings, None, observer, journal)
}

/// [`run`], with the attacks in the order of a [`TimeLimit`] and no longer than it allows.
///
/// # Errors
///
/// As for [`run`].
pub fn run_within(
    cascade: &Cascade<'_>,
    points: &Points,
    settings: &Settings,
    limit: Option<&TimeLimit>,
    observer: &dyn Observer,
    mut journal: Option<&mut Journal>,
) -> Result<Outcome, EvaluateError> {
    check(cascade, points, settings)?;
    let seconds = limit.map(|limit| limit.seconds);
    let mut ledger = Ledger::new(points);
    if limit.is_none() {
        (0..cascade.entries.len()).for_each(|entry| ledger.begin(entry));
    }
    if let Some(journal) = journal.as_deref_mut() {
        let fingerprint = Fingerprint::new(cascade, points, settings, seconds);
        journal.replay(&fingerprint, cascade.entries.len(), &mut ledger)?;
    }
    let batch_size = if limit.is_some() { settings.batch_size.min(BATCH) } else { settings.batch_size };
    for stage in 0.. {
        if stage > ledger.order().len() {
            let Some(entry) = limit.and_then(|limit| limit.next(cascade, &ledger)) else { break };
            ledger.begin(entry);
            if let Some(journal) = journal.as_deref_mut() {
                journal.keep_order(&ledger)?;
            }
        }
        let entry = stage.checked_sub(1).map(|before| ledger.order()[before]);
        let until = limit.zip(entry).map(|(limit, entry)| limit.until(cascade, entry));
        let pending = ledger.pending(stage);
        let label = entry.map_or("clean".to_owned(), |entry| cascade.entries[entry].label());
        observer.stage(&label, ledger.attempted(stage) + pending.len());
        if ledger.attempted(stage) > 0 {
            observer.advance(ledger.attempted(stage), &ledger.note(stage));
        }
        for rows in pending.chunks(batch_size) {
            if observer.cancelled() {
                return Ok(ledger.outcome(cascade, seconds, false));
            }
            let findings = match entry {
                None => classify(cascade, points, rows)?,
                Some(entry) => {
                    let left = until.map(|until| until - ledger.seconds());
                    let watch = Watch::new(observer, left);
                    let batch = Batch { stage, entry: &cascade.entries[entry], rows };
                    let mut findings = attack(cascade, &batch, points, settings, &watch)?;
                    if watch.late.get() {
                        findings.keep_broken(points.labels());
                    }
                    if watch.observer.stopped() {
                        return Ok(ledger.outcome(cascade, seconds, false));
                    }
                    if watch.late.get() {
                        // What it broke before is broken; the other points of the batch count as not met.
                        let found = !findings.rows.is_empty();
                        if found {
                            if let Some(journal) = journal.as_deref_mut() {
                                journal.append(&findings, points.images().dims())?;
                            }
                            ledger.enter(&findings);
                            observer.advance(findings.rows.len(), &ledger.note(stage));
                        }
                        let lost = if found { 0.0 } else { watch.started.elapsed().as_secs_f64() };
                        ledger.cut(stage, lost);
                        if let Some(journal) = journal.as_deref_mut() {
                            journal.keep_order(&ledger)?;
                        }
                        break;
                    }
                    findings
                }
            };
            if let Some(journal) = journal.as_deref_mut() {
                journal.append(&findings, points.images().dims())?;
            }
            ledger.enter(&findings);
            observer.advance(rows.len(), &ledger.note(stage));
        }
    }
    Ok(ledger.outcome(cascade, seconds, true))
}

/// Stops an attack on one batch when the observer asks, or when time is up. A batch that was over before is kept
/// even if it is late; of one that was stopped because it was late, the points that it broke are kept.
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

impl Pulse for Watch<'_> {
    fn beat(&self, beat: Beat) -> ControlFlow<()> {
        if self.left.is_some_and(|left| self.started.elapsed().as_secs_f64() >= left) {
            self.late.set(true);
            return ControlFlow::Break(());
        }
        self.observer.beat(beat)
    }
}

/// Some points under one attack.
struct Batch<'a> {
    stage: usize,
    entry: &'a Entry<'a>,
    rows: &'a [usize],
}

/// What can be known to be wrong before anything is run.
fn check(cascade: &Cascade<'_>, points: &Points, settings: &Settings) -> Result<(), EvaluateError> {
    if settings.batch_size == 0 {
        return Err(EvaluateError::BatchSize);
    }
    let classes = cascade.judge.classes();
    if let Some(row) = points.labels().iter().position(|&label| label >= classes) {
        return Err(EvaluateError::Label {
            index: points.indices()[row],
            label: points.labels()[row],
            classes,
        });
    }
    for entry in &cascade.entries {
        entry.attack.check(classes)?;
        entry.attack.check_norm(settings.budget.norm())?;
    }
    match cascade.entries.windows(2).find(|pair| !pair[0].ready_made && pair[1].ready_made) {
        Some(pair) => {
            Err(EvaluateError::ReadyMadeOrder { ready_made: pair[1].label(), before: pair[0].label() })
        }
        None => Ok(()),
    }
}

/// The clean pass over one batch.
fn classify(cascade: &Cascade<'_>, points: &Points, rows: &[usize]) -> Result<Findings, EvaluateError> {
    let (predictions, cost) = judge(cascade.judge, &select(points.images(), rows))?;
    let claimed = vec![false; rows.len()];
    Ok(Findings { stage: 0, rows: rows.to_vec(), predictions, claimed, images: Vec::new(), cost })
}

/// One attack on one batch, verified.
fn attack(
    cascade: &Cascade<'_>,
    batch: &Batch<'_>,
    points: &Points,
    settings: &Settings,
    pulse: &dyn Pulse,
) -> Result<Findings, EvaluateError> {
    let Batch { stage, entry, rows } = *batch;
    let clean = select(points.images(), rows);
    let labels: Vec<usize> = rows.iter().map(|&row| points.labels()[row]).collect();
    let indices: Vec<usize> = rows.iter().map(|&row| points.indices()[row]).collect();
    let targets = Targets { images: &clean, labels: &labels, indices: &indices, seed: settings.seed };

    let started = Instant::now();
    let before = entry.victim.work();
    let attempt = entry.attack.attempt_with(entry.victim, &targets, &settings.budget, pulse);
    let (given, returned) = (clean.dims(), attempt.images.dims());
    if given != returned || attempt.claimed.len() != rows.len() {
        let claims = attempt.claimed.len();
        return Err(EvaluateError::Shape { attack: entry.label(), given, returned, claims });
    }
    // Through the host and back: what is judged is what is stored, with no graph or lazy operation attached.
    let images = to_vec(attempt.images);
    let spent = entry.victim.work() - before;
    let seconds = started.elapsed().as_secs_f64();

    let stored = from_vec(images.clone(), given, &clean.device());
    let distances = settings.budget.distances(&clean, &stored);
    let limit = settings.budget.eps() + settings.budget.slack(given);
    if let Some(k) = distances.iter().position(|&distance| distance > limit) {
        return Err(EvaluateError::OutsideBudget {
            attack: entry.label(),
            index: indices[k],
            distance: distances[k],
            budget: settings.budget,
        });
    }
    // Victim and judge may share a work counter, so the two are never measured at the same time.
    let (predictions, verified) = judge(cascade.judge, &stored)?;
    let cost = Cost { seconds: seconds + verified.seconds, work: spent + verified.work };
    Ok(Findings { stage, rows: rows.to_vec(), predictions, claimed: attempt.claimed, images, cost })
}

/// The judge's classes, and what they took.
fn judge(judge: &dyn Classifier, images: &Images) -> Result<(Vec<Option<usize>>, Cost), EvaluateError> {
    let started = Instant::now();
    let before: Work = judge.work();
    let logits = judge.logits(images);
    let (examples, classes) = (images.dims()[0], judge.classes());
    if logits.dims() != [examples, classes] {
        return Err(EvaluateError::Logits { returned: logits.dims(), examples, classes });
    }
    let classes = predictions(&logits);
    let cost = Cost { seconds: started.elapsed().as_secs_f64(), work: judge.work() - before };
    Ok((classes, cost))
}
