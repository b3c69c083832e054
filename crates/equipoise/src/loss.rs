//! Losses: functions of the logits, one value per example.
//!
//! An [`Objective`] is written in Burn operations on logits; its derivative with respect to them comes from
//! autodiff. Attacks ascend objectives, training descends them.

use burn::tensor::{Int, Tensor, activation};

use crate::batch::{Logits, Values, indices};

/// A function of the logits, differentiable almost everywhere, one value per example.
pub trait Objective {
    /// Values `[N]` for logits `[N, K]`. Must be per example, and written in Burn operations so that it can
    /// be differentiated.
    fn values(&self, logits: Logits) -> Values;

    /// Values `[N]` and the derivative `[N, K]` of their sum with respect to the logits.
    fn values_and_derivative(&self, logits: &Logits) -> (Values, Logits) {
        let tracked = logits.clone().autodiff().require_grad();
        let values = self.values(tracked.clone());
        let plain = values.clone().inner();
        let derivative = match values.sum() {
            total if total.is_tracked() => tracked.grad(&total.backward()),
            _ => None,
        };
        (plain, derivative.unwrap_or_else(|| logits.zeros_like()))
    }
}

/// Cross-entropy −log softmax(z)_y.
#[derive(Debug, Clone)]
pub struct CrossEntropy {
    /// True class of each example.
    pub labels: Vec<usize>,
}

impl Objective for CrossEntropy {
    fn values(&self, logits: Logits) -> Values {
        let labels = column(&self.labels, &logits);
        activation::log_softmax(logits, 1).gather(1, labels).squeeze_dim::<1>(1).neg()
    }
}

/// Margin max_{j≠y} z_j − z_y: positive exactly where the example is misclassified (Carlini and Wagner 2017).
#[derive(Debug, Clone)]
pub struct Margin {
    /// True class of each example.
    pub labels: Vec<usize>,
}

impl Objective for Margin {
    fn values(&self, logits: Logits) -> Values {
        let labels = column(&self.labels, &logits);
        let own = logits.clone().gather(1, labels.clone());
        // Lower the true class so far that it cannot be the maximum.
        let [n, _] = logits.dims();
        let penalty = Tensor::<2>::full([n, 1], -1e30, &logits.device());
        let others = logits.scatter(1, labels, penalty, burn::tensor::IndexingUpdateOp::Add);
        (others.max_dim(1) - own).squeeze_dim::<1>(1)
    }
}

/// Labels as a column `[N, 1]` beside the logits.
fn column(labels: &[usize], logits: &Logits) -> Tensor<2, Int> {
    assert_eq!(labels.len(), logits.dims()[0], "one label per example");
    indices(labels, &logits.device().inner()).unsqueeze_dim(1)
}
