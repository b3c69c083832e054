//! What can go wrong in an evaluation.

use thiserror::Error;

use super::journal::JournalError;
use crate::attack::Budget;

/// Why an evaluation stopped.
#[derive(Debug, Error)]
pub enum EvaluateError {
    /// A batch size of zero.
    #[error("the batch size is 0: use at least 1")]
    BatchSize,
    /// A label that the model has no class for.
    #[error(
        "example {index} has label {label}, but the model has {classes} classes (0 to {}): evaluate on the data \
         set that it was trained for", .classes.saturating_sub(1)
    )]
    Label {
        /// The example's index in its data set.
        index: usize,
        /// Its label.
        label: usize,
        /// Classes of the model.
        classes: usize,
    },
    /// An attack whose loss needs more classes than the model has.
    #[error(transparent)]
    Classes(#[from] crate::attack::TooFewClasses),
    /// An attack that does not search in balls of the budget's norm.
    #[error(transparent)]
    Norm(#[from] crate::attack::UnsupportedNorm),
    /// A run of an arm that would repeat a run of the opening.
    #[error(
        "{attack} has no start of its own: in an arm an attack draws a start, and takes another one than the          opening's; give each pair its own `start` from 1, or leave out its twin"
    )]
    NoStart {
        /// The attack, as `attack/estimator`.
        attack: String,
    },
    /// What is to be carried over from a smaller radius is of other runs or points, or is not complete.
    #[error(
        "the evaluation at the smaller radius was of other attacks or points, or is not complete: evaluate the radii          from the smallest up, with the same cascade and points"
    )]
    Smaller,
    /// Shards under a time limit, or with a yardstick that is chosen by what all points did.
    #[error(
        "a shard cannot stand for its part of the points: what is run on them depends on all points, under a time limit \
         or with several yardsticks to choose from; evaluate them in one run, or without a time limit"
    )]
    Sharded,
    /// An attack returned another number of images, or of claims, than it was given, or images of another shape.
    #[error(
        "{attack} was given images of shape {given:?} and returned shape {returned:?} with {claims} claims: this \
         is a bug in the attack, please report it"
    )]
    Shape {
        /// The attack, as `attack/estimator`.
        attack: String,
        /// Shape of the images it was given.
        given: [usize; 4],
        /// Shape of the images it returned.
        returned: [usize; 4],
        /// Number of claims it returned.
        claims: usize,
    },
    /// An attack returned an image outside the budget.
    #[error(
        "{attack} returned an image for example {index} at distance {distance} (infinite: outside [0, 1] or not a \
         number), outside the budget {budget}: this is a bug in the attack, please report it"
    )]
    OutsideBudget {
        /// The attack, as `attack/estimator`.
        attack: String,
        /// The example's index in its data set.
        index: usize,
        /// Distance from the unperturbed image.
        distance: f64,
        /// The budget.
        budget: Budget,
    },
    /// The judge returned logits of the wrong shape.
    #[error(
        "the model returned logits of shape {returned:?} for {examples} images and {classes} classes: this is a \
         bug in the model, please report it"
    )]
    Logits {
        /// Shape returned.
        returned: [usize; 2],
        /// Number of images.
        examples: usize,
        /// Classes of the model.
        classes: usize,
    },
    /// The journal could not be read or written, or belongs to another run.
    #[error(transparent)]
    Journal(#[from] JournalError),
}
