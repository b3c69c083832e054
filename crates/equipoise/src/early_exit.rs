//! Choosing the defence by early exit: which z_t to read.
//!
//! The paper reads the head at an earlier iterate than the last (its section 4.3). Which one is chosen here by
//! robust accuracy under PGD-10 on examples that are used for nothing else: a t chosen on the test split would be
//! biased upwards. The attack is a ready-made one, or follows the true gradient of every z_t: a ready-made attack aims at
//! the final state, so that it finds early states robust which are not.

use serde::{Deserialize, Serialize};

use equipoise_record::Accuracy;

use crate::attack::{Attack, Budget, Pgd, PgdConfig, PgdError, UnsupportedNorm};
use crate::batch::Images;
use crate::evaluate::{Observer, Points, Stopping};
use crate::gradient::Estimator;
use crate::model::equilibrium::Equilibrium;
use crate::network::Network;
use crate::readout::Readout;
use crate::victim::{Deployment, Victim};

/// The attack that t is chosen under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChosenUnder {
    /// PGD-10 through the training gradient on the final state, once for all t.
    ReadyMade,
    /// That, and PGD-10 through `through-solver` behind each `early(t)`: the worse of both.
    WhiteBox,
}

/// How t is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choosing {
    /// The attack.
    pub under: ChosenUnder,
    /// Where it searches.
    pub budget: Budget,
    /// Seed of its starts.
    pub seed: u64,
    /// Images at once: changes speed, not the answer.
    pub batch: usize,
}

/// The t of `early(t)`, and what it was chosen by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyChoice {
    /// The attack.
    pub under: ChosenUnder,
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

/// The ready-made attack that t is chosen by: ten steps, all of them taken, so that what is scored at every t is the
/// same image.
fn attack() -> Result<Pgd, PgdError> {
    Pgd::new(PgdConfig { keep_first: false, ..PgdConfig::default() })
}

/// Chooses the t whose readout is most robust; of equal ones the latest.
///
/// Each point is attacked once through the ready-made gradient on the final state, and every t is scored from
/// one trajectory of the attacked image and one of the clean image. [`ChosenUnder::WhiteBox`] attacks what is left at each
/// t once more, through the true gradient there. The observer sees one stage, `choosing early(t)`.
///
/// # Errors
///
/// [`EarlyExitError`] if there are no points, a label is not a class of the model, the budget is one of L1, or the
/// observer cancels.
pub fn choose_early(
    network: &dyn Network,
    deployment: &Deployment,
    points: &Points,
    how: &Choosing,
    observer: &dyn Observer,
) -> Result<EarlyChoice, EarlyExitError> {
    let model = network.equilibrium().ok_or(EarlyExitError::NoEquilibrium)?;
    choose(model, deployment, points, how, observer)
}

fn choose(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    points: &Points,
    how: &Choosing,
    observer: &dyn Observer,
) -> Result<EarlyChoice, EarlyExitError> {
    let Choosing { under, ref budget, seed, batch } = *how;
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
    let steps = deployment.solver.steps;
    let ready_made =
        Victim::new(model, deployment, Readout::final_state(), deployment.training_gradient.clone());
    let white_box: Vec<Victim<'_>> = match under {
        ChosenUnder::ReadyMade => Vec::new(),
        ChosenUnder::WhiteBox => (1..=steps)
            .map(|t| Victim::new(model, deployment, Readout::early(t), Estimator::through_solver()))
            .collect(),
    };
    let mut robust = vec![0; steps];
    observer.stage("choosing early(t)", points.len());
    let rows: Vec<usize> = (0..points.len()).collect();
    for rows in rows.chunks(batch) {
        let progress = Stopping::new(observer);
        let batch = points.select(rows);
        let attacked = attack.run_with(&ready_made, &batch.examples(seed, 0), budget, &progress).images;
        if progress.stopped() {
            return Err(EarlyExitError::Cancelled);
        }
        // Whether each example is classified correctly when z_t is read, by t − 1.
        let correct = |batch: &Points, images: &Images, steps: usize| -> Vec<Vec<bool>> {
            let trajectory = ready_made.forward(images, steps).trajectory;
            (1..=steps).map(|t| batch.correct(&model.logits(trajectory.state(t)))).collect()
        };
        let clean = correct(&batch, batch.images(), steps);
        let mut standing = correct(&batch, &attacked, steps);
        standing.iter_mut().zip(&clean).for_each(|(at, clean)| both(at, clean));
        for (t, victim) in white_box.iter().enumerate() {
            let left: Vec<usize> = (0..rows.len()).filter(|&row| standing[t][row]).collect();
            if left.is_empty() {
                continue;
            }
            let batch = batch.select(&left);
            let attacked = attack.run_with(victim, &batch.examples(seed, 0), budget, &progress).images;
            if progress.stopped() {
                return Err(EarlyExitError::Cancelled);
            }
            let withstood = correct(&batch, &attacked, t + 1).swap_remove(t);
            left.iter().zip(withstood).for_each(|(&row, withstood)| standing[t][row] = withstood);
        }
        robust
            .iter_mut()
            .zip(&standing)
            .for_each(|(count, at)| *count += at.iter().filter(|&&stands| stands).count());
        observer.advance(rows.len(), "");
    }
    // `max_by_key` returns the last of equal ones: the later t.
    let best = robust.iter().enumerate().max_by_key(|(_, count)| **count).map_or(0, |(at, _)| at);
    let robust_accuracy = robust.into_iter().map(|count| Accuracy::new(count, points.len())).collect();
    Ok(EarlyChoice { under, t: best + 1, robust_accuracy })
}

