//! White-box evaluation: a cascade of attacks, every success verified.
//!
//! First the unperturbed images are classified; what is misclassified already is not robust and is never
//! attacked. Then the attacks of a [`Cascade`] are run in order, each on the points that survived those before
//! it. An attack's word is not taken: whether a point is broken is decided by an independent forward pass of
//! the *judge*, the deployed model, on the float32 image that is stored, which must also lie in the budget.
//! What is left is the white-box accuracy, the per-example worst case over everything that was tried.
//!
//! The evaluation knows victims only through the traits of [`crate::attack`]. What it has done so far it can
//! keep in a [`Journal`]; a run that was interrupted goes on from there and ends with the same verdicts and
//! the same images as one that was not.

mod cascade;
mod error;
mod fields;
mod flags;
mod journal;
mod ledger;
mod observer;
mod points;
mod save;
mod saved;
mod time_limit;

pub use cascade::{Cascade, Entry, Settings, run, run_within};
pub use error::EvaluateError;
pub use flags::flags;
pub use journal::{Journal, JournalError};
pub use ledger::Outcome;
pub(crate) use observer::Stopping;
pub use observer::{Observer, Quiet};
pub use points::{Points, PointsError};
pub use save::{SaveError, save_adversarial};
pub use saved::{SavedAdversarial, SavedError, Verified, read_adversarial};
pub use time_limit::TimeLimit;
