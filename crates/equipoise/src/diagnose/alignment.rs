//! Cosines between gradient estimators and `through-solver`, the true gradient of what is deployed, by iterate.
//!
//! A low cosine is the paper's misalignment: an attack that follows such an estimator walks elsewhere. Each
//! estimator's gradient is computed once per image, from one trajectory, and compared behind two kinds of
//! readouts: `final`, and `early(t)` for each t.

use equipoise_record::{Alignment, Cosine, Spread};

use super::examination::{Question, answer};
use super::{Case, DiagnoseError, Measured, VIEWS};
use crate::attack::{Classifier, Step};
use crate::batch::{Images, to_vec};
use crate::gradient::Estimator;
use crate::loss::CrossEntropy;
use crate::model::equilibrium::Equilibrium;
use crate::readout::{Readout, Tail};
use crate::solve::StateChoice;
use crate::victim::{Deployment, Victim};

pub(super) const QUESTION: Question = Question {
    name: "alignment",
    equilibrium: |asked, model, case| answer(alignment(model, asked.deployment(), case)),
    feedforward: Err("other gradient than its own"),
};

/// An estimator with what it is called in a figure.
struct Named {
    estimator: Estimator,
    family: String,
    t: Option<usize>,
}

/// `exact`, the phantom gradient, and at every state the unrolled gradient (after one application, and after
/// one and four damped ones) and the simultaneous adjoint.
fn estimators(steps: usize) -> Vec<Named> {
    let mut all = vec![
        Named { estimator: Estimator::exact(), family: "exact".into(), t: None },
        Named {
            estimator: Estimator::phantom(),
            family: "unrolled:state=best,lead=1,steps=9".into(),
            t: None,
        },
    ];
    for t in 1..=steps {
        let state = StateChoice::At(t);
        for steps in [0, 4] {
            let tail = Tail { lead: 1, steps, damping: 0.5 };
            all.push(Named {
                estimator: Estimator::unrolled(state, tail),
                family: format!("unrolled:state=t,lead=1,steps={steps}"),
                t: Some(t),
            });
        }
        let estimator = Estimator::adjoint(state, 1.0);
        all.push(Named { estimator, family: "adjoint:state=t".into(), t: Some(t) });
    }
    all
}

/// Compares on clean and on attacked images, by the cross-entropy's gradient.
///
/// The solver must be one that can be run backwards, which `through-solver` does: ask
/// [`GradientEstimator::check`](crate::gradient::GradientEstimator::check) before.
///
/// # Errors
///
/// If the observer cancels.
pub fn alignment(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    case: &Case<'_>,
) -> Result<Measured<Alignment>, DiagnoseError> {
    let steps = deployment.solver.steps;
    let (last, truth) = (Readout::final_state(), Estimator::through_solver());
    truth.check(&deployment.solver).map_err(DiagnoseError::Gradient)?;
    let mut estimators = estimators(steps);
    estimators.retain(|named| named.estimator.check(&deployment.solver).is_ok());
    let early = (1..=steps).map(|t| (Readout::early(t), Some(t)));
    let readouts: Vec<(Readout, Option<usize>)> =
        [(Readout::final_state(), None)].into_iter().chain(early).collect();
    let victim = |readout: &Readout, estimator: &Estimator| {
        Victim::new(model, deployment, readout.clone(), estimator.clone())
    };
    let solver = victim(&last, &truth);
    let mut cosines = Vec::new();
    for view in VIEWS {
        // By estimator, then by readout, then by example.
        let mut found = vec![vec![Vec::with_capacity(case.len()); readouts.len()]; estimators.len()];
        let mut zero = vec![0; estimators.len()];
        case.each(&format!("alignment, {}", view.name()), view, |_, batch| {
            let objective = CrossEntropy { labels: batch.labels().to_vec() };
            let forward = solver.forward(batch.images(), steps);
            let total = readouts.len() + estimators.len();
            let examples = batch.len();
            let gradient = |done, readout: &Readout, estimator: &Estimator| {
                case.step(Step { done, total, examples, standing: examples })?;
                let victim = victim(readout, estimator);
                Ok(rows(victim.gradient_from(batch.images(), &forward, &objective).1))
            };
            let truths = readouts.iter().enumerate();
            let truths: Vec<_> = truths
                .map(|(done, (readout, _))| gradient(done, readout, &truth))
                .collect::<Result<_, _>>()?;
            let found = found.iter_mut().zip(&mut zero);
            for (done, (named, (found, zero))) in (readouts.len()..).zip(estimators.iter().zip(found)) {
                let estimates = gradient(done, &last, &named.estimator)?;
                *zero += estimates.iter().filter(|row| row.iter().all(|entry| *entry == 0.0)).count();
                for (truths, found) in truths.iter().zip(found) {
                    found.extend(estimates.iter().zip(truths).map(|(a, b)| cosine(a, b)));
                }
            }
            Ok(())
        })?;
        for ((named, found), zero) in estimators.iter().zip(found).zip(zero) {
            for ((readout, t), cosine) in readouts.iter().zip(found) {
                // Behind early(t), states other than t are beside the point.
                let matches = t.is_none_or(|t| named.t.is_none_or(|state| state == t));
                if matches {
                    cosines.push(Cosine {
                        view,
                        readout: readout.to_string(),
                        estimator: named.estimator.to_string(),
                        family: named.family.clone(),
                        t: named.t,
                        cosine: Spread::of(cosine),
                        zero,
                    });
                }
            }
        }
    }
    Ok(Measured { result: Alignment { cosines }, work: solver.work() })
}

/// One vector per image.
fn rows(images: Images) -> Vec<Vec<f32>> {
    let size: usize = images.dims()[1..].iter().product();
    to_vec(images).chunks(size).map(<[f32]>::to_vec).collect()
}

/// Not a number where one of them is zero.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}
