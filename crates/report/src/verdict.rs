//! What the numbers say about gradient obfuscation, and no more than that.
//!
//! The comparison is paired: white-box accuracy is a per-example worst case, so it can only lie below
//! ready-made accuracy, and each image in the gap is one that a verified adversarial image breaks although
//! every ready-made attack failed on it. The gap itself is therefore real; what needs care is its cause.
//! An attack through another gradient is also another random start, and it may simply be a stronger attack.
//! Hence these rules, with b the images in the gap that fell to an attack which also ran ready-made, or
//! without gradients, and n all images:
//!
//! - **flattered** when b ≥ 6 (the two-sided sign test on b discordant pairs, all in one direction, then
//!   gives 2^(1−b) < 0.05) and the lower end of the 95% Wilson interval of b/n is at least 1 point, more
//!   than another start of the same attack usually breaks;
//! - **stronger attack** when that holds of the whole gap only: its images fell to attacks that were not
//!   run ready-made, so strength and gradient cannot be told apart;
//! - **unresolved** when a gap is there but the interval reaches past 5 points: too few images;
//! - otherwise **small** (b ≥ 6 images), **checks raised** (next to no gap, but a check for obfuscation found
//!   something), or **no sign**, always "in what was tried".

use crate::facts::{self, Kind};
use crate::words;
use equipoise_record::{Evaluation, ReadoutResult, wilson_interval};

/// Fewest images in the gap for which the sign test rejects at 5%.
const SIGN_TEST: i64 = 6;
/// A gap below this (as a fraction) is what another random start may open.
const RESTART_LUCK: f64 = 0.01;
/// An interval that reaches past this (as a fraction) is too wide to call a gap small.
const SMALL: f64 = 0.05;

/// What holds of every verdict, to be said once beside them.
pub(crate) const HOW_TO_READ: &str = "Each image in a gap between ready-made and white-box accuracy has a verified \
     adversarial image, so the gap is real; its cause needs care, since an attack through another gradient is \
     also another random start. Restarts of the ready-made attack show how much is luck. White-box accuracy is an \
     upper bound on robustness: an attack that was not tried may break more.";

/// What was found, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// Ready-made attacks overstate the robustness: their gradient is obfuscated.
    Flattered,
    /// Other attacks break much more, but they differ in more than the gradient.
    StrongerAttack,
    /// There is a gap, and too few images to say how large it is.
    Unresolved,
    /// A real gap, too small to put down to the gradient.
    Small,
    /// Next to nothing fell to other attacks only, but a check for gradient obfuscation was raised.
    ChecksRaised,
    /// Nothing, or next to nothing, fell to other attacks only.
    NoSign,
    /// Nothing survives the ready-made attacks: there is nothing to flatter.
    NothingLeft,
    /// No ready-made attack, no other attack, no attack at all, or no image.
    NoComparison,
    /// White-box accuracy above ready-made accuracy: the record contradicts itself.
    Contradiction,
}

impl Finding {
    /// A few words for a label.
    pub fn label(self) -> &'static str {
        match self {
            Finding::Flattered => "Gradient obfuscation",
            Finding::StrongerAttack => "Cause unclear",
            Finding::Unresolved => "Too few images to say",
            Finding::Small => "Small gap",
            Finding::ChecksRaised => "No gap, checks raised",
            Finding::NoSign => "No sign of obfuscation",
            Finding::NothingLeft => "Not robust",
            Finding::NoComparison => "No comparison possible",
            Finding::Contradiction => "Record contradicts itself",
        }
    }
}

/// What the record says of one model under one readout.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The model's name.
    pub model: String,
    /// The readout's name.
    pub readout: String,
    /// The conclusion.
    pub finding: Finding,
    /// The conclusion as one sentence that carries its own setting and numbers.
    pub sentence: String,
    /// Ready-made minus white-box accuracy, in percentage points. Absent where there is no comparison.
    pub gap_points: Option<f64>,
    /// What it rests on and what limits it, a sentence each.
    pub evidence: Vec<String>,
}

