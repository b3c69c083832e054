//! Votes as a certificate of a record, and back from it to the settings.

use equipoise_record::{Certificate, CertifiedExample, CertifiedNetwork, Confidence, SerializedVotes};
use serde_json::json;

use super::{Checks, Serialized, Smoothing, Votes};
use crate::attack::Norm;
use crate::evaluate::Points;

impl Smoothing {
    /// Everything that was certified of some points by the votes of each. `network` is the vote over all noise, which the deployed one
    /// is not. `None` for L1.
    pub fn certificate(
        &self,
        points: &Points,
        votes: &[Votes],
        norm: Norm,
        eps: &[f64],
        (seconds, cell_evaluations): (f64, u64),
    ) -> Option<Certificate> {
        let pixels: usize = points.images().dims()[1..].iter().product();
        let each = points.indices().iter().zip(votes);
        let examples: Vec<CertifiedExample> =
            each.map(|(&index, &votes)| self.certified(index, votes, norm, pixels)).collect::<Option<_>>()?;
        let sum = |of: fn(Checks) -> usize| votes.iter().filter_map(|votes| votes.checks).map(of).sum();
        let serialized = self.serialized.map(|Serialized { steps, chains, checks }| SerializedVotes {
            steps,
            chains: chains.min(self.estimation),
            checks,
            checked: sum(|checks| checks.checked),
            confirmed: sum(|checks| checks.confirmed),
        });
        Some(Certificate {
            method: self.method().to_owned(),
            settings: json!({ "sigma": self.sigma, "alpha": self.alpha }),
            network: CertifiedNetwork::Ideal,
            norm: norm.to_string(),
            confidence: Some(Confidence {
                level: 1.0 - self.alpha,
                selection: self.selection,
                estimation: self.estimation,
                serialized,
            }),
            abstained: examples.iter().filter(|example| example.abstained).count(),
            radii: super::super::radii(&examples, points.labels(), eps),
            examples,
            seconds,
            cell_evaluations,
        })
    }

    /// How a certificate of the record was made, if it was by smoothing.
    pub fn of(certificate: &Certificate) -> Option<Self> {
        let Confidence { selection, estimation, serialized, .. } = certificate.confidence?;
        let setting = |name: &str| certificate.settings[name].as_f64();
        let fast = |SerializedVotes { steps, chains, checks, .. }| Serialized { steps, chains, checks };
        let smoothing = Self {
            sigma: setting("sigma")?,
            selection,
            estimation,
            alpha: setting("alpha")?,
            serialized: serialized.map(fast),
        };
        let named = certificate.method == smoothing.method();
        (named && smoothing.check().is_ok()).then_some(smoothing)
    }

    /// The method's name in records.
    pub fn method(&self) -> &'static str {
        if self.serialized.is_some() { "serialized-smoothing" } else { "smoothing" }
    }
}
