//! A tape of operations on rows, and its reverse: what a segment of the solve is differentiated with.
//!
//! Forwards every operation keeps its value, of the state's size or a number for each row. Backwards the cell is linearised
//! anew at each state where it was evaluated, so that one linearisation is held at a time, whatever the cell keeps in it.

use crate::model::cell::BoundCell;
use crate::solve::add;
use crate::state::{Injection, State};

/// A value on a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Var(usize);

/// How a value came about.
enum Operation {
    /// It was given.
    Leaf,
    /// Σ c x over factors c and values x.
    Combination(Vec<(f64, Var)>),
    /// x with each row times a number that is a constant, in a column `[N, 1]`.
    Scaled(Var, State),
    /// Inner products of rows, `[N, 1]`.
    Dot(Var, Var),
    /// x with each row divided by its number in a column `[N, 1]`; 0 where that is not finite.
    Ratio(Var, Var),
    /// B x with B = −I + Σ u vᵀ over pairs (u, v); Bᵀ x is the same with u and v exchanged.
    Product(Vec<(Var, Var)>, Var),
    /// f(x).
    Application(Var),
    /// Row i is that of the given value.
    Rows(Vec<Var>),
}

/// Operations in order, with the value of each.
pub(super) struct Tape<'a> {
    cell: &'a dyn BoundCell,
    values: Vec<State>,
    operations: Vec<Operation>,
}

impl<'a> Tape<'a> {
    pub(super) fn new(cell: &'a dyn BoundCell) -> Self {
        Self { cell, values: Vec::new(), operations: Vec::new() }
    }

    pub(super) fn value(&self, var: Var) -> &State {
        &self.values[var.0]
    }

    fn push(&mut self, operation: Operation, value: State) -> Var {
        self.operations.push(operation);
        self.values.push(value);
        Var(self.values.len() - 1)
    }

    pub(super) fn leaf(&mut self, value: State) -> Var {
        self.push(Operation::Leaf, value)
    }

    /// Σ c x; at least one term.
    pub(super) fn combination(&mut self, terms: &[(f64, Var)]) -> Var {
        let scaled = |&(factor, var): &(f64, Var)| {
            let value = self.value(var).clone();
            if factor == 1.0 { value } else { value * factor }
        };
        let value = terms.iter().map(scaled).sum();
        self.push(Operation::Combination(terms.to_vec()), value)
    }

    pub(super) fn difference(&mut self, a: Var, b: Var) -> Var {
        let value = self.value(a).clone() - self.value(b).clone();
        self.push(Operation::Combination(vec![(1.0, a), (-1.0, b)]), value)
    }

    pub(super) fn scaled(&mut self, x: Var, column: State) -> Var {
        let value = self.value(x).clone().times(&column);
        self.push(Operation::Scaled(x, column), value)
    }

    pub(super) fn dot(&mut self, a: Var, b: Var) -> Var {
        let value = self.value(a).dot(self.value(b));
        self.push(Operation::Dot(a, b), value)
    }

    pub(super) fn ratio(&mut self, x: Var, column: Var) -> Var {
        let value = self.value(x).clone().over(self.value(column)).finite_or_zero();
        self.push(Operation::Ratio(x, column), value)
    }

    /// B x.
    pub(super) fn product(&mut self, pairs: &[(Var, Var)], x: Var) -> Var {
        let of = self.value(x);
        let terms = pairs.iter().map(|&(u, v)| self.value(u).clone().times(&self.value(v).dot(of)));
        let value = terms.fold(-of.clone(), |sum, term| sum + term);
        self.push(Operation::Product(pairs.to_vec(), x), value)
    }

    /// Bᵀ x.
    pub(super) fn transposed_product(&mut self, pairs: &[(Var, Var)], x: Var) -> Var {
        let exchanged: Vec<(Var, Var)> = pairs.iter().map(|&(u, v)| (v, u)).collect();
        self.product(&exchanged, x)
    }

