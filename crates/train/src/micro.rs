//! What a micro-batch says beside its gradients, and what the micro-batches of a step come to.

use serde::{Deserialize, Serialize};

/// A number to the bit: JSON has none that is not finite.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Exact(u64);

impl From<f64> for Exact {
    fn from(number: f64) -> Self {
        Self(number.to_bits())
    }
}

impl Exact {
    fn value(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// Of one micro-batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Said {
    loss: Exact,
    correct: usize,
    jacobian: Option<Exact>,
    residual: Option<Exact>,
    /// The batch's statistics, if there are several micro-batches.
    moments: Vec<u32>,
}

impl Said {
    /// The loss is summed over the examples, the other two are means over them.
    pub fn new(
        loss: f64,
        correct: usize,
        jacobian: Option<f64>,
        residual: Option<f64>,
        moments: &[f32],
    ) -> Self {
        let moments = moments.iter().map(|number| number.to_bits()).collect();
        Self {
            loss: loss.into(),
            correct,
            jacobian: jacobian.map(Exact::from),
            residual: residual.map(Exact::from),
            moments,
        }
    }
}

/// Of all micro-batches of a step, added up in their order.
#[derive(Debug)]
pub(super) struct Summed {
    /// The sum over all examples.
    pub loss: f64,
    pub correct: usize,
    /// Means over the examples.
    pub jacobian: Option<f64>,
    pub residual: Option<f64>,
    /// Means over the micro-batches.
    pub moments: Vec<f32>,
}

impl Summed {
    pub fn of(all: &[Said]) -> Self {
        let mean = |of: fn(&Said) -> Option<Exact>| {
            let found: Option<Vec<f64>> = all.iter().map(|said| of(said).map(Exact::value)).collect();
            found.map(|found| found.iter().sum::<f64>() / found.len() as f64)
        };
        let length = all.first().map_or(0, |said| said.moments.len());
        let moment = |k: usize| {
            let sum: f64 = all.iter().map(|said| f64::from(f32::from_bits(said.moments[k]))).sum();
            (sum / all.len() as f64) as f32
        };
        Self {
            loss: all.iter().map(|said| said.loss.value()).sum(),
            correct: all.iter().map(|said| said.correct).sum(),
            jacobian: mean(|said| said.jacobian),
            residual: mean(|said| said.residual),
            moments: (0..length).map(moment).collect(),
        }
    }
}
