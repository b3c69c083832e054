//! What samples show of a probability, with a stated chance of error; every bound is rounded to the safe side.

use statrs::distribution::{Beta, Binomial, ContinuousCDF, DiscreteCDF, Normal};

/// The exact lower confidence bound of a probability (Clopper and Pearson 1934, Biometrika 26:404), one-sided: it exceeds the
/// probability in at most a share `alpha` of cases. `successes` of `n` independent trials.
///
/// ```
/// use equipoise_verdict::clopper_pearson_below;
///
/// // Without a failure it is α^(1/n).
/// assert!((clopper_pearson_below(1000, 1000, 0.001) - 0.001_f64.powf(1e-3)).abs() < 1e-9);
/// assert_eq!(clopper_pearson_below(0, 1000, 0.001), 0.0);
/// ```
///
/// # Panics
///
/// If there are more successes than trials, or `alpha` is not between 0 and 1.
pub fn clopper_pearson_below(successes: usize, n: usize, alpha: f64) -> f64 {
    assert!(successes <= n && alpha > 0.0 && alpha < 1.0, "{successes} of {n} at {alpha}");
    if successes == 0 {
        return 0.0;
    }
    let beta = Beta::new(successes as f64, (n - successes + 1) as f64).expect("both are at least 1");
    // At the bound so many successes or more have the chance α; the quantile's own error may not make it more.
    let mut bound = beta.inverse_cdf(alpha).clamp(0.0, 1.0);
    let mut step = f64::EPSILON;
    while bound > 0.0 && chance_of_at_least(successes, n, bound) > alpha {
        bound = (bound * (1.0 - step)).next_down().max(0.0);
        step *= 2.0;
    }
    bound
}

/// The chance of so many successes or more in `n` trials.
fn chance_of_at_least(successes: usize, n: usize, probability: f64) -> f64 {
    match Binomial::new(probability, n as u64) {
        Ok(binomial) if successes > 0 => binomial.sf(successes as u64 - 1),
        _ => 1.0,
    }
}

/// Φ⁻¹(p), the standard normal quantile, not above it. −∞ at 0, and the largest number at 1.
pub fn normal_quantile_below(p: f64) -> f64 {
    let normal = Normal::standard();
    let mut quantile = normal.inverse_cdf(p);
    if quantile == f64::INFINITY {
        return f64::MAX;
    }
    let mut step = 1e-15;
    while quantile.is_finite() && normal.cdf(quantile) > p {
        quantile = (quantile - step * quantile.abs().max(1.0)).next_down();
        step *= 2.0;
    }
    quantile
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its own terms, in logarithms.
    fn tail(successes: usize, n: usize, p: f64) -> f64 {
        let log_factorial = |k: usize| (2..=k).map(|i| (i as f64).ln()).sum::<f64>();
        let term = |k: usize| {
            let log = log_factorial(n) - log_factorial(k) - log_factorial(n - k);
            (log + k as f64 * p.ln() + (n - k) as f64 * (1.0 - p).ln()).exp()
        };
        (successes..=n).map(term).sum()
    }

    #[test]
    fn the_bound_is_where_the_tail_is_alpha() {
        for (successes, n) in [(1, 1), (1, 30), (27, 30), (60, 100), (99, 100), (500, 1000), (999, 1000)] {
            for alpha in [0.001, 0.025, 0.3] {
                let bound = clopper_pearson_below(successes, n, alpha);
                let there = tail(successes, n, bound);
                assert!(
                    there <= alpha * (1.0 + 1e-9) && there > alpha * 0.999,
                    "{successes} of {n}: {there}"
                );
            }
        }
        // Published: 10 successes in 20 trials, two-sided 95%, 0.272 (Newcombe 1998, Statistics in Medicine 17:857).
        assert!((clopper_pearson_below(10, 20, 0.025) - 0.2720).abs() < 5e-5);
    }

    #[test]
    fn it_is_wrong_in_a_share_alpha_at_most() {
        // Every outcome with its probability, rather than a simulation.
        for p in [0.07, 0.5, 0.83, 0.99] {
            let n = 60;
            let wrong = |k: &usize| clopper_pearson_below(*k, n, 0.05) > p;
            let chance: f64 = (0..=n)
                .filter(wrong)
                .map(|k| tail(k, n, p) - if k < n { tail(k + 1, n, p) } else { 0.0 })
                .sum();
            assert!(chance <= 0.05 + 1e-9, "{p}: {chance}");
        }
    }

    #[test]
    fn quantiles_are_not_above() {
        for (p, quantile) in [(0.5, 0.0), (0.975, 1.959_963_984_540_054), (0.999, 3.090_232_306_167_813)] {
            let found = normal_quantile_below(p);
            assert!(found <= quantile && quantile - found < 1e-9, "{p}: {found}");
        }
        assert_eq!(normal_quantile_below(1.0), f64::MAX);
        assert_eq!(normal_quantile_below(0.0), f64::NEG_INFINITY);
    }
}
