//! Accuracy and robust accuracy of every iterate, all on the same images: what an early readout would give.

use equipoise_record::{IterateAccuracies, IterateAccuracy, Share, View};

use super::examination::{Question, answer};
use super::{Case, DiagnoseError, Measured, VIEWS};
use crate::attack::{Classifier, WhiteBox};
use crate::batch::{Images, predictions};
use crate::model::equilibrium::Equilibrium;
use crate::victim::{Deployment, Victim};

pub(super) const QUESTION: Question = Question {
    name: "accuracy",
    equilibrium: |asked, model, case| answer(accuracy(model, asked.deployment(), case)),
    feedforward: Ok(|asked, case| {
        answer(feedforward_accuracy(&*asked.victim(asked.training_gradient()), case))
    }),
};

/// Reads the head at every iterate of the deployed solver, and the deployed readout. One solve per image and
/// view.
///
/// # Errors
///
/// If the observer cancels.
pub fn accuracy(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    case: &Case<'_>,
) -> Result<Measured<IterateAccuracies>, DiagnoseError> {
    let victim = Victim::ready_made(model, deployment);
    let mut answers = Vec::new();
    for view in VIEWS {
        let mut all: Option<Predictions> = None;
        case.each(&format!("accuracy by iterate, {}", view.name()), view, |_, batch| {
            let found = predict(model, deployment, &victim, batch.images());
            match &mut all {
                None => all = Some(found),
                Some(all) => all.append(found),
            }
            Ok(())
        })?;
        answers.extend(all);
    }
    let labels = case.points.labels();
    let right = |answers: &[Option<usize>]| -> Vec<bool> {
        answers.iter().zip(labels).map(|(answer, label)| *answer == Some(*label)).collect()
    };
    let shares = |clean: &[Option<usize>], attacked: &[Option<usize>]| {
        let (clean, attacked) = (right(clean), right(attacked));
        let robust = Share::of(clean.iter().zip(&attacked).map(|(clean, attacked)| *clean && *attacked));
        (Share::of(clean), robust)
    };
    let [clean, attacked] = answers.as_slice() else { return Err(DiagnoseError::NoPoints) };
    let (deployed_clean, deployed_robust) = shares(&clean.deployed, &attacked.deployed);
    let by_iterate = clean.by_iterate.iter().zip(&attacked.by_iterate).enumerate();
    let result = IterateAccuracies {
        readout: deployment.readout.to_string(),
        clean: deployed_clean,
        robust: deployed_robust,
        by_iterate: by_iterate
            .map(|(at, (clean, attacked))| {
                let (clean, robust) = shares(clean, attacked);
                IterateAccuracy { t: at + 1, clean, robust }
            })
            .collect(),
    };
    Ok(Measured { result, work: victim.work() })
}

/// The same for a model without iterates.
///
/// # Errors
///
/// If the observer cancels.
pub fn feedforward_accuracy(
    victim: &dyn WhiteBox,
    case: &Case<'_>,
) -> Result<Measured<IterateAccuracies>, DiagnoseError> {
    let mut right = Vec::new();
    for view in VIEWS {
        let mut correct = Vec::with_capacity(case.len());
        case.each(&format!("accuracy, {}", view.name()), view, |_, batch| {
            correct.extend(batch.correct(&victim.logits(batch.images())));
            Ok(())
        })?;
        right.push((view, correct));
    }
    let both = |row: usize| right.iter().all(|(_, correct)| correct[row]);
    let clean = right.iter().find(|(view, _)| *view == View::Clean).map(|(_, correct)| correct.clone());
    let result = IterateAccuracies {
        readout: "final".into(),
        clean: Share::of(clean.unwrap_or_default()),
        robust: Share::of((0..case.len()).map(both)),
        by_iterate: Vec::new(),
    };
    Ok(Measured { result, work: victim.work() })
}

/// Predicted classes.
pub(super) struct Predictions {
    /// When z_t is read: by t − 1, then by example.
    pub(super) by_iterate: Vec<Vec<Option<usize>>>,
    /// Of the deployed readout, by example.
    pub(super) deployed: Vec<Option<usize>>,
}

impl Predictions {
    fn append(&mut self, other: Self) {
        for (mine, others) in self.by_iterate.iter_mut().zip(other.by_iterate) {
            mine.extend(others);
        }
        self.deployed.extend(other.deployed);
    }
}

/// What the model answers at every iterate of one solve.
pub(super) fn predict(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    victim: &Victim<'_>,
    images: &Images,
) -> Predictions {
    let forward = victim.forward(images, deployment.solver.steps);
    let head = |state: &crate::state::State| model.logits(state);
    Predictions {
        by_iterate: forward.trajectory.states().iter().map(|state| predictions(&head(state))).collect(),
        deployed: predictions(&victim.read(&forward)),
    }
}
