//! W as a matrix, of fully connected cells, whatever it is made of, and of convolutional ones of one tier or several.

use super::Coupling;
use crate::certify::matrix::Matrix;
use crate::certify::metric::{Kind, Metric};
use crate::certify::upper::dot;
use crate::model::monotone::{IntervalBounded, LEAST_SCALE, MonotoneConvCell};

/// How many roundings an entry of Λ has behind it in float64, where an exponential is off by less than a unit in the last
/// place, and in float32, where it may be off by two.
const SCALE: usize = 10;
const SCALE_32: usize = 12;

/// What a Lipschitz-bounded network's W is made of.
pub(crate) struct Bounded {
    /// V and S, `[D, D]`, and d.
    pub(crate) v: Matrix,
    pub(crate) s: Matrix,
    pub(crate) d: Vec<f64>,
    /// U, `[D, CHW]`, and G, `[K, D]`.
    pub(crate) u: Matrix,
    pub(crate) g: Matrix,
    /// γ.
    pub(crate) lipschitz: f64,
}

/// The kernels of a tier of a convolutional cell, and the sides of its state.
pub(crate) struct Tier {
    /// A and B, `[C, C, 3, 3]`.
    pub(crate) a: Vec<f64>,
    pub(crate) b: Vec<f64>,
    /// |g|, by whose root A is multiplied.
    pub(crate) g: f64,
    pub(crate) h: f64,
    /// N, `[C, C′, 3, 3]`, and |γ|, from the tier before with its C′ channels: none at the first.
    pub(crate) from: Option<(Vec<f64>, f64)>,
    /// C, H, W.
    pub(crate) state: [usize; 3],
}

/// The length of a kernel, or what is taken instead of it.
pub(super) fn divisor(kernel: &[f64]) -> f64 {
    let shortest = f64::from(MonotoneConvCell::SHORTEST);
    dot(kernel, kernel).max(shortest * shortest).sqrt()
}

/// Λ, rounded.
fn scale(d: &[f64]) -> Vec<f64> {
    d.iter().map(|&d| LEAST_SCALE + (1.0 - LEAST_SCALE) / (1.0 + libm::exp(-d))).collect()
}

impl Coupling {
    /// (1−m) I − AᵀA + B − Bᵀ of matrices `[D, D]`.
    pub(crate) fn full(a: &Matrix, b: &Matrix, m: f64) -> Self {
        let (side, columns) = (a.rows, a.transposed());
        let at = |matrix: &Matrix, i: usize, j: usize| matrix.values[i * side + j];
        let weight = Matrix::new(side, side, |i, j| {
            identity(i, j, m) - dot(columns.row(i), columns.row(j)) + (at(b, i, j) - at(b, j, i))
        });
        let size = columns.map(f64::abs);
        let magnitude = Matrix::new(side, side, |i, j| {
            dot(size.row(i), size.row(j)) + at(b, i, j).abs() + at(b, j, i).abs()
        });
        let metric = Metric::plain(Kind::Euclidean, side);
        Self { weight, magnitude, entry: side + 6, product: 2 * side + 10, metric }
    }

    /// Λ⁻¹ ((1−m) I − diag(|T|1) + T) Λ.
    pub(crate) fn nemon(t: &Matrix, d: &[f64], m: f64) -> Self {
        let (side, scale, terms) = (t.rows, scale(d), densest(t));
        let sums: Vec<f64> = (0..side).map(|i| t.row(i).iter().map(|entry| entry.abs()).sum()).collect();
        let sum = |i: usize, j: usize| if i == j { sums[i] } else { 0.0 };
        let term = |i: usize, j: usize| scale[j] / scale[i] * t.row(i)[j];
        Self {
            weight: Matrix::new(side, side, |i, j| identity(i, j, m) - sum(i, j) + term(i, j)),
            magnitude: Matrix::new(side, side, |i, j| sum(i, j) + term(i, j).abs()),
            entry: terms + 2 * SCALE + 6,
            product: 2 * terms + 2 * SCALE_32 + 16,
            metric: Metric::weighted(Kind::Maximum, scale),
        }
    }

