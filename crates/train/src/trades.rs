//! TRADES (Zhang et al. 2019, arXiv 1901.08573): the clean image's cross-entropy, and β times how far the answer
//! moves at the perturbed one, KL(f(x) ‖ f(x')).
//!
//! The divergence is differentiated with respect to both answers, as in the authors' code. The clean pass halts when
//! it has its logits; the perturbed pass runs there, with these as its reference; then the clean pass goes on with the
//! perturbed logits as its constant. Each pass is a batch of its own to batch normalisation, and running statistics
//! note the clean one first.

use std::cell::RefCell;

use equipoise_attack::batch::{Logits, Values};
use equipoise_attack::loss::{CrossEntropy, KlFrom, Objective, TradesClean};
use equipoise_deq::architecture::Model;
use equipoise_deq::training_pass::{StepGradients, UnsupportedCell};

/// One of the two passes: its gradients for an objective.
pub type TradesPass<'a> = &'a dyn Fn(&dyn Objective) -> Result<StepGradients, UnsupportedCell>;

/// Gradients of the mean of the TRADES loss. The values are those of the whole loss; logits, residual and Jacobian
/// estimate those of the perturbed pass. For training gradients that read one state (exact, unrolled); through one
/// that reads several, the first reading is the reference.
///
/// # Errors
///
/// What the passes report.
pub fn trades_gradients(
    model: &dyn Model,
    labels: &[usize],
    beta: f64,
    clean: TradesPass<'_>,
    perturbed: TradesPass<'_>,
) -> Result<StepGradients, UnsupportedCell> {
    let whole = Whole { labels, beta, perturbed, done: RefCell::default() };
    let mut step = clean(&whole)?;
    let Some(perturbed) = whole.done.into_inner() else { return Ok(step) };
    let mut perturbed = perturbed?;
    model.merge(&mut step.parameters, &mut perturbed.parameters);
    step.moments.extend(perturbed.moments);
    let StepGradients { logits, jacobian, residual, .. } = perturbed;
    Ok(StepGradients { logits, jacobian, residual, ..step })
}

/// The loss as the clean pass sees it: reading it for the first time runs the perturbed pass.
struct Whole<'a> {
    labels: &'a [usize],
    beta: f64,
    perturbed: TradesPass<'a>,
    done: RefCell<Option<Result<StepGradients, UnsupportedCell>>>,
}

impl Objective for Whole<'_> {
    fn values(&self, logits: Logits) -> Values {
        let mut done = self.done.borrow_mut();
        let perturbed = done.get_or_insert_with(|| {
            let reference = if logits.is_autodiff() { logits.clone().inner() } else { logits.clone() };
            (self.perturbed)(&Times(self.beta, KlFrom { reference }))
        });
        let labels = self.labels.to_vec();
        match perturbed {
            Ok(perturbed) => {
                let perturbed = perturbed.logits.clone();
                TradesClean { labels, perturbed, beta: self.beta }.values(logits)
            }
            // Reported once the clean pass is over.
            Err(_) => CrossEntropy { labels }.values(logits),
        }
    }
}

/// A multiple of an objective.
struct Times<O>(f64, O);

impl<O: Objective> Objective for Times<O> {
    fn values(&self, logits: Logits) -> Values {
        self.1.values(logits) * self.0
    }
}