    /// f(x).
    pub(super) fn application(&mut self, x: Var) -> Var {
        let value = self.cell.apply(self.value(x));
        self.push(Operation::Application(x), value)
    }

    /// Row i of `from[i]`.
    pub(super) fn rows(&mut self, from: Vec<Var>) -> Var {
        let first = from[0];
        if from.iter().all(|&var| var == first) {
            return first;
        }
        let mut value = self.value(first).clone();
        for (var, rows) in by_value(&from).filter(|&(var, _)| var != first) {
            value = value.put(&rows, &self.value(var).select(&rows));
        }
        self.push(Operation::Rows(from), value)
    }

    /// From cotangents of some values to those of the leaves, each in its place, and that of the injection.
    pub(super) fn pull_back(self, seeds: Vec<(Var, State)>) -> (Cotangents, Option<Injection>) {
        let mut bars: Vec<Option<State>> = self.values.iter().map(|_| None).collect();
        let mut injection = None;
        seeds.into_iter().for_each(|(var, seed)| add(&mut bars[var.0], seed));
        for at in (0..self.operations.len()).rev() {
            if matches!(self.operations[at], Operation::Leaf) {
                continue;
            }
            if let Some(bar) = bars[at].take() {
                self.reverse(at, bar, &mut bars, &mut injection);
            }
        }
        (Cotangents(bars), injection)
    }

    /// Pulls the cotangent of one value back to those that it was made of.
    fn reverse(&self, at: usize, bar: State, bars: &mut [Option<State>], injection: &mut Option<Injection>) {
        let value = |var: Var| &self.values[var.0];
        match &self.operations[at] {
            Operation::Leaf => {}
            Operation::Combination(terms) => {
                for &(factor, var) in terms {
                    let share = if factor == 1.0 { bar.clone() } else { bar.clone() * factor };
                    add(&mut bars[var.0], share);
                }
            }
            Operation::Scaled(x, column) => add(&mut bars[x.0], bar.times(column)),
            &Operation::Dot(a, b) => {
                add(&mut bars[a.0], value(b).clone().times(&bar));
                add(&mut bars[b.0], value(a).clone().times(&bar));
            }
            &Operation::Ratio(x, column) => {
                let along = (-bar.dot(&self.values[at])).over(value(column)).finite_or_zero();
                add(&mut bars[column.0], along);
                add(&mut bars[x.0], bar.over(value(column)).finite_or_zero());
            }
            Operation::Product(pairs, x) => {
                let mut at_x = -bar.clone();
                for &(u, v) in pairs {
                    let along = value(u).dot(&bar);
                    at_x = at_x + value(v).clone().times(&along);
                    add(&mut bars[u.0], bar.clone().times(&value(v).dot(value(*x))));
                    add(&mut bars[v.0], value(*x).clone().times(&along));
                }
                add(&mut bars[x.0], at_x);
            }
            &Operation::Application(x) => {
                let (at_state, at_injection) = self.cell.linearize(value(x)).vjp(&bar);
                add(&mut bars[x.0], at_state);
                add(injection, at_injection);
            }
            Operation::Rows(from) => {
                for (var, rows) in by_value(from) {
                    add(&mut bars[var.0], bar.zeros_like().put(&rows, &bar.select(&rows)));
                }
            }
        }
    }
}

/// The cotangents of leaves.
pub(super) struct Cotangents(Vec<Option<State>>);

impl Cotangents {
    /// That of a leaf; `None` if nothing came to it.
    pub(super) fn take(&mut self, leaf: Var) -> Option<State> {
        self.0[leaf.0].take()
    }
}

/// Each value once, with the rows that are taken from it.
fn by_value(from: &[Var]) -> impl Iterator<Item = (Var, Vec<usize>)> + '_ {
    let firsts = from.iter().enumerate().filter(|&(row, var)| !from[..row].contains(var));
    firsts.map(|(_, &var)| (var, (0..from.len()).filter(|&row| from[row] == var).collect()))
}
