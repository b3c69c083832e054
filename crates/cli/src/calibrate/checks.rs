//! The checks for obfuscation, on healthy models and on the fault that each is there for.

use equipoise::attack::{Budget, Classifier, Norm, WhiteBox};
use equipoise::batch::Images;
use equipoise::checks;
use equipoise::evaluate::{self, Cascade, Pair, Points, Quiet, Settings};
use equipoise::gradient::Estimator;
use equipoise::model::equilibrium::Equilibrium;
use equipoise::solve::{SolverConfig, StateChoice, StopReason, Trajectory, solve};
use equipoise::state::State;
use equipoise::victim::{Deployment, Victim};

use super::model::Model;
use super::planted::{Loud, Origins, Rounded, Turned};
use super::record::CheckRow;
use super::trial::run_of;
use super::victims::{Kind, Victims, readout};
use crate::error::{Error, input};

/// Radii of the healthy evaluations.
pub const RADII: [f64; 4] = [0.03, 0.06, 0.1, 0.15];

/// A model with a fault that some of the checks should see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// None.
    Healthy,
    /// Logits so large that the softmax is 1 and its gradient 0.
    Saturated,
    /// Inputs rounded, so that no gradient passes.
    Rounded,
    /// The gradient points away from the truth more than towards it.
    Reversed,
    /// The attack sees fewer solver steps than the judge takes.
    OtherModel,
    /// The solver starts from the fixed point of the unperturbed image, and takes too few steps elsewhere.
    Stored,
}

/// Each fault with the checks that are there for it.
pub const PLANTED: [(Planted, &[&str]); 6] = [
    (Planted::Healthy, &[]),
    (Planted::Saturated, &["zero-or-non-finite-gradients"]),
    (Planted::Rounded, &["zero-or-non-finite-gradients", "survives-unbounded-budget"]),
    (Planted::Reversed, &["loss-not-monotone-in-eps", "survives-unbounded-budget"]),
    (Planted::OtherModel, &["unconfirmed-successes"]),
    (Planted::Stored, &["residual-inflated-by-attack"]),
];

impl Planted {
    /// Its name in the record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Saturated => "logits times 1000",
            Self::Rounded => "inputs rounded to 8 steps",
            Self::Reversed => "gradient at cosine -0.8",
            Self::OtherModel => "attacked with 1 solver step, judged with 8",
            Self::Stored => "solved in 3 steps from the fixed point of the unperturbed image",
        }
    }

    /// The checks of an evaluation on one group of images.
    ///
    /// # Errors
    ///
    /// As of an evaluation.
    pub fn rows(
        self,
        victims: &Victims,
        points: &Points,
        (model, eps, group): (u64, f64, usize),
    ) -> Result<Vec<CheckRow>, Error> {
        let kind = Kind::Contractive;
        let (net, deployment) = (victims.model(kind, model)?, Victims::deployment(kind));
        let few = Deployment { solver: SolverConfig::broyden(1), ..deployment.clone() };
        let truth = Victim::ready_made(&*net, &deployment);
        let other = Victim::ready_made(&*net, if self == Self::OtherModel { &few } else { &deployment });
        let through = Victim::new(&*net, &deployment, readout(), Estimator::through_solver());
        let origins = Origins::new(points, eps);
        let reversed = Turned::new(&truth, &origins, points, -0.8, (model, group));
        let rounded = Rounded { inner: &truth, steps: 8.0 };
        let loud = Loud { inner: &truth, factor: 1000.0 };
        let seen: &dyn WhiteBox = match self {
            Self::Healthy | Self::Stored => &truth,
            Self::Saturated => &loud,
            Self::Rounded => &rounded,
            Self::Reversed => &reversed,
            Self::OtherModel => &other,
        };
        let judge: &dyn Classifier = if self == Self::OtherModel { &truth } else { seen };
        let settings = Settings {
            budget: Budget::new(Norm::Linf, eps).map_err(input)?,
            seed: 1000 * model + group as u64,
            batch_size: 512,
        };
        let mut cascade = Cascade::ready_made("final", judge, vec![run_of("pgd-10", "exact", seen)?]);
        if self == Self::Healthy {
            let white_box = run_of("apgd-ce-20", "through-solver", &through)?.starting(1);
            let twin = Some(white_box.through("exact", seen));
            cascade.pairs.push(Pair { white_box, twin, aimed: None });
        }
        let outcome = evaluate::run(&cascade, points, &settings, &Quiet, None)?;
        let stored = Stored { net: &net, origins: &origins, clean: points.images() };
        let residuals = |images: &Images| match self {
            Self::Stored => stored.residuals(images),
            _ => residuals(&truth, images, deployment.solver.steps),
        };
        let flags =
            checks::of_victim(seen, Some(&residuals), points, &outcome, &settings, points.len(), &Quiet);
        let mut flags = flags.map_err(|error| Error::Internal(error.to_string()))?;
        flags.extend(checks::of_runs(&outcome.result));
        let rows = flags.into_iter().map(|flag| CheckRow {
            check: flag.name,
            kind: self.name().into(),
            model,
            eps,
            group,
            raised: flag.raised,
            numbers: flag.evidence.iter().map(|evidence| evidence.value).collect(),
        });
        Ok(rows.collect())
    }
}

/// A model behind a gradient.
type Solved<'a> = Victim<'a>;

/// For each image its best relative residual, and whether its solve converged.
pub fn residuals(victim: &Solved<'_>, images: &Images, steps: usize) -> Vec<(f64, bool)> {
    of_trajectory(&victim.forward(images, steps).trajectory)
}

fn of_trajectory(trajectory: &Trajectory) -> Vec<(f64, bool)> {
    let best = trajectory.best().iter().zip(trajectory.relative_residuals());
    let residuals = best.map(|(&best, series)| series[best - 1]);
    let converged = trajectory.stop_reasons().iter().map(|&stop| stop == StopReason::Converged);
    residuals.zip(converged).collect()
}

/// The same for a model as it is deployed.
pub fn residuals_of(model: &Model, deployment: &Deployment, images: &Images) -> Vec<f64> {
    let victim = Victim::ready_made(model, deployment);
    residuals(&victim, images, deployment.solver.steps).into_iter().map(|(residual, _)| residual).collect()
}

/// A solver that starts from the stored fixed points of the unperturbed images.
struct Stored<'a> {
    net: &'a Model,
    origins: &'a Origins,
    clean: &'a Images,
}

impl Stored<'_> {
    fn residuals(&self, images: &Images) -> Vec<(f64, bool)> {
        let solve = |images: &Images, start: Option<State>, config: &SolverConfig| {
            let injection = self.net.injection(images);
            let start = start.unwrap_or_else(|| injection.zeros_like());
            solve(&*self.net.bind(&injection), start, config)
        };
        let known = solve(self.clean, None, &SolverConfig::broyden(20).with_tolerance(1e-6));
        let rows = self.origins.rows(images);
        let start = known.choose(StateChoice::Best).select(&rows);
        of_trajectory(&solve(images, Some(start), &SolverConfig::broyden(3).with_tolerance(0.0)))
    }
}
