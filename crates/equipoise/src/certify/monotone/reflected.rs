//! Peaceman-Rachford splitting as it is deployed: what a step contracts by, and what float32 makes of it.
//!
//! A step is F(u) = 2R (r + αc) − r, r = 2P(u) − u, R = ((1+α) I − α W)⁻¹, P the ReLU or, of units around the state, 0. Its fixed
//! point is u* = (1−α) z* + α (W z* + c), and z* = P(u*). The reflection r, ±u unit by unit, moves no two states apart in any of the
//! norms and is exact in floating point, so that F contracts by ‖2R − I‖, and ‖P(u) − z*‖ ≤ ‖u − u*‖.
//!
//! The cell multiplies by R̃, which it has from W by roundings and an inversion. That one is looked at, not trusted: with K = (1+α) I − α W
//! from the exact parameters and E = R̃ K − I, both in float64, ‖R̃ − R‖ ≤ ‖E‖ ‖R̃‖/(1 − ‖E‖). So the certificate speaks of the
//! inverse that this machine makes.
//!
//! A convolution's R̃ is a matrix at each frequency of a torus between Fourier transforms, which are orthogonal but for a factor: its norms are the
//! largest of its frequencies'. The transforms as they are applied are further factors, whose cosines are rounded.

use std::f64::consts::TAU;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::coupling::divisor;
use super::{Matrices, Metric, Tier, Tiers};
use crate::batch::to_f64;
use crate::certify::matrix::Matrix;
use crate::certify::metric::Kind;
use crate::certify::upper::{UNIT, Upper, gamma};
use crate::model::monotone::Frequencies;

/// What is known of R̃.
#[derive(Clone)]
pub(crate) struct Reflected {
    /// ‖2R − I‖, and ‖(1−α) I + α W‖ on the units of u.
    pub(super) contraction: Upper,
    pub(super) averaged: Upper,
    /// How many units u has.
    pub(super) units: usize,
    /// ‖R̃ − R‖ and ‖R̃‖, of factors that are multiplied exactly.
    error: Upper,
    norm: Upper,
    factors: Vec<Factor>,
}

/// A matrix that states are multiplied by on the way.
#[derive(Clone, Copy)]
struct Factor {
    /// How many products a number is the sum of.
    terms: usize,
    /// The matrix's norm, and that of its entries' sizes.
    norm: Upper,
    size: Upper,
}

/// What is known of a matrix R̃ that is nearly the inverse R of another one.
struct Inverse {
    error: Upper,
    norm: Upper,
    size: Upper,
    contraction: Upper,
}

impl Inverse {
    /// Of R̃ and what it should be the inverse of, which may be off by so much. `None` where it is too far from one to say anything.
    fn new(resolvent: &Matrix, inverted: &Matrix, off: Upper, metric: &Metric) -> Option<Self> {
        let (units, one) = (resolvent.rows, Upper::exact(1.0));
        let (norm, size) = (metric.norm(resolvent), metric.norm(&resolvent.map(f64::abs)));
        let mut residual = resolvent.product(inverted);
        (0..units).for_each(|i| residual.values[i * (units + 1)] -= 1.0);
        let rounding = gamma(units + 4, UNIT) * (size * metric.norm(&inverted.map(f64::abs)) + one);
        let residual = metric.norm(&residual) + rounding + norm * off;
        if residual.value() >= 0.5 {
            return None;
        }
        let error = (residual * norm).over((1.0 - residual.value()).next_down());
        let twice = Matrix::new(units, units, |i, j| 2.0 * resolvent.row(i)[j] - f64::from(u8::from(i == j)));
        let contraction = metric.norm(&twice) + gamma(2, UNIT) * (size * 2.0 + one) + error * 2.0;
        Some(Self { error, norm, size, contraction })
    }
}

impl Reflected {
    /// By R̃ as a matrix.
    pub(super) fn full(
        resolvent: &Matrix,
        known: &Matrices,
        metric: &Metric,
        (step, averaged): (f64, Upper),
    ) -> Option<Self> {
        let units = resolvent.rows;
        let whole = |i: usize, j: usize| if i == j { 1.0 + step } else { 0.0 };
        let inverted = Matrix::new(units, units, |i, j| whole(i, j) - step * known.weight.row(i)[j]);
        let terms = Matrix::new(units, units, |i, j| whole(i, j) + step * known.weight.row(i)[j].abs());
        let off = known.error * step + gamma(4, UNIT) * metric.norm(&terms);
        let Inverse { error, norm, size, contraction } = Inverse::new(resolvent, &inverted, off, metric)?;
        let factors = vec![Factor { terms: units, norm, size }];
        Some(Self { contraction, averaged, units, error, norm, factors })
    }

