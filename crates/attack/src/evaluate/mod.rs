//! White-box evaluation: arms of equal effort, every success verified.
//!
//! First the unperturbed images are classified; what is misclassified already is not robust and is never
//! attacked. Then the runs of a [`Cascade`] follow: the *opening* (ready-made attacks, once each), the *pairs* (a run
//! through another gradient, and its twin from the same start through the training gradient), the *yardstick* (one
//! gradient against one) and *gradient-free* runs on what withstood everything else. Each run meets the points that stand
//! in its arm. An attack's word is not taken: whether a point is broken is decided by an independent forward pass of
//! the *judge*, the deployed model, on the float32 image that is stored, which must also lie in the budget.
//! What is left is the white-box accuracy, the per-example worst case over everything that was tried; what the arms
//! broke apart from each other is what the verdict rests on ([`equipoise_verdict`]).
//!
//! The evaluation knows victims only through the traits of [`crate::attack`]. What it has done so far it can
//! keep in a [`Journal`]; a run that was interrupted goes on from there and ends with the same verdicts and
//! the same images as one that was not. What becomes of an example depends on nothing but itself.

mod cascade;
mod driver;
mod error;
mod fields;
mod gallery;
mod journal;
mod forecast;
mod ledger;
mod observer;
mod order;
mod outcome;
mod points;
mod save;
mod saved;
mod stored;

pub use cascade::{Cascade, Duel, Pair, Run, Settings};
pub(crate) use driver::judged;
pub use driver::{Conditions, Shard, run, run_with};
pub use error::{EvaluateError, JournalError};
pub use forecast::Forecast;
pub use gallery::Pictures;
pub use gallery::gallery;
pub use journal::Journal;
pub use ledger::Outcome;
pub use observer::Stopping;
pub use observer::{Observer, Part, Quiet};
pub use order::TimeLimit;
pub use points::{Points, PointsError};
pub use save::{SaveError, save_adversarial};
pub use saved::{SavedAdversarial, SavedError, Verified, read_adversarial};
pub use stored::Stored;
