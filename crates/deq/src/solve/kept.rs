//! The linearisations that a solve keeps of its evaluations.
//!
//! A solver evaluates the cell at every iterate, and gradients want it linearised at some of them: at the last one, which
//! is the best as a rule, or at all along the way. So a solve that is told which keeps there what products need; examples
//! whose chosen state is another one are linearised anew. Results are the same to the bit, with fewer evaluations, and no
//! example's work depends on its batch.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

use burn::optim::GradientsParams;

use crate::model::cell::{BoundCell, Linearization};
use crate::state::{Injection, State};

/// Bytes that a solve keeps for each example, at most, before its last iterate: eight linearisations of MDEQ-Large.
const MEMORY: usize = 24 << 20;

/// Of which evaluations a solve keeps the linearisation.
///
/// On the CPU in float32 alone: elsewhere the composed cell holds many times the state's size, and taking some examples out
/// of it copies that. Before the last iterate z_T, only of a cell that [knows](Linearization::memory) how much that takes,
/// and from the first on, as far as 24 MiB for each example reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keep(BTreeSet<usize>);

impl Keep {
    /// Of none: no gradient is wanted.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Of those at the iterates z_t, t from 0, of the examples that get there.
    pub fn at(iterates: impl IntoIterator<Item = usize>) -> Self {
        Self(iterates.into_iter().collect())
    }
}

/// The linearisations that a solve has kept so far: at z_t of some examples, in the order of t.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(usize, Part)>);

/// What keeps them.
pub(super) struct Keeper<'a> {
    cell: &'a dyn BoundCell,
    keep: &'a Keep,
    /// T.
    last: usize,
    /// Bytes for each example, and of one linearisation: once one was made.
    used: usize,
    each: Option<usize>,
    pub kept: Kept,
}

impl<'a> Keeper<'a> {
    pub fn new(cell: &'a dyn BoundCell, keep: &'a Keep, last: usize) -> Self {
        Self { cell, keep, last, used: 0, each: Some(0), kept: Kept::default() }
    }

    /// f at the states `next`, z_t of the examples `rows`, if the linearisation there is wanted; `all` holds a state for each
    /// example of the batch.
    pub fn evaluate(&mut self, t: usize, all: &State, rows: &[usize], next: &State) -> Option<State> {
        let room = |each: Option<usize>| each.is_some_and(|each| self.used + each <= MEMORY);
        if !self.keep.0.contains(&t) || !(t == self.last || room(self.each)) {
            return None;
        }
        next.plain()?;
        let linearization = if rows.len() == all.dims()[0] {
            self.cell.linearize(next)
        } else {
            self.cell.linearize_rows(&all.put(rows, next), rows)
        };
        let value = linearization.value().clone();
        self.each = linearization.memory();
        if t == self.last || room(self.each) {
            self.used += self.each.unwrap_or(0);
            self.kept.0.push((t, Part { rows: rows.to_vec(), linearization: linearization.into() }));
        }
        Some(value)
    }
}

impl Kept {
    /// Those of the examples of which it is wanted at this iterate.
    pub fn find(&self, wanted: impl Fn(usize, usize) -> bool) -> Vec<Part> {
        self.0.iter().filter_map(|(t, part)| part.find(|row| wanted(row, *t))).collect()
    }

    /// Lets go of those that are not wanted.
    pub fn retain(&mut self, wanted: impl Fn(usize, usize) -> bool) {
        self.0 =
            self.0.iter().filter_map(|(t, part)| Some((*t, part.find(|row| wanted(row, *t))?))).collect();
    }
}

/// A linearisation of some examples of a batch.
#[derive(Clone)]
pub(super) struct Part {
    /// Which ones, in ascending order.
    rows: Vec<usize>,
    linearization: Rc<dyn Linearization>,
}

impl Part {
    /// The examples that are wanted, if there are any.
    fn find(&self, wanted: impl Fn(usize) -> bool) -> Option<Self> {
        let places: Vec<usize> = (0..self.rows.len()).filter(|&place| wanted(self.rows[place])).collect();
        if places.len() == self.rows.len() {
            return Some(self.clone());
        }
        let rows = places.iter().map(|&place| self.rows[place]).collect();
        let some = || Self { rows, linearization: self.linearization.select(&places).into() };
        (!places.is_empty()).then(some)
    }
}

/// The linearisation of the examples `rows`, in ascending order, at their rows of `state`, which has all: these parts, and the
/// other examples' anew.
pub(super) fn completed(
    mut parts: Vec<Part>,
    cell: &dyn BoundCell,
    state: &State,
    rows: &[usize],
) -> Box<dyn Linearization> {
    let taken: BTreeSet<usize> = parts.iter().flat_map(|part| part.rows.iter().copied()).collect();
    let others: Vec<usize> = rows.iter().copied().filter(|row| !taken.contains(row)).collect();
    if others.len() == state.dims()[0] {
        return cell.linearize(state);
    }
    if !others.is_empty() {
        let linearization = cell.linearize_rows(state, &others).into();
        parts.push(Part { rows: others, linearization });
    }
    if parts.len() == 1 {
        return Box::new(parts.remove(0).linearization);
    }
    let place = |row: &usize| rows.binary_search(row).expect("a part is of examples that are wanted");
    let places = |Part { rows, linearization }: Part| (rows.iter().map(place).collect(), linearization);
    Box::new(Joined::new(parts.into_iter().map(places).collect()))
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// The linearisation of a batch in parts: which examples, and theirs.
struct Joined {
    parts: Vec<(Vec<usize>, Rc<dyn Linearization>)>,
    value: State,
}

impl Joined {
    fn new(parts: Vec<(Vec<usize>, Rc<dyn Linearization>)>) -> Self {
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
            (!rows.is_empty()).then(|| (rows, part.select(&places).into()))
        });
        Box::new(Self::new(parts.collect()))
    }
}
