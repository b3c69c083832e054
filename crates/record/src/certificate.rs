//! Certificates: lower bounds on robustness, beside the upper bounds that attacks give.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::accuracy::{self, Accuracy};

/// What one method certified behind one readout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// The method: `lipschitz`, `affine`, `branching`, `zonotopes`, `boxes`, `smoothing`, `serialized-smoothing`
    pub method: String,
    /// Everything that is needed to repeat it, such as the noise of smoothing.
    pub settings: Value,
    /// The network that it speaks of.
    pub network: CertifiedNetwork,
    /// Norm of its radii: `linf`, `l2` or `l1`.
    pub norm: String,
    /// How sure it is of each example; absent for a proof.
    pub confidence: Option<Confidence>,
    /// Examples on which the method abstained.
    pub abstained: usize,
    /// Certified accuracy at some radii, from the smallest up.
    pub radii: Vec<CertifiedRadius>,
    /// The examples that it was tried on: all of the readout's, or some of them.
    pub examples: Vec<CertifiedExample>,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Cell evaluations, counted per example.
    pub cell_evaluations: u64,
}

impl Certificate {
    /// Gives accuracies that were read their counts.
    pub(crate) fn count(&mut self) {
        let n = self.examples.len();
        for radius in &mut self.radii {
            radius.certified_accuracy = radius.certified_accuracy.of(n);
        }
    }
}

/// The network that a certificate speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertifiedNetwork {
    /// What the deployed network approximates, such as the exact fixed point, or the vote over all noise.
    Ideal,
    /// The network that was evaluated, with its solver's error: what attacks break here cannot be certified.
    Deployed,
}

impl CertifiedNetwork {
    /// The name in records: `ideal` or `deployed`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ideal => "ideal",
            Self::Deployed => "deployed",
        }
    }
}

/// How sure a certificate by sampling is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// 1 − α: the chance, for each example, that what is certified holds.
    pub level: f64,
    /// n₀: samples that choose the class.
    pub selection: usize,
    /// n: fresh samples that bound its probability.
    pub estimation: usize,
    /// How samples were taken fast, and corrected; absent where each was taken as the network answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serialized: Option<SerializedVotes>,
}

/// Votes of a DEQ that are cast by a few solver steps from where others ended, some of which are cast again accurately. The certificate
/// speaks of accurate votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerializedVotes {
    /// Solver steps of a fast vote.
    pub steps: usize,
    /// B: the vote on sample i goes on from the end of that on sample i − B, the first B from the image without noise.
    pub chains: usize,
    /// K: samples of each example that were picked to be checked.
    pub checks: usize,
    /// Fast votes for the class among those that were picked, of all examples together.
    pub checked: usize,
    /// Those of them that accurate votes confirmed.
    pub confirmed: usize,
}

/// Certified accuracy at one radius.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CertifiedRadius {
    /// The radius, in units of pixel intensity.
    pub eps: f64,
    /// Share of the certificate's examples whose true class is certified within it.
    #[serde(flatten, with = "accuracy::certified")]
    pub certified_accuracy: Accuracy,
}

/// What was certified of one example.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CertifiedExample {
    /// Index in the data set's split, as in the readout's examples.
    pub index: usize,
    /// The class that the certificate speaks of; absent where the method abstained.
    pub class: Option<usize>,
    /// The largest radius within which that class is shown not to change, rounded down; absent where it was shown at
    /// none. A method that answers yes or no at one radius has that radius for yes.
    pub radius: Option<f64>,
    /// Whether the method abstained.
    pub abstained: bool,
}

impl CertifiedExample {
    /// Whether this class is certified within a radius.
    ///
    /// ```
    /// use equipoise_record::CertifiedExample;
    ///
    /// let example = CertifiedExample { index: 0, class: Some(3), radius: Some(0.25), abstained: false };
    /// assert!(example.holds(3, 0.25) && !example.holds(3, 0.26) && !example.holds(4, 0.1));
    /// ```
    pub fn holds(&self, class: usize, eps: f64) -> bool {
        self.class == Some(class) && self.radius.is_some_and(|radius| radius >= eps)
    }
}
