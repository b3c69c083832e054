//! The linearisation that a solve keeps of its last evaluation, until it is asked for.
//!
//! A solver's last evaluation is where its best iterate usually lies, and that is where gradients want the cell
//! linearised. So the last step, if it is told to, keeps what products need; examples whose chosen state is another one
//! are linearised anew. Results are the same to the bit, with an evaluation less, and no example's work depends on its
//! batch.

use std::fmt;

use burn::optim::GradientsParams;

use crate::model::cell::{BoundCell, Linearization};
use crate::state::{Injection, State};

/// What is kept of a solve's evaluations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: no gradient is wanted.
    Nothing,
    /// The linearisation at z_T, of the examples that take the last step. On the CPU in float32 alone: elsewhere the
    /// composed cell holds many times the state's size, and taking some examples out of it copies that.
    Last,
}

/// A linearisation of some examples of a batch.
pub(super) struct Kept {
    /// Which ones, in ascending order.
    rows: Vec<usize>,
    linearization: Box<dyn Linearization>,
}

impl Kept {
    /// f at the states `next` of the examples `rows`; `all` holds a state for each example of the batch.
    pub(super) fn at(cell: &dyn BoundCell, all: &State, rows: &[usize], next: &State) -> Option<Self> {
        next.plain()?;
        let linearization = if rows.len() == all.dims()[0] {
            cell.linearize(next)
        } else {
            cell.linearize_rows(&all.put(rows, next), rows)
        };
        Some(Self { rows: rows.to_vec(), linearization })
    }

    /// f there.
    pub(super) fn value(&self) -> &State {
        self.linearization.value()
    }

    /// The examples that are wanted, and the others.
    pub(super) fn split(self, wanted: impl Fn(usize) -> bool) -> (Option<Self>, Option<Self>) {
        let (mine, others): (Vec<usize>, Vec<usize>) =
            (0..self.rows.len()).partition(|&place| wanted(self.rows[place]));
        match (mine.is_empty(), others.is_empty()) {
            (true, _) => (None, Some(self)),
            (false, true) => (Some(self), None),
            (false, false) => (Some(self.select(&mine)), Some(self.select(&others))),
        }
    }

    fn select(&self, places: &[usize]) -> Self {
        Self {
            rows: places.iter().map(|&place| self.rows[place]).collect(),
            linearization: self.linearization.select(places),
        }
    }

    /// The linearisation of a whole batch at `state`: this one, and the other examples' anew.
    pub(super) fn completed(self, cell: &dyn BoundCell, state: &State) -> Box<dyn Linearization> {
        let count = state.dims()[0];
        if self.rows.len() == count {
            return self.linearization;
        }
        let others: Vec<usize> = (0..count).filter(|row| !self.rows.contains(row)).collect();
        let rest = cell.linearize_rows(state, &others);
        Box::new(Joined::new(vec![(self.rows, self.linearization), (others, rest)]))
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// The linearisation of a batch in parts: which examples, and theirs.
struct Joined {
    parts: Vec<(Vec<usize>, Box<dyn Linearization>)>,
    value: State,
}

impl Joined {
    fn new(parts: Vec<(Vec<usize>, Box<dyn Linearization>)>) -> Self {
        let value = joined(parts.iter().map(|(rows, part)| (rows, part.value().clone())));
        Self { parts, value }
    }

    /// A product of each part.
    fn pair(
        &self,
        u: &State,
        mut of: impl FnMut(&dyn Linearization, &State) -> (State, Injection),
    ) -> (State, Injection) {
        let products = self.parts.iter().map(|(rows, part)| of(&**part, &u.select(rows)));
        let (states, injections): (Vec<State>, Vec<Injection>) = products.unzip();
        let rows = || self.parts.iter().map(|(rows, _)| rows);
        (joined(rows().zip(states)), joined(rows().zip(injections)))
    }
}

/// Rows of parts, in order.
fn joined<'a>(parts: impl Iterator<Item = (&'a Vec<usize>, State)>) -> State {
    let (rows, parts): (Vec<&Vec<usize>>, Vec<State>) = parts.unzip();
    let mut order: Vec<(usize, usize)> = rows.into_iter().flatten().copied().zip(0..).collect();
    order.sort_unstable();
    let places: Vec<usize> = order.into_iter().map(|(_, place)| place).collect();
    State::stack(parts).select(&places)
}

impl Linearization for Joined {
    fn value(&self) -> &State {
        &self.value
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        joined(self.parts.iter().map(|(rows, part)| (rows, part.vjp_state(&cotangent.select(rows)))))
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        self.pair(cotangent, |part, u| part.vjp(u))
    }

    fn vjp_parameters(&self, cotangent: &State, into: &mut GradientsParams) -> (State, Injection) {
        self.pair(cotangent, |part, u| part.vjp_parameters(u, into))
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        let parts = self.parts.iter().filter_map(|(all, part)| {
            let found = rows.iter().enumerate();
            let found = found.filter_map(|(new, row)| Some((new, all.iter().position(|at| at == row)?)));
            let (rows, places): (Vec<usize>, Vec<usize>) = found.unzip();
            (!rows.is_empty()).then(|| (rows, part.select(&places)))
        });
        Box::new(Self::new(parts.collect()))
    }
}
