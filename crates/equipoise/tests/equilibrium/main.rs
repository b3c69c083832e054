//! Solvers, and gradients through them.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/last_two.rs"]
mod last_two;
#[path = "../common/neumann.rs"]
mod neumann;

mod defence;
mod gradients;
mod random_starts;
mod random_states;
mod solvers;
mod warm_start;
