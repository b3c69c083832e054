//! The victims' architecture: a dense tanh cell with linear stem and head, each with a linearisation by hand.
//!
//! f(z; x) = tanh(W z + U x + b). Everything is computed row by row, so that an example's results do not depend on its
//! batch.

use std::sync::Arc;

use burn::module::{Module, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use equipoise::batch::{Images, Logits, from_vec, select, to_vec};
use equipoise::model::cell::{BoundCell, Cell, FixedPointMap, Linearization};
use equipoise::model::deq::{
    Deq, Head, HeadPullBack, HeadTrainingPullBack, Stem, StemPullBack, StemTrainingPullBack,
};
use equipoise::model::init::{Init, Law};
use equipoise::model::layers::{BatchMoments, Phase};
use equipoise::model::parameters::accumulate;
use equipoise::state::{Injection, State};

/// Length of the state.
const DIM: usize = 32;

/// A victim.
pub type Model = Deq<PixelStem, TanhCell, StateHead>;

/// An untrained one for images of `pixels` pixels.
pub fn untrained(pixels: usize, classes: usize, seed: u64, scale: f64, device: &Device) -> Model {
    let mut init = Init::new(seed, device);
    Deq {
        stem: PixelStem { map: Affine::new(pixels, DIM, &mut init) },
        cell: TanhCell { weight: init.parameter([DIM, DIM], Law::Normal(scale / (DIM as f64).sqrt())) },
        head: StateHead { map: Affine::new(DIM, classes, &mut init) },
    }
}

/// A matrix of numbers in both orders, for products from either side.
#[derive(Debug)]
struct Matrix {
    /// Rows and columns.
    dims: [usize; 2],
    by_row: Vec<f32>,
    by_column: Vec<f32>,
}

impl Matrix {
    fn of(weight: &Tensor<2>) -> Self {
        let dims @ [rows, columns] = weight.dims();
        let by_row = to_vec(weight.clone());
        let by_column = (0..rows * columns).map(|k| by_row[k % rows * columns + k / rows]).collect();
        Self { dims, by_row, by_column }
    }

    /// W x for each row x.
    fn times(&self, x: &[f32]) -> Vec<f32> {
        rows_times(x, &self.by_column, self.dims[1], self.dims[0])
    }

    /// uᵀ W for each row u.
    fn transposed_times(&self, u: &[f32]) -> Vec<f32> {
        rows_times(u, &self.by_row, self.dims[0], self.dims[1])
    }

    /// Σ u xᵀ over the rows: the gradient of W.
    fn gradient(&self, u: &[f32], x: &[f32]) -> Vec<f32> {
        let [rows, columns] = self.dims;
        let mut sum = vec![0.0; rows * columns];
        for (u, x) in u.chunks_exact(rows).zip(x.chunks_exact(columns)) {
            for (&factor, row) in u.iter().zip(sum.chunks_exact_mut(columns)) {
                row.iter_mut().zip(x).for_each(|(sum, &x)| *sum += factor * x);
            }
        }
        sum
    }
}

/// Each row of `x` as coefficients of the rows of a matrix.
fn rows_times(x: &[f32], matrix: &[f32], inner: usize, outer: usize) -> Vec<f32> {
    let mut products = vec![0.0; x.len() / inner * outer];
    for (x, product) in x.chunks_exact(inner).zip(products.chunks_exact_mut(outer)) {
        for (&factor, row) in x.iter().zip(matrix.chunks_exact(outer)) {
            product.iter_mut().zip(row).for_each(|(sum, &entry)| *sum += factor * entry);
        }
    }
    products
}

/// tanh to a few units in the last place, by a rational function that compiles to vector instructions.
#[allow(clippy::excessive_precision, reason = "the coefficients as they are published")]
fn tanh(x: f32) -> f32 {
    let x = x.clamp(-7.905_311, 7.905_311);
    let square = x * x;
    let mut p = -2.760_768_5e-16_f32;
    for coefficient in
        [2.000_188e-13, -8.604_672e-11, 5.122_297e-8, 1.485_722_4e-5, 6.372_619e-4, 4.893_524_6e-3]
    {
        p = p * square + coefficient;
    }
    let mut q = 1.198_258_4e-6_f32;
    for coefficient in [1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3] {
        q = q * square + coefficient;
    }
    x * p / q
}

/// W x + b.
#[derive(Module, Debug)]
pub struct Affine {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Affine {
    fn new(inputs: usize, outputs: usize, init: &mut Init) -> Self {
        let bound = 1.0 / (inputs as f64).sqrt();
        Self {
            weight: init.parameter([outputs, inputs], Law::Uniform(bound)),
            bias: init.parameter([outputs], Law::Uniform(bound)),
        }
    }

    /// In Burn operations, for autodiff.
    fn tracked(&self, x: Tensor<2>) -> Tensor<2> {
        let product = x.unsqueeze_dim::<3>(1) * self.weight.val().unsqueeze_dim(0);
        product.sum_dim(2).squeeze_dim::<2>(2) + self.bias.val().unsqueeze_dim(0)
    }

    fn matrix(&self) -> Matrix {
        Matrix::of(&self.weight.val())
    }

    fn apply(&self, matrix: &Matrix, x: &[f32], device: &Device) -> Tensor<2> {
        let bias = to_vec(self.bias.val());
        let mut product = matrix.times(x);
        for row in product.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(&bias).for_each(|(entry, bias)| *entry += bias);
        }
        let shape = [product.len() / bias.len(), bias.len()];
        from_vec(product, shape, device)
    }

    fn collect(&self, matrix: &Matrix, u: &[f32], x: &[f32], device: &Device, into: &mut GradientsParams) {
        let outputs = matrix.dims[0];
        let mut bias = vec![0.0; outputs];
        for row in u.chunks_exact(outputs) {
            bias.iter_mut().zip(row).for_each(|(sum, u)| *sum += u);
        }
        accumulate(into, self.weight.id, from_vec(matrix.gradient(u, x), matrix.dims, device));
        accumulate(into, self.bias.id, from_vec(bias, [outputs], device));
    }
}

/// U x + b of the pixels.
#[derive(Module, Debug)]
pub struct PixelStem {
    map: Affine,
}

impl Stem for PixelStem {
    fn forward(&self, images: Images, _: &Phase<'_>) -> Tensor<2> {
        if images.is_autodiff() || self.map.weight.val().is_autodiff() {
            return self.map.tracked(images.flatten(1, 3));
        }
        let device = images.device();
        self.map.apply(&self.map.matrix(), &to_vec(images), &device)
    }

    fn linearize(&self, images: &Images) -> (Tensor<2>, StemPullBack<'_>) {
        let (matrix, device, shape) = (self.map.matrix(), images.device(), images.dims());
        let injection = self.map.apply(&matrix, &to_vec(images.clone()), &device);
        let back = move |u: Tensor<2>| from_vec(matrix.transposed_times(&to_vec(u)), shape, &device);
        (injection, Box::new(back))
    }

    fn linearize_training(&self, images: &Images, _: &BatchMoments) -> (Tensor<2>, StemTrainingPullBack<'_>) {
        let (matrix, device, x) = (self.map.matrix(), images.device(), to_vec(images.clone()));
        let injection = self.map.apply(&matrix, &x, &device);
        let back = move |u: Tensor<2>, into: &mut GradientsParams| {
            self.map.collect(&matrix, &to_vec(u), &x, &device, into);
        };
        (injection, Box::new(back))
    }
}

/// A linear classifier of the state.
#[derive(Module, Debug)]
pub struct StateHead {
    map: Affine,
}

impl Head for StateHead {
    fn forward(&self, state: Tensor<2>, _: &Phase<'_>) -> Logits {
        if state.is_autodiff() || self.map.weight.val().is_autodiff() {
            return self.map.tracked(state);
        }
        let device = state.device();
        self.map.apply(&self.map.matrix(), &to_vec(state), &device)
    }

    fn linearize(&self, state: &Tensor<2>) -> (Logits, HeadPullBack<'_>) {
        let (matrix, device, shape) = (self.map.matrix(), state.device(), state.dims());
        let logits = self.map.apply(&matrix, &to_vec(state.clone()), &device);
        let back = move |u: Logits| from_vec(matrix.transposed_times(&to_vec(u)), shape, &device);
        (logits, Box::new(back))
    }

    fn linearize_training(&self, state: &Tensor<2>, _: &BatchMoments) -> (Logits, HeadTrainingPullBack<'_>) {
        let (matrix, device, shape) = (self.map.matrix(), state.device(), state.dims());
        let x = to_vec(state.clone());
        let logits = self.map.apply(&matrix, &x, &device);
        let back = move |u: Logits, into: &mut GradientsParams| {
            let u = to_vec(u);
            self.map.collect(&matrix, &u, &x, &device, into);
            from_vec(matrix.transposed_times(&u), shape, &device)
        };
        (logits, Box::new(back))
    }

    fn classes(&self) -> usize {
        self.map.weight.dims()[0]
    }
}

/// f(z; x) = tanh(W z + x).
#[derive(Module, Debug)]
pub struct TanhCell {
    weight: Param<Tensor<2>>,
}

impl TanhCell {
    /// The largest singular value of W, by the power method.
    pub fn gain(&self) -> f64 {
        let matrix = Matrix::of(&self.weight.val());
        let length = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let mut x: Vec<f32> = (0..matrix.dims[1]).map(|k| 1.0 + 0.01 * k as f32).collect();
        let mut gain = 0.0;
        for _ in 0..60 {
            let unit = length(&x) as f32;
            x.iter_mut().for_each(|x| *x /= unit);
            let image = matrix.times(&x);
            gain = length(&image);
            x = matrix.transposed_times(&image);
        }
        gain
    }

    /// W, scaled down to this gain if it is more: below 1 f is a contraction.
    pub fn at_most(mut self, gain: f64) -> Self {
        let own = self.gain();
        if own > gain {
            self.weight = self.weight.map(|weight| weight * (gain / own));
        }
        self
    }
}

impl Cell for TanhCell {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        let product = state.unsqueeze_dim::<3>(1) * self.weight.val().unsqueeze_dim(0);
        (product.sum_dim(2).squeeze_dim::<2>(2) + injection).tanh()
    }

    fn state_dim(&self) -> usize {
        self.weight.dims()[0]
    }

    fn bind(&self, injection: &Tensor<2>) -> Box<dyn BoundCell> {
        Box::new(Bound {
            matrix: Arc::new(Matrix::of(&self.weight.val())),
            id: self.weight.id,
            injection: injection.clone(),
        })
    }
}

