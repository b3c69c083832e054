//! The norm that states are measured in: that of Λz, in L2 or in ℓ∞, for a positive diagonal Λ.
//!
//! In each of them a bound of the injection becomes one of the fixed point: ‖z*(c) − z*(c′)‖ ≤ ‖c − c′‖/m. Everything here is an upper
//! bound of what it is called, for numbers that carry at most two roundings each.

use super::matrix::Matrix;
use super::upper::{UNIT, Upper, gamma, length};

/// What the entries of Λz are measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Euclidean,
    Maximum,
}

/// A norm of states.
#[derive(Debug, Clone)]
pub(crate) struct Metric {
    kind: Kind,
    /// Λ.
    scale: Vec<f64>,
    /// What Λ's rounding comes to, and that of what is made of it; 1 where Λ is I.
    slack: Upper,
}

impl Metric {
    /// Without weights.
    pub(crate) fn plain(kind: Kind, side: usize) -> Self {
        Self { kind, scale: vec![1.0; side], slack: Upper::exact(1.0) }
    }

    /// With Λ, whose entries may be off by ten roundings.
    pub(crate) fn weighted(kind: Kind, scale: Vec<f64>) -> Self {
        Self { kind, scale, slack: Upper::exact(1.0 + 1e-14) }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is that of L2.
    fn is_plain(&self) -> bool {
        self.kind == Kind::Euclidean && self.slack.value() == 1.0
    }

    /// The states of length 1 along each axis.
    pub(crate) fn units(&self) -> Vec<f64> {
        self.scale.iter().map(|scale| 1.0 / scale).collect()
    }

    /// Of a state.
    pub(crate) fn length(&self, v: &[f64]) -> Upper {
        let scaled = v.iter().zip(&self.scale).map(|(entry, scale)| entry * scale);
        match self.kind {
            Kind::Euclidean => length(&scaled.collect::<Vec<_>>()) * self.slack,
            Kind::Maximum => largest(scaled.map(f64::abs)) * self.slack,
        }
    }

    /// Of a linear function of states: what it comes to at most on those of length 1.
    pub(crate) fn dual(&self, v: &[f64]) -> Upper {
        let scaled = v.iter().zip(&self.scale).map(|(entry, scale)| entry / scale);
        match self.kind {
            Kind::Euclidean => length(&scaled.collect::<Vec<_>>()) * self.slack,
            Kind::Maximum => Upper::computed(scaled.map(f64::abs).sum(), 2 * v.len()) * self.slack,
        }
    }

    /// ΛMΛ⁻¹, rounded.
    fn scaled(&self, m: &Matrix) -> Matrix {
        Matrix::new(m.rows, m.columns, |i, j| m.row(i)[j] * self.scale[i] / self.scale[j])
    }

    /// Of every square matrix whose entries are at most as large as those of M.
    pub(crate) fn size(&self, m: &Matrix) -> Upper {
        match self.kind {
            Kind::Euclidean => self.scaled(m).frobenius() * self.slack,
            Kind::Maximum => {
                let scaled = self.scaled(m);
                let sums = (0..m.rows).map(|i| scaled.row(i).iter().map(|entry| entry.abs()).sum::<f64>());
                Upper::computed(largest(sums).value(), 3 * m.columns) * self.slack
            }
        }
    }

    /// Of a square matrix.
    pub(crate) fn norm(&self, m: &Matrix) -> Upper {
        match self.kind {
            Kind::Euclidean if self.is_plain() => m.norm(),
            // Twenty of two entries of Λ, and two of the products.
            Kind::Euclidean => {
                let scaled = self.scaled(m);
                scaled.norm() + gamma(24, UNIT) * scaled.frobenius()
            }
            Kind::Maximum => self.size(m),
        }
    }

    /// Of a matrix from images, which are measured in L2, to states; and of that of its entries' sizes.
    pub(crate) fn of_injection(&self, u: &Matrix) -> [Upper; 2] {
        match self.kind {
            Kind::Euclidean => {
                let scaled = Matrix::new(u.rows, u.columns, |i, j| u.row(i)[j] * self.scale[i]);
                let frobenius = scaled.frobenius();
                let rounding = if self.is_plain() { 0 } else { 12 };
                [scaled.norm() + frobenius * gamma(rounding, UNIT), frobenius * self.slack]
            }
            Kind::Maximum => {
                let rows = (0..u.rows).map(|i| length(u.row(i)).value() * self.scale[i]);
                let gain = largest(rows) * Upper::exact(1.0 + 1e-14);
                [gain, gain]
            }
        }
    }

    /// Of a matrix from states to logits, which are measured in L2.
    pub(crate) fn to_logits(&self, head: &Matrix) -> Upper {
        match self.kind {
            Kind::Euclidean => {
                let scaled = Matrix::new(head.rows, head.columns, |i, j| head.row(i)[j] / self.scale[j]);
                let rounding = if self.is_plain() { 0 } else { 12 };
                scaled.norm() + scaled.frobenius() * gamma(rounding, UNIT)
            }
            Kind::Maximum => {
                let each: Vec<f64> = (0..head.rows).map(|k| self.dual(head.row(k)).value()).collect();
                length(&each)
            }
        }
    }

    /// How far a unit can be off where a state is by so much.
    pub(crate) fn of_unit(&self, i: usize, distance: Upper) -> Upper {
        (distance * self.slack).over(self.scale[i])
    }

    /// c and C with ‖v‖₂ ≤ c ‖v‖ and ‖v‖ ≤ C ‖v‖₂.
    pub(crate) fn euclidean(&self) -> [Upper; 2] {
        let most = largest(self.scale.iter().copied());
        let most = if self.is_plain() { Upper::exact(1.0) } else { most * self.slack };
        let down = match self.kind {
            Kind::Euclidean if self.is_plain() => Upper::exact(1.0),
            Kind::Euclidean => largest(self.units().into_iter()) * self.slack,
            Kind::Maximum => length(&self.units()) * self.slack,
        };
        [down, most]
    }
}

/// The largest of numbers that are not negative; infinite if there is one that is not a number.
fn largest(numbers: impl Iterator<Item = f64>) -> Upper {
    let most = |most: f64, number: f64| if number.is_nan() { f64::INFINITY } else { most.max(number) };
    Upper::exact(numbers.fold(0.0, most).next_up())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certify::upper::dot;

    fn numbers(seed: u64, count: usize) -> Vec<f64> {
        let mut state = seed;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        (0..count).map(|_| draw()).collect()
    }

    /// Each inequality that the bounds are used in, and how near it comes to being one at some state.
    #[test]
    fn what_is_bounded_is_below_its_bound() {
        let side = 6;
        for (kind, weighted) in
            [(Kind::Euclidean, false), (Kind::Euclidean, true), (Kind::Maximum, false), (Kind::Maximum, true)]
        {
            let scale = numbers(1, side).into_iter().map(|entry| 1.0 + entry).collect();
            let metric = if weighted { Metric::weighted(kind, scale) } else { Metric::plain(kind, side) };
            let m = Matrix::of(side, side, numbers(2, side * side));
            let u = Matrix::of(side, 9, numbers(3, side * 9));
            let (norm, size, [gain, sizes]) = (metric.norm(&m), metric.size(&m), metric.of_injection(&u));
            let [down, up] = metric.euclidean();
            let functional = numbers(4, side);
            let (mut nearest, mut nearest_dual, mut nearest_gain) = (0.0_f64, 0.0_f64, 0.0_f64);
            for draw in 0..20_000 {
                let corner = |v: Vec<f64>| -> Vec<f64> {
                    let unit = metric.units();
                    v.iter()
                        .zip(unit)
                        .map(|(v, unit)| if draw % 2 == 0 { v * unit } else { v.signum() * unit })
                        .collect()
                };
                let v = corner(numbers(10 + draw, side));
                let own = metric.length(&v).value();
                let ratio = |v: &[f64], bound: Upper| metric.length(v).value() / own / bound.value();
                let image = ratio(&m.times(&v), norm);
                let absolute: Vec<f64> = v.iter().map(|v| v.abs()).collect();
                assert!(
                    image <= 1.0 + 1e-12 && ratio(&m.map(f64::abs).times(&absolute), size) <= 1.0 + 1e-12
                );
                nearest = nearest.max(image);
                let value = dot(&functional, &v).abs() / own / metric.dual(&functional).value();
                assert!(value <= 1.0 + 1e-12);
                nearest_dual = nearest_dual.max(value);
                let euclid = dot(&v, &v).sqrt();
                assert!(euclid <= down.value() * own * (1.0 + 1e-12));
                assert!(own <= up.value() * euclid * (1.0 + 1e-12));
                for (i, v) in v.iter().enumerate() {
                    assert!(v.abs() <= metric.of_unit(i, Upper::exact(own)).value());
                }
                let x = numbers(50_000 + draw, 9);
                let length_of_x = dot(&x, &x).sqrt();
                let image = metric.length(&u.times(&x)).value() / length_of_x;
                assert!(image <= gain.value() * (1.0 + 1e-12) && gain <= sizes);
                nearest_gain = nearest_gain.max(image / gain.value());
            }
            assert!(
                nearest > 0.6 && nearest_dual > 0.6 && nearest_gain > 0.6,
                "{nearest} {nearest_dual} {nearest_gain}"
            );
        }
    }

    #[test]
    fn what_is_no_number_bounds_nothing() {
        let metric = Metric::weighted(Kind::Maximum, vec![1.0, f64::NAN]);
        assert!(!metric.length(&[1.0, 1.0]).value().is_finite());
        assert!(!Metric::plain(Kind::Maximum, 2).length(&[1.0, f64::NAN]).value().is_finite());
    }
}
