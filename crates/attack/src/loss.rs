//! Losses: functions of the logits, one value per example.
//!
//! An [`Objective`] is written in Burn operations on logits; its derivative with respect to them comes from
//! autodiff. Attacks ascend objectives, training descends them.

use burn::tensor::{Int, Tensor, activation};

use crate::batch::{Logits, Values, indices, to_vec};

/// A function of the logits, differentiable almost everywhere, one value per example.
pub trait Objective {
    /// Values `[N]` for logits `[N, K]`. Must be per example, and written in Burn operations so that it can
    /// be differentiated.
    fn values(&self, logits: Logits) -> Values;

    /// Values `[N]` and the derivative `[N, K]` of their sum with respect to the logits, on the plain device.
    /// Logits that are part of a graph are cut from it.
    fn values_and_derivative(&self, logits: &Logits) -> (Values, Logits) {
        let logits = if logits.is_autodiff() { logits.clone().inner() } else { logits.clone() };
        let tracked = logits.clone().autodiff().require_grad();
        let values = self.values(tracked.clone());
        let plain = values.clone().inner();
        // From values to their sum the way back is a row of ones, with which it begins. The sum itself nobody needs, and on a GPU it is
        // taken by atomic additions: in any order, and some drivers do not survive them.
        let derivative = if values.is_tracked() { tracked.grad(&values.backward()) } else { None };
        (plain, derivative.unwrap_or_else(|| logits.zeros_like()))
    }
}

/// Cross-entropy −log softmax(z)_y.
///
/// # Panics
///
/// If there is not one label per example, or if a label is not a class.
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

/// Margin max_{j≠y} z_j − z_y: positive exactly where the example is misclassified (Carlini and Wagner 2017,
/// arXiv 1608.04644). Needs two classes; with two, it is the difference of the logits. Where several other
/// classes share the maximum, the derivative goes to one of them.
///
/// # Panics
///
/// If there is not one label per example, if a label is not a class, or if there is only one class.
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
        let [n, classes] = logits.dims();
        assert!(classes > 1, "a margin needs at least two classes");
        let penalty = Tensor::<2>::full([n, 1], -1e30, &logits.device());
        let others = logits.scatter(1, labels, penalty, burn::tensor::IndexingUpdateOp::Add);
        (others.max_dim(1) - own).squeeze_dim::<1>(1)
    }
}

/// Margin of the classes' probabilities, max_{j≠y} p_j − p_y with p = softmax(z): positive exactly where the example is
/// misclassified, and bounded by −1 and 1 (the probability margin attack, Xie et al. 2024). Its slope
/// fades, as that of the cross-entropy does, where the softmax is saturated.
///
/// # Panics
///
/// As [`Margin`].
#[derive(Debug, Clone)]
pub struct ProbabilityMargin {
    /// True class of each example.
    pub labels: Vec<usize>,
}

impl Objective for ProbabilityMargin {
    fn values(&self, logits: Logits) -> Values {
        Margin { labels: self.labels.clone() }.values(activation::softmax(logits, 1))
    }
}

/// The difference of two logits, z_t − z_y: positive where the target class beats the true one. Linear in the
/// logits, so that its gradient is the normal of the boundary between the two classes (FAB follows it).
///
/// # Panics
///
/// If there is not one label and one target per example, or if one of them is not a class.
#[derive(Debug, Clone)]
pub struct TargetMargin {
    /// True class y of each example.
    pub labels: Vec<usize>,
    /// Target class t of each example.
    pub targets: Vec<usize>,
}

impl Objective for TargetMargin {
    fn values(&self, logits: Logits) -> Values {
        excess(&logits, &self.targets, &self.labels)
    }
}

/// Added to the denominators of the difference of logits ratio, as in the reference implementation.
const DLR_FLOOR: f64 = 1e-12;

