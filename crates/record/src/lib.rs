//! What an evaluation found, as plain data.
//!
//! An [`Evaluation`] is the content of `results.json`: who was attacked, with what, and what became of
//! every single example. The library writes it, the report reads it, and other tools rely on its field
//! names, so it stands in a crate of its own that needs nothing but serde. A [`Diagnosis`] is the content of
//! `diagnosis.json`: why those accuracies are what they are.
//!
//! All accuracies are fractions in \[0, 1\]; beside each stands its 95% Wilson interval.

mod accuracy;
mod diagnosis;
mod flag;
mod gallery;
mod plan;

pub use accuracy::{Accuracy, Interval, wilson_interval};
pub use diagnosis::{
    Alignment, Attacked, Cosine, Diagnosis, IterateAccuracies, IterateAccuracy, Landscape, Line, LinePoint,
    ModelDiagnosis, Residual, ResidualView, Section, Share, Spectrum, SpectrumView, Spread, Sweep,
    SweepPoint, View,
};
pub use flag::{Evidence, Flag};
pub use gallery::{Answers, Gallery, GalleryItem};
pub use plan::{NotTried, Plan, Try};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the `results.json` format that this crate writes.
pub const FORMAT_VERSION: u32 = 1;

/// One model, evaluated: the content of `results.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Format version, [`FORMAT_VERSION`] when written by this build.
    pub version: u32,
    /// A short name for the model, as it should stand in tables.
    pub model: String,
    /// Everything needed to repeat the run: command line, model and attack configuration, versions.
    pub configuration: Value,
    /// The data set and split, in words that may be quoted ("CIFAR-10 (JPEG), test").
    pub dataset: String,
    /// Norm of the budget: `linf` or `l2`.
    pub norm: String,
    /// Radius of the budget, in units of pixel intensity (images lie in \[0, 1\]).
    pub eps: f64,
    /// The seed that all random numbers were derived from.
    pub seed: u64,
    /// Number of examples evaluated.
    pub count: usize,
    /// Clean accuracy of the first readout, which is the one the model is deployed with.
    #[serde(flatten, with = "accuracy::clean")]
    pub clean_accuracy: Accuracy,
    /// One entry for each readout, in the order evaluated.
    pub readouts: Vec<ReadoutResult>,
}

/// What became of the examples under one readout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadoutResult {
    /// The readout: `final`, `early(5)`, `ensemble-states`, `ensemble-logits`.
    pub name: String,
    /// Accuracy on unperturbed images.
    #[serde(flatten, with = "accuracy::clean")]
    pub clean_accuracy: Accuracy,
    /// Accuracy under the ready-made attacks alone: those through the model's own training gradient on its
    /// final state. Absent when none was run.
    #[serde(flatten, with = "accuracy::ready_made")]
    pub ready_made_accuracy: Option<Accuracy>,
    /// Per-example worst case over everything that was tried.
    #[serde(flatten, with = "accuracy::white_box")]
    pub white_box_accuracy: Accuracy,
    /// The attacks, in the order of the cascade.
    pub attacks: Vec<AttackResult>,
    /// Every example, in the order of the data set.
    pub examples: Vec<ExampleResult>,
    /// Checks for gradient obfuscation, raised or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// What was to be tried and what was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// One attack through one gradient estimator.
///
/// In a cascade an attack meets only the points that survive the attacks before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackResult {
    /// The attack: `pgd-10`, `apgd-ce`, `square`, ...
    pub name: String,
    /// The gradient estimator that the attack saw, or `none` for a black-box attack.
    pub estimator: String,
    /// Whether this is a ready-made attack: through the model's own training gradient.
    pub ready_made: bool,
    /// Robust accuracy **after** this attack: the share of all points that are classified correctly when
    /// clean and survive this attack and all before it.
    #[serde(flatten, with = "accuracy::plain")]
    pub accuracy: Accuracy,
    /// Points that were attacked: those which survived so far.
    pub attempted: usize,
    /// Points that this attack broke.
    pub broken: usize,
    /// Claimed successes that the independent forward pass on the stored image did not confirm. They are
    /// not counted as broken.
    pub unconfirmed: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Cell evaluations, counted per example (one evaluation of a batch of 32 counts 32).
    pub cell_evaluations: u64,
    /// Vector-Jacobian products of the cell, counted per example.
    pub vjps: u64,
}

/// One example under one readout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExampleResult {
    /// Index in the data set's split.
    pub index: usize,
    /// True class.
    pub label: usize,
    /// Whether the unperturbed image is classified correctly.
    pub clean_correct: bool,
    /// Whether the point survived everything: false if misclassified when clean.
    pub robust: bool,
    /// The first attack and estimator that broke it, as `attack/estimator`; absent for a robust point and
    /// for one that was misclassified when clean.
    pub broken_by: Option<String>,
    /// Whether the model's logits were not finite on the clean or on the adversarial image.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub non_finite: bool,
}

/// Several models evaluated side by side, as `equipoise demo` writes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Collection {
    /// Format version, [`FORMAT_VERSION`] when written by this build.
    pub version: u32,
    /// The evaluations, in the order that they should be shown.
    pub models: Vec<Evaluation>,
    /// Diagnoses reported together with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnoses: Vec<Diagnosis>,
}