/// The verdict on every readout of a model, in the record's order: the first is the deployed one.
pub fn verdicts(model: &Evaluation) -> Vec<Verdict> {
    model.readouts.iter().map(|readout| verdict(model, readout)).collect()
}

/// The verdict on one readout of `model`.
pub fn verdict(model: &Evaluation, readout: &ReadoutResult) -> Verdict {
    let n = model.count;
    let (finding, conclusion) = conclude(readout, n);
    Verdict {
        model: model.model.clone(),
        readout: readout.name.clone(),
        finding,
        sentence: format!(
            "{} on {}, {}, {}, readout {}: {conclusion}",
            model.model,
            model.dataset,
            facts::budget(model),
            words::images(n),
            readout.name
        ),
        gap_points: match finding {
            Finding::NoComparison => None,
            _ => facts::gap(readout, n).map(|gap| 100.0 * gap as f64 / n as f64),
        },
        evidence: evidence(readout, n, finding),
    }
}

fn conclude(readout: &ReadoutResult, n: usize) -> (Finding, String) {
    let white_box = words::accuracy(readout.white_box_accuracy);
    if n == 0 {
        return (Finding::NoComparison, "no image was evaluated, so nothing can be said.".to_owned());
    }
    if readout.attacks.is_empty() {
        let clean = words::accuracy(readout.clean_accuracy);
        let says = format!("{clean} when clean; no attack was run, so nothing is known of its robustness.");
        return (Finding::NoComparison, says);
    }
    let Some((ready_made, gap)) = readout.ready_made_accuracy.zip(facts::gap(readout, n)) else {
        let says = format!(
            "white-box {white_box}; no ready-made attack was run, so no comparison is possible and nothing \
             can be said about gradient obfuscation."
        );
        return (Finding::NoComparison, says);
    };
    if readout.attacks.iter().all(|a| a.ready_made) {
        let says = format!(
            "ready-made attacks leave {}; nothing else was tried, so no comparison is possible: whether \
             gradient obfuscation flatters this figure is open.",
            words::accuracy(ready_made)
        );
        return (Finding::NoComparison, says);
    }
    let (finding, says) = compare(readout, n, gap);
    let ready_made = words::accuracy(ready_made);
    (finding, format!("ready-made attacks leave {ready_made}, white-box {white_box}: {says}"))
}

/// The rules at the head of this file.
fn compare(readout: &ReadoutResult, n: usize, gap: i64) -> (Finding, String) {
    let share = |b: i64| b as f64 / n as f64;
    let bounds = |b: i64| wilson_interval(b.max(0) as usize, n);
    let clear = |b: i64| b >= SIGN_TEST && bounds(b)[0] >= RESTART_LUCK;
    let apart = || format!("{} points apart ({gap} of {})", words::points(share(gap)), words::images(n));
    let comparable = gap - stronger(readout).min(gap);

    if gap < 0 {
        let says = "the worst case lies above a part of itself, so this record contradicts itself; evaluate \
                    the model again.";
        (Finding::Contradiction, says.to_owned())
    } else if clear(comparable) {
        let points = words::points(share(comparable));
        let rest = match gap - comparable {
            0 => String::new(),
            rest => format!(
                "; {} more fell only to attacks that were not run ready-made",
                words::points(share(rest))
            ),
        };
        (
            Finding::Flattered,
            format!("{points} points of the ready-made figure are gradient obfuscation{rest}."),
        )
    } else if clear(gap) {
        let says = format!(
            "{} points of the ready-made figure do not hold, but most of them fell to attacks that were not \
             run ready-made, so a stronger attack and an obfuscated gradient cannot be told apart.",
            words::points(share(gap))
        );
        (Finding::StrongerAttack, says)
    } else if gap == 0 && facts::correct(readout.white_box_accuracy, n) == 0 {
        (Finding::NothingLeft, "nothing is left, so there is no robustness to flatter.".to_owned())
    } else if gap > 0 && bounds(gap)[1] > SMALL {
        let says = format!("{}: too few images to say what opens the gap; evaluate more.", apart());
        (Finding::Unresolved, says)
    } else if gap >= SIGN_TEST {
        let says = format!(
            "{}: a small gap, which another random start may also open; this is what was measured, not \
             evidence of gradient obfuscation.",
            apart()
        );
        (Finding::Small, says)
    } else {
        let limit = match bounds(gap)[1] {
            high if high > SMALL => {
                format!(", though {} could hide a gap of {} points", words::images(n), words::points(high))
            }
            _ => String::new(),
        };
        match readout.flags.iter().filter(|flag| flag.raised).count() {
            0 => {
                let says = format!("{}: no sign of gradient obfuscation in what was tried{limit}.", apart());
                (Finding::NoSign, says)
            }
            raised => {
                let checks = if raised == 1 { "1 check was" } else { &format!("{raised} checks were") };
                let says = format!(
                    "{}: no gap in what was tried{limit}, but {checks} raised, which may mean that stronger attacks \
                     would open one.",
                    apart()
                );
                (Finding::ChecksRaised, says)
            }
        }
    }
}