/// Difference of logits ratio, −(z_y − max_{j≠y} z_j) / (z_π1 − z_π3 + 1e-12), where π sorts the logits from the
/// largest down (Croce and Hein 2020, arXiv 2003.01690, equation 6). Positive exactly where the example is
/// misclassified, like the margin, but unchanged when the logits are scaled or shifted. Needs three classes.
///
/// # Panics
///
/// If there is not one label per example, if a label is not a class, or if there are fewer than three classes.
#[derive(Debug, Clone)]
pub struct Dlr {
    /// True class of each example.
    pub labels: Vec<usize>,
}

impl Objective for Dlr {
    fn values(&self, logits: Logits) -> Values {
        let [_, classes] = logits.dims();
        assert!(classes >= 3, "the DLR loss needs at least three classes");
        let ranking = rank(&logits);
        let rivals: Vec<usize> = ranking
            .iter()
            .zip(&self.labels)
            .map(|(order, &label)| if order[0] == label { order[1] } else { order[0] })
            .collect();
        let (first, third) = (ranked(&ranking, 0), ranked(&ranking, 2));
        excess(&logits, &rivals, &self.labels) / (excess(&logits, &first, &third) + DLR_FLOOR)
    }
}

/// Targeted difference of logits ratio, −(z_y − z_t) / (z_π1 − ½(z_π3 + z_π4) + 1e-12), where π sorts the logits
/// from the largest down (Croce and Hein 2020, arXiv 2003.01690, equation 7). Needs four classes.
///
/// # Panics
///
/// If there is not one label and one target per example, if one of them is not a class, or if there are fewer
/// than four classes.
#[derive(Debug, Clone)]
pub struct TargetedDlr {
    /// True class y of each example.
    pub labels: Vec<usize>,
    /// Target class t of each example.
    pub targets: Vec<usize>,
}

impl Objective for TargetedDlr {
    fn values(&self, logits: Logits) -> Values {
        let [_, classes] = logits.dims();
        assert!(classes >= 4, "the targeted DLR loss needs at least four classes");
        let ranking = rank(&logits);
        let [first, third, fourth] = [0, 2, 3].map(|place| ranked(&ranking, place));
        let spread = (excess(&logits, &first, &third) + excess(&logits, &first, &fourth)) * 0.5;
        excess(&logits, &self.targets, &self.labels) / (spread + DLR_FLOOR)
    }
}

/// KL(p ‖ q) = Σ_k p_k (log p_k − log q_k) from the classes' probabilities p at reference logits, held fixed, to q at
/// the logits: how far an answer has moved (Zhang et al. 2019, arXiv 1901.08573, equation 5). What TRADES' inner
/// attack ascends, with p the answer on the clean image, and what its training descends at the image found.
#[derive(Debug, Clone)]
pub struct KlFrom {
    /// Logits `[N, K]` of p, off autodiff.
    pub reference: Logits,
}

impl Objective for KlFrom {
    fn values(&self, logits: Logits) -> Values {
        kl(beside(&self.reference, &logits), logits)
    }
}

/// The TRADES loss as a function of the logits on the clean image: CE(z, y) + β KL(p ‖ q), with p at these logits
/// and q at the logits on the perturbed image, held fixed (Zhang et al. 2019). With [`KlFrom`] times β for the other
/// argument, its whole derivative.
///
/// # Panics
///
/// If there is not one label per example, or if a label is not a class.
#[derive(Debug, Clone)]
pub struct TradesClean {
    /// True class of each example.
    pub labels: Vec<usize>,
    /// Logits `[N, K]` on the perturbed images, off autodiff.
    pub perturbed: Logits,
    /// β: the weight of the divergence against the cross-entropy.
    pub beta: f64,
}

impl Objective for TradesClean {
    fn values(&self, logits: Logits) -> Values {
        let other = beside(&self.perturbed, &logits);
        let natural = CrossEntropy { labels: self.labels.clone() }.values(logits.clone());
        natural + kl(logits, other) * self.beta
    }
}

/// KL(softmax a ‖ softmax b) of each example.
fn kl(a: Logits, b: Logits) -> Values {
    let (a, b) = (activation::log_softmax(a, 1), activation::log_softmax(b, 1));
    (a.clone().exp() * (a - b)).sum_dim(1).squeeze_dim::<1>(1)
}

