//! A bound cell that does not linearise where it has done so already.
//!
//! A solver's last evaluation is where its best iterate usually lies, and that is where gradients want the cell
//! linearised. So the last evaluation keeps what products need, and a linearisation asked for at the same state, row by
//! row, is the one that is there: results are the same to the bit, with an evaluation less. No example's work
//! depends on its batch.

use std::cell::{Cell, RefCell};

use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::cell::{BoundCell, Counted, FixedPointMap, Linearization};
use crate::batch::{put_rows, select};
use crate::plain::{numbers_of, plain};
use crate::state::{Injection, State};

/// A counted cell, with what its last evaluation left.
pub struct Remembering {
    cell: Counted,
    /// Evaluations before the one that is kept; `None` once it is over, or when none is.
    before: Cell<Option<usize>>,
    /// Examples of the first evaluation: the whole batch.
    count: Cell<usize>,
    kept: RefCell<Option<Kept>>,
}

/// A linearisation of some examples.
struct Kept {
    /// Which ones.
    rows: Vec<usize>,
    /// Where, `[rows, D]`.
    state: State,
    linearization: Box<dyn Linearization>,
}

impl Remembering {
    /// A cell that keeps nothing.
    pub fn nothing(cell: Counted) -> Self {
        Self { cell, before: Cell::new(None), count: Cell::new(0), kept: RefCell::default() }
    }

    /// A cell that keeps the evaluation after `before` others, until it is asked for.
    pub fn after(before: usize, cell: Counted) -> Self {
        Self { before: Cell::new(Some(before)), ..Self::nothing(cell) }
    }

    /// Counts an evaluation. Whether it is the one, and can be recognised again.
    fn now(&self, state: &State) -> bool {
        let before = self.before.get();
        self.before.set(before.and_then(|before| before.checked_sub(1)));
        before == Some(0) && plain(state).is_some()
    }

    /// f at the state of some of `count` examples.
    fn keep(&self, state: &State, rows: Vec<usize>, count: usize) -> State {
        let linearization = if rows.len() == count {
            self.cell.linearize(state)
        } else {
            let [_, dim] = state.dims();
            let room: State = Tensor::zeros([count, dim], &state.device());
            self.cell.linearize_rows(&put_rows(&room.cast(state.dtype()), &rows, state), &rows)
        };
        let value = linearization.value().clone();
        *self.kept.borrow_mut() = Some(Kept { rows, state: state.clone(), linearization });
        value
    }
}

impl Kept {
    fn select(&self, places: &[usize]) -> Self {
        Self {
            rows: places.iter().map(|&place| self.rows[place]).collect(),
            state: select(&self.state, places),
            linearization: self.linearization.select(places),
        }
    }

    /// Places, in what is kept, of the examples whose row of `state` is the same. None unless both are plain.
    fn places(&self, state: &State) -> Vec<usize> {
        let [_, dim] = state.dims();
        let (Some(kept), Some(asked)) = (plain(&self.state), plain(state)) else { return Vec::new() };
        let (kept, asked) = (numbers_of(&kept), numbers_of(&asked));
        let same = |place: usize| {
            let row = self.rows[place];
            let (kept, asked) = (&kept[place * dim..][..dim], &asked[row * dim..][..dim]);
            std::ptr::eq(kept, asked) || kept == asked
        };
        (0..self.rows.len()).filter(|&place| same(place)).collect()
    }
}

impl FixedPointMap for Remembering {
    fn apply(&self, state: &State) -> State {
        let [count, _] = state.dims();
        self.count.set(count);
        if self.now(state) { self.keep(state, (0..count).collect(), count) } else { self.cell.apply(state) }
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        let count = self.count.get();
        Box::new(RememberingRows { of: self, map: self.cell.select(rows), rows: rows.to_vec(), count })
    }
}

/// The same for some of the examples.
struct RememberingRows<'a> {
    of: &'a Remembering,
    map: Box<dyn FixedPointMap + 'a>,
    rows: Vec<usize>,
    /// Of how many.
    count: usize,
}

impl FixedPointMap for RememberingRows<'_> {
    fn apply(&self, state: &State) -> State {
        if self.of.now(state) {
            self.of.keep(state, self.rows.clone(), self.count)
        } else {
            self.map.apply(state)
        }
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        let rows = rows.iter().map(|&row| self.rows[row]).collect::<Vec<_>>();
        self.of.select(&rows)
    }
}

impl BoundCell for Remembering {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        let [count, _] = state.dims();
        let Some(kept) = self.kept.take() else {
            return self.cell.linearize(state);
        };
        let places = kept.places(state);
        if places.is_empty() {
            *self.kept.borrow_mut() = Some(kept);
            return self.cell.linearize(state);
        }
        if places.len() == count {
            return kept.linearization;
        }
        let known: Vec<usize> = places.iter().map(|&place| kept.rows[place]).collect();
        let others: Vec<usize> = (0..count).filter(|row| !known.contains(row)).collect();
        let part = if places.len() == kept.rows.len() {
            kept.linearization
        } else {
            // The others' may be asked for later.
            let left: Vec<usize> = (0..kept.rows.len()).filter(|place| !places.contains(place)).collect();
            *self.kept.borrow_mut() = Some(kept.select(&left));
            kept.linearization.select(&places)
        };
        let rest = self.cell.linearize_rows(state, &others);
        Box::new(Joined::new(vec![(known, part), (others, rest)]))
    }

    fn linearize_rows(&self, state: &State, rows: &[usize]) -> Box<dyn Linearization> {
        self.cell.linearize_rows(state, rows)
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
        let products = self.parts.iter().map(|(rows, part)| of(&**part, &select(u, rows)));
        let (states, injections): (Vec<State>, Vec<Injection>) = products.unzip();
        let rows = || self.parts.iter().map(|(rows, _)| rows);
        (joined(rows().zip(states)), joined(rows().zip(injections)))
    }
}

/// Rows of parts, in order.
fn joined<'a>(parts: impl Iterator<Item = (&'a Vec<usize>, Tensor<2>)>) -> Tensor<2> {
    let (rows, parts): (Vec<&Vec<usize>>, Vec<Tensor<2>>) = parts.unzip();
    let mut order: Vec<(usize, usize)> = rows.into_iter().flatten().copied().zip(0..).collect();
    order.sort_unstable();
    let places: Vec<usize> = order.into_iter().map(|(_, place)| place).collect();
    select(&Tensor::cat(parts, 0), &places)
}

impl Linearization for Joined {
    fn value(&self) -> &State {
        &self.value
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        joined(self.parts.iter().map(|(rows, part)| (rows, part.vjp_state(&select(cotangent, rows)))))
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
