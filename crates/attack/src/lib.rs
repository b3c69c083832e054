//! Attacks on a classifier, and evaluations by many attacks; nothing here knows equilibria.
//!
//! A [`Classifier`](attack::Classifier) answers with logits, a [`WhiteBox`](attack::WhiteBox) with gradients too. An
//! [`Attack`](attack::Attack) searches a [`Budget`](attack::Budget) around each image for one that is misclassified; an evaluation
//! ([`evaluate`]) lets the arms of a [`Cascade`](evaluate::Cascade) try, and keeps what each broke.
//!
//! The modules stand in the order in which each uses those above it.

pub mod cpu;
pub mod registry;
pub mod batch;
pub mod random;
pub mod work;
pub mod loss;
pub mod attack;
pub mod evaluate;
pub mod verify;

/// Makes a kind of something known by its name, wherever one is read; stands beside functions.
pub use inventory::submit as register;
