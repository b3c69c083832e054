//! What several test files share.
#![allow(dead_code)]

pub mod cells;

use burn::tensor::FloatDType;
use burn::tensor::{Device, Tensor};
use equipoise::batch::from_vec;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Standard normal entries from a seed.
pub fn normal<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || {
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    };
    let values = (0..shape.iter().product()).map(|_| draw()).collect();
    from_vec(values, shape, &Device::default())
}

/// Uniform entries in [0, 1].
pub fn uniform<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape.iter().product()).map(|_| rng.random::<f32>()).collect();
    from_vec(values, shape, &Device::default())
}

/// The same numbers in float64.
pub fn double<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    tensor.cast(FloatDType::F64)
}

/// Entries of a tensor of either precision.
pub fn entries<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    double(tensor.clone()).into_data().try_into_vec::<f64>().unwrap()
}

/// ‖a − b‖ / ‖b‖.
pub fn relative_error<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (entries(a), entries(b));
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(&b).map(|(a, b)| square(a - b)).sum();
    let size: f64 = b.iter().map(|b| square(*b)).sum();
    (difference / size.max(1e-300)).sqrt()
}

/// ⟨a, b⟩ in float64.
pub fn inner<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> f64 {
    let (a, b) = (entries(a), entries(b));
    a.iter().zip(&b).map(|(a, b)| a * b).sum()
}
