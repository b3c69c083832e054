//! Training: standard, and adversarial with PGD.
//!
//! A step takes a batch, replaces its images by what the inner attack makes of them, obtains gradients of all
//! parameters by the deployment's training gradient (exact or unrolled, the same estimators that attacks use),
//! and lets the optimiser move. Every random choice is derived from (seed, epoch, example), so a run that was
//! killed goes on from its last checkpoint to the same weights as one that was not.

mod augment;
mod checkpoint;
mod config;
mod gradients;
mod order;
mod trainer;

pub use checkpoint::{CheckpointError, Progress};
pub use config::{Adversary, Augment, OptimizerConfig, Schedule, TrainConfig, TrainConfigError, Warmup};
pub use gradients::{StepGradients, feedforward_gradients, gradients};
pub use trainer::{EpochReport, Observer, Outcome, Plan, Silent, StepReport, TrainError, train};
