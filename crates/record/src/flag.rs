//! Checks for gradient obfuscation, each with its numbers.

use serde::{Deserialize, Serialize};

/// One check for gradient obfuscation, or for an evaluation that cannot be trusted (Athalye, Carlini and Wagner
/// 2018; Carlini et al. 2019).
///
/// A check that was made and found nothing is recorded too, with `raised` false: the reader can tell it from one
/// that was not made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flag {
    /// The check's name, such as `black-box-beats-white-box`.
    pub name: String,
    /// Whether it found something.
    pub raised: bool,
    /// What was found, in one sentence with its numbers.
    pub statement: String,
    /// The numbers behind the sentence, in the order in which they are best read.
    pub evidence: Vec<Evidence>,
}

/// One number behind a flag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was measured, with its unit, such as `points broken by square (of 500)`.
    pub name: String,
    /// The number; `null` when it is not finite.
    pub value: Option<f64>,
}