    /// Λ⁻¹ D^(−½) M D^(−½) Λ, D the means of |M|'s sums by row and column over 1−m.
    pub(crate) fn interval_bounded(matrix: &Matrix, d: &[f64], m: f64) -> Self {
        let (side, scale) = (matrix.rows, scale(d));
        let terms = densest(matrix).max(densest(&matrix.transposed()));
        let sums = |matrix: &Matrix| -> Vec<f64> {
            (0..side).map(|i| matrix.row(i).iter().map(|entry| entry.abs()).sum()).collect()
        };
        let both = sums(matrix).into_iter().zip(sums(&matrix.transposed()));
        let roots: Vec<f64> = both
            .map(|(row, column)| ((row + column) * (0.5 / (1.0 - m)) + IntervalBounded::SMALLEST_SUM).sqrt())
            .collect();
        let term = |i: usize, j: usize| scale[j] / scale[i] * matrix.row(i)[j] / roots[i] / roots[j];
        // The cell takes (1−m) I off, and adds it again.
        let taken = |i: usize, j: usize| identity(i, j, m).abs();
        Self {
            weight: Matrix::new(side, side, term),
            magnitude: Matrix::new(side, side, |i, j| term(i, j).abs() + taken(i, j)),
            // A root halves what a sum is off by, and there are two of them.
            entry: terms + 2 * SCALE + 20,
            product: 2 * terms + 2 * SCALE_32 + 30,
            metric: Metric::weighted(Kind::Euclidean, scale),
        }
    }

    /// (1−m) I − Λ⁻¹ (½VᵀV + S − Sᵀ) Λ − (Λ⁻²GᵀG + UUᵀΛ²)/2γ.
    pub(crate) fn lben(parts: &Bounded, m: f64) -> Self {
        let Bounded { v, s, d, u, g, lipschitz } = parts;
        let (side, scale) = (s.rows, scale(d));
        let product = |columns: &Matrix| {
            let sizes = columns.map(f64::abs);
            move |columns: &Matrix, i: usize, j: usize| {
                (dot(columns.row(i), columns.row(j)), dot(sizes.row(i), sizes.row(j)))
            }
        };
        let (by_v, by_g) = (v.transposed(), g.transposed());
        let (of_v, of_g, of_u) = (product(&by_v), product(&by_g), product(u));
        let share = 0.5 / lipschitz;
        let entry = |i: usize, j: usize| {
            let ((v, v_size), (g, g_size), (u, u_size)) =
                (of_v(&by_v, i, j), of_g(&by_g, i, j), of_u(u, i, j));
            let (forth, back) = (s.row(i)[j], s.row(j)[i]);
            let squares = [scale[i] * scale[i], scale[j] * scale[j]];
            let (inner, read, injected) = (scale[j] / scale[i], 1.0 / squares[0], squares[1]);
            let sum = inner * (0.5 * v + (forth - back)) + share * (g * read + u * injected);
            let size = inner * (0.5 * v_size + forth.abs() + back.abs())
                + share * (g_size * read + u_size * injected);
            (sum, size)
        };
        let longest = side.max(u.columns).max(g.rows);
        Self {
            weight: Matrix::new(side, side, |i, j| identity(i, j, m) - entry(i, j).0),
            magnitude: Matrix::new(side, side, |i, j| entry(i, j).1),
            entry: longest + 2 * SCALE + 14,
            product: longest + side + 2 * SCALE_32 + 24,
            metric: Metric::weighted(Kind::Euclidean, scale),
        }
    }

