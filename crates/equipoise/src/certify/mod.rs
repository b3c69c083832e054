//! Certificates: lower bounds on robustness, which no attack can pass.
//!
//! [`Smoothing`] certifies the vote of any classifier over noise, with a confidence; [`MonotoneCertifier`] a monotone DEQ, by
//! proof. What is found stands beside the attacks' upper bounds in the record ([`equipoise_record::Certificate`]), which says of
//! which network it speaks.

mod upper;
pub(crate) mod matrix;
mod metric;
mod search;
mod monotone;
mod lowered;
mod certifier;
mod method;
mod proof;
mod smoothing;

pub use certifier::MonotoneCertifier;
pub use method::{Method, Unbounded};
pub use proof::{Proof, prove, side_by_side};
pub use smoothing::{Checks, Prediction, Serialized, Smoothing, SmoothingError, Votes};

use equipoise_record::{Accuracy, Certificate, CertifiedExample, CertifiedRadius};

/// Certified accuracy at each radius, of examples with these true classes.
fn radii(examples: &[CertifiedExample], labels: &[usize], eps: &[f64]) -> Vec<CertifiedRadius> {
    let certified = |eps: f64| {
        let holding = examples.iter().zip(labels).filter(|(example, label)| example.holds(**label, eps));
        Accuracy::new(holding.count(), examples.len())
    };
    eps.iter().map(|&eps| CertifiedRadius { eps, certified_accuracy: certified(eps) }).collect()
}

/// Radii for a table where none are given: sixteen, evenly, from 0 to the largest that proofs showed.
pub fn usual_radii(found: &[Vec<CertifiedExample>]) -> Vec<f64> {
    let radii = found.iter().flatten().filter_map(|example| example.radius);
    match radii.fold(0.0, f64::max) {
        0.0 => vec![0.0],
        largest => (0..16).map(|k| largest * f64::from(k) / 15.0).collect(),
    }
}

impl Proof<'_> {
    /// Everything that was certified of some images with these true classes, at radii from the smallest up. Without a
    /// confidence: it is a proof.
    pub fn certificate(
        &self,
        examples: Vec<CertifiedExample>,
        labels: &[usize],
        norm: crate::attack::Norm,
        eps: &[f64],
        seconds: f64,
    ) -> Certificate {
        Certificate {
            method: self.method().name().to_owned(),
            settings: self.settings(),
            network: self.network(),
            norm: norm.to_string(),
            confidence: None,
            abstained: examples.iter().filter(|example| example.abstained).count(),
            radii: radii(&examples, labels, eps),
            examples,
            seconds,
            cell_evaluations: 0,
        }
    }
}
