//! How far the nearest adversarial images are: minimum-norm attacks through the true gradient.
//!
//! FAB-T searches for the least perturbation itself. Bisection asks PGD-10 at one radius after another: of 32 radii, from ε/8 to 4ε, five
//! questions find one at which an image falls while it stood at the next smaller one that was asked. A median distance needs no ε.

use std::collections::BTreeMap;

use equipoise_record::{AttackDistances, DistancePoint, Distances, Share, Spread, View};

use super::examination::{Question, answer};
use super::{Case, DiagnoseError, Measured, pgd};
use crate::attack::{Attack, Budget, Fab, FabConfig, WhiteBox};
use crate::batch::{select, to_vec};
use crate::evaluate::Points;
use crate::gradient::Estimator;

pub(super) const QUESTION: Question = Question {
    name: "distance",
    equilibrium: |asked, _, case| {
        let truth = Estimator::truth(&asked.deployment().readout);
        answer(distances(&*asked.victim(&truth), &truth.to_string(), case))
    },
    feedforward: Ok(|asked, case| {
        answer(distances(&*asked.victim(asked.training_gradient()), "backpropagation", case))
    }),
};

/// Iterations of FAB-T for each target.
const ITERATIONS: usize = 30;

/// Radii of the bisection, and how many make ε.
const RADII: usize = 32;
const PER_EPS: f64 = 8.0;

/// Least distances by each attack, through the gradient of `victim`, which is called `gradient`.
///
/// # Errors
///
/// If the observer cancels.
pub fn distances(
    victim: &dyn WhiteBox,
    gradient: &str,
    case: &Case<'_>,
) -> Result<Measured<Distances>, DiagnoseError> {
    let before = victim.work();
    let fab =
        Fab::new(FabConfig { iterations: ITERATIONS, ..FabConfig::default() }).expect("it has iterations");
    let (mut by_fab, mut by_bisection) = (Vec::new(), Vec::new());
    let budget = case.settings.budget;
    if fab.check_norm(budget.norm()).is_ok() {
        case.each("distance, fab-t", View::Clean, |_, batch| {
            let found = fab.nearest(victim, &batch.examples(case.settings.seed, 0), &budget);
            by_fab.extend(found.distances.into_iter().map(|distance| distance.unwrap_or(f64::INFINITY)));
            Ok(())
        })?;
    }
    if pgd(true).check_norm(budget.norm()).is_ok() && budget.eps() > 0.0 {
        case.each("distance, bisection", View::Clean, |_, batch| {
            by_bisection.extend(bisect(victim, case, batch, &budget)?);
            Ok(())
        })?;
    }
    let all = [(fab.name(), &by_fab), (format!("{} by bisection", pgd(true).name()), &by_bisection)];
    let attacks = all.iter().filter(|(_, found)| !found.is_empty());
    // What is wrong when clean has the distance 0, and no part in the others' median.
    let of_correct =
        |found: &[f64]| found.iter().copied().filter(|&distance| distance > 0.0).collect::<Vec<_>>();
    let of = |(attack, found): &(String, &Vec<f64>)| AttackDistances {
        attack: attack.clone(),
        distance: Spread::of(of_correct(found)),
        found: Share::of(of_correct(found).into_iter().map(f64::is_finite)),
    };
    let attacks: Vec<AttackDistances> = attacks.map(of).collect();
    let at = |found: &[f64], k: usize| found.get(k).copied().unwrap_or(f64::INFINITY);
    let least: Vec<f64> = (0..case.len()).map(|k| at(&by_fab, k).min(at(&by_bisection, k))).collect();
    let point = |k: usize| {
        let eps = budget.eps() * k as f64 / PER_EPS;
        DistancePoint { eps, standing: Share::of(least.iter().map(|&distance| distance > eps)) }
    };
    let result = Distances {
        gradient: gradient.to_owned(),
        attacks,
        least: Spread::of(of_correct(&least)),
        curve: (0..=RADII).map(point).collect(),
    };
    Ok(Measured { result, work: victim.work() - before })
}

/// The distance of the nearest image that PGD-10 found for each point; 0 for one that is wrong when clean.
fn bisect(
    victim: &dyn WhiteBox,
    case: &Case<'_>,
    batch: &Points,
    budget: &Budget,
) -> Result<Vec<f64>, DiagnoseError> {
    let (attack, norm) = (pgd(true), budget.norm());
    let right = batch.correct(&victim.logits(batch.images()));
    let mut distances: Vec<f64> =
        right.iter().map(|&right| if right { f64::INFINITY } else { 0.0 }).collect();
    // Of each point: the largest radius at which it stood, and the least at which it fell.
    let mut between: Vec<(usize, usize)> = vec![(0, RADII + 1); right.len()];
    loop {
        let mut asked: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (row, &(stood, fell)) in between.iter().enumerate().filter(|(row, _)| right[*row]) {
            if fell - stood > 1 {
                // The largest first: whoever stands there is not asked again.
                let next = if fell > RADII { RADII } else { stood.midpoint(fell) };
                asked.entry(next).or_default().push(row);
            }
        }
        if asked.is_empty() {
            return Ok(distances);
        }
        for (radius, rows) in asked {
            let eps = (budget.eps() * radius as f64 / PER_EPS).min(norm.farthest(image_size(batch)));
            let within = Budget::new(norm, eps).expect("a radius above 0 and within the farthest");
            let points = batch.select(&rows);
            let found = case.attack(&attack, victim, &points, &within)?;
            let held = points.correct(&victim.logits(&found));
            for (k, &row) in rows.iter().enumerate() {
                if held[k] {
                    between[row].0 = radius;
                    continue;
                }
                between[row].1 = radius;
                let image = to_vec(select(&found, &[k]));
                let clean = to_vec(select(points.images(), &[k]));
                distances[row] = distances[row].min(norm.distance(&clean, &image));
            }
        }
    }
}

fn image_size(batch: &Points) -> usize {
    batch.images().dims()[1..].iter().product()
}
