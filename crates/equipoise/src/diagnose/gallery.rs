//! Images to look at, with the model's answers at every iterate.

use equipoise_record::{Answers, Gallery, View};

use super::accuracy::{Predictions, predict};
use super::examination::{Question, answer};
use super::{Case, DiagnoseError, Measured};
use crate::attack::{Classifier, WhiteBox};
use crate::batch::{predictions, to_vec};
use crate::evaluate::Pictures;
use crate::model::equilibrium::Equilibrium;
use crate::victim::{Deployment, Victim};

pub(super) const QUESTION: Question = Question {
    name: "gallery",
    equilibrium: |asked, model, case| {
        answer(gallery(model, asked.deployment(), case, &asked.classes, asked.gallery))
    },
    feedforward: Ok(|asked, case| {
        let victim = asked.victim(asked.training_gradient());
        answer(feedforward_gallery(&*victim, case, &asked.classes, asked.gallery))
    }),
};

/// The first `count` points of a case. Costs a solve for each, clean and attacked.
///
/// # Errors
///
/// If the observer cancels.
pub fn gallery(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    case: &Case<'_>,
    classes: &[String],
    count: usize,
) -> Result<Measured<Gallery>, DiagnoseError> {
    let victim = Victim::ready_made(model, deployment);
    let result = lay_out(case, classes, count, |view, rows| {
        predict(model, deployment, &victim, case.batch(view, rows).images())
    })?;
    Ok(Measured { result, work: victim.work() })
}

/// The same for a model without iterates.
///
/// # Errors
///
/// If the observer cancels.
pub fn feedforward_gallery(
    victim: &dyn WhiteBox,
    case: &Case<'_>,
    classes: &[String],
    count: usize,
) -> Result<Measured<Gallery>, DiagnoseError> {
    let result = lay_out(case, classes, count, |view, rows| {
        let deployed = predictions(&victim.logits(case.batch(view, rows).images()));
        Predictions { by_iterate: Vec::new(), deployed }
    })?;
    Ok(Measured { result, work: victim.work() })
}

fn lay_out(
    case: &Case<'_>,
    classes: &[String],
    count: usize,
    predict: impl Fn(View, &[usize]) -> Predictions,
) -> Result<Gallery, DiagnoseError> {
    let rows: Vec<usize> = (0..count.min(case.len())).collect();
    case.observer.stage("gallery", rows.len());
    let (clean, attacked) = (case.batch(View::Clean, &rows), case.batch(View::Attacked, &rows));
    let [_, channels, height, width] = clean.images().dims();
    let size = channels * height * width;
    let (clean_pixels, attacked_pixels) = (to_vec(clean.images().clone()), to_vec(attacked.images().clone()));
    let pictures = Pictures::new(&clean_pixels, &attacked_pixels, size);
    let answers = |view, row: usize| {
        let found = predict(view, &[row]);
        let by_iterate = found.by_iterate.iter().map(|answers| answers[0]).collect();
        Answers { by_iterate, deployed: found.deployed[0] }
    };
    let items = rows.iter().map(|&row| {
        if case.observer.cancelled() {
            return Err(DiagnoseError::Cancelled);
        }
        let named = (clean.indices()[row], clean.labels()[row]);
        let answers = (answers(View::Clean, row), answers(View::Attacked, row));
        let item = pictures.item(row, named, case.settings.budget.norm(), answers);
        case.observer.advance(1, "");
        Ok(item)
    });
    let items = items.collect::<Result<_, _>>()?;
    Ok(Gallery { shape: [channels, height, width], classes: classes.to_vec(), scale: pictures.scale, items })
}
