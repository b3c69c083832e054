//! W as a matrix, of a fully connected cell and of a convolutional one.

use super::Coupling;
use crate::certify::matrix::Matrix;
use crate::certify::upper::dot;
use crate::model::monotone::MonotoneConvCell;

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
        Self { weight, magnitude, entry: side + 6, product: 2 * side + 10 }
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
        }
    }
}

/// An entry of (1−m) I.
fn identity(i: usize, j: usize, m: f64) -> f64 {
    if i == j { 1.0 - m } else { 0.0 }
}
