//! How many fixed points there are: solves from random starts, clean and attacked.
//!
//! Where f contracts there is one. Elsewhere the deployed one is that which the solver finds from z_0 = 0, and the model may as
//! well be another from another start. The answer at the iterate of the lowest residual of all starts is what a deployment
//! with random starts would give.

use equipoise_record::{Share, Spread, Starts, StartsView, View};

use super::examination::{Question, answer};
use super::{Case, DiagnoseError, Measured, VIEWS};
use crate::attack::Step;
use crate::batch::predictions;
use crate::evaluate::Points;
use crate::model::cell::Counted;
use crate::model::equilibrium::Equilibrium;
use crate::random::ExampleRng;
use crate::solve::{SolverConfig, StateChoice, solve};
use crate::state::State;
use crate::victim::Deployment;
use crate::work::WorkCounter;

pub(super) const QUESTION: Question = Question {
    name: "starts",
    equilibrium: |asked, model, case| answer(starts(model, asked.deployment(), case, asked.horizon)),
    feedforward: Err("fixed-point solver"),
};

/// Starts of each image, the one at 0 among them.
const STARTS: usize = 8;

/// The relative residual below which a solve has found a fixed point, and the relative distance below which two are one.
const TOLERANCE: f64 = 1e-3;
const CLUSTER: f64 = 1e-2;

/// What one start came to, for one image.
struct End {
    residual: f64,
    state: Vec<f64>,
    class: Option<usize>,
}

/// Solves every image from z_0 = 0 and from random states as large as the one found there.
///
/// # Errors
///
/// If the observer cancels.
pub fn starts(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    case: &Case<'_>,
    horizon: usize,
) -> Result<Measured<Starts>, DiagnoseError> {
    let counter = WorkCounter::default();
    let solver = SolverConfig { steps: horizon, tolerance: TOLERANCE, ..deployment.solver.clone() };
    let mut views = Vec::new();
    for view in VIEWS {
        let mut ends: Vec<(usize, Vec<End>)> = Vec::new();
        case.each(&format!("starts, {}", view.name()), view, |_, batch| {
            ends.extend(solves(model, &solver, deployment, batch, case, &counter)?);
            Ok(())
        })?;
        views.push(summarise(view, &ends));
    }
    let result = Starts { starts: STARTS, tolerance: TOLERANCE, horizon, cluster: CLUSTER, views };
    Ok(Measured { result, work: counter.total() })
}

/// Of each image its label, and what every start came to.
fn solves(
    model: &dyn Equilibrium,
    solver: &SolverConfig,
    deployment: &Deployment,
    batch: &Points,
    case: &Case<'_>,
    counter: &WorkCounter,
) -> Result<Vec<(usize, Vec<End>)>, DiagnoseError> {
    let injection = model.injection(batch.images());
    let (count, dim) = (batch.labels().len(), model.state_dim());
    let zero = injection.zeros([count, dim]);
    let mut ends: Vec<(usize, Vec<End>)> = batch.labels().iter().map(|&label| (label, Vec::new())).collect();
    let mut scales = vec![0.0; count];
    for number in 0..STARTS {
        case.step(Step { done: number, total: STARTS, examples: count, standing: count })?;
        let start = if number == 0 { zero.clone() } else { random(&zero, &scales, batch, case, number) };
        let cell = Counted::new(model.bind(&injection), counter.clone());
        let trajectory = solve(&cell, start, solver);
        let best = trajectory.evaluated(StateChoice::Best);
        let states = best.state.numbers();
        let classes = predictions(&model.logits(&deployment.tail.apply(&cell, best)));
        let residuals = trajectory.best_residuals();
        for (row, class) in classes.into_iter().enumerate() {
            let state = states[row * dim..][..dim].to_vec();
            if number == 0 {
                scales[row] = (state.iter().map(|x| x * x).sum::<f64>() / dim as f64).sqrt();
            }
            ends[row].1.push(End { residual: residuals[row], state, class });
        }
    }
    Ok(ends)
}

/// Normal states with the scale of each image.
fn random(like: &State, scales: &[f64], batch: &Points, case: &Case<'_>, number: usize) -> State {
    let [_, dim] = like.dims();
    let numbers = batch.indices().iter().zip(scales).flat_map(|(&index, &scale)| {
        let mut rng = ExampleRng::new(case.settings.seed, "solver start", index, number);
        (0..dim).map(|_| scale * rng.normal()).collect::<Vec<_>>()
    });
    like.like(numbers.collect(), dim)
}

fn summarise(view: View, images: &[(usize, Vec<End>)]) -> StartsView {
    let found = |end: &&End| end.residual < TOLERANCE;
    let distinct: Vec<usize> = images
        .iter()
        .map(|(_, ends)| {
            let mut known: Vec<&End> = Vec::new();
            for end in ends.iter().filter(found) {
                if known.iter().all(|other| apart(&other.state, &end.state) >= CLUSTER) {
                    known.push(end);
                }
            }
            known.len()
        })
        .collect();
    let lowest = |ends: &[End]| {
        let finite = ends.iter().filter(|end| end.residual.is_finite());
        finite.min_by(|a, b| a.residual.total_cmp(&b.residual)).and_then(|end| end.class)
    };
    StartsView {
        view,
        converged: Share::of(images.iter().flat_map(|(_, ends)| ends.iter().map(|end| found(&end)))),
        distinct: Spread::of(distinct.iter().filter(|&&count| count > 0).map(|&count| count as f64)),
        several: Share::of(distinct.iter().map(|&count| count > 1)),
        disagree: Share::of(images.iter().map(|(_, ends)| ends.iter().any(|end| end.class != ends[0].class))),
        from_zero: Share::of(images.iter().map(|(label, ends)| ends[0].class == Some(*label))),
        lowest: Share::of(images.iter().map(|(label, ends)| lowest(ends) == Some(*label))),
    }
}

/// ‖a − b‖ / max(‖a‖, ‖b‖).
fn apart(a: &[f64], b: &[f64]) -> f64 {
    let norm = |of: &mut dyn Iterator<Item = f64>| of.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| a - b));
    difference / norm(&mut a.iter().copied()).max(norm(&mut b.iter().copied())).max(1e-30)
}
