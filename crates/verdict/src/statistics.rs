//! Exact tests, intervals and corrections for paired counts.

use equipoise_record::{Interval, Paired, wilson_interval};
use statrs::distribution::{Binomial, DiscreteCDF};

/// Exact one-sided test of b among b + c at 1/2: the probability of b or more heads in b + c tosses (McNemar 1947, in
/// its exact form). Without a discordant pair it is 1.
///
/// ```
/// use equipoise_verdict::exact_test;
///
/// assert!((exact_test(6, 0) - 1.0 / 64.0).abs() < 1e-12);
/// assert_eq!(exact_test(0, 0), 1.0);
/// ```
pub fn exact_test(b: usize, c: usize) -> f64 {
    if b == 0 {
        return 1.0;
    }
    let tosses = Binomial::new(0.5, (b + c) as u64).expect("a fair coin");
    tosses.sf(b as u64 - 1).clamp(0.0, 1.0)
}

/// The same, two-sided: twice the smaller tail, at most 1.
pub fn exact_test_two_sided(b: usize, c: usize) -> f64 {
    (2.0 * exact_test(b.max(c), b.min(c))).min(1.0)
}

/// The 95% interval of (b − c)/n for paired proportions (Newcombe 1998, Statistics in Medicine 17:2635, method 10):
/// Wilson's intervals of both proportions, combined with their correlation, which is corrected for continuity.
///
/// `both` pairs are successes twice, `b` only for the first, `c` only for the second, `neither` for none.
///
/// # Panics
///
/// Never: without pairs it is \[−1, 1\].
pub fn difference_interval(both: usize, b: usize, c: usize, neither: usize) -> Interval {
    let n = both + b + c + neither;
    if n == 0 {
        return [-1.0, 1.0];
    }
    let share = |count: usize| count as f64 / n as f64;
    let (p1, p2) = (share(both + b), share(both + c));
    let [low1, high1] = wilson_interval(both + b, n);
    let [low2, high2] = wilson_interval(both + c, n);
    let phi = correlation(both, b, c, neither);
    let length = |x: f64, y: f64| (x * x - 2.0 * phi * x * y + y * y).max(0.0).sqrt();
    let difference = (b as f64 - c as f64) / n as f64;
    [
        (difference - length(p1 - low1, high2 - p2)).max(-1.0),
        (difference + length(high1 - p1, p2 - low2)).min(1.0),
    ]
}

/// φ of the four-fold table, with Newcombe's correction for continuity where it is positive.
fn correlation(both: usize, b: usize, c: usize, neither: usize) -> f64 {
    let [both, b, c, neither] = [both, b, c, neither].map(|count| count as f64);
    let n = both + b + c + neither;
    let margins = (both + b) * (c + neither) * (both + c) * (b + neither);
    if margins == 0.0 {
        return 0.0;
    }
    let product = both * neither - b * c;
    let corrected = if product > n / 2.0 { product - n / 2.0 } else { product.min(0.0) };
    corrected / margins.sqrt()
}

/// Everything about two arms on the same points: `standing` of the `n` points stand in both.
pub fn paired(n: usize, standing: usize, b: usize, c: usize) -> Paired {
    let fallen = n.saturating_sub(standing + b + c);
    Paired {
        b,
        c,
        difference: if n == 0 { 0.0 } else { (b as f64 - c as f64) / n as f64 },
        difference_interval: difference_interval(fallen, b, c, standing),
        p_value: exact_test(b, c),
    }
}

/// A p-value after correction, and the factor that Holm's method gave it by its rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction {
    /// The corrected p-value.
    pub p_value: f64,
    /// m − i + 1 for the i-th smallest of m.
    pub factor: f64,
}

/// Holm's correction (1979): the i-th smallest of m p-values times m − i + 1, never below that of a smaller one, at
/// most 1. In the order given.
pub fn holm(p_values: &[f64]) -> Vec<Correction> {
    let m = p_values.len();
    let mut order: Vec<usize> = (0..m).collect();
    order.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let mut corrected = vec![Correction { p_value: 1.0, factor: 1.0 }; m];
    let mut least = 0.0_f64;
    for (rank, &at) in order.iter().enumerate() {
        let factor = (m - rank) as f64;
        least = least.max((factor * p_values[at]).min(1.0));
        corrected[at] = Correction { p_value: least, factor };
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_has_its_published_values() {
        for (both, b, c, neither, low, high) in [
            // Newcombe 1998, Statistics in Medicine 17:2635, table III, method 10.
            (36, 12, 2, 0, 0.0569, 0.3404),
            // Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33:2850: Newcombe's square-and-add interval
            // of the airway data, printed to three digits.
            (1, 1, 7, 12, -0.5069, -0.0256),
        ] {
            let [l, h] = difference_interval(both, b, c, neither);
            assert!((l - low).abs() < 6e-5 && (h - high).abs() < 6e-5, "{l} {h}");
        }
    }

    #[test]
    fn the_interval_is_the_same_from_both_sides() {
        for (both, b, c, neither) in [(3, 5, 2, 40), (0, 9, 0, 1), (7, 0, 0, 0), (20, 1, 6, 173)] {
            let [low, high] = difference_interval(both, b, c, neither);
            // Failures in place of successes, and the arms exchanged.
            let [l, h] = difference_interval(neither, b, c, both);
            assert!((l - low).abs() < 1e-12 && (h - high).abs() < 1e-12);
            let [l, h] = difference_interval(both, c, b, neither);
            assert!((l + high).abs() < 1e-12 && (h + low).abs() < 1e-12);
            let difference = (b as f64 - c as f64) / (both + b + c + neither) as f64;
            assert!(low <= difference && difference <= high);
        }
        assert_eq!(difference_interval(0, 0, 0, 0), [-1.0, 1.0]);
    }

    #[test]
    fn the_test_is_the_sum_of_its_terms() {
        // By counting outcomes: C(m, k) / 2^m over k from b to m.
        for (b, c) in [(1, 0), (3, 3), (17, 2), (0, 4), (12, 1)] {
            let m = b + c;
            let choose = |k: usize| (0..k).fold(1.0, |product, i| product * (m - i) as f64 / (i + 1) as f64);
            let sum: f64 = (b..=m).map(choose).sum::<f64>() / 2.0_f64.powi(m as i32);
            assert!((exact_test(b, c) - sum).abs() < 1e-10, "{b} {c}");
        }
        assert!((exact_test_two_sided(8, 1) - 20.0 / 512.0).abs() < 1e-12);
        assert_eq!(exact_test_two_sided(4, 4), 1.0);
        // Large counts neither overflow nor vanish.
        assert!((exact_test(500_000, 500_000) - 0.5).abs() < 1e-3);
    }

    #[test]
    fn holm_corrects_by_rank() {
        let corrected: Vec<f64> = holm(&[0.01, 0.04, 0.03, 0.005]).iter().map(|c| c.p_value).collect();
        // Holm 1979: 4 × 0.005, 3 × 0.01, 2 × 0.03, and never below the one before.
        for (found, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - expected).abs() < 1e-12, "{corrected:?}");
        }
        assert_eq!(holm(&[]), []);
        assert_eq!(holm(&[0.7, 0.6]).iter().map(|c| c.p_value).collect::<Vec<_>>(), [1.0, 1.0]);
    }
}
