//! What the library asks of rows of numbers: one object-safe trait.

use std::any::Any;

use super::State;

/// A rank-one correction u, v of the inverse Jacobian B = −I + Σ u vᵀ, each `[N, D]`.
pub type Correction = (State, State);

/// What a step of Broyden's method at a state z takes in; [`Broyden`](crate::solve::Broyden) has its formulas.
pub struct BroydenStep<'a> {
    /// g = f(z) − z.
    pub residual: &'a State,
    /// z and g of the step before, from which B is corrected first.
    pub previous: Option<&'a (State, State)>,
    /// The corrections of B so far, oldest first.
    pub corrections: &'a [Correction],
    /// What is wanted: the next state z − B g, or else B g.
    pub next: bool,
}

/// Rows of numbers `[N, D]`, one for each example, in memory or on a device.
///
/// Every operation works row by row: a row of the result depends on the same row of the operands alone, so that no example's
/// result depends on its batch. Operands are rows of the same implementation, which [`State::rows`] and
/// [`State::into_rows`] hand out; a `column` is such rows of length 1.
pub trait Rows: Any + Send + Sync {
    /// N and D.
    fn dims(&self) -> [usize; 2];

    /// The same rows once more. Nothing changes rows, so they may be shared.
    fn duplicate(&self) -> State;

    /// The sum.
    fn plus(self: Box<Self>, other: State) -> State;

    /// The difference.
    fn minus(self: Box<Self>, other: State) -> State {
        self.plus(-other)
    }

    /// Everything times one number.
    fn scaled(self: Box<Self>, factor: f64) -> State;

    /// Each row times its number in a column.
    fn times(self: Box<Self>, column: &State) -> State;

    /// Each row divided by its number in a column.
    fn over(self: Box<Self>, column: &State) -> State;

    /// Inner products of rows: a column.
    fn dot(&self, other: &State) -> State;

    /// The given rows, in the given order.
    fn select(&self, rows: &[usize]) -> State;

    /// These rows with row `rows[k]` replaced by row k of `part`.
    fn put(&self, rows: &[usize], part: &State) -> State;

    /// These rows, and below them those of others.
    fn stack(self: Box<Self>, below: Vec<State>) -> State;

    /// Zeros of the given N and D, kept where these rows are and in their precision.
    fn zeros(&self, dims: [usize; 2]) -> State;

    /// The same for given numbers, row by row, `width` to a row.
    fn like(&self, numbers: Vec<f64>, width: usize) -> State;

    /// 0 in the place of what is not finite.
    fn finite_or_zero(self: Box<Self>) -> State;

    /// The numbers, row by row.
    fn numbers(&self) -> Vec<f64>;

    /// These being a state z: a step of Broyden's method there, and the correction of B that it brings. `None` has it made of the
    /// other operations; rows on which many small operations cost more than one large one bring their own.
    fn broyden(&self, step: &BroydenStep<'_>) -> Option<(State, Option<Correction>)> {
        let _ = step;
        None
    }

    /// These being a state z with f(z) = `value`: g = f(z) − z, and ‖g‖ and ‖f‖ of each example.
    fn residual(&self, value: &State) -> (State, Vec<(f64, f64)>) {
        let residual = value.clone() - self.duplicate();
        let norms = residual.norms().into_iter().zip(value.norms()).collect();
        (residual, norms)
    }
}
