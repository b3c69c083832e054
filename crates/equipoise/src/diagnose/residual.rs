//! Relative residuals along the trajectory: whether the solver converges, how fast, and whether an attack keeps
//! it from converging (the paper's figure 2).
//!
//! The solver is the deployed one with more steps and no tolerance, so that the curve goes on where the deployed
//! solver would have stopped; up to there both take the same steps.

use equipoise_record::{Residual, ResidualView, Share, Spread, View};

use super::examination::{Question, answer};
use super::{Case, DiagnoseError, Measured, VIEWS};
use crate::attack::Classifier;
use crate::gradient::Estimator;
use crate::model::equilibrium::Equilibrium;
use crate::readout::Readout;
use crate::solve::SolverConfig;
use crate::victim::{Deployment, Victim};

pub(super) const QUESTION: Question = Question {
    name: "residual",
    equilibrium: |asked, model, case| answer(residual(model, asked.deployment(), case, asked.horizon)),
    feedforward: Err("fixed-point solver"),
};

/// Solves for `horizon` steps from every image, clean and attacked. Costs `horizon` + 1 evaluations for each,
/// fewer only for one whose solve diverges or stalls.
///
/// # Errors
///
/// If the observer cancels.
pub fn residual(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    case: &Case<'_>,
    horizon: usize,
) -> Result<Measured<Residual>, DiagnoseError> {
    let tolerance = deployment.solver.tolerance;
    let solver = SolverConfig { steps: horizon, tolerance: 0.0, ..deployment.solver.clone() };
    let patient = Deployment { solver, ..deployment.clone() };
    let victim = Victim::new(model, &patient, Readout::final_state(), Estimator::exact());
    let mut views = Vec::new();
    for view in VIEWS {
        let mut residuals = Vec::with_capacity(case.len());
        case.each(&format!("residual, {}", view.name()), view, |_, batch| {
            let trajectory = victim.forward(batch.images(), horizon).trajectory;
            residuals.extend_from_slice(trajectory.relative_residuals());
            Ok(())
        })?;
        views.push(summarise(view, &residuals, horizon, tolerance));
    }
    Ok(Measured { result: Residual { tolerance, horizon, views }, work: victim.work() })
}

/// Of relative residuals by example, then by t − 1.
fn summarise(view: View, residuals: &[Vec<f64>], horizon: usize, tolerance: f64) -> ResidualView {
    let first: Vec<Option<usize>> = residuals
        .iter()
        .map(|series| series.iter().position(|&residual| residual < tolerance).map(|at| at + 1))
        .collect();
    let by = |t: usize| first.iter().map(move |first| first.is_some_and(|first| first <= t));
    ResidualView {
        view,
        by_iterate: (0..horizon).map(|at| Spread::of(residuals.iter().map(|series| series[at]))).collect(),
        reached: (1..=horizon).map(|t| Share::of(by(t))).collect(),
        steps: Spread::of(first.iter().flatten().map(|&first| first as f64)),
        never: Share::of(first.iter().map(Option::is_none)),
    }
}
