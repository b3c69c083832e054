//! How much longer the solver can be made to work: an attack on the residual, whatever the class.
//!
//! A model that solves until it has converged answers late where an attacker raises the residual. Square needs no gradient of it: it
//! is told the logarithm of the relative residual at z_T as a loss, and keeps what raises it.

use equipoise_record::{Share, Spread, View, Workload, WorkloadSide};

use super::examination::{Question, answer};
use super::{Case, DiagnoseError, Measured};
use crate::attack;
use crate::attack::{Attack, Classifier, Square, SquareConfig, ValueAndGradient, WhiteBox};
use crate::batch::{Images, Logits, from_vec};
use crate::evaluate::Stopping;
use crate::gradient::Estimator;
use crate::loss::Objective;
use crate::model::equilibrium::Equilibrium;
use crate::readout::Readout;
use crate::solve::SolverConfig;
use crate::victim::{Deployment, Victim};
use crate::work::Work;

pub(super) const QUESTION: Question = Question {
    name: "work",
    equilibrium: |asked, model, case| answer(work(model, asked.deployment(), case, asked.horizon)),
    feedforward: Err("fixed-point solver"),
};

/// Queries of Square for each image.
const QUERIES: usize = 300;

/// The solver as a classifier of two classes whose margin is log r_T, r_T the relative residual at z_T, less a number that no
/// residual reaches: a search for misclassified images never ends, and keeps the image of the highest margin.
struct Residuals<'a> {
    victim: Victim<'a>,
    steps: usize,
}

/// Beyond the logarithm of any residual in float32.
const OUT_OF_REACH: f64 = 200.0;

impl Residuals<'_> {
    /// Relative residuals at z_T.
    fn of(&self, images: &Images) -> Vec<f64> {
        let trajectory = self.victim.forward(images, self.steps).trajectory;
        trajectory.relative_residuals().iter().map(|series| series[self.steps - 1]).collect()
    }
}

impl Classifier for Residuals<'_> {
    fn classes(&self) -> usize {
        2
    }

    fn answer(&self, question: &attack::Question<'_>) -> Logits {
        // A residual that is no number is as high as can be.
        let log = |residual: f64| if residual.is_finite() { residual.max(1e-30).ln() } else { 100.0 };
        let residuals = self.of(question.images);
        let rows = residuals.iter().flat_map(|&residual| [0.0, (log(residual) - OUT_OF_REACH) as f32]);
        from_vec(rows.collect(), [residuals.len(), 2], &question.images.device())
    }

    fn work(&self) -> Work {
        self.victim.work()
    }
}

impl WhiteBox for Residuals<'_> {
    fn differentiate(&self, question: &attack::Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        // Square asks for logits alone.
        let logits = self.answer(question);
        let values = objective.values(logits.clone());
        ValueAndGradient { logits, values, gradient: question.images.zeros_like() }
    }
}

/// Residuals at z_T and steps to the tolerance, as the images are and where an attack on the residual ends.
///
/// # Errors
///
/// If the observer cancels.
pub fn work(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    case: &Case<'_>,
    horizon: usize,
) -> Result<Measured<Workload>, DiagnoseError> {
    let (steps, tolerance) = (deployment.solver.steps, deployment.solver.tolerance);
    let horizon = horizon.max(steps);
    // Without a tolerance all T steps are taken, and the residual is that of one number of steps.
    let solver = SolverConfig { steps: horizon, tolerance: 0.0, ..deployment.solver.clone() };
    let patient = Deployment { solver, ..deployment.clone() };
    let victim = || Victim::new(model, &patient, Readout::final_state(), Estimator::exact());
    let residuals = Residuals { victim: victim(), steps };
    let square =
        Square::new(SquareConfig { queries: QUERIES, ..SquareConfig::default() }).expect("it has queries");
    let long = victim();
    let (mut clean, mut attacked) = (Vec::new(), Vec::new());
    case.each("work", View::Clean, |_, batch| {
        let images = batch.images();
        let labels = vec![0; batch.labels().len()];
        let examples = attack::Examples { labels: &labels, ..batch.examples(case.settings.seed, 0) };
        let progress = Stopping::new(case.observer);
        let found = square.run_with(&residuals, &examples, &case.settings.budget, &progress).images;
        if progress.stopped() {
            return Err(DiagnoseError::Cancelled);
        }
        clean.extend_from_slice(long.forward(images, horizon).trajectory.relative_residuals());
        attacked.extend_from_slice(long.forward(&found, horizon).trajectory.relative_residuals());
        Ok(())
    })?;
    let result = Workload {
        attack: format!("{} on the residual at z_T", square.name()),
        tolerance,
        horizon,
        clean: side(&clean, steps, tolerance),
        attacked: side(&attacked, steps, tolerance),
    };
    Ok(Measured { result, work: residuals.work() + long.work() })
}

/// Of relative residuals by image, then by t − 1.
fn side(residuals: &[Vec<f64>], steps: usize, tolerance: f64) -> WorkloadSide {
    let first = |series: &Vec<f64>| series.iter().position(|&r| r < tolerance).map(|at| at + 1);
    let reached: Vec<Option<usize>> = residuals.iter().map(first).collect();
    WorkloadSide {
        residual: Spread::of(residuals.iter().map(|series| series[steps - 1])),
        steps: Spread::of(reached.iter().flatten().map(|&steps| steps as f64)),
        most: reached.iter().flatten().copied().max(),
        never: Share::of(reached.iter().map(Option::is_none)),
    }
}
