//! Upper bounds in float64: every operation rounds up, so that what is made of bounds is one.
//!
//! The rounding mode stays as it is. An operation is correctly rounded, so the next number above its result is no less than
//! the exact one. Long sums are rounded once: of n operations on numbers that are not negative, in any order, with fused
//! products or without, the exact result is at most the computed one times 1 + 2nu.

use std::iter::Sum;
use std::ops::{Add, Mul};

/// u = 2⁻⁵³, float64's unit roundoff.
pub(crate) const UNIT: f64 = f64::EPSILON / 2.0;
/// 2⁻²⁴, float32's.
pub(crate) const SINGLE: f64 = (f32::EPSILON / 2.0) as f64;

/// An upper bound of a number that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(crate) struct Upper(f64);

impl Upper {
    /// No bound.
    pub(crate) const INFINITE: Self = Self(f64::INFINITY);

    /// A number itself.
    pub(crate) fn exact(number: f64) -> Self {
        Self(number)
    }

    /// A bound of what so many operations on numbers that are not negative led to.
    pub(crate) fn computed(result: f64, operations: usize) -> Self {
        // 1 + 2(n+2)u is a float64; products that underflow are worth less than the smallest normal number together.
        let factor = 1.0 + (operations + 2) as f64 * f64::EPSILON;
        Self(((result * factor).next_up() + f64::MIN_POSITIVE).next_up())
    }

    /// The bound.
    pub(crate) fn value(self) -> f64 {
        self.0
    }

    /// The larger of two; one that is no number stays.
    pub(crate) fn max(self, other: Self) -> Self {
        if self.0 >= other.0 || self.0.is_nan() { self } else { other }
    }

    /// The smaller of two bounds of one number; the second one where they do not compare.
    pub(crate) fn min(self, other: Self) -> Self {
        if self.0 < other.0 { self } else { other }
    }

    /// Of the root.
    pub(crate) fn sqrt(self) -> Self {
        Self(self.0.sqrt().next_up())
    }

    /// Of a quotient by a number that is no less than `least` > 0.
    pub(crate) fn over(self, least: f64) -> Self {
        Self((self.0 / least).next_up())
    }
}

impl Add for Upper {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self((self.0 + other.0).next_up())
    }
}

impl Mul for Upper {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self((self.0 * other.0).next_up())
    }
}

/// A factor that is exact and not negative.
impl Mul<f64> for Upper {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        self * Self(factor)
    }
}

impl Sum for Upper {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Self(0.0), Add::add)
    }
}

/// A lower bound of `number` less something of at most `bound`.
pub(crate) fn less(number: f64, bound: Upper) -> f64 {
    (number - bound.0).next_down()
}

/// γ_n = nu/(1 − nu): what n roundings in a row change at most, relatively (Higham 2002, section 3.1).
pub(crate) fn gamma(n: usize, unit: f64) -> Upper {
    // nu is exact: u is a power of two.
    let nu = n as f64 * unit;
    Upper(nu).over((1.0 - nu).next_down())
}

/// Σ aᵢbᵢ in eight lanes.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    sum(a, b, |a, b| a * b)
}

/// Σ |aᵢ|bᵢ.
pub(crate) fn moves(a: &[f64], b: &[f64]) -> f64 {
    sum(a, b, |a, b| a.abs() * b)
}

/// ‖v‖₁, as computed.
pub(crate) fn length1(v: &[f64]) -> f64 {
    sum(v, v, |entry, _| entry.abs())
}

/// A sum over two rows of numbers in eight lanes, which a processor adds side by side.
fn sum(a: &[f64], b: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
    let ((heads, rest), (others, left)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0; 8];
    for (a, b) in heads.iter().zip(others) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += term(*a, *b);
        }
    }
    let tail: f64 = rest.iter().zip(left).map(|(a, b)| term(*a, *b)).sum();
    lanes.iter().sum::<f64>() + tail
}

/// ‖v‖₂ of numbers that carry at most two roundings each.
pub(crate) fn length(v: &[f64]) -> Upper {
    Upper::computed(dot(v, v), 2 * v.len() + 5).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// a + b = s + e exactly (Knuth).
    fn two_sum(a: f64, b: f64) -> (f64, f64) {
        let s = a + b;
        let t = s - a;
        (s, (a - (s - t)) + (b - t))
    }

    #[test]
    fn operations_round_up() {
        let third = 1.0 / 3.0;
        for (a, b) in [(0.1, 0.2), (1.0, UNIT), (third, third), (1e300, 1.0), (0.0, 0.0)] {
            let (sum, error) = two_sum(a, b);
            let bound = (Upper::exact(a) + Upper::exact(b)).value();
            assert!(bound > sum || error <= 0.0 && bound >= sum, "{a} + {b}");
            let product = (Upper::exact(a) * Upper::exact(b)).value();
            assert!(product > a * b || a * b == f64::INFINITY);
        }
        // 1/3 is rounded down, its double too.
        assert!(Upper::exact(1.0).over(3.0).value() > third);
        assert!(less(0.0, Upper::exact(third)) < -third);
        assert!(Upper::exact(2.0).sqrt().value() > 2.0_f64.sqrt());
    }

    /// Sums whose roundings all go down: without the factor the bound would be below.
    #[test]
    fn long_sums_are_bounded_where_every_rounding_goes_down() {
        // 1 + 1024 terms of 0.75 u: each is rounded away.
        let terms: Vec<f64> = std::iter::once(1.0).chain(std::iter::repeat_n(0.75 * UNIT, 1024)).collect();
        let computed: f64 = terms.iter().sum();
        let exact = 1.0 + 768.0 * UNIT;
        assert!(computed < exact && Upper::computed(computed, 1024).value() > exact);
        assert!(Upper::computed(0.0, 3).value() > 0.0);
    }

    #[test]
    fn gamma_is_above_its_definition() {
        assert!(gamma(3, SINGLE).value() >= 3.0 * SINGLE / (1.0 - 3.0 * SINGLE));
        assert_eq!(gamma(5, 0.0).value(), 5e-324);
    }

    #[test]
    fn lengths_are_bounded() {
        let v: Vec<f64> = (0..37).map(|k| f64::from(k % 7) - 3.0).collect();
        let squares: f64 = v.iter().map(|x| x * x).sum();
        assert_eq!(dot(&v, &v), squares);
        let bound = length(&v).value();
        assert!(bound > squares.sqrt() && bound < squares.sqrt() * (1.0 + 1e-13));
    }
}
