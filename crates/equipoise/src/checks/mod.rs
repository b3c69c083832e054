//! Checks for gradient obfuscation: what an evaluation shows beside its verdict.
//!
//! [`of_runs`] follows from the runs of an evaluation; [`of_model`] takes small experiments on the deployed model whose outcome is
//! known where gradients can be trusted. What other gradients and gradient-free attacks break beyond the ready-made ones is no
//! check but the verdict itself ([`equipoise_verdict`]).

mod claims;
mod experiments;

pub use claims::of_runs;
pub use experiments::{CheckError, Residuals, of_model, of_victim};
