//! W as a matrix, of fully connected cells, whatever it is made of, and of a convolutional one.

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

/// The kernels of a convolutional cell, and the sides of its state.
pub(crate) struct Kernels {
    /// A and B, `[C, C, 3, 3]`.
    pub(crate) a: Vec<f64>,
    pub(crate) b: Vec<f64>,
    pub(crate) g: f64,
    pub(crate) h: f64,
    /// C, H, W.
    pub(crate) state: [usize; 3],
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
        let (side, scale) = (t.rows, scale(d));
        let sums: Vec<f64> = (0..side).map(|i| t.row(i).iter().map(|entry| entry.abs()).sum()).collect();
        let sum = |i: usize, j: usize| if i == j { sums[i] } else { 0.0 };
        let term = |i: usize, j: usize| scale[j] / scale[i] * t.row(i)[j];
        Self {
            weight: Matrix::new(side, side, |i, j| identity(i, j, m) - sum(i, j) + term(i, j)),
            magnitude: Matrix::new(side, side, |i, j| sum(i, j) + term(i, j).abs()),
            entry: side + 2 * SCALE + 6,
            product: 2 * side + 2 * SCALE_32 + 16,
            metric: Metric::weighted(Kind::Maximum, scale),
        }
    }

    /// Λ⁻¹ D^(−½) M D^(−½) Λ, D the means of |M|'s sums by row and column over 1−m.
    pub(crate) fn interval_bounded(matrix: &Matrix, d: &[f64], m: f64) -> Self {
        let (side, scale) = (matrix.rows, scale(d));
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
            entry: side + 2 * SCALE + 20,
            product: 2 * side + 2 * SCALE_32 + 30,
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

    /// (1−m) I − |g| ÂᵀÂ + h (B̂ − B̂ᵀ) of kernels that are divided by their lengths, with zeros around the state: entry
    /// ((o, p), (i, q)) is that of a 5×5 kernel at (o, i, q − p).
    ///
    /// Roundings: the squares of a length are 9C² terms, an entry of ÂᵀÂ is a sum of 9C products, and a unit's value one of 25C.
    /// Those of the two lengths are halved by their roots, and a term of ÂᵀÂ has that of A twice.
    pub(crate) fn convolution(kernels: &Kernels, m: f64) -> Self {
        let Kernels { a, b, g, h, state: [channels, rows, columns] } = kernels;
        let (c, numbers) = (*channels, a.len());
        let shortest = f64::from(MonotoneConvCell::SHORTEST);
        let square = |v: &[f64]| dot(v, v).max(shortest * shortest);
        let (by_a, by_b) = (g.abs() / square(a), h / square(b).sqrt());
        let tap = |kernel: &[f64], o: usize, i: usize, [y, x]: [isize; 2]| {
            let inside = (-1..=1).contains(&y) && (-1..=1).contains(&x);
            if inside { kernel[(o * c + i) * 9 + (3 * (y + 1) + x + 1) as usize] } else { 0.0 }
        };
        // V at (o, i, d), and the sum of the sizes of its terms.
        let entry = |o: usize, i: usize, d: [isize; 2]| {
            let (mut sum, mut size) = (0.0, 0.0);
            for (k, e) in (0..c).flat_map(|k| (0..9_isize).map(move |e| (k, [e / 3 - 1, e % 3 - 1]))) {
                let term = tap(a, k, o, e) * tap(a, k, i, [e[0] + d[0], e[1] + d[1]]);
                (sum, size) = (sum + term, size + term.abs());
            }
            let (forth, back) = (tap(b, o, i, d), tap(b, i, o, [-d[0], -d[1]]));
            (by_b * (forth - back) - by_a * sum, by_b.abs() * (forth.abs() + back.abs()) + by_a * size)
        };
        let at = |o: usize, i: usize, [y, x]: [isize; 2]| {
            ((o * c + i) * 5 + (y + 2) as usize) * 5 + (x + 2) as usize
        };
        let mut kernel = vec![(0.0, 0.0); 25 * c * c];
        for (o, i) in (0..c).flat_map(|o| (0..c).map(move |i| (o, i))) {
            for d in (0..25_isize).map(|d| [d / 5 - 2, d % 5 - 2]) {
                kernel[at(o, i, d)] = entry(o, i, d);
            }
        }
        let units = rows * columns;
        let place = |unit: usize| {
            let inner = unit % units;
            (unit / units, [inner / columns, inner % columns].map(|side| side as isize))
        };
        let between = |p: usize, q: usize| {
            let ((o, p), (i, q)) = (place(p), place(q));
            let d = [q[0] - p[0], q[1] - p[1]];
            if d.iter().all(|side| side.abs() <= 2) { kernel[at(o, i, d)] } else { (0.0, 0.0) }
        };
        let side = c * units;
        Self {
            weight: Matrix::new(side, side, |p, q| identity(p, q, m) + between(p, q).0),
            magnitude: Matrix::new(side, side, |p, q| between(p, q).1),
            entry: numbers + 9 * c + 20,
            product: numbers + 34 * c + 40,
            metric: Metric::plain(Kind::Euclidean, side),
        }
    }
}

/// An entry of (1−m) I.
fn identity(i: usize, j: usize, m: f64) -> f64 {
    if i == j { 1.0 - m } else { 0.0 }
}
