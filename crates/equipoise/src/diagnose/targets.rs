//! Which classes images can be turned into: a targeted PGD for every other class.

use equipoise_record::{Share, Targeted, TargetedRow, View};

use super::examination::{Question, answer};
use super::{Case, DiagnoseError, Measured, pgd};
use crate::attack::{Attack, Noise, Step, WhiteBox};
use crate::batch::{Logits, Values, predictions};
use crate::gradient::Estimator;
use crate::loss::{CrossEntropy, Objective};

pub(super) const QUESTION: Question = Question {
    name: "targets",
    equilibrium: |asked, _, case| {
        let truth = Estimator::truth(&asked.deployment().readout);
        answer(targets(&*asked.victim(&truth), &truth.to_string(), case, &asked.classes))
    },
    feedforward: Ok(|asked, case| {
        answer(targets(&*asked.victim(asked.training_gradient()), "backpropagation", case, &asked.classes))
    }),
};

/// The logarithm of a target's probability.
struct Toward(CrossEntropy);

impl Objective for Toward {
    fn values(&self, logits: Logits) -> Values {
        self.0.values(logits).neg()
    }
}

/// Tries to turn every image that is correct when clean into every other class: ten steps of ε/4 from a random start, the last
/// image counts if it is given that very class.
///
/// # Errors
///
/// If the observer cancels.
pub fn targets(
    victim: &dyn WhiteBox,
    gradient: &str,
    case: &Case<'_>,
    names: &[String],
) -> Result<Measured<Targeted>, DiagnoseError> {
    let before = victim.work();
    let (attack, classes, budget) = (pgd(false), victim.classes(), case.settings.budget);
    let mut rows = vec![TargetedRow { images: 0, reached: vec![0; classes] }; classes];
    case.each("targets", View::Clean, |_, batch| {
        let right = batch.correct(&victim.logits(batch.images()));
        let standing: Vec<usize> = (0..right.len()).filter(|&k| right[k]).collect();
        if standing.is_empty() {
            return Ok(());
        }
        let batch = batch.select(&standing);
        let images = batch.images();
        let [_, shape @ ..] = images.dims();
        batch.labels().iter().for_each(|&label| rows[label].images += 1);
        let noise = Noise::new(case.settings.seed, "targeted start", 0);
        let start = images.clone() + noise.in_ball(&budget, batch.indices(), shape, &images.device());
        for target in 0..classes {
            case.step(Step {
                done: target,
                total: classes,
                examples: standing.len(),
                standing: standing.len(),
            })?;
            // Images of the target itself go along: their column is left at 0.
            let objective = Toward(CrossEntropy { labels: vec![target; standing.len()] });
            let found = attack.ascend(victim, images, &budget, &start, &objective);
            let answers = predictions(&victim.logits(&found));
            for (answer, &label) in answers.into_iter().zip(batch.labels()) {
                rows[label].reached[target] += usize::from(label != target && answer == Some(target));
            }
        }
        Ok(())
    })?;
    let reached = rows.iter().flat_map(|row| &row.reached).sum();
    let pairs = rows.iter().map(|row| row.images * (classes - 1)).sum();
    let result = Targeted {
        attack: format!("{}, targeted, all steps", attack.name()),
        gradient: gradient.to_owned(),
        classes: names.to_vec(),
        rows,
        reached: Share::new(reached, pairs),
    };
    Ok(Measured { result, work: victim.work() - before })
}
