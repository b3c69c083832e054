//! Training: gradients against autodiff and differences, resumption to the bit.

#[path = "../common/mod.rs"]
mod common;

mod boxes;
mod gradients;
mod plans;
mod random_states;
mod ranks;
mod regularisation;
mod resumption;
mod settings;
mod trades;
