//! What the arms of an evaluation say about gradient obfuscation, as plain data.
//!
//! Words: the *opening* is the ready-made attacks, once each. The *white-box arm* is the runs through other gradients,
//! the *ready-made arm* their twins: the same attack from the same start through the training gradient. Both arms begin
//! with the points that stand after the opening, and each meets only what stands in itself. *Gradient-free* runs come
//! last and belong to no arm. The rules that make a finding of these counts stand in the crate `equipoise-verdict`.

use serde::{Deserialize, Serialize};

use crate::Interval;

/// The answer to "is the measured robustness real, or an artefact of gradient obfuscation?".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// There was nothing to compare: no ready-made attack, no other gradient, no twins, no image that is correct when
    /// clean, or a record of version 1.
    NoControl,
    /// Next to nothing withstands the ready-made attacks, so that there is no robustness to be in doubt of.
    NoRobustnessLeft,
    /// Gradient obfuscation: [`Evidence`](VerdictEvidence) says of which kind.
    Obfuscated,
    /// The difference between the arms, and what only gradient-free runs broke, are below the margin.
    NotObfuscated,
    /// The images do not decide it; [`Verdict::would_decide_at`] says how many would.
    Undecided,
}

/// What shows the obfuscation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictEvidence {
    /// Other gradients break points that as many runs through the training gradient do not.
    Gradient,
    /// The training gradient is right, but of another function than the one that answers: aimed at the readout, the
    /// ready-made attacks find as much as the others.
    Aim,
    /// Attacks without gradients break points that withstand all gradients.
    GradientFree,
}

/// The verdict on one model behind one readout, at one radius.
///
/// Differences are fractions of `n`. What there is no control for is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The conclusion.
    pub finding: Finding,
    /// What shows it, where the finding is `obfuscated`.
    pub evidence: Option<VerdictEvidence>,
    /// Points broken in the white-box arm only.
    pub b: Option<usize>,
    /// Points broken in the ready-made arm only.
    pub c: Option<usize>,
    /// All points of the evaluation.
    pub n: usize,
    /// Exact one-sided binomial test of b among b + c at 1/2 (McNemar 1947).
    pub p_value: Option<f64>,
    /// The same after Holm's correction over models, readouts and radii of the record.
    pub p_value_corrected: Option<f64>,
    /// (b − c)/n.
    pub difference: Option<f64>,
    /// Its 95% interval for paired proportions (Newcombe 1998, method 10).
    pub difference_interval: Option<Interval>,
    /// Whether the last quarter of the twins broke next to nothing, so that more restarts would not close a gap.
    /// Absent with fewer than four twins.
    pub flattened: Option<bool>,
    /// The smallest number of images at which the same shares would give another finding than `undecided`.
    pub would_decide_at: Option<usize>,
    /// Points that fell to gradient-free runs and to nothing else.
    pub gradient_free_only: usize,
    /// Gradient-free runs that were made.
    #[serde(default)]
    pub gradient_free_runs: usize,
    /// Points that fell to transferred images and to nothing else. They are no sign of masking.
    pub transfer_only: usize,
    /// How much of the gap is aim. Absent where the training gradient reads the readout already.
    pub aim: Option<Aim>,
    /// One gradient against one.
    pub yardstick: Option<Yardstick>,
    /// The numbers of images at which a finding was shown, this one last.
    pub looks: Vec<usize>,
    /// The level of the tests: 0.05, and 0.05/2ᵏ at the k-th look from the second on.
    #[serde(default = "usual_level")]
    pub level: f64,
    /// The margin below which the difference must lie for `not-obfuscated`, as a fraction.
    #[serde(default = "usual_margin")]
    pub margin: f64,
    /// The runs of the arms.
    pub arms: Arms,
}

fn usual_level() -> f64 {
    Verdict::LEVEL
}

fn usual_margin() -> f64 {
    Verdict::MARGIN
}

impl Verdict {
    /// The level of the tests at the first look.
    pub const LEVEL: f64 = 0.05;
    /// The usual margin: 3 points.
    pub const MARGIN: f64 = 0.03;

    /// The verdict where there is nothing to compare.
    pub fn no_control(n: usize) -> Self {
        Self {
            finding: Finding::NoControl,
            evidence: None,
            b: None,
            c: None,
            n,
            p_value: None,
            p_value_corrected: None,
            difference: None,
            difference_interval: None,
            flattened: None,
            would_decide_at: None,
            gradient_free_only: 0,
            gradient_free_runs: 0,
            transfer_only: 0,
            aim: None,
            yardstick: None,
            looks: Vec::new(),
            level: Self::LEVEL,
            margin: Self::MARGIN,
            arms: Arms::default(),
        }
    }
}

/// The aimed arm against the ready-made arm: the same attacks through the training method pointed at the readout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Aim {
    /// Points broken in the aimed arm only.
    pub b: usize,
    /// Points broken in the ready-made arm only.
    pub c: usize,
    /// (b − c)/n: what of the gap is aim.
    pub difference: f64,
    /// What is left of the gap: the white-box arm against the aimed arm.
    pub remainder: Paired,
}

/// Two arms on the same points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Points broken in the first only.
    pub b: usize,
    /// Points broken in the second only.
    pub c: usize,
    /// (b − c)/n.
    pub difference: f64,
    /// Its 95% interval (Newcombe 1998, method 10).
    pub difference_interval: Interval,
    /// Exact one-sided binomial test of b among b + c at 1/2.
    pub p_value: f64,
}

/// One gradient against one: the same starts on a side, on all points that are correct when clean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Yardstick {
    /// The attack, with its starts.
    pub attack: String,
    /// The gradient that is compared with the training gradient.
    pub gradient: String,
    /// The training gradient, aimed at the readout.
    pub training: String,
    /// Points broken through `gradient` only.
    pub b: usize,
    /// Points broken through the training gradient only.
    pub c: usize,
    /// The exact test, times the number of gradients that `gradient` was chosen from by what they broke.
    pub p_value: f64,
    /// How many that were; 1 where it was fixed beforehand.
    pub chosen_from: usize,
}

/// The runs of the arms, in order. Run j of each belongs to run j of the others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Arms {
    /// Twins, through the training gradient.
    pub ready_made: Vec<ArmRun>,
    /// Runs through other gradients.
    pub white_box: Vec<ArmRun>,
    /// Runs through the training method pointed at the readout.
    pub aimed: Vec<ArmRun>,
}

/// One run of an arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmRun {
    /// The attack.
    pub attack: String,
    /// The gradient estimator.
    pub estimator: String,
    /// The number that keys its random start, together with the seed and the example.
    pub start: usize,
    /// Points that it met: those standing in its arm.
    pub attempted: usize,
    /// Points that it broke.
    pub broken: usize,
    /// Points that it broke at a smaller radius, which count here without an attack.
    #[serde(default)]
    pub carried: usize,
    /// Points of the evaluation that stand in its arm after it.
    pub standing: usize,
    /// Cell evaluations, counted per example.
    pub cell_evaluations: u64,
    /// Vector-Jacobian products, counted per example.
    pub vjps: u64,
}
