//! Fixed-point problems with known answers, shared by tests, benchmarks and examples.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::model::cell::Cell;
use crate::model::deq::Deq;
use crate::model::init::{Init, Law};
use crate::model::layers::Dense;
use crate::model::linear::{FlattenStem, LinearHead};
use crate::solve::small;

/// f(z; b) = A z + b, whose fixed point is (I − A)⁻¹ b.
#[derive(Module, Debug)]
pub struct LinearCell {
    /// A, `[D, D]`.
    pub matrix: Param<Tensor<2>>,
}

impl LinearCell {
    /// A random A, scaled so that no row's absolute sum exceeds `contraction`: below 1, a contraction in the
    /// maximum norm.
    pub fn new(dim: usize, contraction: f64, init: &mut Init) -> Self {
        let matrix = init.parameter([dim, dim], Law::Normal(1.0)).val();
        let largest: f32 = matrix.clone().abs().sum_dim(1).max().into_scalar();
        Self { matrix: init.constant(matrix * (contraction / f64::from(largest))) }
    }

    /// (I − A)⁻¹ b for each row of `injection`, by Gaussian elimination in float64.
    ///
    /// # Panics
    ///
    /// If I − A is singular, which it is not for a contraction.
    pub fn solution(&self, injection: &Tensor<2>) -> Vec<Vec<f64>> {
        let [n, dim] = injection.dims();
        let a = equipoise_attack::batch::to_vec(self.matrix.val());
        let b = equipoise_attack::batch::to_vec(injection.clone());
        let entry = |i: usize, j: usize| f64::from(u8::from(i == j)) - f64::from(a[i * dim + j]);
        let matrix: Vec<Vec<f64>> = (0..dim).map(|i| (0..dim).map(|j| entry(i, j)).collect()).collect();
        (0..n)
            .map(|row| {
                let right = b[row * dim..][..dim].iter().map(|&entry| f64::from(entry)).collect();
                small::solve(matrix.clone(), right).expect("I − A is singular")
            })
            .collect()
    }
}

impl Cell for LinearCell {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        // Not a matrix product: those go through another kernel when there is but one row.
        let product = state.unsqueeze_dim::<3>(1) * self.matrix.val().unsqueeze_dim(0);
        product.sum_dim(2).squeeze_dim(2) + injection
    }

    fn state_dim(&self) -> usize {
        self.matrix.dims()[0]
    }
}

/// A whole linear DEQ on images of `dim` pixels, for which every gradient is known in closed form.
pub fn linear_deq(
    dim: usize,
    classes: usize,
    contraction: f64,
    init: &mut Init,
) -> Deq<FlattenStem, LinearCell, LinearHead> {
    Deq {
        stem: FlattenStem {},
        cell: LinearCell::new(dim, contraction, init),
        head: LinearHead { classifier: Dense::new(dim, classes, init) },
    }
}
