//! What an evaluation found, as plain data.
//!
//! A [`Collection`] is the content of `results.json`: who was attacked, with what, and what became of
//! every single example. The library writes it, the report reads it, and other tools rely on its field
//! names, so it stands in a crate of its own that needs nothing but serde. A [`Diagnosis`] is the content of
//! `diagnosis.json`: residuals, gradient alignment, loss landscape and the like. A
//! [`Training`] is what the log of a training run says.
//!
//! All accuracies are fractions in \[0, 1\]; beside each stands its 95% Wilson interval. No key is ever left out, but for
//! `certificates`: what is said to be absent is written as `null`. [`SCHEMA`] is the contract for
//! other tools; [`check`] counts a record's figures again, and [`read`] refuses one that contradicts itself.

mod accuracy;
mod certificate;
mod check;
mod diagnosis;
mod evaluation;
mod flag;
mod gallery;
pub mod names;
mod plan;
mod randomness;
mod read;
mod training;
mod verdict;

pub use accuracy::{Accuracy, Interval, wilson_interval};
pub use certificate::{
    Certificate, CertifiedExample, CertifiedNetwork, CertifiedRadius, Confidence, SerializedVotes,
};
pub use check::{Contradiction, check};
pub use diagnosis::{
    Alignment, AttackDistances, Attacked, Cosine, Diagnosis, DistancePoint, Distances, IterateAccuracies,
    IterateAccuracy, Landscape, Line, LinePoint, ModelDiagnosis, Residual, ResidualView, Section, Share,
    Spectrum, SpectrumView, Spread, Starts, StartsView, Sweep, SweepPoint, Targeted, TargetedRow, View,
    Workload, WorkloadSide, YardstickRow, Yardsticks,
};
pub use evaluation::{
    Arm, AttackResult, BrokenBy, BrokenIn, Collection, Evaluation, ExampleResult, FORMAT_VERSION,
    NO_GRADIENT, RadiusResult, ReadoutResult, gradient,
};
pub use flag::{Evidence, Flag};
pub use gallery::{Answers, Gallery, GalleryItem};
pub use plan::{NotTried, Plan, Try};
pub use randomness::{RandomnessResult, Rate};
pub use read::read;
pub use training::{EpochReport, LogError, StepReport, Training, read_epochs, read_steps};
pub use verdict::{Aim, ArmRun, Arms, Finding, Paired, Verdict, VerdictEvidence, Yardstick};

/// JSON Schema (draft 2020-12) of `results.json`: every key with its meaning and unit.
pub const SCHEMA: &str = include_str!("../results.schema.json");
