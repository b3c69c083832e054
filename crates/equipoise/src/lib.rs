//! Equipoise: the adversarial robustness of deep equilibrium models (DEQs).
//!
//! A DEQ's hidden state is the fixed point z* = f(z*; x) of one layer. This library trains such models,
//! attacks them white-box, defends and evaluates them, and answers one question: *is the measured robustness real, or
//! an artefact of gradient obfuscation?* It implements Yang, Pang and Liu, "A Closer Look at the Adversarial Robustness
//! of Deep Equilibrium Models" (NeurIPS 2022).
//!
//! A model file and a data set to a record with a finding:
//!
//! ```no_run
//! use equipoise::prelude::*;
//!
//! let model = ModelFile::read("model.safetensors".as_ref(), &Device::default())?;
//! let images = Source::Digits.load(Split::Test)?.take(100);
//! let assessment = Assessment::new(&model, &images)
//!     .budget(Budget::new(Norm::Linf, 0.1)?)
//!     .readouts(["final".parse()?, "early(4)".parse()?]);
//! let record = assessment.run(&Quiet)?.expect("nobody stopped it");
//! for readout in &record.readouts {
//!     println!("{}: {:?}", readout.name, readout.verdict.finding);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Models are trained by [`train`](train::train), attacked one by one through [`attack`], looked into by [`diagnose`]. The
//! [`guide`] explains the mathematics.
//!
//! The modules stand in the order in which data flow through them; each uses only those above it.

#[doc(inline)]
pub use equipoise_attack::{attack, batch, evaluate, loss, random, verify, work};
#[doc(inline)]
pub use equipoise_deq::{
    architecture, checkpoint, defence, feedforward, gradient, model, network, problems, readout, solve,
    state, trace, training_pass, victim,
};
#[doc(inline)]
pub use equipoise_train as train;

pub mod plan;
pub mod checks;
pub mod early_exit;
pub mod assess;
pub mod diagnose;
pub mod certify;
pub mod lipschitz_layers;
// Only rustdoc reads it: a checkout without symbolic links builds all the same.
#[cfg(any(doc, doctest))]
pub mod guide;

/// What an evaluation found, as plain data: `results.json`.
pub use equipoise_record as record;
/// From the arms' counts to a finding.
pub use equipoise_verdict as verdict;

/// Makes a kind of estimator, of readout or of attack known by its name, wherever one is read: an
/// [`EstimatorKind`](gradient::EstimatorKind), a [`ReadoutKind`](readout::ReadoutKind) or an
/// [`AttackFamily`](attack::AttackFamily).
///
/// Stands beside functions, in the crate that is linked in:
/// `equipoise::register! { EstimatorKind { name: "..", usage: "..", parse } }`.
pub use inventory::submit as register;

/// The tensor library, in the version that this crate's types are of.
pub use burn;

/// What most programs need.
pub mod prelude {
    pub use burn::tensor::Device;
    pub use equipoise_dataset::{Dataset, Source, Split};
    pub use equipoise_record::{Evaluation, Finding};

    pub use crate::architecture::{Architecture, ArchitectureConfig, Model};
    pub use crate::assess::{Assessment, Attacks, ReadoutChoice};
    pub use crate::attack::{Attack, Budget, Classifier, Norm, WhiteBox};
    pub use crate::checkpoint::ModelFile;
    pub use crate::evaluate::{Observer, Quiet};
    pub use crate::gradient::Estimator;
    pub use crate::readout::Readout;
    pub use crate::solve::SolverConfig;
    pub use crate::train::{Plan, TrainConfig, train};
    pub use crate::victim::{Deployment, Victim};
}