    /// By R̃ at each frequency of the torus around a state.
    pub(crate) fn convolution(tier: &Tier, resolvent: &Frequencies, m: f64, step: f64) -> Option<Self> {
        let [c, h, w] = tier.state;
        let ([h, w], side) = ([h + 2, w + 2], 2 * c);
        let half = w / 2 + 1;
        let metric = Metric::plain(Kind::Euclidean, side);
        let (by_a, by_b) = (tier.g.sqrt() / divisor(&tier.a), tier.h / divisor(&tier.b));
        // A kernel's complex matrix at a frequency, as a real one.
        let symbol = |kernel: &[f64], by: f64, at: usize| {
            let angle = |tap: usize| {
                let (dy, dx) = ((tap / 3) as f64 - 1.0, (tap % 3) as f64 - 1.0);
                TAU * ((at / half) as f64 * dy / h as f64 + (at % half) as f64 * dx / w as f64)
            };
            let waves: [(f64, f64); 9] = std::array::from_fn(|tap| angle(tap).sin_cos());
            Matrix::new(side, side, |i, j| {
                let taps = &kernel[(i % c * c + j % c) * 9..][..9];
                let sum = |part: fn(&(f64, f64)) -> f64| -> f64 {
                    taps.iter().zip(&waves).map(|(tap, wave)| tap * part(wave)).sum::<f64>() * by
                };
                match (i < c, j < c) {
                    (true, true) | (false, false) => sum(|(_, cosine)| *cosine),
                    (true, false) => -sum(|(sine, _)| *sine),
                    (false, true) => sum(|(sine, _)| *sine),
                }
            })
        };
        // Real and imaginary part together are at most twice what taps come to by their sizes. An angle is off by a hundred roundings.
        let sizes = Tiers::new(std::slice::from_ref(tier)).coupling() * 2.0;
        let off = gamma(tier.a.len() + 4 * c + 300, UNIT) * sizes * step
            + gamma(4, UNIT) * (Upper::exact(1.0 + step * m) + sizes * step);
        let values = to_f64(resolvent.resolvent.clone());
        let whole = |i: usize, j: usize, size: f64| if i == j { size } else { 0.0 };
        let each = values.par_chunks_exact(side * side).enumerate().map(|(at, values)| {
            let (a, b) = (symbol(&tier.a, by_a, at), symbol(&tier.b, by_b, at));
            let gram = a.transposed().gram();
            let v = |i: usize, j: usize| b.row(i)[j] - b.row(j)[i] - gram.row(i)[j];
            let inverted = Matrix::new(side, side, |i, j| whole(i, j, 1.0 + step * m) - step * v(i, j));
            let average = Matrix::new(side, side, |i, j| whole(i, j, 1.0 - step * m) + step * v(i, j));
            let found = Inverse::new(&Matrix::of(side, side, values.to_vec()), &inverted, off, &metric)?;
            Some((found, metric.norm(&average) + off))
        });
        let each = each.collect::<Option<Vec<_>>>()?;
        let most =
            |of: fn(&(Inverse, Upper)) -> Upper| each.iter().map(of).fold(Upper::exact(0.0), Upper::max);
        let (error, norm, size) =
            (most(|(of, _)| of.error), most(|(of, _)| of.norm), most(|(of, _)| of.size));
        let (contraction, averaged) = (most(|(of, _)| of.contraction), most(|(_, averaged)| *averaged));
        let transform = |matrix: &Tensor<2>| {
            let [rows, terms] = matrix.dims();
            let matrix = Matrix::of(rows, terms, to_f64(matrix.clone()));
            // Cosines that are nearly 0 are off by more than their size; by this, it is less than the roundings of others.
            let size = matrix.map(f64::abs).norm() + Upper::exact(1e-7 * (rows + terms) as f64);
            Factor { terms, norm: matrix.norm(), size }
        };
        let ([columns, columns_back], [rows, rows_back]) = (&resolvent.columns, &resolvent.rows);
        let mut factors = [columns, rows, rows_back, columns_back].map(transform).to_vec();
        factors.insert(2, Factor { terms: side, norm, size });
        Some(Self { contraction, averaged, units: c * h * w, error, norm, factors })
    }

    /// What a step is off by in arithmetic of this unit roundoff, relatively to ‖u‖, and to α ‖c‖.
    pub(super) fn rounding(&self, unit: f64) -> [Upper; 2] {
        // What the factors multiply is α, a product by it and a sum away from r + αc.
        let multiplied = gamma(3, unit);
        let grown = Upper::exact(1.0) + multiplied;
        let (mut length, mut lost) = (Upper::exact(1.0), Upper::exact(0.0));
        for Factor { terms, norm, size } in &self.factors {
            // Of an entry that is rounded twice, and with it.
            let most = *norm + gamma(2, unit) * *size;
            lost = most * lost + gamma(terms + 2, unit) * *size * (length + lost);
            length = most * length;
        }
        let lost = lost * grown;
        let half = lost + self.error + self.norm * multiplied;
        let last = gamma(1, unit);
        let of_sum = half * 2.0 + last * (self.norm * grown + lost) * 2.0;
        [of_sum + last, of_sum]
    }

    /// What the largest number on the way of a step comes to at most, relatively to ‖u‖ + α ‖c‖.
    pub(super) fn largest(&self) -> Upper {
        let one = Upper::exact(1.0);
        self.factors.iter().fold(one, |most, factor| most * (factor.size + one)) * 2.0 + one
    }

    /// As if R̃ were R.
    #[cfg(test)]
    pub(super) fn careless(&self) -> Self {
        Self { error: Upper::exact(0.0), ..self.clone() }
    }
}
