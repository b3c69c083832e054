//! What a cascade itself says of gradient obfuscation: flags that cost nothing beyond it.
//!
//! | flag | raised when |
//! |---|---|
//! | `black-box-beats-white-box` | a black-box attack broke a point that withstood all gradients before it |
//! | `intermediate-beats-ready-made` | other gradients broke more than 1% of all points after the ready-made attacks |
//! | `unconfirmed-successes` | a success that an attack claimed was not confirmed by the deployed model |
//!
//! The checks are those of Athalye, Carlini and Wagner (2018, arXiv 1802.00420) and Carlini et al. (2019, arXiv
//! 1902.06705); the second is the gap that Yang, Pang and Liu (2022) found. Others need the model:
//! [`crate::probe`].

use equipoise_record::{AttackResult, Evidence, Flag, ReadoutResult};

/// More than this share of all points in the gap is more than another random start breaks.
const GAP: f64 = 0.01;

/// The flags of a readout's cascade. A check that nothing was run for is absent.
pub fn flags(result: &ReadoutResult) -> Vec<Flag> {
    let black_box = |attack: &AttackResult| attack.estimator == "none";
    let gradient_first = result.attacks.iter().position(|attack| !black_box(attack));
    let after = |first: usize| result.attacks[first..].iter().filter(|attack| black_box(attack));
    let [square, intermediate, unconfirmed] = [
        gradient_first.filter(|&first| after(first).next().is_some()).map(|first| {
            let (met, broken) = totals(after(first));
            Flag {
                name: "black-box-beats-white-box".to_owned(),
                raised: broken > 0,
                statement: format!(
                    "black-box attacks broke {broken} of the {met} points that withstood all attacks through \
                     gradients before them"
                ),
                evidence: vec![number("points met", met), number("points broken by black-box attacks", broken)],
            }
        }),
        result.ready_made_accuracy.and_then(|_| {
            let others = || result.attacks.iter().filter(|attack| !attack.ready_made && !black_box(attack));
            others().next()?;
            let (_, broken) = totals(others());
            let all = result.examples.len();
            Some(Flag {
                name: "intermediate-beats-ready-made".to_owned(),
                raised: broken as f64 > GAP * all as f64,
                statement: format!(
                    "attacks through other gradients broke {broken} of {all} points that withstood the ready-made \
                     attacks; more than {}% is more than another random start breaks",
                    100.0 * GAP
                ),
                evidence: vec![number("points", all), number("points broken through other gradients", broken)],
            })
        }),
        (!result.attacks.is_empty()).then(|| {
            let count: usize = result.attacks.iter().map(|attack| attack.unconfirmed).sum();
            Flag {
                name: "unconfirmed-successes".to_owned(),
                raised: count > 0,
                statement: format!(
                    "{count} successes that attacks claimed were not confirmed by an independent forward pass of the \
                     deployed model on the stored image"
                ),
                evidence: vec![number("claims not confirmed", count)],
            }
        }),
    ];
    [square, intermediate, unconfirmed].into_iter().flatten().collect()
}

/// Points that the first of these attacks met, and points that they broke together.
fn totals<'a>(mut attacks: impl Iterator<Item = &'a AttackResult>) -> (usize, usize) {
    let Some(first) = attacks.next() else { return (0, 0) };
    (first.attempted, first.broken + attacks.map(|attack| attack.broken).sum::<usize>())
}

fn number(name: &str, value: usize) -> Evidence {
    Evidence { name: name.to_owned(), value: Some(value as f64) }
}
