//! Choosing the defence by early exit: which z_t to read.
//!
//! The paper reads the head at an earlier iterate than the last (its section 4.3). Which one is chosen here by
//! robust accuracy under a ready-made PGD-10 on examples that are used for nothing else: a t chosen on the test
//! split would be biased upwards.

use serde::{Deserialize, Serialize};

use equipoise_record::Accuracy;

use crate::attack::{Attack, Budget, Examples, Pgd, PgdConfig, PgdError, UnsupportedNorm};
use crate::batch::{Images, predictions, select};
use crate::evaluate::{Observer, Points, Stopping};
use crate::model::equilibrium::Equilibrium;
use crate::network::Network;
use crate::readout::Readout;
use crate::victim::{Deployment, Victim};

/// The t of `early(t)`, and what it was chosen by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyChoice {
    /// The chosen t, from 1.
    pub t: usize,
    /// Robust accuracy when z_1, z_2, .., z_T is read: the share of points classified correctly there both
    /// when clean and when attacked.
    pub robust_accuracy: Vec<Accuracy>,
}

/// Why no t could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum EarlyExitError {
    /// There is nothing to choose by.
    #[error("no examples to choose an early readout on: give at least one, 200 say")]
    NoPoints,
    /// The model has no iterates to read.
    #[error("the model is a feedforward network: it has no states to read early; use the readout `final`")]
    NoEquilibrium,
    /// A batch size of zero.
    #[error("the batch size is 0: use at least 1")]
    BatchSize,
    /// A label that the model has no class for.
    #[error("example {index} has label {label}, but the model has {classes} classes: use the data it is for")]
    Label {
        /// The example's index in its data set.
        index: usize,
        /// Its label.
        label: usize,
        /// Classes of the model.
        classes: usize,
    },
    /// The attack was refused.
    #[error(transparent)]
    Attack(#[from] PgdError),
    /// The attack does not search in balls of the budget's norm.
    #[error(transparent)]
    Norm(#[from] UnsupportedNorm),
    /// The observer asked to stop.
    #[error("stopped before an early readout was chosen")]
    Cancelled,
}

/// The attack that t is chosen by: ten steps, all of them taken, so that what is scored at every t is the same
/// image.
fn attack() -> Result<Pgd, PgdError> {
    Pgd::new(PgdConfig { keep_first: false, ..PgdConfig::default() })
}

/// Chooses the t whose readout is most robust; of equal ones the latest.
///
/// Each point is attacked once, through the ready-made gradient on the final state, and every t is scored from
/// one trajectory of the attacked image and one of the clean image. `batch` changes speed, not the answer. The
/// observer sees one stage, `choosing early(t)`.
///
/// # Errors
///
/// [`EarlyExitError`] if there are no points, a label is not a class of the model, the budget is one of L1, or the
/// observer cancels.
pub fn choose_early(
    network: &dyn Network,
    deployment: &Deployment,
    points: &Points,
    budget: &Budget,
    seed: u64,
    batch: usize,
    observer: &dyn Observer,
) -> Result<EarlyChoice, EarlyExitError> {
    let model = network.equilibrium().ok_or(EarlyExitError::NoEquilibrium)?;
    choose(model, deployment, points, budget, seed, batch, observer)
}

fn choose(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    points: &Points,
    budget: &Budget,
    seed: u64,
    batch: usize,
    observer: &dyn Observer,
) -> Result<EarlyChoice, EarlyExitError> {
    if points.is_empty() {
        return Err(EarlyExitError::NoPoints);
    }
    if batch == 0 {
        return Err(EarlyExitError::BatchSize);
    }
    attack()?.check_norm(budget.norm())?;
    let classes = model.classes();
    if let Some(row) = points.labels().iter().position(|&label| label >= classes) {
        let (index, label) = (points.indices()[row], points.labels()[row]);
        return Err(EarlyExitError::Label { index, label, classes });
    }
    let attack = attack()?;
    let estimator = deployment.training_gradient.clone();
    let victim = Victim::new(model, deployment, Readout::final_state(), estimator);
    let steps = deployment.solver.steps;
    let mut robust = vec![0; steps];
    observer.stage("choosing early(t)", points.len());
    let rows: Vec<usize> = (0..points.len()).collect();
    for rows in rows.chunks(batch) {
        if observer.cancelled() {
            return Err(EarlyExitError::Cancelled);
        }
        let images = select(points.images(), rows);
        let labels: Vec<usize> = rows.iter().map(|&row| points.labels()[row]).collect();
        let indices: Vec<usize> = rows.iter().map(|&row| points.indices()[row]).collect();
        let examples = Examples { images: &images, labels: &labels, indices: &indices, seed, start: 0 };
        let progress = Stopping::new(observer);
        let attacked = attack.run_with(&victim, &examples, budget, &progress).images;
        if progress.stopped() {
            return Err(EarlyExitError::Cancelled);
        }
        let clean = correct(model, &victim, steps, &images, &labels);
        let attacked = correct(model, &victim, steps, &attacked, &labels);
        for (count, (clean, attacked)) in robust.iter_mut().zip(clean.iter().zip(&attacked)) {
            *count += clean.iter().zip(attacked).filter(|(clean, attacked)| **clean && **attacked).count();
        }
        observer.advance(rows.len(), "");
    }
    // `max_by_key` returns the last of equal ones: the later t.
    let best = robust.iter().enumerate().max_by_key(|(_, count)| **count).map_or(0, |(at, _)| at);
    let robust_accuracy = robust.into_iter().map(|count| Accuracy::new(count, points.len())).collect();
    Ok(EarlyChoice { t: best + 1, robust_accuracy })
}

/// Whether each example is classified correctly when z_t is read, by t − 1.
fn correct(
    model: &dyn Equilibrium,
    victim: &Victim<'_>,
    steps: usize,
    images: &Images,
    labels: &[usize],
) -> Vec<Vec<bool>> {
    let trajectory = victim.forward(images, steps).trajectory;
    (1..=steps)
        .map(|t| {
            let logits = model.logits(trajectory.state(t));
            predictions(&logits).iter().zip(labels).map(|(found, label)| *found == Some(*label)).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Architecture, Model};
    use crate::attack::{Norm, WhiteBox};
    use crate::batch::from_vec;
    use crate::evaluate::Quiet;

    fn points(network: &dyn Model, count: usize) -> Points {
        // Labels are what the untrained model answers at z_8 for two thirds of the images.
        let device = burn::tensor::Device::default();
        let pixels = (0..count * 64).map(|k| ((k * 37 + k / 64 * 11) % 97) as f32 / 96.0).collect();
        let images = from_vec(pixels, [count, 1, 8, 8], &device);
        let deployment = Deployment::exact();
        let victim: Box<dyn WhiteBox> =
            network.victim(&deployment, Readout::early(8), deployment.training_gradient.clone());
        let labels = predictions(&victim.logits(&images)).into_iter().enumerate();
        let labels = labels.map(|(k, label)| if k % 3 == 0 { 0 } else { label.unwrap_or(0) }).collect();
        Points::new((0..count).collect(), images, labels).unwrap()
    }

    #[test]
    fn without_a_budget_robust_accuracy_is_that_of_the_readout() {
        let device = burn::tensor::Device::default();
        let network = Architecture::named("mdeq-digits").unwrap().init(3, &device).unwrap();
        let deployment = Deployment::exact();
        let points = points(&*network, 12);
        let budget = Budget::new(Norm::Linf, 0.0).unwrap();
        let choice = choose_early(&*network, &deployment, &points, &budget, 0, 5, &Quiet).unwrap();
        assert_eq!(choice.robust_accuracy.len(), 8);
        for (at, accuracy) in choice.robust_accuracy.iter().enumerate() {
            let estimator = deployment.training_gradient.clone();
            let victim = network.victim(&deployment, Readout::early(at + 1), estimator);
            let found = predictions(&victim.logits(points.images()));
            let correct = found.iter().zip(points.labels()).filter(|(f, y)| **f == Some(**y)).count();
            assert_eq!(accuracy.value, correct as f64 / 12.0, "t = {}", at + 1);
        }
        let best = choice.robust_accuracy[choice.t - 1].value;
        assert!(choice.robust_accuracy.iter().all(|accuracy| accuracy.value <= best));
        assert!(choice.robust_accuracy[choice.t..].iter().all(|accuracy| accuracy.value < best));
        let other = choose_early(&*network, &deployment, &points, &budget, 0, 12, &Quiet).unwrap();
        assert_eq!(other, choice);
    }

    #[test]
    fn what_cannot_be_chosen_on_is_refused() {
        let device = burn::tensor::Device::default();
        let network = Architecture::named("mdeq-digits").unwrap().init(3, &device).unwrap();
        let deployment = Deployment::exact();
        let budget = Budget::new(Norm::Linf, 0.0).unwrap();
        let one = from_vec(vec![0.5; 64], [1, 1, 8, 8], &device);
        let strange = Points::new(vec![7], one, vec![10]).unwrap();
        let refused = choose_early(&*network, &deployment, &strange, &budget, 0, 1, &Quiet);
        assert!(matches!(refused, Err(EarlyExitError::Label { index: 7, .. })));
        let refused = choose_early(&*network, &deployment, &points(&*network, 2), &budget, 0, 0, &Quiet);
        assert!(matches!(refused, Err(EarlyExitError::BatchSize)));
        let l1 = Budget::new(Norm::L1, 1.0).unwrap();
        let refused = choose_early(&*network, &deployment, &points(&*network, 2), &l1, 0, 1, &Quiet);
        assert!(matches!(refused, Err(EarlyExitError::Norm(_))));
    }
}
