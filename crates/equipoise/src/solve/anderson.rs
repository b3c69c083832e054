//! Anderson acceleration (Walker and Ni 2011), with a small regularised system per example.
//!
//! Over the last m points, weights α with Σα = 1 minimise ‖Σ α_i g_i‖² + λ‖α‖²; the next iterate is
//! β Σ α_i f(z_i) + (1−β) Σ α_i z_i. The optimality conditions are an (m+1)×(m+1) system with the Gram matrix
//! of the residuals, solved on the host in float64; where it is singular, that example takes a Picard step.

use burn::tensor::Tensor;

use super::{Evaluated, Memory};
use crate::batch::{dot, from_vec, to_vec};
use crate::state::State;

pub(super) struct Anderson {
    memory: usize,
    regularisation: f64,
    mixing: f64,
    /// Newest last.
    history: Vec<Evaluated>,
    /// For each example, the Gram matrix of the history's residuals, row by row.
    gram: Vec<Vec<Vec<f64>>>,
}

impl Anderson {
    pub(super) fn new(memory: usize, regularisation: f64, mixing: f64) -> Self {
        Self { memory, regularisation, mixing, history: Vec::new(), gram: Vec::new() }
    }

    /// Takes a point into the history, dropping the oldest if it is full.
    fn remember(&mut self, point: Evaluated) {
        if self.history.len() == self.memory {
            self.history.remove(0);
            for gram in &mut self.gram {
                gram.remove(0);
                gram.iter_mut().for_each(|row| _ = row.remove(0));
            }
        }
        self.history.push(point);
        let newest = &self.history[self.history.len() - 1].residual;
        self.gram.resize(newest.dims()[0], Vec::new());
        let products: Vec<Vec<f32>> =
            self.history.iter().map(|point| to_vec(dot(&point.residual, newest))).collect();
        for (example, gram) in self.gram.iter_mut().enumerate() {
            let row: Vec<f64> = products.iter().map(|product| f64::from(product[example])).collect();
            gram.iter_mut().zip(&row).for_each(|(older, &product)| older.push(product));
            gram.push(row);
        }
    }
}

impl Memory for Anderson {
    fn next(&mut self, current: &Evaluated) -> State {
        self.remember(current.clone());
        let count = self.history.len();
        let weights: Vec<Vec<f64>> = self
            .gram
            .iter()
            .map(|gram| {
                mixing_weights(gram, self.regularisation).unwrap_or_else(|| {
                    let mut newest = vec![0.0; count];
                    newest[count - 1] = 1.0;
                    newest
                })
            })
            .collect();
        let device = current.state.device();
        let mut next: Option<Tensor<2>> = None;
        for (k, point) in self.history.iter().enumerate() {
            let column: Vec<f32> = weights.iter().map(|weights| weights[k] as f32).collect();
            let column = from_vec(column, [weights.len(), 1], &device);
            // β f + (1−β) z = z + β g
            let term = (point.state.clone() + point.residual.clone() * self.mixing) * column;
            next = Some(match next {
                None => term,
                Some(sum) => sum + term,
            });
        }
        next.expect("the history holds the current point")
    }

    fn select(&mut self, rows: &[usize]) {
        for point in &mut self.history {
            *point = point.select(rows);
        }
        self.gram = rows.iter().map(|&row| self.gram[row].clone()).collect();
    }
}

/// α minimising αᵀ(G + λI)α subject to Σα = 1; `None` if the system is singular.
fn mixing_weights(gram: &[Vec<f64>], regularisation: f64) -> Option<Vec<f64>> {
    // With the multiplier eliminated: α ∝ (G + λI)⁻¹ 1.
    let n = gram.len();
    let mut system: Vec<Vec<f64>> = gram
        .iter()
        .enumerate()
        .map(|(i, row)| {
            let mut row = row.clone();
            row[i] += regularisation;
            row.push(1.0);
            row
        })
        .collect();
    let scale = system.iter().flatten().fold(0.0_f64, |scale, entry| scale.max(entry.abs()));
    for column in 0..n {
        let pivot =
            (column..n).max_by(|&a, &b| system[a][column].abs().total_cmp(&system[b][column].abs()))?;
        system.swap(column, pivot);
        let head = system[column][column];
        if !head.is_finite() || head.abs() <= 1e-14 * scale {
            return None;
        }
        let pivot_row = system[column].clone();
        for row in system.iter_mut().skip(column + 1) {
            let factor = row[column] / head;
            row.iter_mut().zip(&pivot_row).skip(column).for_each(|(entry, pivot)| *entry -= factor * pivot);
        }
    }
    let mut alpha = vec![0.0; n];
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| system[row][k] * alpha[k]).sum();
        alpha[row] = (system[row][n] - known) / system[row][row];
    }
    let total: f64 = alpha.iter().sum();
    if !total.is_finite() || total.abs() < f64::MIN_POSITIVE {
        return None;
    }
    alpha.iter_mut().for_each(|weight| *weight /= total);
    alpha.iter().all(|weight| weight.is_finite()).then_some(alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_minimise_the_residual() {
        // Orthogonal residuals of lengths 1 and 2: weights inversely proportional to the squares.
        let weights = mixing_weights(&[vec![1.0, 0.0], vec![0.0, 4.0]], 0.0).unwrap();
        assert!((weights[0] - 0.8).abs() < 1e-12 && (weights[1] - 0.2).abs() < 1e-12);
    }

    #[test]
    fn a_singular_system_says_so() {
        assert_eq!(mixing_weights(&[vec![1.0, 1.0], vec![1.0, 1.0]], 0.0), None);
        assert_eq!(mixing_weights(&[vec![f64::NAN]], 1e-4), None);
    }
}
