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

/// The exact lower confidence bound of how many of a `population` are marked, one-sided: it exceeds their number in at most a share
/// `alpha` of cases. `found` of `drawn` that were drawn at random without replacement are marked.
///
/// The smallest number of marked ones under which so many or more are found with a chance above `alpha`.
///
/// ```
/// use equipoise_verdict::hypergeometric_below;
///
/// // All of 400 found: of 10,000 at least 98%, since 0.98^400 is about 0.0003.
/// assert_eq!(hypergeometric_below(400, 400, 10_000, 0.0005), 9816);
/// // Whoever looks at all of them knows; whoever looks at none does not.
/// assert_eq!(hypergeometric_below(7, 20, 20, 0.0005), 7);
/// assert_eq!(hypergeometric_below(0, 0, 20, 0.0005), 0);
/// ```
///
/// # Panics
///
/// If more are found than drawn, or drawn than there are, or `alpha` is not between 0 and 1.
pub fn hypergeometric_below(found: usize, drawn: usize, population: usize, alpha: f64) -> usize {
    let sensible = found <= drawn && drawn <= population && alpha > 0.0 && alpha < 1.0;
    assert!(sensible, "{found} of {drawn} of {population} at {alpha}");
    // The chance grows with the number of marked ones. Under the largest possible number it is 1.
    let (mut low, mut high) = (found, population - (drawn - found));
    while low < high {
        let middle = low + (high - low) / 2;
        let ruled_out = chance_of_finding(found, drawn, middle, population) <= alpha;
        (low, high) = if ruled_out { (middle + 1, high) } else { (low, middle) };
    }
    low
}

/// More than the relative error of sums and products of 10⁷ terms, a few roundings each.
const SLACK: f64 = 1e-8;

/// The chance to find `found` or more marked ones among `drawn` of a population, not below it.
fn chance_of_finding(found: usize, drawn: usize, marked: usize, population: usize) -> f64 {
    if found <= (drawn + marked).saturating_sub(population) {
        return 1.0;
    }
    if found > drawn.min(marked) {
        return 0.0;
    }
    let unmarked = population - marked;
    // P(k + 1) / P(k). Its products are below 2⁵³, so that they are exact.
    let rise = |k: usize| {
        let up = (marked - k) as f64 * (drawn - k) as f64;
        up / ((k + 1) as f64 * (unmarked + k + 1 - drawn) as f64)
    };
    // Away from the mode terms fall, so that a sum begins with its largest.
    let mode = (drawn as u128 + 1) * (marked as u128 + 1) / (population as u128 + 2);
    let sum = |from: usize, next: &dyn Fn(usize) -> Option<(usize, f64)>| {
        let (mut k, mut term) = (from, chance_of_exactly(from, drawn, marked, population));
        let mut sum = term;
        while let Some((beyond, factor)) = next(k).filter(|_| term > sum * 1e-20) {
            (k, term) = (beyond, term * factor);
            sum += term;
        }
        sum
    };
    if found as u128 > mode {
        let most = drawn.min(marked);
        sum(found, &|k| (k < most).then(|| (k + 1, rise(k)))) * (1.0 + SLACK)
    } else {
        let least = (drawn + marked).saturating_sub(population);
        1.0 - sum(found - 1, &|k| (k > least).then(|| (k - 1, 1.0 / rise(k - 1)))) * (1.0 - SLACK)
    }
}

/// The chance to find so many marked ones: as a product whose factors above and below 1 alternate, so that it neither overflows
/// nor vanishes on its way.
fn chance_of_exactly(found: usize, drawn: usize, marked: usize, population: usize) -> f64 {
    let rest = drawn - found;
    let ratio = |a: usize, b: usize| a as f64 / b as f64;
    let marks = (0..found).map(|i| ratio(marked - i, population - i));
    let others = (0..rest).map(|i| ratio(population - marked - i, population - found - i));
    let fewer = found.min(rest);
    let mut orders = (1..=fewer).map(|i| ratio(drawn - fewer + i, i));
    let mut product = 1.0;
    for factor in marks.chain(others) {
        product *= factor;
        while product < 1.0
            && let Some(order) = orders.next()
        {
            product *= order;
        }
    }
    orders.fold(product, |product, order| product * order)
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

    /// C(n, k), exactly.
    fn choose(n: usize, k: usize) -> u128 {
        if k > n {
            return 0;
        }
        (0..k).fold(1, |product, i| product * (n - i) as u128 / (i + 1) as u128)
    }

    /// P(X ≥ found), by counting the samples.
    fn counted(found: usize, drawn: usize, marked: usize, population: usize) -> f64 {
        let samples: u128 =
            (found..=drawn).map(|k| choose(marked, k) * choose(population - marked, drawn - k)).sum();
        samples as f64 / choose(population, drawn) as f64
    }

    #[test]
    fn of_a_population_it_is_what_enumeration_gives() {
        for population in [1, 2, 7, 24, 60] {
            for drawn in (0..=population).step_by(1 + population / 12) {
                for (found, alpha) in (0..=drawn).flat_map(|found| [(found, 0.0005), (found, 0.1)]) {
                    let bound = hypergeometric_below(found, drawn, population, alpha);
                    let mut possible = found..=population - (drawn - found);
                    // Where the chance is alpha to rounding, that number is not ruled out.
                    let least = alpha * (1.0 - 1e-7);
                    let first = possible.find(|&m| counted(found, drawn, m, population) > least);
                    assert_eq!(Some(bound), first, "{found} of {drawn} of {population} at {alpha}");
                }
            }
        }
    }

    /// For every number of marked ones the chance that the bound exceeds it, over all samples.
    #[test]
    fn of_a_population_it_is_wrong_in_a_share_alpha_at_most() {
        let (population, drawn, alpha) = (50, 18, 0.05);
        let mut worst: f64 = 0.0;
        for marked in 0..=population {
            let wrong = |found: &usize| hypergeometric_below(*found, drawn, population, alpha) > marked;
            let chance: f64 = ((drawn + marked).saturating_sub(population)..=drawn.min(marked))
                .filter(wrong)
                .map(|found| {
                    choose(marked, found) as f64 * choose(population - marked, drawn - found) as f64
                        / choose(population, drawn) as f64
                })
                .sum();
            assert!(chance <= alpha, "{marked}: {chance}");
            worst = worst.max(chance);
        }
        assert!(worst > alpha / 2.0, "{worst} is slack");
    }

    /// Where nothing can be enumerated: the share that is bounded is near the binomial bound of so many draws, and above it,
    /// since draws without replacement say more.
    #[test]
    fn of_a_large_population_it_is_near_the_binomial_bound() {
        for (found, drawn, population) in [
            (990, 1000, 100_000),
            (4_000_000, 5_000_000, 10_000_000),
            (3, 1000, 10_000_000),
            (400, 400, 10_000),
        ] {
            let share = hypergeometric_below(found, drawn, population, 0.001) as f64 / population as f64;
            let binomial = clopper_pearson_below(found, drawn, 0.001);
            assert!(share >= binomial - 1e-9 && share - binomial < 2e-3, "{share} {binomial}");
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