#[derive(Clone)]
struct Bound {
    matrix: Arc<Matrix>,
    id: ParamId,
    injection: Tensor<2>,
}

impl Bound {
    fn rows(&self, rows: &[usize]) -> Self {
        Self { injection: select(&self.injection, rows), ..self.clone() }
    }

    fn evaluate(&self, state: &[f32]) -> Vec<f32> {
        let mut value = self.matrix.times(state);
        let injection = to_vec(self.injection.clone());
        value.iter_mut().zip(injection).for_each(|(entry, x)| *entry = tanh(*entry + x));
        value
    }
}

impl FixedPointMap for Bound {
    fn apply(&self, state: &State) -> State {
        from_vec(self.evaluate(&state.to_f32()), state.dims(), &self.injection.device()).into()
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(self.rows(rows))
    }
}

impl BoundCell for Bound {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        let numbers = state.to_f32();
        let value = self.evaluate(&numbers);
        let slope = value.iter().map(|f| 1.0 - f * f).collect();
        let value = State::from(from_vec(value, state.dims(), &self.injection.device()));
        Box::new(Tape { matrix: self.matrix.clone(), id: self.id, state: numbers, slope, value })
    }

    fn linearize_rows(&self, state: &State, rows: &[usize]) -> Box<dyn Linearization> {
        self.rows(rows).linearize(&state.select(rows))
    }
}

