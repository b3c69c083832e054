//! What was to be tried, in which order, what each try cost, and what was left out.

use serde::{Deserialize, Serialize};

/// The tries of one readout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order of the cascade.
    pub tries: Vec<Try>,
    /// What was left out, and why.
    #[serde(default)]
    pub not_tried: Vec<NotTried>,
    /// Seconds that the attacks were given together. With a limit the accuracies depend on how fast the machine
    /// was; without one they do not.
    #[serde(default)]
    pub time_limit: Option<f64>,
}

/// One attack through one gradient estimator, and what a broken point cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Try {
    /// The attack.
    pub attack: String,
    /// The gradient estimator, or `none` for a black-box attack.
    pub estimator: String,
    /// Whether it goes through the model's own training gradient.
    pub ready_made: bool,
    /// Wall-clock seconds for each point broken; absent where none was.
    pub seconds_per_broken: Option<f64>,
    /// Cell evaluations and vector-Jacobian products together for each point broken; absent where none was.
    pub work_per_broken: Option<f64>,
}

/// An attack that did not meet all points that it should have met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotTried {
    /// The attack.
    pub attack: String,
    /// The gradient estimator, or `none`.
    pub estimator: String,
    /// Why.
    pub reason: String,
}
