//! Certified training (Gowal et al. 2018, arXiv 1810.12715): a pass at the worst logits that a box of states leaves.
//!
//! The box around an image's fixed points is the fixed point of the network [on boxes](Deq::boxes), so that its gradient is
//! found as any other is. Class y leads class j by at least so much in it; a classifier that leads by that much and no more has
//! the logits 0 at y and minus the least leads elsewhere.

use burn::tensor::Tensor;

use super::{StepGradients, StepOptions, UnsupportedCell, gradients};
use crate::architecture::Model;
use crate::model::deq::Deq;
use crate::model::monotone::{Contracting, LinearHead, LinearStem, Monotone, MonotoneConv};
use crate::victim::Deployment;
use equipoise_attack::batch::{Images, Logits, Values, indices};
use equipoise_attack::loss::{CrossEntropy, Objective};
use equipoise_attack::work::WorkCounter;

/// Gradients of the mean cross-entropy at the worst logits of all images in \[0, 1\] within ε of a batch's in L∞. The step's logits
/// are those: an example is classified correctly where it is certified.
///
/// # Errors
///
/// If the model is no monotone DEQ, or the boxes of such a W need not contract.
pub fn box_gradients(
    model: &dyn Model,
    eps: f64,
    labels: &[usize],
    deployment: &Deployment,
    options: &StepOptions,
    images: &Images,
    counter: &WorkCounter,
) -> Result<StepGradients, UnsupportedCell> {
    if let Some(model) = model.downcast::<Monotone>() {
        return of(model, eps, labels, deployment, options, images, counter);
    }
    if let Some(model) = model.downcast::<MonotoneConv>() {
        return of(model, eps, labels, deployment, options, images, counter);
    }
    Err(UnsupportedCell::Boxes)
}

fn of<S: LinearStem, C: Contracting, H: LinearHead>(
    model: &Deq<S, C, H>,
    eps: f64,
    labels: &[usize],
    deployment: &Deployment,
    options: &StepOptions,
    images: &Images,
    counter: &WorkCounter,
) -> Result<StepGradients, UnsupportedCell> {
    let boxed = model.boxes(eps).ok_or(UnsupportedCell::Boxes)?;
    let objective = WorstCase { labels: labels.to_vec() };
    let step = gradients(&boxed, deployment, options, images, &objective, counter)?;
    Ok(StepGradients { logits: worst(step.logits, labels), ..step })
}

/// The cross-entropy at the worst logits, as a function of all least leads.
struct WorstCase {
    labels: Vec<usize>,
}

impl Objective for WorstCase {
    fn values(&self, leads: Logits) -> Values {
        CrossEntropy { labels: self.labels.clone() }.values(worst(leads, &self.labels))
    }
}

/// Minus the leads `[N, K²]` of each label: `[N, K]`.
fn worst(leads: Logits, labels: &[usize]) -> Logits {
    let [n, pairs] = leads.dims();
    let classes = pairs.isqrt();
    let rows: Vec<usize> =
        labels.iter().flat_map(|label| (0..classes).map(move |j| label * classes + j)).collect();
    let rows: Tensor<2, burn::tensor::Int> = indices(&rows, &leads.device().inner()).reshape([n, classes]);
    leads.gather(1, rows).neg()
}
