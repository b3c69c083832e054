//! The hidden state of a DEQ: a row of numbers for each example, wherever they are kept.
//!
//! Solvers, readouts and gradient estimators work on a [`State`], a handle to [`Rows`]: what they need of it is that
//! trait's few operations. Rows are Burn's tensors for the models of this library, whatever their device; a model of another
//! make may keep its own, on a device that nothing here knows.

mod layout;
mod rows;
mod tensor;

pub use layout::Layout;
pub use rows::{BroydenStep, Correction, Rows};

use std::any::Any;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Div, Mul, Neg, Sub};

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use crate::batch;
use crate::cpu::plain;

/// A state z, `[N, D]`.
pub struct State(Box<dyn Rows>);

/// What the stem makes of an image, flattened: `[N, I]`.
pub type Injection = State;

impl State {
    /// N and the length of each row.
    pub fn dims(&self) -> [usize; 2] {
        self.0.dims()
    }

    /// Each row times a number of its own, which stand in a `column` `[N, 1]`.
    pub fn times(self, column: &Self) -> Self {
        self.0.times(column)
    }

    /// Each row divided by a number of its own, which stand in a `column` `[N, 1]`.
    pub fn over(self, column: &Self) -> Self {
        self.0.over(column)
    }

    /// The inner product of each row with that of another state, `[N, 1]`.
    pub fn dot(&self, other: &Self) -> Self {
        self.0.dot(other)
    }

    /// The Euclidean norm of each row.
    pub fn norms(&self) -> Vec<f64> {
        self.dot(self).numbers().into_iter().map(f64::sqrt).collect()
    }

    /// The given rows, in the given order.
    pub fn select(&self, rows: &[usize]) -> Self {
        self.0.select(rows)
    }

    /// This with row `rows[k]` replaced by row `k` of `part`.
    pub fn put(&self, rows: &[usize], part: &Self) -> Self {
        let everything = rows.len() == self.dims()[0] && rows.iter().enumerate().all(|(k, &row)| k == row);
        if everything { part.clone() } else { self.0.put(rows, part) }
    }

    /// The rows of several states, one after another.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn stack(states: impl IntoIterator<Item = Self>) -> Self {
        let mut states = states.into_iter();
        let first = states.next().expect("at least one state is stacked");
        let rest: Vec<Self> = states.collect();
        if rest.is_empty() { first } else { first.0.stack(rest) }
    }

    /// Zeros `dims`, kept where these rows are and in their precision.
    pub fn zeros(&self, dims: [usize; 2]) -> Self {
        self.0.zeros(dims)
    }

    /// Zeros in the place of these rows.
    pub fn zeros_like(&self) -> Self {
        self.zeros(self.dims())
    }

    /// Rows of so many numbers each, where these rows are kept and in their precision.
    pub fn like(&self, numbers: Vec<f64>, width: usize) -> Self {
        self.0.like(numbers, width)
    }

    /// The same with 0 in the place of what is not finite.
    pub fn finite_or_zero(self) -> Self {
        self.0.finite_or_zero()
    }

    /// The numbers, row by row, in float64: nothing is lost of what is kept.
    pub fn numbers(&self) -> Vec<f64> {
        self.0.numbers()
    }

    /// The numbers, row by row, in float32.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.as_tensor() {
            Some(tensor) => batch::to_vec(tensor.clone()),
            None => self.numbers().into_iter().map(|number| number as f32).collect(),
        }
    }

    /// g = `value` − z for this state z with f(z) = `value`, and ‖g‖ and ‖f‖ of each example.
    pub fn residual(&self, value: &Self) -> (Self, Vec<(f64, f64)>) {
        self.0.residual(value)
    }

    /// A step of Broyden's method at this state, and the correction of B that it brings, if these rows have an operation for it.
    pub fn broyden(&self, step: &BroydenStep<'_>) -> Option<(Self, Option<Correction>)> {
        self.0.broyden(step)
    }

    /// These rows as plain numbers in memory, in float32, if they are such a tensor.
    pub(crate) fn plain(&self) -> Option<FlexTensor> {
        plain(self.as_tensor()?)
    }

    /// These rows as a tensor of Burn's, if they are one.
    pub fn as_tensor(&self) -> Option<&Tensor<2>> {
        (&*self.0 as &dyn Any).downcast_ref()
    }

    /// These rows as a tensor of Burn's.
    ///
    /// # Panics
    ///
    /// If they are rows of another kind: these are the business of the model alone that made them.
    pub fn tensor(&self) -> &Tensor<2> {
        self.rows()
    }

    /// [`Self::tensor`], where the state is not needed any more.
    pub fn into_tensor(self) -> Tensor<2> {
        self.into_rows()
    }

    /// The rows themselves, for who knows of which kind they are.
    ///
    /// # Panics
    ///
    /// If they are of another kind.
    pub fn rows<R: Rows>(&self) -> &R {
        (&*self.0 as &dyn Any).downcast_ref().unwrap_or_else(|| another_kind::<R>())
    }

    /// [`Self::rows`], where the state is not needed any more.
    pub fn into_rows<R: Rows>(self) -> R {
        let rows: Box<dyn Any> = self.0;
        *rows.downcast().unwrap_or_else(|_| another_kind::<R>())
    }
}

