//! The loss on straight lines through the images: along gradients, and along a random direction.
//!
//! Where the loss does not rise along an estimator's gradient, that gradient is of no use to an attack. A
//! direction is the step of steepest ascent of length ε in the budget's norm: ε times signs for L∞, along the
//! vector for L2. The random one is the same step for a normal vector, keyed by example.

use equipoise_record::{Landscape, Line, LinePoint, Share, Spread, View};

use super::examination::{Answer, Question, answer};
use super::{Case, DiagnoseError, Measured};
use crate::attack::{Noise, Step, WhiteBox};
use crate::batch::{Images, to_vec};
use crate::evaluate::Points;
use crate::gradient::Estimator;
use crate::loss::{CrossEntropy, Objective};
use crate::work::Work;

pub(super) const QUESTION: Question = Question {
    name: "landscape",
    equilibrium: |asked, _, case| {
        let (training, truth) = (asked.training_gradient(), Estimator::through_solver());
        let mut named = vec![(training.to_string(), asked.victim(training))];
        if *training != truth {
            named.push((truth.to_string(), asked.victim(&truth)));
        }
        of_victims(named, case)
    },
    feedforward: Ok(|asked, case| {
        of_victims(vec![("backpropagation".into(), asked.victim(asked.training_gradient()))], case)
    }),
};

fn of_victims(victims: Vec<(String, Box<dyn WhiteBox + '_>)>, case: &Case<'_>) -> Answer {
    let named: Vec<(String, &dyn WhiteBox)> =
        victims.iter().map(|(name, victim)| (name.clone(), &**victim)).collect();
    answer(landscape(&named, case))
}

/// Where on a line the loss is read, in units of ε.
pub const DISTANCES: [f64; 13] = [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0];

/// Where +ε stands among [`DISTANCES`].
const ONE: usize = 8;
/// Where the image itself stands.
const ZERO: usize = 4;

/// Looks along the gradients of some white boxes, each with the name of its gradient, and along a random
/// direction. The loss, cross-entropy, is that of the first one's readout. Clean images only.
///
/// # Errors
///
/// If the observer cancels.
///
/// # Panics
///
/// Without a white box.
pub fn landscape(
    victims: &[(String, &dyn WhiteBox)],
    case: &Case<'_>,
) -> Result<Measured<Landscape>, DiagnoseError> {
    let judge = victims[0].1;
    let work = || victims.iter().fold(Work::default(), |sum, (_, victim)| sum + victim.work());
    let before = work();
    let names = victims.iter().map(|(name, _)| format!("gradient {name}")).chain(["random".to_owned()]);
    // By direction, then by distance, then by example: the loss, and whether the answer is right.
    let mut found = vec![vec![Vec::with_capacity(case.len()); DISTANCES.len()]; victims.len() + 1];
    case.each("landscape", View::Clean, |_, batch| {
        let objective = CrossEntropy { labels: batch.labels().to_vec() };
        let step = |vector: &Images| case.settings.budget.ascent_step(vector, case.settings.budget.eps());
        let [_, channels, height, width] = batch.images().dims();
        let noise = Noise::new(case.settings.seed, "landscape", 0);
        let shape = [channels, height, width];
        let random = noise.normal(batch.indices(), shape, &batch.images().device());
        let gradients =
            victims.iter().map(|(_, victim)| victim.value_and_gradient(batch.images(), &objective).gradient);
        let (examples, total) = (batch.len(), (victims.len() + 1) * DISTANCES.len());
        let mut steps = (0..total).map(|done| Step { done, total, examples, standing: examples });
        for (vector, found) in gradients.chain([random]).zip(&mut found) {
            let step = step(&vector);
            for ((&distance, found), at) in DISTANCES.iter().zip(found).zip(&mut steps) {
                case.step(at)?;
                let moved = (batch.images().clone() + step.clone() * distance).clamp(0.0, 1.0);
                found.extend(read(judge, &moved, batch, &objective));
            }
        }
        Ok(())
    })?;
    let lines = names.zip(&found).map(|(direction, found)| line(direction, found)).collect();
    let origin = Spread::of(found[0][ZERO].iter().map(|(loss, _)| *loss));
    Ok(Measured { result: Landscape { origin, lines }, work: work() - before })
}

/// Loss of each example, and whether it is classified correctly.
fn read(
    judge: &dyn WhiteBox,
    images: &Images,
    batch: &Points,
    objective: &dyn Objective,
) -> Vec<(f64, bool)> {
    let logits = judge.logits(images);
    let right = batch.correct(&logits);
    to_vec(objective.values(logits)).into_iter().map(f64::from).zip(right).collect()
}

fn line(direction: String, found: &[Vec<(f64, bool)>]) -> Line {
    let origin = &found[ZERO];
    let changes =
        |there: &[(f64, bool)]| -> Vec<f64> { there.iter().zip(origin).map(|(a, b)| a.0 - b.0).collect() };
    let points = DISTANCES.iter().zip(found).map(|(&distance, there)| LinePoint {
        distance,
        change: Spread::of(changes(there)),
        correct: Share::of(there.iter().map(|(_, right)| *right)),
    });
    Line {
        direction,
        points: points.collect(),
        rises: Share::of(changes(&found[ONE]).into_iter().map(|change| change > 0.0)),
    }
}
