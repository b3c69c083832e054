//! Peaceman-Rachford splitting as it is deployed: what a step contracts by, and what float32 makes of it.
//!
//! A step is F(u) = 2R (|u| + αc) − |u|, since 2 relu(u) − u = |u|, with R = ((1+α) I − α W)⁻¹; its fixed point is
//! u* = (1−α) z* + α (W z* + c), and z* = relu(u*). |·| moves no two states apart in any of the norms, so that F contracts by
//! ‖2R − I‖, and ‖relu(u) − z*‖ ≤ ‖u − u*‖.
//!
//! The cell multiplies by R̃, which it has from W by roundings and an inversion. That one is looked at, not trusted: R̃ = (I + E) R with
//! E = R̃ ((1+α) I − α W) − I, found in float64 from the exact parameters, and so ‖R̃ − R‖ ≤ ‖E‖ ‖R̃‖/(1 − ‖E‖). So the certificate speaks of
//! the inverse that this machine makes.

use super::{Matrices, Metric};
use crate::certify::matrix::Matrix;
use crate::certify::upper::{UNIT, Upper, gamma};

/// What is known of R̃.
#[derive(Clone)]
pub(crate) struct Reflected {
    /// ‖2R − I‖.
    pub(super) contraction: Upper,
    /// ‖R̃ − R‖.
    error: Upper,
    /// ‖R̃‖, and that of its entries' sizes.
    norm: Upper,
    size: Upper,
    /// How many products a unit's value is the sum of.
    units: usize,
}

impl Reflected {
    /// Of R̃ and W. `None` where R̃ is too far from an inverse to say anything.
    pub(super) fn new(resolvent: &Matrix, known: &Matrices, metric: &Metric, step: f64) -> Option<Self> {
        let units = resolvent.rows;
        let one = Upper::exact(1.0);
        let identity = |i: usize, j: usize| f64::from(u8::from(i == j));
        let inverted =
            Matrix::new(units, units, |i, j| (1.0 + step) * identity(i, j) - step * known.weight.row(i)[j]);
        let terms = Matrix::new(units, units, |i, j| {
            (1.0 + step) * identity(i, j) + step * known.weight.row(i)[j].abs()
        });
        let (norm, size) = (metric.norm(resolvent), metric.norm(&resolvent.map(f64::abs)));
        let mut residual = resolvent.product(&inverted);
        (0..units).for_each(|i| residual.values[i * (units + 1)] -= 1.0);
        let rounding = gamma(units + 8, UNIT) * (size * metric.norm(&terms) + one);
        let residual = metric.norm(&residual) + rounding + norm * known.error * step;
        if residual.value() >= 0.5 {
            return None;
        }
        let error = (residual * norm).over((1.0 - residual.value()).next_down());
        let twice = Matrix::new(units, units, |i, j| 2.0 * resolvent.row(i)[j] - identity(i, j));
        let contraction = metric.norm(&twice) + gamma(2, UNIT) * (size * 2.0 + one) + error * 2.0;
        Some(Self { contraction, error, norm, size, units })
    }

    /// What a step is off by in arithmetic of this unit roundoff, relatively to ‖u‖, and to α ‖c‖.
    pub(super) fn rounding(&self, unit: f64) -> [Upper; 2] {
        let Self { error, norm, size, units, .. } = *self;
        // |u| is exact; what R̃ multiplies is α, a product by it and a sum away from |u| + αc.
        let multiplied = gamma(3, unit);
        let grown = Upper::exact(1.0) + multiplied;
        let summed = gamma(units + 2, unit) * size * grown;
        let half = summed + error + norm * multiplied;
        let last = gamma(1, unit);
        let of_sum = half * 2.0 + last * (norm * grown + summed) * 2.0;
        [of_sum + last, of_sum]
    }

    /// What the largest number on the way of a step comes to at most, relatively to ‖u‖ + α ‖c‖.
    pub(super) fn largest(&self) -> Upper {
        self.size * 2.0 + Upper::exact(2.0)
    }

    /// As if R̃ were R.
    #[cfg(test)]
    pub(super) fn careless(&self) -> Self {
        Self { error: Upper::exact(0.0), ..self.clone() }
    }
}
