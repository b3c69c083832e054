//! Rows of a user's own: states that are no tensors of Burn's.

use equipoise::state::{Rows, State};

/// Rows that are vectors of their own: what another crate would bring, with the provided methods as they are.
#[derive(Clone)]
pub struct Lists(pub Vec<Vec<f64>>);

impl Lists {
    pub fn of(state: &State) -> &[Vec<f64>] {
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
