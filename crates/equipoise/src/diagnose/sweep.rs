//! Accuracy as one setting changes: steps of the solver, its tolerance, ε.
//!
//! A robust accuracy that changes with the solver's budget is a property of that budget. A robust accuracy that
//! does not fall to 0% as ε grows is one of the attack (Carlini et al. 2019). The attack is the ready-made PGD-10,
//! run anew at every setting; it stops at an example's first success.

use equipoise_record::{Share, Sweep, SweepPoint, View};

use super::examination::{Examination, Question, answer};
use super::{Case, DiagnoseError, Measured, pgd};
use crate::attack::{Budget, Classifier, WhiteBox};
use crate::model::equilibrium::Equilibrium;
use crate::solve::SolverConfig;
use crate::victim::{Deployment, Victim};
use crate::work::Work;

pub(super) const QUESTION: Question = Question {
    name: "sweep",
    equilibrium: |asked, model, case| {
        let mut all = radii(asked, case)?;
        let steps = solver_steps(model, asked.deployment(), case)?;
        let tolerance = tolerance(model, asked.deployment(), case)?;
        all.work = all.work + steps.work + tolerance.work;
        (all.result.solver_steps, all.result.tolerance) = (steps.result, tolerance.result);
        answer(Ok(all))
    },
    feedforward: Ok(|asked, case| answer(radii(asked, case))),
};

/// The sweep over ε, which any model admits.
fn radii(asked: &Examination<'_>, case: &Case<'_>) -> Result<Measured<Sweep>, DiagnoseError> {
    let Measured { result, work } = eps(&*asked.victim(asked.training_gradient()), case)?;
    let result = Sweep { solver_steps: Vec::new(), tolerance: Vec::new(), eps: result };
    Ok(Measured { result, work })
}

/// With each of these step budgets T, from the fewest: 1, 2, T/2, T, 2T, 4T of the deployed T.
///
/// # Errors
///
/// If the observer cancels.
pub fn solver_steps(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    case: &Case<'_>,
) -> Result<Measured<Vec<SweepPoint>>, DiagnoseError> {
    let deployed = deployment.solver.steps;
    let mut steps = vec![1, 2, deployed.div_ceil(2), deployed, 2 * deployed, 4 * deployed];
    steps.sort_unstable();
    steps.dedup();
    let settings = steps.into_iter().map(|steps| {
        let solver = SolverConfig { steps, ..deployment.solver.clone() };
        (steps as f64, format!("{steps} solver steps"), solver)
    });
    with_solvers(model, deployment, case, settings)
}

/// With tolerances 0.1, 0.01, 0.001, 0.0001 and the deployed one, from the loosest.
///
/// # Errors
///
/// If the observer cancels.
pub fn tolerance(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    case: &Case<'_>,
) -> Result<Measured<Vec<SweepPoint>>, DiagnoseError> {
    let mut tolerances = vec![1e-1, 1e-2, 1e-3, 1e-4, deployment.solver.tolerance];
    tolerances.sort_by(|a, b| b.total_cmp(a));
    tolerances.dedup();
    let settings = tolerances.into_iter().map(|tolerance| {
        let solver = deployment.solver.clone().with_tolerance(tolerance);
        (tolerance, format!("tolerance {tolerance}"), solver)
    });
    with_solvers(model, deployment, case, settings)
}

fn with_solvers(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    case: &Case<'_>,
    settings: impl Iterator<Item = (f64, String, SolverConfig)>,
) -> Result<Measured<Vec<SweepPoint>>, DiagnoseError> {
    let mut result = Vec::new();
    let mut work = Work::default();
    for (at, stage, solver) in settings {
        let changed = Deployment { solver, ..deployment.clone() };
        let victim = Victim::ready_made(model, &changed);
        let budget = case.settings.budget;
        result.push(measure(at, &format!("sweep, {stage}"), &victim, case, &budget, true)?);
        work = work + victim.work();
    }
    Ok(Measured { result, work })
}

/// At ε/4, ε/2, ε, 2ε, .. until nothing is left or every image is within reach of every other.
///
/// # Errors
///
/// If the observer cancels.
pub fn eps(victim: &dyn WhiteBox, case: &Case<'_>) -> Result<Measured<Vec<SweepPoint>>, DiagnoseError> {
    let before = victim.work();
    let norm = case.settings.budget.norm();
    let [_, channels, height, width] = case.images(View::Clean).dims();
    let farthest = norm.farthest(channels * height * width);
    let mut result: Vec<SweepPoint> = Vec::new();
    let mut eps = case.settings.budget.eps() / 4.0;
    // At ε = 0 there is nothing to double.
    while eps > 0.0 {
        let within = eps.min(farthest);
        let budget = Budget::new(norm, within).expect("positive and at most the farthest distance");
        let point = measure(within, &format!("sweep, eps {within:.4}"), victim, case, &budget, false)?;
        let left = point.robust.correct;
        result.push(point);
        if left == 0 || eps >= farthest {
            break;
        }
        eps *= 2.0;
    }
    Ok(Measured { result, work: victim.work() - before })
}

/// One point of a sweep. Only what is classified correctly when clean is attacked.
fn measure(
    at: f64,
    stage: &str,
    victim: &dyn WhiteBox,
    case: &Case<'_>,
    budget: &Budget,
    transfer: bool,
) -> Result<SweepPoint, DiagnoseError> {
    let attack = pgd(true);
    let (mut clean, mut robust, mut transferred) = (Vec::new(), Vec::new(), Vec::new());
    case.each(stage, View::Clean, |rows, batch| {
        let right = batch.correct(&victim.logits(batch.images()));
        let attacked = case.batch(View::Attacked, rows);
        if transfer {
            let there = attacked.correct(&victim.logits(attacked.images()));
            transferred.extend(right.iter().zip(there).map(|(clean, attacked)| *clean && attacked));
        }
        let standing: Vec<usize> = (0..rows.len()).filter(|&k| right[k]).collect();
        let mut survives = vec![false; rows.len()];
        if !standing.is_empty() {
            let targets = batch.select(&standing);
            let found = case.attack(&attack, victim, &targets, budget)?;
            for (k, holds) in standing.into_iter().zip(targets.correct(&victim.logits(&found))) {
                survives[k] = holds;
            }
        }
        clean.extend(right);
        robust.extend(survives);
        Ok(())
    })?;
    Ok(SweepPoint {
        at,
        clean: Share::of(clean),
        robust: Share::of(robust),
        transferred: transfer.then(|| Share::of(transferred)),
    })
}
