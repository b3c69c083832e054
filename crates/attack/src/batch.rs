//! Batches of examples, row by row.
//!
//! Everything that depends on several examples at once lives here as an operation on the rows of a
//! `[N, ..]` tensor, so that it is easy to see that no example's result depends on its batch: norms and
//! inner products are per row, and rows can be taken out of a batch and put back.
//!
//! Losses and gradients follow the same rule: losses are per example, and gradients are of the **sum** over
//! the batch.

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use crate::cpu::{numbers_of, plain};

/// Images `[N, C, H, W]`, float32, intensities in \[0, 1\]. Normalisation, if any, is inside the model.
pub type Images = Tensor<4>;

/// Scores `[N, K]`, one per class.
pub type Logits = Tensor<2>;

/// One number per example, `[N]`.
pub type Values = Tensor<1>;

/// Per-row inner product of `[N, D]` tensors. Shape `[N, 1]`.
pub fn dot(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    (a.clone() * b.clone()).sum_dim(1)
}

/// Per-row Euclidean norm of an `[N, D]` tensor. Shape `[N, 1]`.
pub fn norm(a: &Tensor<2>) -> Tensor<2> {
    dot(a, a).sqrt()
}

/// The given rows, in the given order. Works for a tensor of any rank.
pub fn select<const D: usize>(tensor: &Tensor<D>, rows: &[usize]) -> Tensor<D> {
    tensor.clone().select(0, indices(rows, &tensor.device()))
}

/// `full` with row `rows[k]` replaced by row `k` of `part`.
pub fn put_rows<const D: usize>(full: &Tensor<D>, rows: &[usize], part: &Tensor<D>) -> Tensor<D> {
    let n = full.dims()[0];
    if rows.len() == n && rows.iter().enumerate().all(|(k, &row)| k == row) {
        return part.clone();
    }
    if let (Some(all), Some(new)) = (plain(full), plain(part)) {
        let each: usize = full.dims()[1..].iter().product();
        let mut source: Vec<&[f32]> =
            (0..n).map(|row| &numbers_of(&all)[row * each..(row + 1) * each]).collect();
        for (k, &row) in rows.iter().enumerate() {
            source[row] = &numbers_of(&new)[k * each..(k + 1) * each];
        }
        return from_vec(source.concat(), full.dims(), &full.device());
    }
    // One gather over [full; part]: row i of the result is row i of `full`, or the row of `part` that replaces it.
    let mut source: Vec<usize> = (0..n).collect();
    for (k, &row) in rows.iter().enumerate() {
        source[row] = n + k;
    }
    select(&Tensor::cat(vec![full.clone(), part.clone()], 0), &source)
}

/// Row numbers as a tensor.
pub fn indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let n = rows.len();
    Tensor::from_data(TensorData::new(rows, [n]), device)
}

/// The content of a float tensor in row-major order, in float32 whatever the tensor holds.
pub fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.cast(FloatDType::F32).into_data();
    data.try_into_vec::<f32>().expect("just cast to float32")
}

/// The content of a float tensor in row-major order, in float64: nothing is lost of what the tensor holds.
pub fn to_f64<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let data = tensor.cast(FloatDType::F64).into_data();
    data.try_into_vec::<f64>().expect("just cast to float64")
}

/// A tensor from row-major content.
pub fn from_vec<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The index of the largest entry in each row of `[N, K]` scores, ties to the lower index; `None` for a row
/// with an entry that is not finite.
pub fn predictions(logits: &Logits) -> Vec<Option<usize>> {
    let [_, classes] = logits.dims();
    to_vec(logits.clone())
        .chunks(classes)
        .map(|row| {
            if row.iter().any(|score| !score.is_finite()) {
                return None;
            }
            let mut best = 0;
            for (class, score) in row.iter().enumerate() {
                if *score > row[best] {
                    best = class;
                }
            }
            Some(best)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_leave_and_return() {
        let device = Device::default();
        let full = from_vec(vec![0., 0., 1., 1., 2., 2.], [3, 2], &device);
        let part = select(&full, &[2, 0]) + 10.0;
        assert_eq!(to_vec(put_rows(&full, &[2, 0], &part)), vec![10., 10., 1., 1., 12., 12.]);
    }

    #[test]
    fn a_row_that_is_not_finite_predicts_nothing() {
        let logits = from_vec(vec![1., 2., 2., f32::NAN, 0., 0.], [2, 3], &Device::default());
        assert_eq!(predictions(&logits), vec![Some(1), None]);
    }
}
