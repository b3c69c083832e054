//! Training: standard, adversarial with PGD-AT or TRADES, and certified by boxes.
//!
//! A step takes a batch, lets the inner attack perturb its images, obtains gradients of all parameters by the
//! deployment's training gradient (exact or unrolled, the same estimators that attacks use), adds those of the Jacobian
//! regularisation in some steps, clips them, and lets the optimiser move. Every random choice is derived from
//! (seed, epoch or step, example), so a run that was killed goes on from its last checkpoint to the same weights as
//! one that was not. Several [ranks](Ranks) share out the micro-batches of a step, and come to the weights of one.

mod augment;
mod checkpoint;
mod config;
mod log;
mod micro;
mod order;
mod random_states;
mod ranks;
mod run;
mod trades;
mod trainer;
mod tree;

pub use checkpoint::{CheckpointError, Progress};
pub use config::{
    Adversary, AdversaryKind, Augment, EarlyStopping, JacobianRegularisation, OptimizerConfig, RandomBudget,
    Schedule, TrainConfig, TrainConfigError, Warmup,
};
pub use equipoise_deq::training_pass::{
    JacobianGradients, JacobianTerm, StepGradients, StepOptions, UnsupportedCell, box_gradients,
    feedforward_gradients, gradients,
};
pub use random_states::RandomStates;
pub use ranks::{Alone, Ranks, RanksError};
pub use trades::{TradesPass, trades_gradients};
pub use trainer::{
    Best, EpochReport, Initial, Observer, Origin, Outcome, Plan, Silent, StepReport, TrainError, train,
    train_together,
};
