//! What so many images can show: the chance of the arms' test to call a gap of a given size obfuscation.

use crate::statistics::{difference_interval, exact_test};

/// The chance that the arms' test, at `level` before correction, rejects with a lower end of at least a point, when the
/// white-box arm alone breaks `gap` + `noise` of the points and the ready-made arm alone `noise`. The yardstick is left
/// aside. A third of the points is taken to stand in both arms; what is taken hardly matters.
pub fn power(n: usize, gap: f64, noise: f64, level: f64) -> f64 {
    let standing = n / 3;
    let (only_white_box, only_ready_made) = (binomial(n, gap + noise), binomial(n, noise));
    let mut sum = 0.0;
    for &(b, p) in &only_white_box {
        for &(c, q) in &only_ready_made {
            if b + c + standing > n {
                continue;
            }
            let interval = difference_interval(n - standing - b - c, b, c, standing);
            if exact_test(b, c) < level && interval[0] >= 0.01 {
                sum += p * q;
            }
        }
    }
    sum.min(1.0)
}

/// Counts with their probabilities, but for tails of together less than 10⁻⁹.
fn binomial(n: usize, share: f64) -> Vec<(usize, f64)> {
    use statrs::distribution::{Binomial, Discrete};
    let distribution = Binomial::new(share.clamp(0.0, 1.0), n as u64).expect("a share");
    let mean = share * n as f64;
    let spread = 7.0 * (mean + 3.0).sqrt();
    let (low, high) = ((mean - spread).max(0.0) as usize, ((mean + spread) as usize).min(n));
    let counts = (low..=high).map(|count| (count, distribution.pmf(count as u64)));
    counts.filter(|(_, probability)| *probability > 1e-12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_grows_with_images_and_gap() {
        let small = power(100, 0.04, 0.002, 0.05);
        assert!(power(200, 0.08, 0.002, 0.05) > 0.9, "{}", power(200, 0.08, 0.002, 0.05));
        assert!(power(1000, 0.04, 0.001, 0.05) > 0.9);
        assert!(small < power(300, 0.04, 0.002, 0.05) && small < power(100, 0.08, 0.002, 0.05));
        // Without a gap it is the test's size, which the smallest difference of a point makes smaller still.
        assert!(power(500, 0.0, 0.02, 0.05) < 0.05);
        assert_eq!(power(5, 0.08, 0.0, 0.05), 0.0);
    }
}
