//! One gradient against one, behind several readouts: how much of a gap is obfuscation, and how much is aim.
//!
//! All points that are correct when clean are attacked by PGD-10 from four starts through the training gradient, through
//! the training method pointed at the readout (where that is another), and through another gradient, the same starts on
//! every side. The other is `through-solver`, the true gradient of what is deployed. Each success is verified by the
//! deployed model. What the true gradient breaks beyond the training gradient splits into *aim*, which the aimed one
//! breaks too, and *gradient*.

use equipoise_record::{Paired, YardstickRow, Yardsticks};
use equipoise_verdict::paired;

use super::examination::{Question, answer};
use super::{Case, DiagnoseError, Measured};
use crate::attack::{Attack, Classifier, Pgd, PgdConfig, WhiteBox};
use crate::evaluate::Stopping;
use crate::gradient::Estimator;
use crate::model::equilibrium::Equilibrium;
use crate::readout::Readout;
use crate::victim::{Deployment, Victim};
use crate::work::Work;

pub(super) const QUESTION: Question = Question {
    name: "yardstick",
    equilibrium: |asked, model, case| answer(yardstick(model, asked.deployment(), case)),
    feedforward: Err("other gradient than its own"),
};

/// Starts on each side.
const STARTS: usize = 4;

/// Compares behind `final` and behind three early states, T/4, 3T/8 and 5T/8, and behind the deployed readout.
///
/// The solver must be one that can be run backwards, which `through-solver` does: ask
/// [`GradientEstimator::check`](crate::gradient::GradientEstimator::check) before.
///
/// # Errors
///
/// If the observer cancels.
pub fn yardstick(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    case: &Case<'_>,
) -> Result<Measured<Yardsticks>, DiagnoseError> {
    let steps = deployment.solver.steps;
    let mut readouts = vec![deployment.readout.clone(), Readout::final_state()];
    readouts.extend([2, 3, 5].map(|eighths| Readout::early((steps * eighths).div_ceil(8))));
    let mut seen = Vec::new();
    readouts.retain(|readout| {
        !seen.contains(readout) && {
            seen.push(readout.clone());
            true
        }
    });
    let config = PgdConfig { restarts: STARTS, ..PgdConfig::default() };
    let attack = Pgd::new(config).expect("the default has steps");
    let mut work = Work::default();
    let mut rows = Vec::new();
    for readout in readouts {
        let training = deployment.training_gradient.clone();
        let aimed = training.aimed_at(&readout, &deployment.tail);
        let mut sides = vec![training, Estimator::truth(&readout)];
        sides.extend(aimed.clone());
        let victims: Vec<Victim<'_>> =
            sides.iter().map(|side| Victim::new(model, deployment, readout.clone(), side.clone())).collect();
        let (correct, broken) = compare(&attack, &victims, case, &readout)?;
        work = victims.iter().fold(work, |work, victim| work + victim.work());
        let count = |side: usize| broken[side].iter().filter(|&&broken| broken).count();
        let against =
            |first: usize, second: usize| duel(case.len(), &correct, &broken[first], &broken[second]);
        rows.push(YardstickRow {
            readout: readout.to_string(),
            correct: correct.iter().filter(|&&correct| correct).count(),
            training: sides[0].to_string(),
            training_broken: count(0),
            other: sides[1].to_string(),
            other_broken: count(1),
            aimed: aimed.map(|aimed| aimed.to_string()),
            aimed_broken: (sides.len() > 2).then(|| count(2)),
            total: against(1, 0),
            aim: (sides.len() > 2).then(|| against(2, 0)),
            gradient: if sides.len() > 2 { against(1, 2) } else { against(1, 0) },
        });
    }
    Ok(Measured { result: Yardsticks { attack: attack.name(), rows }, work })
}

/// For each point whether it is correct when clean, and for each side whether that broke it.
fn compare(
    attack: &Pgd,
    sides: &[Victim<'_>],
    case: &Case<'_>,
    readout: &Readout,
) -> Result<(Vec<bool>, Vec<Vec<bool>>), DiagnoseError> {
    let points = case.points;
    let mut correct = vec![false; points.len()];
    let mut broken = vec![vec![false; points.len()]; sides.len()];
    case.each(&format!("yardstick, {readout}"), equipoise_record::View::Clean, |rows, batch| {
        let clean = batch.correct(&sides[0].logits(batch.images()));
        let places: Vec<usize> = (0..rows.len()).filter(|&place| clean[place]).collect();
        places.iter().for_each(|&place| correct[rows[place]] = true);
        if places.is_empty() {
            return Ok(());
        }
        let standing = batch.select(&places);
        for (victim, broken) in sides.iter().zip(&mut broken) {
            let examples = standing.examples(case.settings.seed, 1);
            let progress = Stopping::new(case.observer);
            let found = attack.run_with(victim as &dyn WhiteBox, &examples, &case.settings.budget, &progress);
            if progress.stopped() {
                return Err(DiagnoseError::Cancelled);
            }
            for (&place, right) in places.iter().zip(standing.correct(&sides[0].logits(&found.images))) {
                broken[rows[place]] = !right;
            }
        }
        Ok(())
    })?;
    Ok((correct, broken))
}

/// The paired comparison of two sides on `n` points, of which those that are not correct when clean fell on both.
fn duel(n: usize, correct: &[bool], first: &[bool], second: &[bool]) -> Paired {
    let count = |of: &dyn Fn(usize) -> bool| (0..n).filter(|&row| correct[row] && of(row)).count();
    let standing = count(&|row| !first[row] && !second[row]);
    paired(n, standing, count(&|row| first[row] && !second[row]), count(&|row| second[row] && !first[row]))
}