/// Images broken by gradient attacks that were not run ready-made: strength and gradient both differ.
fn stronger(readout: &ReadoutResult) -> i64 {
    let ran_ready_made = |name: &str| readout.attacks.iter().any(|a| a.ready_made && a.name == name);
    readout
        .attacks
        .iter()
        .filter(|a| Kind::of(a) == Kind::Adaptive && !ran_ready_made(&a.name))
        .map(|a| a.broken as i64)
        .sum()
}

fn evidence(readout: &ReadoutResult, n: usize, finding: Finding) -> Vec<String> {
    let mut says = Vec::new();
    let gap = facts::gap(readout, n).filter(|_| finding != Finding::NoComparison).unwrap_or(0);
    if gap > 0 {
        let breakers: Vec<String> = readout
            .attacks
            .iter()
            .filter(|a| !a.ready_made && a.broken > 0)
            .map(|a| format!("{} to {}", a.broken, facts::attack_in_words(a)))
            .collect();
        says.push(format!(
            "{} of {} ({} points, 95% interval {}) survived every ready-made attack and fell to another: {}.",
            gap,
            words::images(n),
            words::points(gap as f64 / n as f64),
            words::interval(wilson_interval(gap as usize, n)),
            words::list(&breakers)
        ));
    }
    if !readout.attacks.is_empty() {
        let total: usize = readout.attacks.iter().map(|a| a.broken).sum();
        says.push(format!(
            "Tried: {}; {total} of {} broken in all.",
            facts::tried(readout),
            words::images(n)
        ));
    }
    let raised: Vec<String> =
        readout.flags.iter().filter(|flag| flag.raised).map(|flag| flag.name.clone()).collect();
    if !raised.is_empty() {
        says.push(format!("Checks raised: {}.", words::list(&raised)));
    }
    if out_of_order(readout) {
        says.push(
            "A ready-made attack ran after others and met only what they had left, so the ready-made figure \
             may be too high and the gap too wide."
                .to_owned(),
        );
    }
    let unconfirmed: usize = readout.attacks.iter().map(|a| a.unconfirmed).sum();
    if unconfirmed > 0 {
        says.push(format!(
            "Claimed successes that an independent forward pass did not confirm, and that are not counted: \
             {unconfirmed}."
        ));
    }
    let non_finite = readout.examples.iter().filter(|e| e.non_finite).count();
    if non_finite > 0 {
        says.push(format!(
            "Counted as broken because the logits were not finite: {}.",
            words::images(non_finite)
        ));
    }
    if !readout.examples.is_empty() && readout.examples.len() != n {
        says.push(format!(
            "The record lists {} of {n}: it is incomplete.",
            words::images(readout.examples.len())
        ));
    }
    says
}

/// Whether a ready-made attack was kept from points because another attack had broken them.
fn out_of_order(readout: &ReadoutResult) -> bool {
    let first_other = readout.attacks.iter().position(|a| !a.ready_made && a.broken > 0);
    first_other.is_some_and(|first| readout.attacks[first..].iter().any(|a| a.ready_made))
}
