//! Certificates: lower bounds on robustness, which no attack can pass.
//!
//! [`Smoothing`] certifies the vote of any classifier over noise. What is found stands beside the attacks' upper bounds in the
//! record ([`equipoise_record::Certificate`]), which says of which network it speaks.

mod smoothing;

pub use smoothing::{Smoothing, SmoothingError, Votes};