/// A constant, on the device of the logits that it meets.
fn beside(constant: &Logits, logits: &Logits) -> Logits {
    if logits.is_autodiff() { constant.clone().autodiff() } else { constant.clone() }
}

/// z_a − z_b for each example.
fn excess(logits: &Logits, a: &[usize], b: &[usize]) -> Values {
    let pick = |classes: &[usize]| logits.clone().gather(1, column(classes, logits));
    (pick(a) - pick(b)).squeeze_dim::<1>(1)
}

/// The classes of each example from the largest logit down, ties to the lower class. Found on the host: the
/// order is constant between ties, so a derivative need not know how it was found.
fn rank(logits: &Logits) -> Vec<Vec<usize>> {
    let [_, classes] = logits.dims();
    let plain = if logits.is_autodiff() { logits.clone().inner() } else { logits.clone() };
    to_vec(plain)
        .chunks(classes)
        .map(|row| {
            let mut order: Vec<usize> = (0..classes).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            order
        })
        .collect()
}

/// The class in this place (0 for the largest logit) of each example's ranking.
fn ranked(ranking: &[Vec<usize>], place: usize) -> Vec<usize> {
    ranking.iter().map(|order| order[place]).collect()
}

/// Labels as a column `[N, 1]` beside the logits.
fn column(labels: &[usize], logits: &Logits) -> Tensor<2, Int> {
    let [n, classes] = logits.dims();
    assert_eq!(labels.len(), n, "one label per example");
    // Not left to the backend: on some devices a gather out of range reads whatever is there.
    assert!(labels.iter().all(|&label| label < classes), "labels are classes, 0 to {}", classes - 1);
    indices(labels, &logits.device().inner()).unsqueeze_dim(1)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::batch::{from_vec, to_vec};

    const LOGITS: [f32; 12] = [1.0, -2.0, 0.5, 3.0, 0.1, 0.2, -0.3, 0.4, 5.0, 4.0, -1.0, 2.0];
    const LABELS: [usize; 3] = [3, 0, 2];

    fn logits() -> Logits {
        from_vec(LOGITS.to_vec(), [3, 4], &Device::default())
    }

    const TARGETS: [usize; 3] = [0, 2, 1];

    fn objectives() -> [Box<dyn Objective>; 6] {
        objectives_for(&LABELS, &TARGETS)
    }

    fn objectives_for(labels: &[usize], targets: &[usize]) -> [Box<dyn Objective>; 6] {
        let (labels, targets) = (labels.to_vec(), targets.to_vec());
        [
            Box::new(CrossEntropy { labels: labels.clone() }),
            Box::new(Margin { labels: labels.clone() }),
            Box::new(Dlr { labels: labels.clone() }),
            Box::new(TargetedDlr { labels: labels.clone(), targets: targets.clone() }),
            Box::new(TargetMargin { labels: labels.clone(), targets }),
            Box::new(ProbabilityMargin { labels }),
        ]
    }

    fn close(a: &[f32], b: &[f64], tolerance: f64) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((f64::from(*a) - b).abs() < tolerance, "{a} {b}");
        }
    }

    #[test]
    fn values_are_those_of_the_definitions() {
        let [cross_entropy, margin, dlr, targeted, difference, probabilities] = objectives();
        let expected: Vec<f64> = LOGITS
            .chunks(4)
            .zip(LABELS)
            .map(|(row, y)| row.iter().map(|&z| f64::from(z).exp()).sum::<f64>().ln() - f64::from(row[y]))
            .collect();
        close(&to_vec(cross_entropy.values(logits())), &expected, 1e-6);
        close(&to_vec(margin.values(logits())), &[1.0 - 3.0, 0.4 - 0.1, 5.0 + 1.0], 1e-6);
        // Sorted: 3, 1, 0.5, -2; 0.4, 0.2, 0.1, -0.3; 5, 4, 2, -1.
        close(&to_vec(dlr.values(logits())), &[-2.0 / 2.5, 0.3 / 0.3, 6.0 / 3.0], 1e-6);
        let expected = [-2.0 / (3.0 + 0.75), -0.4 / (0.4 + 0.1), 5.0 / (5.0 - 0.5)];
        close(&to_vec(targeted.values(logits())), &expected, 1e-6);
        close(&to_vec(difference.values(logits())), &[1.0 - 3.0, -0.3 - 0.1, 4.0 + 1.0], 1e-6);
        let expected: Vec<f64> = LOGITS
            .chunks(4)
            .zip(LABELS)
            .map(|(row, y)| {
                let sum: f64 = row.iter().map(|&z| f64::from(z).exp()).sum();
                let others =
                    row.iter().enumerate().filter(|&(k, _)| k != y).map(|(_, &z)| f64::from(z).exp());
                (others.fold(0.0, f64::max) - f64::from(row[y]).exp()) / sum
            })
            .collect();
        close(&to_vec(probabilities.values(logits())), &expected, 1e-6);
    }

    #[test]
    fn ratios_do_not_see_scale_or_shift() {
        let [_, _, dlr, targeted, ..] = objectives();
        for objective in [dlr, targeted] {
            let expected: Vec<f64> = to_vec(objective.values(logits())).into_iter().map(f64::from).collect();
            close(&to_vec(objective.values(logits() * 64.0 + 3.0)), &expected, 1e-5);
        }
    }

    #[test]
    fn equal_logits_give_a_ratio_of_zero() {
        let flat = from_vec(vec![0.5; 4], [1, 4], &Device::default());
        for objective in objectives_for(&[1], &[2]).iter().skip(2) {
            let (values, derivative) = objective.values_and_derivative(&flat);
            assert_eq!(to_vec(values), [0.0]);
            assert!(to_vec(derivative).iter().all(|entry| entry.is_finite()));
        }
    }

    #[test]
    #[should_panic(expected = "at least three classes")]
    fn two_classes_have_no_ratio() {
        Dlr { labels: vec![0] }.values(from_vec(vec![1.0, 2.0], [1, 2], &Device::default()));
    }

    #[test]
    #[should_panic(expected = "at least four classes")]
    fn three_classes_have_no_targeted_ratio() {
        let logits = from_vec(vec![1.0, 2.0, 3.0], [1, 3], &Device::default());
        TargetedDlr { labels: vec![0], targets: vec![1] }.values(logits);
    }

    #[test]
    fn derivatives_meet_finite_differences() {
        let step = 2e-3;
        let divergences: [Box<dyn Objective>; 2] = [
            Box::new(KlFrom { reference: elsewhere() }),
            Box::new(TradesClean { labels: LABELS.to_vec(), perturbed: elsewhere(), beta: 2.0 }),
        ];
        for objective in objectives().into_iter().chain(divergences) {
            let (values, derivative) = objective.values_and_derivative(&logits());
            assert_eq!(to_vec(values), to_vec(objective.values(logits())));
            let difference: Vec<f64> = (0..LOGITS.len())
                .map(|k| {
                    let shifted = |by: f32| {
                        let mut moved = LOGITS.to_vec();
                        moved[k] += by;
                        let moved = from_vec(moved, [3, 4], &Device::default());
                        to_vec(objective.values(moved)).iter().map(|&value| f64::from(value)).sum::<f64>()
                    };
                    (shifted(step) - shifted(-step)) / f64::from(2.0 * step)
                })
                .collect();
            close(&to_vec(derivative), &difference, 1e-3);
        }
    }

    /// The reference that the divergences below are taken from or to.
    fn elsewhere() -> Logits {
        logits().flip([1]) * 0.5
    }

    #[test]
    fn divergences_are_those_of_the_definition() {
        let softmax = |row: &[f32]| {
            let sum: f64 = row.iter().map(|&z| f64::from(z).exp()).sum();
            row.iter().map(|&z| f64::from(z).exp() / sum).collect::<Vec<_>>()
        };
        let (own, other) = (LOGITS.to_vec(), to_vec(elsewhere()));
        let kl = |a: &[f32], b: &[f32]| {
            softmax(a).iter().zip(softmax(b)).map(|(p, q)| p * (p / q).ln()).sum::<f64>()
        };
        let rows = || own.chunks(4).zip(other.chunks(4));
        let expected: Vec<f64> = rows().map(|(own, other)| kl(other, own)).collect();
        assert!(expected.iter().all(|&divergence| divergence > 0.01));
        close(&to_vec(KlFrom { reference: elsewhere() }.values(logits())), &expected, 1e-5);
        let trades = TradesClean { labels: LABELS.to_vec(), perturbed: elsewhere(), beta: 6.0 };
        let natural = to_vec(CrossEntropy { labels: LABELS.to_vec() }.values(logits()));
        let expected: Vec<f64> =
            rows().zip(natural).map(|((own, other), ce)| f64::from(ce) + 6.0 * kl(own, other)).collect();
        close(&to_vec(trades.values(logits())), &expected, 1e-5);
        close(&to_vec(KlFrom { reference: logits() }.values(logits())), &[0.0; 3], 1e-6);
    }

    #[test]
    fn with_two_classes_the_margin_is_the_difference() {
        let logits = from_vec(vec![0.25, 1.0, 0.25, 1.0, 2.0, 2.0], [3, 2], &Device::default());
        let (values, derivative) = Margin { labels: vec![0, 1, 0] }.values_and_derivative(&logits);
        assert_eq!(to_vec(values), vec![0.75, -0.75, 0.0]);
        assert_eq!(to_vec(derivative), vec![-1.0, 1.0, 1.0, -1.0, -1.0, 1.0]);
    }

    #[test]
    fn among_equal_classes_the_margin_follows_one() {
        let logits = from_vec(vec![1.0, 1.0, 0.0], [1, 3], &Device::default());
        let derivative = to_vec(Margin { labels: vec![2] }.values_and_derivative(&logits).1);
        assert!(derivative == [1.0, 0.0, -1.0] || derivative == [0.0, 1.0, -1.0], "{derivative:?}");
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let logits = from_vec(vec![1e4, 0.0, -1e4], [1, 3], &Device::default());
        close(&to_vec(CrossEntropy { labels: vec![2] }.values(logits.clone())), &[2e4], 1e-2);
        close(&to_vec(Margin { labels: vec![0] }.values(logits)), &[-1e4], 1e-2);
    }

    #[test]
    fn an_example_does_not_see_its_batch() {
        for (k, y) in LABELS.into_iter().enumerate() {
            let row = from_vec(LOGITS[4 * k..][..4].to_vec(), [1, 4], &Device::default());
            let alone = objectives_for(&[y], &TARGETS[k..=k]);
            for (alone, together) in alone.iter().zip(objectives()) {
                let (value, derivative) = alone.values_and_derivative(&row);
                let (values, derivatives) = together.values_and_derivative(&logits());
                assert_eq!(to_vec(value), to_vec(values)[k..=k]);
                assert_eq!(to_vec(derivative), to_vec(derivatives)[4 * k..][..4]);
            }
        }
    }

    #[test]
    fn a_graph_is_left_aside() {
        let tracked = logits().autodiff().require_grad() * 2.0;
        for objective in objectives() {
            let (values, derivative) = objective.values_and_derivative(&tracked);
            let (expected, expected_derivative) = objective.values_and_derivative(&(logits() * 2.0));
            assert!(!values.is_autodiff() && !derivative.is_autodiff());
            assert_eq!(to_vec(values), to_vec(expected));
            assert_eq!(to_vec(derivative), to_vec(expected_derivative));
        }
    }

    #[test]
    #[should_panic(expected = "labels are classes, 0 to 3")]
    fn a_label_that_is_no_class_is_refused() {
        CrossEntropy { labels: vec![0, 4, 1] }.values(logits());
    }

    #[test]
    #[should_panic(expected = "one label per example")]
    fn labels_must_be_as_many_as_examples() {
        Margin { labels: vec![0] }.values(logits());
    }
}
