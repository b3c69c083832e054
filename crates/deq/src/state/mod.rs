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

use equipoise_attack::attack::Kept;
use equipoise_attack::batch;
use equipoise_attack::cpu::plain;

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

impl Kept for State {
    fn select(&self, rows: &[usize]) -> Box<dyn Kept> {
        Box::new(Self::select(self, rows))
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