fn another_kind<R>() -> ! {
    panic!(
        "the rows of a state are not of type {}: two models' states were mixed",
        std::any::type_name::<R>()
    )
}

impl<R: Rows> From<R> for State {
    fn from(rows: R) -> Self {
        Self(Box::new(rows))
    }
}

impl Clone for State {
    fn clone(&self) -> Self {
        self.0.duplicate()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [n, dim] = self.dims();
        write!(f, "State [{n}, {dim}]")
    }
}

impl Add for State {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.0.plus(other)
    }
}

impl Sub for State {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.0.minus(other)
    }
}

impl Mul<f64> for State {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        self.0.scaled(factor)
    }
}

impl Div<f64> for State {
    type Output = Self;

    fn div(self, divisor: f64) -> Self {
        self.0.scaled(1.0 / divisor)
    }
}

impl Neg for State {
    type Output = Self;

    fn neg(self) -> Self {
        self.0.scaled(-1.0)
    }
}

/// # Panics
///
/// If there is none: rows of which kind, and how many?
impl Sum for State {
    fn sum<I: Iterator<Item = Self>>(states: I) -> Self {
        states.reduce(Add::add).expect("a sum of at least one state")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that are vectors of their own: what another crate would bring, with the provided methods as they are.
    #[derive(Clone)]
    struct Lists(Vec<Vec<f64>>);

    impl Lists {
        fn of(state: &State) -> &[Vec<f64>] {
            &state.rows::<Self>().0
        }

        fn pairwise(&self, other: &State, of: impl Fn(f64, f64) -> f64) -> State {
            let pair = |a: &Vec<f64>, b: &Vec<f64>| {
                a.iter().enumerate().map(|(k, x)| of(*x, b[k % b.len()])).collect::<Vec<f64>>()
            };
            Self(self.0.iter().zip(Self::of(other)).map(|(a, b)| pair(a, b)).collect()).into()
        }
    }

    impl Rows for Lists {
        fn dims(&self) -> [usize; 2] {
            [self.0.len(), self.0[0].len()]
        }
        fn duplicate(&self) -> State {
            self.clone().into()
        }
        fn plus(self: Box<Self>, other: State) -> State {
            self.pairwise(&other, |a, b| a + b)
        }
        fn scaled(self: Box<Self>, factor: f64) -> State {
            Self(self.0.into_iter().map(|row| row.into_iter().map(|x| x * factor).collect()).collect()).into()
        }
        fn times(self: Box<Self>, column: &State) -> State {
            self.pairwise(column, |a, b| a * b)
        }
        fn over(self: Box<Self>, column: &State) -> State {
            self.pairwise(column, |a, b| a / b)
        }
        fn dot(&self, other: &State) -> State {
            let product = self.pairwise(other, |a, b| a * b);
            Self(Self::of(&product).iter().map(|row| vec![row.iter().sum()]).collect()).into()
        }
        fn select(&self, rows: &[usize]) -> State {
            Self(rows.iter().map(|&row| self.0[row].clone()).collect()).into()
        }
        fn put(&self, rows: &[usize], part: &State) -> State {
            let mut all = self.0.clone();
            rows.iter().zip(Self::of(part)).for_each(|(&row, new)| all[row] = new.clone());
            Self(all).into()
        }
        fn stack(mut self: Box<Self>, below: Vec<State>) -> State {
            self.0.extend(below.into_iter().flat_map(|state| state.into_rows::<Self>().0));
            (*self).into()
        }
        fn zeros(&self, [rows, width]: [usize; 2]) -> State {
            Self(vec![vec![0.0; width]; rows]).into()
        }
        fn like(&self, numbers: Vec<f64>, width: usize) -> State {
            Self(numbers.chunks(width).map(<[f64]>::to_vec).collect()).into()
        }
        fn finite_or_zero(self: Box<Self>) -> State {
            let sound = |x: f64| if x.is_finite() { x } else { 0.0 };
            Self(self.0.into_iter().map(|row| row.into_iter().map(sound).collect()).collect()).into()
        }
        fn numbers(&self) -> Vec<f64> {
            self.0.concat()
        }
    }

    /// Tensors in memory in both precisions, and rows of another crate, on the same numbers.
    fn kinds(numbers: &[f64], width: usize) -> [State; 3] {
        let single = batch::from_vec(
            numbers.iter().map(|x| *x as f32).collect(),
            [numbers.len() / width, width],
            &burn::tensor::Device::default(),
        );
        let double = single.clone().cast(burn::tensor::DType::F64);
        [single.into(), double.into(), Lists(numbers.chunks(width).map(<[f64]>::to_vec).collect()).into()]
    }

    #[test]
    fn every_kind_of_rows_computes_the_same() {
        let (a, b) =
            (kinds(&[1.0, -2.0, 3.0, 0.5, 4.0, -1.0], 2), kinds(&[2.0, 2.0, -1.0, 4.0, 0.25, 8.0], 2));
        let c = kinds(&[2.0, -4.0, 0.5], 1);
        let expected = |found: [State; 3], dims: [usize; 2], numbers: &[f64]| {
            for found in found {
                assert_eq!((found.dims(), found.numbers()), (dims, numbers.to_vec()));
                let single: Vec<f32> = numbers.iter().map(|x| *x as f32).collect();
                assert_eq!(found.to_f32(), single);
            }
        };
        let each = |of: &dyn Fn(&State, &State, &State) -> State| {
            [0, 1, 2].map(|kind| of(&a[kind], &b[kind], &c[kind]))
        };
        expected(each(&|a, b, _| a.clone() + b.clone()), [3, 2], &[3.0, 0.0, 2.0, 4.5, 4.25, 7.0]);
        expected(each(&|a, b, _| a.clone() - b.clone()), [3, 2], &[-1.0, -4.0, 4.0, -3.5, 3.75, -9.0]);
        expected(each(&|a, _, _| -(a.clone() * 2.0) / 4.0), [3, 2], &[-0.5, 1.0, -1.5, -0.25, -2.0, 0.5]);
        expected(each(&|a, _, c| a.clone().times(c)), [3, 2], &[2.0, -4.0, -12.0, -2.0, 2.0, -0.5]);
        expected(each(&|a, _, c| a.clone().over(c)), [3, 2], &[0.5, -1.0, -0.75, -0.125, 8.0, -2.0]);
        expected(each(&|a, b, _| a.dot(b)), [3, 1], &[-2.0, -1.0, -7.0]);
        expected(each(&|a, _, _| a.select(&[2, 0])), [2, 2], &[4.0, -1.0, 1.0, -2.0]);
        expected(each(&|a, b, _| a.put(&[1], &b.select(&[2]))), [3, 2], &[1.0, -2.0, 0.25, 8.0, 4.0, -1.0]);
        expected(each(&|a, b, _| a.put(&[0, 1, 2], b)), [3, 2], &[2.0, 2.0, -1.0, 4.0, 0.25, 8.0]);
        expected(
            each(&|a, b, _| State::stack([a.select(&[1]), b.select(&[0]), a.select(&[0])])),
            [3, 2],
            &[3.0, 0.5, 2.0, 2.0, 1.0, -2.0],
        );
        expected(each(&|a, _, _| a.zeros([1, 3])), [1, 3], &[0.0; 3]);
        expected(each(&|a, _, _| a.like(vec![0.5, 7.0], 1)), [2, 1], &[0.5, 7.0]);
        let broken = |a: &State| a.clone().over(&a.like(vec![0.0, 1.0, 0.0], 1)).finite_or_zero();
        expected(each(&|a, _, _| broken(a)), [3, 2], &[0.0, 0.0, 3.0, 0.5, 0.0, 0.0]);
        expected(each(&|a, b, _| a.residual(b).0), [3, 2], &[1.0, 4.0, -4.0, 3.5, -3.75, 9.0]);
        for (a, b) in a.iter().zip(&b) {
            let (_, norms) = a.residual(b);
            assert!((norms[0].0 - 17f64.sqrt()).abs() < 1e-6 && (norms[1].1 - 17f64.sqrt()).abs() < 1e-6);
        }
    }

    #[test]
    #[should_panic(expected = "two models' states were mixed")]
    fn rows_of_two_kinds_do_not_meet() {
        let [tensor, _, lists] = kinds(&[1.0], 1);
        let _ = tensor + lists;
    }
}
