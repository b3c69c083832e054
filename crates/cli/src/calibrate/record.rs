//! What a calibration leaves behind: every verdict, every check, and the rates made of them.

use equipoise_record::{Finding, Interval, Verdict, VerdictEvidence, wilson_interval};
use equipoise_verdict::LEAST_DIFFERENCE;
use serde::Serialize;

/// One verdict.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The null or the fault.
    pub kind: String,
    /// How the yardstick's gradient was found: `fixed` beforehand, or `chosen` as the one that broke most.
    pub yardstick_by: &'static str,
    /// Seed of the model.
    pub model: u64,
    /// Seed of the evaluation.
    pub seed: u64,
    /// Radius.
    pub eps: f64,
    /// Images.
    pub n: usize,
    /// Broken in the white-box arm only.
    pub b: usize,
    /// Broken in the ready-made arm only.
    pub c: usize,
    /// The arms' test, uncorrected: there is one test in each record.
    pub p: f64,
    /// b, c and p of the yardstick.
    pub yardstick: Option<(usize, usize, f64)>,
    /// Points that fell to the gradient-free run alone.
    pub gradient_free_only: usize,
    /// What the arms' test alone would have said: p below the level, and a difference of at least a point.
    pub arms_alone: bool,
    /// The finding.
    pub finding: Finding,
    /// What shows it.
    pub evidence: Option<VerdictEvidence>,
    /// Share that is left after the ready-made attacks.
    pub standing: f64,
    /// The gap over all images of the evaluation that this is a subset of: (b − c)/n and what only the gradient-free run
    /// found.
    pub gap: f64,
    /// Its c/n.
    pub noise: f64,
}

impl Row {
    /// Of a verdict.
    pub fn new(
        kind: String,
        yardstick_by: &str,
        (model, seed, eps): (u64, u64, f64),
        verdict: Verdict,
    ) -> Self {
        let (b, c, p) = (verdict.b.unwrap_or(0), verdict.c.unwrap_or(0), verdict.p_value.unwrap_or(1.0));
        let low = verdict.difference_interval.map_or(-1.0, |[low, _]| low);
        Self {
            kind,
            yardstick_by: if yardstick_by == "chosen" { "chosen" } else { "fixed" },
            model,
            seed,
            eps,
            n: verdict.n,
            b,
            c,
            p,
            yardstick: verdict.yardstick.as_ref().map(|y| (y.b, y.c, y.p_value)),
            gradient_free_only: verdict.gradient_free_only,
            arms_alone: p < verdict.level && low >= LEAST_DIFFERENCE,
            finding: verdict.finding,
            evidence: verdict.evidence,
            standing: verdict
                .arms
                .ready_made
                .last()
                .map_or(0.0, |run| run.standing as f64 / verdict.n as f64),
            gap: gap(&verdict),
            noise: c as f64 / verdict.n as f64,
        }
    }

    /// With the gap of the whole evaluation.
    pub fn of_whole(self, whole: &Verdict) -> Self {
        let noise = whole.c.unwrap_or(0) as f64 / whole.n as f64;
        Self { gap: gap(whole), noise, ..self }
    }

    /// Whether the finding is obfuscation.
    pub fn obfuscated(&self) -> bool {
        self.finding == Finding::Obfuscated
    }
}

fn gap(verdict: &Verdict) -> f64 {
    verdict.difference.unwrap_or(0.0) + verdict.gradient_free_only as f64 / verdict.n.max(1) as f64
}

/// One check on one group of images.
#[derive(Debug, Clone, Serialize)]
pub struct CheckRow {
    /// The check.
    pub check: String,
    /// `healthy`, or the planted fault.
    pub kind: String,
    /// Seed of the model.
    pub model: u64,
    /// Radius.
    pub eps: f64,
    /// The group of images.
    pub group: usize,
    /// Whether it was raised.
    pub raised: bool,
    /// What it was raised by, or not.
    pub numbers: Vec<Option<f64>>,
}

/// A share with its 95% Wilson interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// So many ..
    pub count: usize,
    /// .. of so many.
    pub of: usize,
    /// The share.
    pub rate: f64,
    /// Its interval.
    pub interval: Interval,
}