/// f at a state, with tanh′ there.
struct Tape {
    matrix: Arc<Matrix>,
    id: ParamId,
    state: Vec<f32>,
    slope: Vec<f32>,
    value: State,
}

impl Tape {
    /// u ⊙ tanh′.
    fn inside(&self, cotangent: &State) -> Vec<f32> {
        let mut u = cotangent.to_f32();
        u.iter_mut().zip(&self.slope).for_each(|(u, slope)| *u *= slope);
        u
    }

    fn state(&self, numbers: Vec<f32>) -> State {
        from_vec(numbers, self.value.dims(), &self.value.tensor().device()).into()
    }
}

impl Linearization for Tape {
    fn value(&self) -> &State {
        &self.value
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        self.state(self.matrix.transposed_times(&self.inside(cotangent)))
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        let u = self.inside(cotangent);
        (self.state(self.matrix.transposed_times(&u)), self.state(u))
    }

    fn vjp_parameters(&self, cotangent: &State, into: &mut GradientsParams) -> (State, Injection) {
        let u = self.inside(cotangent);
        let weight = self.matrix.gradient(&u, &self.state);
        accumulate(into, self.id, from_vec(weight, self.matrix.dims, &self.value.tensor().device()));
        (self.state(self.matrix.transposed_times(&u)), self.state(u))
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        let dim = self.value.dims()[1];
        let of =
            |numbers: &[f32]| rows.iter().flat_map(|&row| numbers[row * dim..][..dim].to_vec()).collect();
        Box::new(Self {
            matrix: self.matrix.clone(),
            id: self.id,
            state: of(&self.state),
            slope: of(&self.slope),
            value: self.value.select(rows),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(shape: [usize; 2], seed: u64) -> Tensor<2> {
        let mut rng = equipoise::random::ExampleRng::new(seed, "test", 0, 0);
        from_vec((0..shape[0] * shape[1]).map(|_| rng.normal() as f32).collect(), shape, &Device::default())
    }

    fn close(a: Tensor<2>, b: Tensor<2>) {
        let largest = to_vec(a).into_iter().zip(to_vec(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 2e-5, "{largest}");
    }

    #[test]
    fn the_rational_function_is_tanh() {
        for k in -900..=900 {
            let x = k as f32 / 100.0;
            assert!((tanh(x) - x.tanh()).abs() < 1e-6, "{x}");
        }
    }

    #[test]
    fn by_hand_is_what_autodiff_finds() {
        let model = untrained(64, 10, 3, 1.3, &Device::default());
        let (state, injection, u) = (numbers([3, DIM], 1), numbers([3, DIM], 2), numbers([3, DIM], 3));
        let (z, x) = (state.clone().autodiff().require_grad(), injection.clone().autodiff().require_grad());
        let cell = model.cell.clone().train();
        let value = cell.apply(z.clone(), x.clone());
        let mut gradients = (value.clone() * u.clone()).backward();
        let tape = model.cell.bind(&injection).linearize(&state.clone().into());
        close(tape.value().tensor().clone(), value.inner());
        let mut into = GradientsParams::new();
        let (to_state, to_injection) = tape.vjp_parameters(&u.clone().into(), &mut into);
        close(to_state.into_tensor(), z.grad(&gradients).unwrap());
        close(to_injection.into_tensor(), x.grad(&gradients).unwrap());
        close(
            into.get::<2>(model.cell.weight.id).unwrap(),
            cell.weight.val().grad_remove(&mut gradients).unwrap(),
        );
        // Stem and head against their references.
        let images = numbers([3, 64], 4).reshape([3, 1, 8, 8]);
        let ((a, to_a), (b, to_b)) = (model.stem.linearize(&images), model.stem.linearize_tracked(&images));
        close(a, b);
        close(to_a(u.clone()).flatten(1, 3), to_b(u.clone()).flatten(1, 3));
        let cotangent = numbers([3, 10], 5);
        let ((a, to_a), (b, to_b)) = (model.head.linearize(&state), model.head.linearize_tracked(&state));
        close(a, b);
        close(to_a(cotangent.clone()), to_b(cotangent));
    }

    #[test]
    fn a_gain_is_kept() {
        let cell = untrained(64, 10, 3, 1.3, &Device::default()).cell;
        assert!(cell.gain() > 1.5);
        assert!((cell.at_most(0.7).gain() - 0.7).abs() < 1e-3);
    }
}
