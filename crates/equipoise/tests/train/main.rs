//! Training: gradients against autodiff and differences, resumption to the bit.

#[path = "../common/mod.rs"]
mod common;

mod regularisation;
mod trades;
mod training;
