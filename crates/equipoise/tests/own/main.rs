//! What a user adds in one file: an attack, an estimator and a readout, a model, rows, a solver.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/victims.rs"]
mod victims;
#[path = "../common/last_two.rs"]
mod last_two;
#[path = "../common/neumann.rs"]
mod neumann;
#[path = "../common/lists.rs"]
mod lists;
#[path = "../common/newton_krylov.rs"]
mod newton_krylov;
#[allow(dead_code)]
#[path = "../../examples/own_deq.rs"]
mod own_deq;

mod attack;
mod estimator;
mod model;
mod rows;
mod solver;
