//! What several test files share.
#![allow(dead_code)]

pub mod cells;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::FloatDType;
use burn::tensor::{Device, Tensor};
use equipoise::batch::{from_vec, to_vec};
use equipoise::model::mdeq::MdeqConfig;
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

/// Adds a step along a fixed direction to one parameter, and brings all of them to float64.
pub struct Nudge {
    pub id: Option<ParamId>,
    pub step: f64,
}

impl ModuleMapper for Nudge {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let step = if self.id == Some(param.id) { self.step } else { 0.0 };
        let direction = double(normal(param.dims(), 11)) * step;
        param.map(|value| double(value) + direction)
    }
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

/// Two branches, as small as they get, for digits.
pub fn small_mdeq() -> MdeqConfig {
    MdeqConfig {
        channels: vec![4, 4],
        head_channels: vec![2, 2],
        final_channels: 8,
        groups: 2,
        expansion: 1,
        ..MdeqConfig::digits()
    }
}

/// Compares the gradients of every parameter of a model: each must be found to a relative error below `error`, but
/// for those that are expected to be shorter than √`negligible`, which are rounding. Returns how many were compared.
pub fn compare_gradients<M: Module>(
    model: &M,
    found: &GradientsParams,
    expected: &GradientsParams,
    error: f64,
    negligible: f64,
) -> usize {
    struct Compare<'a> {
        found: &'a GradientsParams,
        expected: &'a GradientsParams,
        error: f64,
        negligible: f64,
        compared: usize,
    }
    impl ModuleVisitor for Compare<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(expected) = self.expected.get::<D>(param.id) else { return };
            if inner(&expected, &expected) < self.negligible {
                return;
            }
            let found = self.found.get::<D>(param.id).expect("a gradient for every parameter");
            let error = relative_error(&found, &expected);
            // Of a weight norm's g, most cancels: the normalisation after it takes the scale away again.
            let factor = if D == 4 && param.shape()[1..] == [1; 3] { 10.0 } else { 1.0 };
            assert!(
                error < factor * self.error,
                "parameter {} of shape {:?}: {error}",
                param.id,
                param.dims()
            );
            self.compared += 1;
        }
    }
    let mut compare = Compare { found, expected, error, negligible, compared: 0 };
    model.visit(&mut compare);
    compare.compared
}

/// ⟨a, b⟩ in float64.
pub fn inner<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> f64 {
    let (a, b) = (entries(a), entries(b));
    a.iter().zip(&b).map(|(a, b)| a * b).sum()
}

/// Float and integer tensors of a safetensors file, by name.
pub struct Fixture(std::collections::HashMap<String, (Vec<usize>, Vec<f32>)>);

impl Fixture {
    pub fn read(path: &std::path::Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let content = |view: &safetensors::tensor::TensorView<'_>| match view.dtype() {
            safetensors::Dtype::F32 => {
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
            }
            safetensors::Dtype::I64 => view
                .data()
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32)
                .collect(),
            other => panic!("{other:?} in a fixture"),
        };
        let tensors = file.tensors();
        Self(tensors.iter().map(|(k, v)| (k.clone(), (v.shape().to_vec(), content(v)))).collect())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (shape, values) = self.0.get(name).unwrap_or_else(|| panic!("the fixture has {name}"));
        from_vec(values.clone(), shape.as_slice().try_into().expect(name), &Device::default())
    }

    pub fn labels(&self) -> Vec<usize> {
        self.0["y"].1.iter().map(|&label| label as usize).collect()
    }
}

/// Cosines between the rows of two tensors, ascending.
pub fn cosines<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> Vec<f64> {
    assert_eq!(a.dims(), b.dims());
    let n = a.dims()[0];
    let (a, b) = (entries(a), entries(b));
    let size = a.len() / n;
    let cosine = |(a, b): (&[f64], &[f64])| {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let mut cosines: Vec<f64> = a.chunks(size).zip(b.chunks(size)).map(cosine).collect();
    cosines.sort_by(f64::total_cmp);
    cosines
}

/// The smallest cosine between rows of two tensors.
pub fn worst_cosine<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> f64 {
    cosines(a, b)[0]
}

/// The median cosine between rows of two tensors.
pub fn median_cosine<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> f64 {
    let cosines = cosines(a, b);
    let middle = cosines.len() / 2;
    if cosines.len() % 2 == 1 { cosines[middle] } else { (cosines[middle - 1] + cosines[middle]) / 2.0 }
}

/// A module's parameters, running statistics included, in order.
pub fn parameters_of(module: &impl Module) -> Vec<Vec<f32>> {
    struct Collect(Vec<Vec<f32>>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(to_vec(param.val()));
        }
    }
    let mut collect = Collect(Vec::new());
    module.visit(&mut collect);
    collect.0
}

/// The gradients of a module's parameters, in order; those that have one.
pub fn parameter_gradients(module: &impl Module, gradients: &GradientsParams) -> Vec<Vec<f32>> {
    struct Collect<'a>(&'a GradientsParams, Vec<Vec<f32>>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.extend(self.0.get::<D>(param.id).map(to_vec));
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    module.visit(&mut collect);
    collect.1
}

/// Each list of numbers is near its counterpart: by `tolerance` of its own norm, and, where it is tiny beside the
/// largest of them, by that much of the largest.
pub fn compare_all(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f64) {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let largest = expected.iter().map(|x| norm(&mut x.iter().map(|&x| f64::from(x)))).fold(0.0, f64::max);
    assert_eq!(found.len(), expected.len());
    assert!(largest > 0.0);
    for (number, (a, b)) in found.iter().zip(expected).enumerate() {
        assert_eq!(a.len(), b.len());
        let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        let size = norm(&mut b.iter().map(|&x| f64::from(x)));
        let limit = tolerance * size.max(0.01 * largest);
        assert!(difference <= limit, "parameter {number}: {difference} of {size}, largest {largest}");
    }
}
