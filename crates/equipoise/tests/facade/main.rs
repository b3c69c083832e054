//! Diagnoses and certificates of whole models.

#[path = "../common/mod.rs"]
mod common;

mod attacked;
mod diagnose;
mod proofs;
mod proofs_cells;
mod proofs_conv;
mod proofs_multi;
mod smoothing;
