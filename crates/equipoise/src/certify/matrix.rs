//! Matrices in float64, and upper bounds of their norms.
//!
//! ‖M‖₂ comes from Gram iteration (Delattre et al. 2023, arXiv 2305.16173): with G₀ = M Mᵀ and G_{k+1} = G_k G_kᵀ,
//! ‖M‖₂^(2^(k+1)) = ‖G_k‖₂ ≤ ‖G_k‖_F. That is above the norm at every k, where power iteration is below it, and by a factor of
//! at most r^(1/2^(k+2)) at rank r. What each product's rounding may have hidden is added at its place: with a computed H and
//! ‖G Gᵀ − H‖_F ≤ e, ‖G‖₂² ≤ ‖H‖₂ + e.
//!
//! Sums are in whatever order the library adds them up, with fused products or without, on one thread: nothing here depends on how
//! many there are, and every bound holds in any order. Inverses and eigenvectors are not trusted by whoever uses them.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::solvers::DenseSolveCore;
use faer::{Accum, MatMut, MatRef, Par, Side};

use super::upper::{UNIT, Upper, dot, gamma, length};

/// Rounds of the iteration: within 0.1% of the norm at rank 60.
const ROUNDS: usize = 10;

/// A matrix, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) values: Vec<f64>,
}

impl Matrix {
    /// Of its entries.
    pub(crate) fn new(rows: usize, columns: usize, entry: impl Fn(usize, usize) -> f64) -> Self {
        let entry = |at: usize| entry(at / columns, at % columns);
        Self { rows, columns, values: (0..rows * columns).map(entry).collect() }
    }

    /// Of row-major entries.
    pub(crate) fn of(rows: usize, columns: usize, values: Vec<f64>) -> Self {
        assert_eq!(values.len(), rows * columns, "as many numbers as entries");
        Self { rows, columns, values }
    }

