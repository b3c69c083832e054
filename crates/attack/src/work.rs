//! Work counts: how many cell evaluations and vector-Jacobian products something took.
//!
//! They are counted per example (one evaluation of a batch of 32 counts 32), so that they do not depend on
//! how examples were batched. Costs are compared in these units before they are compared in seconds.

use std::iter::Sum;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number of cell evaluations and of vector-Jacobian products.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Evaluations of f, with or without its linearisation.
    pub cell_evaluations: u64,
    /// Vector-Jacobian products, whatever they are taken with respect to.
    pub vjps: u64,
}

impl Work {
    /// So many of each.
    pub fn new(cell_evaluations: usize, vjps: usize) -> Self {
        Self { cell_evaluations: cell_evaluations as u64, vjps: vjps as u64 }
    }

    /// Both together: what costs are compared by.
    pub fn total(&self) -> u64 {
        self.cell_evaluations + self.vjps
    }
}

impl Sum for Work {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Self::default(), Add::add)
    }
}

impl Add for Work {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            cell_evaluations: self.cell_evaluations + other.cell_evaluations,
            vjps: self.vjps + other.vjps,
        }
    }
}

impl Sub for Work {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            cell_evaluations: self.cell_evaluations - other.cell_evaluations,
            vjps: self.vjps - other.vjps,
        }
    }
}

/// A shared counter; clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct WorkCounter(Arc<[AtomicU64; 2]>);

impl WorkCounter {
    /// The count so far.
    pub fn total(&self) -> Work {
        Work { cell_evaluations: self.0[0].load(Ordering::Relaxed), vjps: self.0[1].load(Ordering::Relaxed) }
    }

    /// Counts one evaluation of each of `examples` examples.
    pub fn evaluated(&self, examples: usize) {
        self.0[0].fetch_add(examples as u64, Ordering::Relaxed);
    }

    /// Counts one vector-Jacobian product of each of `examples` examples.
    pub fn pulled_back(&self, examples: usize) {
        self.0[1].fetch_add(examples as u64, Ordering::Relaxed);
    }
}