    /// Of tiers of 3×3 kernels that are divided by their lengths, with zeros around the states: (1−m) I − 𝒜ᵀ𝒜 + B − Bᵀ whose blocks
    /// above the diagonal are moved below it, to those that are there, (𝒜z)_i = A_i z_i + N_i z_{i−1}.
    ///
    /// Roundings: the squares of a length are 9CC′ terms, which the cell adds up axis by axis, so that none goes through more
    /// than 9 + C + C′ sums; an entry of 𝒜ᵀ𝒜 is a sum of at most 9 (C + C″) products, C″ channels of
    /// the next tier, and a unit's value one of 25C and of what two convolutions in a row make: 9C, 9C′ and 9C″ terms. Those of
    /// the two lengths are halved by their roots, and a term of 𝒜ᵀ𝒜 has two.
    pub(crate) fn convolution(tiers: &[Tier], m: f64) -> Self {
        let start = |tier: usize| -> usize {
            tiers[..tier].iter().map(|tier| tier.state.iter().product::<usize>()).sum()
        };
        let side = start(tiers.len());
        let mut weight = Matrix::new(side, side, |i, j| identity(i, j, m));
        let mut magnitude = Matrix::new(side, side, |_, _| 0.0);
        let mut add = |i: usize, j: usize, term: f64| {
            weight.values[i * side + j] += term;
            magnitude.values[i * side + j] += term.abs();
        };
        // The units of a tier that output (k, y, x) of a kernel with two zeros around its input reads, with the weights.
        let read = |kernel: &[f64], by: f64, tier: usize, stride: usize, [k, y, x]: [usize; 3]| {
            let ([c, h, w], start) = (tiers[tier].state, start(tier));
            let inside = |at: usize, tap: usize, side: usize| {
                (stride * at + tap).checked_sub(2).filter(|place| *place < side)
            };
            let taps = (0..9 * c).filter_map(|tap| {
                let (i, dy, dx) = (tap / 9, tap / 3 % 3, tap % 3);
                let (y, x) = (inside(y, dy, h)?, inside(x, dx, w)?);
                Some((start + (i * h + y) * w + x, by * kernel[k * 9 * c + tap]))
            });
            taps.collect::<Vec<_>>()
        };
        for (at, Tier { a, b, g, h: skew, from, state: [c, h, w] }) in tiers.iter().enumerate() {
            let (by_a, by_b) = (g.sqrt() / divisor(a), skew / divisor(b));
            let output = |at: usize| [at / ((h + 2) * (w + 2)), at / (w + 2) % (h + 2), at % (w + 2)];
            for output in (0..c * (h + 2) * (w + 2)).map(output) {
                let own = read(a, by_a, at, 1, output);
                let before = from
                    .as_ref()
                    .map_or(Vec::new(), |(n, gamma)| read(n, gamma.sqrt() / divisor(n), at - 1, 2, output));
                for &(i, p) in &own {
                    own.iter().for_each(|(j, q)| add(i, *j, -p * q));
                    before.iter().for_each(|(j, q)| add(i, *j, -2.0 * p * q));
                }
                for &(i, p) in &before {
                    before.iter().for_each(|(j, q)| add(i, *j, -p * q));
                }
                // B's outputs are the units themselves: those inside of the border.
                let [k, y, x] = output;
                if (1..=*h).contains(&y) && (1..=*w).contains(&x) {
                    let unit = start(at) + (k * h + y - 1) * w + x - 1;
                    for (j, q) in read(b, by_b, at, 1, output) {
                        add(unit, j, q);
                        add(j, unit, -q);
                    }
                }
            }
        }
        let [entry, product] = roundings(tiers);
        Self { weight, magnitude, entry, product, metric: Metric::plain(Kind::Euclidean, side) }
    }
}

/// Of an entry of W, and of a unit's value, as [`Coupling::convolution`] counts them.
pub(super) fn roundings(tiers: &[Tier]) -> [usize; 2] {
    let most = |of: &dyn Fn(&Tier) -> usize| tiers.iter().map(of).max().unwrap_or(0);
    let channels = most(&|tier| tier.state[0]);
    let numbers = most(&|tier| tier.a.len().max(tier.from.as_ref().map_or(0, |(n, _)| n.len())));
    let across = if tiers.len() > 1 { channels } else { 0 };
    [numbers + 9 * (channels + across) + 30, 9 + 36 * channels + 18 * across + 60]
}

/// The most entries of a row that are not 0: a sum over a row has no more roundings.
fn densest(matrix: &Matrix) -> usize {
    let entries = |i: usize| matrix.row(i).iter().filter(|entry| **entry != 0.0).count();
    (0..matrix.rows).map(entries).max().unwrap_or(0)
}

/// An entry of (1−m) I.
fn identity(i: usize, j: usize, m: f64) -> f64 {
    if i == j { 1.0 - m } else { 0.0 }
}
