//! Equipoise: the adversarial robustness of deep equilibrium models (DEQs).
//!
//! A DEQ's hidden state is the fixed point z* = f(z*; x) of one layer. This library trains such models,
//! attacks them white-box, defends and evaluates them, and answers one question: *is the measured robustness real, or
//! an artefact of gradient obfuscation?* It implements Yang, Pang and Liu, "A Closer Look at the Adversarial Robustness
//! of Deep Equilibrium Models" (NeurIPS 2022).
//!
//! The modules stand in the order in which data flow through them; each uses only those above it.

mod plain;
pub mod batch;
pub mod state;
pub mod work;
pub mod model;
pub mod solve;
pub mod readout;
pub mod loss;
pub mod gradient;
pub mod attack;
pub mod deployed;
pub mod feedforward;
pub mod network;
pub mod checkpoint;
pub mod trace;
pub mod evaluate;
pub mod plan;
pub mod probe;
pub mod defense;
pub mod diagnose;
pub mod train;
pub mod problems;
// Only rustdoc reads it: a checkout without symbolic links builds all the same.
#[cfg(any(doc, doctest))]
pub mod guide;

/// What an evaluation found, as plain data: `results.json`.
pub use equipoise_record as record;
/// From the arms' counts to a finding.
pub use equipoise_verdict as verdict;
