//! What an assessment is going to do, how long it takes at most, and what it can show.

use std::time::Instant;

use equipoise_record::{NotTried, Verdict};
use equipoise_verdict::power;

use super::{AssessError, Assessment};
use crate::batch::{select, to_vec};
use crate::evaluate::Points;
use crate::plan::{Plan, Planned, PlannedTransfer, Subject};
use crate::readout::Readout;

/// What is going to be done behind one readout.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The readout.
    pub readout: Readout,
    /// The middle t, where it stands for one that is still to be chosen.
    pub chosen_later: Option<usize>,
    /// What is going to be run, a line for each attack with its gradients.
    pub lines: Vec<String>,
    /// Seconds that all radii take if every image withstands everything: images that fall early cost a small part of that.
    pub most_seconds: f64,
    /// For some gaps, as fractions, the chance that the arms' test sees them; empty without a control.
    pub power: Vec<(f64, f64)>,
}

impl Assessment<'_> {
    /// What is going to be run behind every readout. Measures for a moment how fast the model is.
    ///
    /// # Errors
    ///
    /// [`AssessError`] if the images do not fit together.
    pub fn describe(&self) -> Result<Vec<Description>, AssessError> {
        let points = self.points()?;
        let foreseen = self.foreseen();
        foreseen
            .into_iter()
            .zip(&self.readouts)
            .map(|(readout, choice)| {
                let attacked = self.randomness.attacked(self.network);
                let subject = self.subject(readout.clone(), &attacked);
                let plan = self.plan(&subject);
                let compares = !plan.pairs.is_empty() && !plan.opening.is_empty() && self.control;
                let chance = |gap: f64| (gap, power(points.len(), gap, 0.002, Verdict::LEVEL));
                Ok(Description {
                    readout,
                    chosen_later: matches!(choice, super::ReadoutChoice::Early(_)).then(|| self.middle()),
                    lines: listing(&plan),
                    most_seconds: self.budgets.len() as f64 * withstanding_seconds(&subject, &plan, &points),
                    power: if compares { [0.02, 0.04, 0.08].map(chance).to_vec() } else { Vec::new() },
                })
            })
            .collect()
    }

    /// The most seconds that each part takes, radius by radius and readout by readout: as long as every image withstands
    /// everything, or the part's share of the time limit.
    ///
    /// # Errors
    ///
    /// As for [`Self::describe`].
    pub fn most_seconds(&self) -> Result<Vec<f64>, AssessError> {
        let radii = self.budgets.len();
        let most = |seconds: f64| self.time_limit.map_or(seconds, |limit| seconds.min(limit / radii as f64));
        let descriptions = self.describe()?;
        let each = descriptions.into_iter().map(|description| most(description.most_seconds / radii as f64));
        Ok(each.flat_map(|seconds| std::iter::repeat_n(seconds, radii)).collect())
    }

    /// Says what is going to be run.
    pub(super) fn announce(&self, label: &str, plan: &Plan) {
        let pairs = plan.pairs.len();
        let twins =
            if plan.pairs.iter().all(|pair| pair.twin) { ", each with its twin" } else { ", without twins" };
        let twins = if pairs == 0 { "" } else { twins };
        let time =
            self.time_limit.map_or(String::new(), |seconds| format!(", for at most {seconds:.0} seconds"));
        tracing::info!(
            "{label}: {} ready-made, {pairs} through other gradients{twins}, {} without gradients{time}",
            plan.opening.len(),
            plan.gradient_free.len()
        );
        listing(plan).iter().for_each(|line| tracing::info!("{label}: {line}"));
    }
}

/// What is going to be run, a line for each attack with its gradients.
fn listing(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let names =
        |tries: &[Planned]| tries.iter().map(|planned| planned.attack.name()).collect::<Vec<_>>().join(", ");
    if !plan.opening.is_empty() {
        lines.push(format!("opening, through the training gradient: {}", names(&plan.opening)));
    }
    for group in plan.pairs.chunk_by(|a, b| (&a.white_box.attack, a.twin) == (&b.white_box.attack, b.twin)) {
        let through: Vec<String> = group
            .iter()
            .filter_map(|pair| pair.white_box.estimator.as_ref())
            .map(ToString::to_string)
            .collect();
        let twin = if group[0].twin { ", each with its twin through the training gradient" } else { "" };
        let aimed = group[0].aimed.as_ref().map_or(String::new(), |aimed| format!(" and through {aimed}"));
        lines.push(format!(
            "{} through {}{twin}{aimed}",
            group[0].white_box.attack.name(),
            through.join("; ")
        ));
    }
    for duel in &plan.yardsticks {
        lines.push(format!(
            "yardstick: {} through {} against {}",
            duel.attack.name(),
            duel.other,
            duel.training
        ));
    }
    if !plan.gradient_free.is_empty() {
        lines.push(format!("without gradients, on what withstands: {}", names(&plan.gradient_free)));
    }
    for PlannedTransfer { attack, sibling, .. } in &plan.transferred {
        let from = sibling.as_ref().map_or(String::new(), |readout| format!(" against {readout}"));
        lines.push(format!("transferred, on what withstands: {}{from}", attack.name()));
    }
    for NotTried { attack, estimator, reason } in &plan.left_out {
        lines.push(format!("not {attack} through {estimator}: {reason}"));
    }
    lines
}

/// Seconds of a unit of work for one image, measured on a few.
fn pace(subject: &Subject<'_>, points: &Points) -> f64 {
    let rows: Vec<usize> = (0..points.len().min(32)).collect();
    let images = select(points.images(), &rows);
    let training = subject.deployment.training_gradient.clone();
    let victim = subject.model.victim(subject.deployment, subject.readout.clone(), training);
    // The first call fills caches.
    victim.logits(&images);
    let started = Instant::now();
    let calls = 3;
    (0..calls).for_each(|_| drop(to_vec(victim.logits(&images))));
    started.elapsed().as_secs_f64() / (calls * rows.len().max(1)) as f64 / subject.work(None)
}

/// Seconds that a plan takes at one radius if every image withstands everything.
fn withstanding_seconds(subject: &Subject<'_>, plan: &Plan, points: &Points) -> f64 {
    let training = subject.deployment.training_gradient.clone();
    let judge = subject.model.victim(subject.deployment, subject.readout.clone(), training);
    let victims = plan.victims(subject);
    let work = plan.cascade(subject, judge.as_ref(), &victims).work();
    work * points.len() as f64 * pace(subject, points)
}