fn both(of: &mut [bool], and: &[bool]) {
    of.iter_mut().zip(and).for_each(|(of, and)| *of &= and);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Architecture, Model};
    use crate::attack::{Norm, WhiteBox};
    use crate::batch::{from_vec, predictions};
    use crate::evaluate::Quiet;

    fn how(budget: Budget, batch: usize) -> Choosing {
        Choosing { under: ChosenUnder::ReadyMade, budget, seed: 0, batch }
    }

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
        let choice = choose_early(&*network, &deployment, &points, &how(budget, 5), &Quiet).unwrap();
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
        let other = choose_early(&*network, &deployment, &points, &how(budget, 12), &Quiet).unwrap();
        assert_eq!(other, choice);
    }

    #[test]
    fn chosen_white_box_every_t_is_attacked_through_its_own_gradient() {
        let device = burn::tensor::Device::default();
        let network = Architecture::named("mdeq-digits").unwrap().init(3, &device).unwrap();
        let deployment = Deployment::exact();
        let points = points(&*network, 12);
        for eps in [0.01, 0.3] {
            let budget = Budget::new(Norm::Linf, eps).unwrap();
            let white_box = Choosing { under: ChosenUnder::WhiteBox, ..how(budget, 5) };
            let choose = |how: &Choosing| choose_early(&*network, &deployment, &points, how, &Quiet).unwrap();
            let found = choose(&white_box);
            assert_eq!(found, choose(&Choosing { batch: 12, ..white_box }));
            for (at, accuracy) in found.robust_accuracy.iter().enumerate() {
                let victim = |readout, gradient| network.victim(&deployment, readout, gradient);
                let judge = || victim(Readout::early(at + 1), Estimator::through_solver());
                let ready_made = victim(Readout::final_state(), deployment.training_gradient.clone());
                let mut standing = points.correct(&judge().logits(points.images()));
                for attacker in [ready_made, judge()] {
                    let attacked = attack().unwrap().run(&*attacker, &points.examples(0, 0), &budget).images;
                    both(&mut standing, &points.correct(&judge().logits(&attacked)));
                }
                let left = standing.iter().filter(|&&stands| stands).count();
                assert_eq!(accuracy.correct(), left, "t = {}, eps {eps}", at + 1);
            }
        }
    }

    #[test]
    fn what_cannot_be_chosen_on_is_refused() {
        let device = burn::tensor::Device::default();
        let network = Architecture::named("mdeq-digits").unwrap().init(3, &device).unwrap();
        let deployment = Deployment::exact();
        let budget = Budget::new(Norm::Linf, 0.0).unwrap();
        let one = from_vec(vec![0.5; 64], [1, 1, 8, 8], &device);
        let strange = Points::new(vec![7], one, vec![10]).unwrap();
        let refused = choose_early(&*network, &deployment, &strange, &how(budget, 1), &Quiet);
        assert!(matches!(refused, Err(EarlyExitError::Label { index: 7, .. })));
        let refused = choose_early(&*network, &deployment, &points(&*network, 2), &how(budget, 0), &Quiet);
        assert!(matches!(refused, Err(EarlyExitError::BatchSize)));
        let l1 = Budget::new(Norm::L1, 1.0).unwrap();
        let refused = choose_early(&*network, &deployment, &points(&*network, 2), &how(l1, 1), &Quiet);
        assert!(matches!(refused, Err(EarlyExitError::Norm(_))));
    }
}