impl Rate {
    /// Of those for which something holds.
    pub fn of<T>(rows: &[&T], holds: impl Fn(&T) -> bool) -> Self {
        let (count, of) = (rows.iter().filter(|row| holds(row)).count(), rows.len());
        let rate = if of == 0 { 0.0 } else { count as f64 / of as f64 };
        Self { count, of, rate, interval: wilson_interval(count, of) }
    }
}

/// One null, or one null at one n.
#[derive(Debug, Clone, Serialize)]
pub struct SizeSummary {
    /// The null.
    pub kind: String,
    /// How the yardstick's gradient was found.
    pub yardstick_by: &'static str,
    /// Images; null for all together.
    pub n: Option<usize>,
    /// Findings of obfuscation: errors.
    pub obfuscated: Rate,
    /// What the arms' test alone would have said.
    pub arms_alone: Rate,
    /// Findings of no obfuscation.
    pub not_obfuscated: Rate,
    /// Mean of b + c.
    pub discordant: f64,
    /// Verdicts with b + c of at least 6, among those of 200 images and more; null where nothing need differ.
    pub could_fail: Option<Rate>,
    /// Whether it is as it should be: rate at most 5%, upper end below 7%, and enough discordant points.
    pub passes: Option<bool>,
}

/// Power in a bin of gaps at one n.
#[derive(Debug, Clone, Serialize)]
pub struct PowerSummary {
    /// The fault; null for all together.
    pub kind: Option<String>,
    /// The bin, as fractions; null for all together.
    pub gap: Option<[f64; 2]>,
    /// Images.
    pub n: usize,
    /// Mean gap.
    pub mean_gap: f64,
    /// Findings of obfuscation.
    pub obfuscated: Rate,
    /// What the arms' test alone would have said.
    pub arms_alone: Rate,
    /// By evidence: gradient, aim, gradient-free.
    pub evidence: [usize; 3],
}

/// A target of the power.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// In words.
    pub what: String,
    /// Reached or not.
    pub obfuscated: Rate,
    /// Whether the rate is at least 90%.
    pub passes: bool,
}

/// A check: its rate on healthy models and on its fault.
#[derive(Debug, Clone, Serialize)]
pub struct CheckSummary {
    /// The check.
    pub check: String,
    /// `healthy`, or the planted fault.
    pub kind: String,
    /// How often it is raised.
    pub raised: Rate,
    /// At most 5% on healthy models, at least 90% on its fault.
    pub passes: bool,
}

/// The rates.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Version of this format.
    pub version: u32,
    /// When it was made.
    pub date: String,
    /// What repeats it.
    pub command: String,
    /// The processor, and threads that worked.
    pub machine: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Seeds of the models.
    pub models: u64,
    /// What the victims are like: clean and robust accuracy, residuals.
    pub victims: Vec<VictimSummary>,
    /// Nulls.
    pub size: Vec<SizeSummary>,
    /// Healthy models: how often `not-obfuscated` is reached.
    pub healthy: Vec<SizeSummary>,
    /// Planted faults, by bin of gap.
    pub power: Vec<PowerSummary>,
    /// Planted faults, one by one.
    pub faults: Vec<PowerSummary>,
    /// What the power should be.
    pub targets: Vec<Target>,
    /// Checks.
    pub checks: Vec<CheckSummary>,
    /// What is not as it should be, in words.
    pub failures: Vec<String>,
}

/// What the victims of a kind are like.
#[derive(Debug, Clone, Serialize)]
pub struct VictimSummary {
    /// The kind.
    pub kind: String,
    /// Models.
    pub models: u64,
    /// Mean accuracy on the pool.
    pub clean_accuracy: f64,
    /// Median over images, mean over models, of the best relative residual.
    pub residual: f64,
    /// Largest over models of the 99th percentile.
    pub residual_99: f64,
    /// Smallest, over images and other estimators, cosine with the true gradient, mean over models; where the solve has
    /// converged.
    pub cosine: Option<f64>,
}

/// Everything.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// The rates.
    pub summary: Summary,
    /// All verdicts.
    pub verdicts: Vec<Row>,
    /// All checks.
    pub checks: Vec<CheckRow>,
}
