//! What can go wrong in an evaluation.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::attack::{Budget, Norm};

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

/// The part of a journal's header that says which examples were evaluated.
pub(super) const EXAMPLES: &str = "choice of examples (hash of their indices, labels and images)";

/// Other parts whose values are no words for a person.
pub(super) const MODEL: &str = "model";
pub(super) const EPS: &str = "eps";
pub(super) const CARRIED: &str = "what fell at a smaller radius (hash)";

/// Why a journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The folder or one of its files cannot be read or written.
    #[error("cannot use the journal at {}: {source}; {}", .path.display(), equipoise_files::advice(.source))]
    File {
        /// The folder or file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} is not a valid journal file ({problem}): delete {} and start again, or give another folder", .path.display(), .path.parent().unwrap_or(.path).display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The folder belongs to a run with other settings, points, attacks or model.
    #[error(
        "the journal in {} belongs to another run: {}; resume with what it was begun with, or give another folder",
        .folder.display(), difference(.part, .journal, .here)
    )]
    OtherRun {
        /// The folder.
        folder: PathBuf,
        /// What differs.
        part: String,
        /// Its value in the journal.
        journal: String,
        /// Its value in this run.
        here: String,
    },
}

/// What differs, for a person: a hash says only that something is another, and a radius is written as people do.
fn difference(part: &str, journal: &str, here: &str) -> String {
    let radius = |text: &str| {
        let budget = text.parse().ok().and_then(|eps| Budget::new(Norm::Linf, eps).ok());
        budget.map_or(text.to_owned(), |budget| budget.to_string().replace("linf ", ""))
    };
    match part {
        MODEL => "it is of another model file".to_owned(),
        EXAMPLES => "its images or labels are not those given here: other data, or another split".to_owned(),
        CARRIED => "what fell at a smaller radius is not what fell here".to_owned(),
        EPS => format!("its eps is {}, and here it is {}", radius(journal), radius(here)),
        _ => format!("its {part} is {journal}, and here it is {here}"),
    }
}
