//! Checks that follow from the runs of an evaluation, at no further cost.
//!
//! | check | raised when |
//! |---|---|
//! | `unconfirmed-successes` | a success that an attack claimed was not confirmed by the deployed model |

use equipoise_record::{Evidence, Flag, ReadoutResult};

/// The checks of a readout's evaluation. A check that nothing was run for is absent.
pub fn of_runs(result: &ReadoutResult) -> Vec<Flag> {
    if result.attacks.is_empty() {
        return Vec::new();
    }
    let count: usize = result.attacks.iter().map(|attack| attack.unconfirmed).sum();
    vec![Flag {
        name: "unconfirmed-successes".to_owned(),
        raised: count > 0,
        statement: format!(
            "{count} successes that attacks claimed were not confirmed by an independent forward pass of the deployed \
             model on the stored image"
        ),
        evidence: vec![Evidence { name: "claims not confirmed".to_owned(), value: Some(count as f64) }],
    }]
}