    /// Row i.
    pub(crate) fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.columns..][..self.columns]
    }

    /// M v.
    pub(crate) fn times(&self, v: &[f64]) -> Vec<f64> {
        (0..self.rows).map(|i| dot(self.row(i), v)).collect()
    }

    /// M N.
    pub(crate) fn product(&self, other: &Self) -> Self {
        let mut product = Self::of(self.rows, other.columns, vec![0.0; self.rows * other.columns]);
        matmul(product.dense_mut(), Accum::Replace, self.dense(), other.dense(), 1.0, Par::Seq);
        product
    }

    /// M Mᵀ, symmetric to the bit.
    pub(crate) fn gram(&self) -> Self {
        let side = self.rows;
        let mut gram = Self::of(side, side, vec![0.0; side * side]);
        let (whole, half) = (BlockStructure::Rectangular, BlockStructure::TriangularLower);
        let (own, turned) = (self.dense(), self.dense().transpose());
        triangular::matmul(gram.dense_mut(), half, Accum::Replace, own, whole, turned, whole, 1.0, Par::Seq);
        for (i, j) in (0..side).flat_map(|i| (0..i).map(move |j| (i, j))) {
            gram.values[j * side + i] = gram.values[i * side + j];
        }
        gram
    }

    /// vᵀ M: the sum of rows by weights.
    pub(crate) fn combined(&self, weights: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.columns];
        for (i, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            sum.iter_mut().zip(self.row(i)).for_each(|(sum, entry)| *sum += weight * entry);
        }
        sum
    }

    /// About M⁻¹; `None` if M is singular to rounding.
    pub(crate) fn inverse(&self) -> Option<Self> {
        Some(Self::from_dense(self.dense().partial_piv_lu().inverse().as_ref())).filter(Self::is_finite)
    }

    /// About the eigenvectors of a symmetric M, in columns: orthonormal to rounding. `None` where they are not found.
    pub(crate) fn eigenvectors(&self) -> Option<Self> {
        let found = self.dense().self_adjoint_eigen(Side::Lower).ok()?;
        Some(Self::from_dense(found.U())).filter(Self::is_finite)
    }

    /// About the least eigenvalue of a symmetric M. `None` where it is not found.
    pub(crate) fn least_eigenvalue(&self) -> Option<f64> {
        let found = self.dense().self_adjoint_eigenvalues(Side::Lower).ok()?;
        found.into_iter().min_by(f64::total_cmp)
    }

    /// A lower triangular L with about M = L Lᵀ for a symmetric M. `None` if M is not positive definite.
    pub(crate) fn cholesky(&self) -> Option<Self> {
        let found = self.dense().llt(Side::Lower).ok()?;
        let lower = found.L();
        Some(Self::new(self.rows, self.columns, |i, j| if i >= j { lower[(i, j)] } else { 0.0 }))
    }

    fn is_finite(&self) -> bool {
        self.values.iter().all(|entry| entry.is_finite())
    }

    fn dense(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.values, self.rows, self.columns)
    }

    fn dense_mut(&mut self) -> MatMut<'_, f64> {
        MatMut::from_row_major_slice_mut(&mut self.values, self.rows, self.columns)
    }

    fn from_dense(dense: MatRef<'_, f64>) -> Self {
        Self::new(dense.nrows(), dense.ncols(), |i, j| dense[(i, j)])
    }

    /// Entry by entry.
    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { values: self.values.iter().copied().map(f).collect(), ..*self }
    }

    /// Mᵀ.
    pub(crate) fn transposed(&self) -> Self {
        Self::new(self.columns, self.rows, |i, j| self.values[j * self.columns + i])
    }

    /// ‖M‖_F.
    pub(crate) fn frobenius(&self) -> Upper {
        length(&self.values)
    }

    /// ‖M‖₂.
    pub(crate) fn norm(&self) -> Upper {
        let wide = if self.rows <= self.columns { self.clone() } else { self.transposed() };
        wide.squared(ROUNDS).sqrt()
    }

    /// ‖M‖₂² by so many rounds.
    fn squared(&self, rounds: usize) -> Upper {
        let size = self.frobenius();
        if rounds == 0 || !size.value().is_finite() {
            return size * size;
        }
        // By a power of two, which is exact, so that no power over- or underflows.
        let scale =
            2.0_f64.powi(-(size.value().max(f64::MIN_POSITIVE).log2().clamp(-500.0, 500.0).floor() as i32));
        let scaled = self.map(|entry| entry * scale);
        let product = scaled.gram();
        let size = scaled.frobenius();
        let lost = gamma(self.columns + 1, UNIT) * size * size
            + Upper::exact(f64::MIN_POSITIVE) * self.values.len() as f64;
        (product.squared(rounds - 1).sqrt() + lost).over(scale).over(scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rows: usize, columns: usize, seed: u64) -> Matrix {
        let mut state = seed;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        Matrix::of(rows, columns, (0..rows * columns).map(|_| draw()).collect())
    }

    /// Power iteration: a lower bound that comes near.
    fn from_below(m: &Matrix, rounds: usize) -> f64 {
        let transposed = m.transposed();
        let size = |v: &[f64]| dot(v, v).sqrt();
        let mut v = vec![1.0; m.columns];
        let mut norm = 0.0;
        for _ in 0..rounds {
            let image = m.times(&v);
            norm = size(&image) / size(&v);
            v = transposed.times(&image);
            let length = size(&v);
            v.iter_mut().for_each(|entry| *entry /= length);
        }
        norm
    }

    #[test]
    fn products_are_sums_of_products() {
        for (rows, inner, columns) in
            [(1, 1, 1), (4, 3, 8), (7, 5, 19), (8, 0, 16), (9, 6, 0), (0, 4, 8), (3, 2, 7)]
        {
            let (m, n) = (random(rows, inner, 1), random(inner, columns, 2));
            let product = m.product(&n);
            assert_eq!(
                (product.rows, product.columns, product.values.len()),
                (rows, columns, rows * columns)
            );
            for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                let sum: f64 = (0..inner).map(|k| m.row(i)[k] * n.row(k)[j]).sum();
                assert!((product.row(i)[j] - sum).abs() < 1e-14, "{rows}×{inner}×{columns} at {i}, {j}");
            }
        }
    }

    #[test]
    fn inverses_are_near() {
        let m = random(20, 20, 3);
        let product = m.inverse().unwrap().product(&m);
        for (at, entry) in product.values.iter().enumerate() {
            assert!((entry - f64::from(u8::from(at / 20 == at % 20))).abs() < 1e-10);
        }
        assert!(Matrix::of(2, 2, vec![1.0, 2.0, 2.0, 4.0]).inverse().is_none());
    }

    #[test]
    fn eigenvectors_are_orthonormal_and_turned_by_nothing() {
        let m = random(17, 30, 4);
        let gram = m.gram();
        assert_eq!(gram, gram.transposed());
        let product = m.product(&m.transposed());
        assert!(gram.values.iter().zip(&product.values).all(|(a, b)| (a - b).abs() < 1e-12));
        let q = gram.eigenvectors().unwrap();
        for (of, diagonal) in
            [(q.transposed().product(&q), 1.0), (q.transposed().product(&gram).product(&q), 0.0)]
        {
            for (at, entry) in of.values.iter().enumerate() {
                let expected =
                    if at / 17 == at % 17 { if diagonal == 1.0 { 1.0 } else { *entry } } else { 0.0 };
                assert!((entry - expected).abs() < 1e-7, "{at}: {entry}");
            }
        }
        let zero = Matrix::of(2, 2, vec![0.0; 4]).eigenvectors().unwrap();
        assert!(
            zero.gram()
                .values
                .iter()
                .zip([1.0, 0.0, 0.0, 1.0])
                .all(|(found, one)| (found - one).abs() < 1e-12)
        );
        assert!(Matrix::of(2, 2, vec![f64::NAN; 4]).eigenvectors().is_none());
    }

    #[test]
    fn norms_are_bounded_from_above_and_closely() {
        for (rows, columns) in [(1, 1), (3, 50), (50, 3), (24, 24)] {
            let m = random(rows, columns, 7);
            let (below, above) = (from_below(&m, 20_000), m.norm().value());
            assert!(above >= below && above < below * 1.002, "{rows}×{columns}: {below} {above}");
            for scale in [1e-120, 1e120] {
                let scaled = m.map(|entry| entry * scale).norm().value() / scale;
                assert!((scaled / above - 1.0).abs() < 1e-6, "{scale}: {scaled} {above}");
            }
        }
        // A norm that is known: the Gram matrix of 3 I is 9 I, and a few steps of power iteration find less on others.
        let scaled = Matrix::new(5, 5, |i, j| if i == j { 3.0 } else { 0.0 });
        assert!((3.0..3.01).contains(&scaled.norm().value()));
        let m = random(24, 24, 9);
        assert!(from_below(&m, 3) < from_below(&m, 20_000) * 0.999, "a short power iteration is no bound");
        assert!(Matrix::of(2, 2, vec![0.0; 4]).norm().value() < 1e-100);
        assert!(!Matrix::of(1, 1, vec![f64::INFINITY]).norm().value().is_finite());
    }
}
