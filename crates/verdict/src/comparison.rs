//! Is one model or readout more robust than another? Paired comparisons on the same images.

use equipoise_record::{Evaluation, Interval, ReadoutResult};

use crate::statistics::{difference_interval, exact_test_two_sided, holm};

/// One model behind one readout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// Place among the models.
    pub model: usize,
    /// Place among its readouts.
    pub readout: usize,
}

/// Two sides on the images that both have seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The first.
    pub first: Side,
    /// The second.
    pub second: Side,
    /// Images that both have seen.
    pub n: usize,
    /// Images on which only the first is robust.
    pub first_only: usize,
    /// Images on which only the second is robust.
    pub second_only: usize,
    /// White-box accuracy of the first minus that of the second, on these images.
    pub difference: f64,
    /// Its 95% interval (Newcombe 1998, method 10).
    pub interval: Interval,
    /// Exact two-sided test (McNemar 1947).
    pub p_value: f64,
    /// The same after Holm's correction over all comparisons.
    pub p_value_corrected: f64,
}

/// Compares the white-box robustness of every two sides that speak of the same images: the same data set, norm and
/// radius, and the same labels. Sides without a common image are left out.
pub fn compare(models: &[Evaluation]) -> Vec<Comparison> {
    let sides: Vec<(Side, &Evaluation, &ReadoutResult)> = models
        .iter()
        .enumerate()
        .flat_map(|(model, evaluation)| {
            let readouts = evaluation.readouts.iter().enumerate();
            readouts.map(move |(readout, result)| (Side { model, readout }, evaluation, result))
        })
        .collect();
    let mut found = Vec::new();
    for (place, (first, of, a)) in sides.iter().enumerate() {
        for (second, other, b) in &sides[place + 1..] {
            let setting = |e: &Evaluation| (e.dataset.clone(), e.norm.clone(), e.eps.to_bits());
            if setting(of) == setting(other) && !a.attacks.is_empty() && !b.attacks.is_empty() {
                found.extend(pair((*first, a), (*second, b)));
            }
        }
    }
    let p_values: Vec<f64> = found.iter().map(|comparison| comparison.p_value).collect();
    for (comparison, corrected) in found.iter_mut().zip(holm(&p_values)) {
        comparison.p_value_corrected = corrected.p_value;
    }
    found
}

fn pair((first, a): (Side, &ReadoutResult), (second, b): (Side, &ReadoutResult)) -> Option<Comparison> {
    let known: std::collections::HashMap<(usize, usize), bool> =
        b.examples.iter().map(|example| ((example.index, example.label), example.robust)).collect();
    let mut counts = [[0_usize; 2]; 2];
    for example in &a.examples {
        if let Some(&other) = known.get(&(example.index, example.label)) {
            counts[usize::from(example.robust)][usize::from(other)] += 1;
        }
    }
    let [[neither, second_only], [first_only, both]] = counts;
    let n = neither + second_only + first_only + both;
    (n > 0).then(|| Comparison {
        first,
        second,
        n,
        first_only,
        second_only,
        difference: (first_only as f64 - second_only as f64) / n as f64,
        interval: difference_interval(both, first_only, second_only, neither),
        p_value: exact_test_two_sided(first_only, second_only),
        p_value_corrected: 1.0,
    })
}
