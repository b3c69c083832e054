//! Rows that are a tensor of Burn's, on any device; on the CPU in float32 the hot operations are fused passes over memory.

use burn::backend::flex::FlexTensor;
use burn::tensor::{Bool, DType, Tensor, TensorData};
use equipoise_kernels::{broyden_direction, broyden_next, residuals};

use super::{BroydenStep, Correction, Rows, State};
use equipoise_attack::batch;
use equipoise_attack::cpu::{numbers_of, plain};

impl Rows for Tensor<2> {
    fn dims(&self) -> [usize; 2] {
        Self::dims(self)
    }

    fn duplicate(&self) -> State {
        self.clone().into()
    }

    fn plus(self: Box<Self>, other: State) -> State {
        (*self + other.into_tensor()).into()
    }

    fn minus(self: Box<Self>, other: State) -> State {
        (*self - other.into_tensor()).into()
    }

    fn scaled(self: Box<Self>, factor: f64) -> State {
        (*self * factor).into()
    }

    fn times(self: Box<Self>, column: &State) -> State {
        (*self * column.tensor().clone()).into()
    }

    fn over(self: Box<Self>, column: &State) -> State {
        (*self / column.tensor().clone()).into()
    }

    fn dot(&self, other: &State) -> State {
        batch::dot(self, other.tensor()).into()
    }

    fn select(&self, rows: &[usize]) -> State {
        batch::select(self, rows).into()
    }

    fn put(&self, rows: &[usize], part: &State) -> State {
        batch::put_rows(self, rows, part.tensor()).into()
    }

    fn stack(self: Box<Self>, below: Vec<State>) -> State {
        let all = std::iter::once(*self).chain(below.into_iter().map(State::into_tensor));
        Self::cat(all.collect(), 0).into()
    }

    fn zeros(&self, dims: [usize; 2]) -> State {
        Self::zeros(dims, (&self.device(), self.dtype())).into()
    }

    fn like(&self, numbers: Vec<f64>, width: usize) -> State {
        let rows = numbers.len() / width;
        let data = TensorData::new(numbers, [rows, width]);
        let exact: Self = Tensor::from_data(data, (&self.device(), DType::F64));
        exact.cast(self.dtype()).into()
    }

    fn finite_or_zero(self: Box<Self>) -> State {
        let infinite: Tensor<2, Bool> = self.clone().is_finite().bool_not();
        self.mask_fill(infinite, 0.0).into()
    }

    fn numbers(&self) -> Vec<f64> {
        batch::to_f64(self.clone())
    }

    /// A fused pass for each example, in memory and float32.
    fn broyden(&self, step: &BroydenStep<'_>) -> Option<(State, Option<Correction>)> {
        fn pair((a, b): &(State, State)) -> Option<(FlexTensor, FlexTensor)> {
            Some((a.plain()?, b.plain()?))
        }
        fn slices((a, b): &(FlexTensor, FlexTensor)) -> (&[f32], &[f32]) {
            (numbers_of(a), numbers_of(b))
        }
        let [rows, dim] = Self::dims(self);
        let (state, residual) = (plain(self)?, step.residual.plain()?);
        let previous = match step.previous {
            Some(previous) => Some(pair(previous)?),
            None => None,
        };
        let held: Vec<_> = step.corrections.iter().map(pair).collect::<Option<_>>()?;
        let corrections: Vec<_> = held.iter().map(slices).collect();
        let pass = if step.next { broyden_next } else { broyden_direction };
        let (result, correction) = pass(&equipoise_kernels::BroydenStep {
            dim,
            corrections: &corrections,
            state: numbers_of(&state),
            residual: numbers_of(&residual),
            previous: previous.as_ref().map(slices),
        });
        let tensor = |values| State::from(batch::from_vec(values, [rows, dim], &self.device()));
        Some((tensor(result), correction.map(|(u, v)| (tensor(u), tensor(v)))))
    }

    fn residual(&self, value: &State) -> (State, Vec<(f64, f64)>) {
        let value = value.tensor();
        if let (Some(z), Some(f)) = (plain(self), plain(value)) {
            let (residual, norms) = residuals(Self::dims(self)[1], numbers_of(&z), numbers_of(&f));
            return (batch::from_vec(residual, Self::dims(self), &self.device()).into(), norms);
        }
        let residual = value.clone() - self.clone();
        let norms = |of: &Self| batch::to_f64(batch::norm(of));
        let norms = norms(&residual).into_iter().zip(norms(value)).collect();
        (residual.into(), norms)
    }
}
