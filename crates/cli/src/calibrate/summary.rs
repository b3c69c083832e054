//! From all verdicts and checks to rates, targets and what is not as it should be.

use equipoise_record::{Finding, VerdictEvidence};

use super::checks::PLANTED;
use super::faults::FAULTS;
use super::nulls::{NULLS, Null};
use super::record::{CheckRow, CheckSummary, PowerSummary, Rate, Row, SizeSummary, Target};

/// Largest rate of errors.
const SIZE: f64 = 0.05;
/// Largest upper end of its interval.
const SIZE_UPPER: f64 = 0.07;
/// Fewest verdicts for a rate to be judged.
const ENOUGH: usize = 400;
/// Discordant points without which the arms' test cannot reject.
const DISCORDANT: usize = 6;
/// Least power.
const POWER: f64 = 0.9;

/// Edges of the bins of gaps, in points.
const EDGES: [f64; 12] = [-0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 7.0, 9.0, 12.0, 20.0, 100.0];

/// Nulls: each with each way to a yardstick, all sizes together and one by one.
pub fn size(rows: &[Row]) -> Vec<SizeSummary> {
    let mut all = Vec::new();
    for null in NULLS {
        for yardstick in ["fixed", "chosen"] {
            let of: Vec<&Row> =
                rows.iter().filter(|row| row.kind == null.name() && row.yardstick_by == yardstick).collect();
            if of.is_empty() {
                continue;
            }
            all.push(one_size(&of, None, Some(&null)));
            all.extend(sizes(&of).into_iter().map(|n| one_size(&with(&of, n), Some(n), None)));
        }
    }
    all
}

/// Healthy models, by number of images.
pub fn healthy(rows: &[Row]) -> Vec<SizeSummary> {
    let of: Vec<&Row> = rows.iter().filter(|row| row.kind == "healthy").collect();
    sizes(&of).into_iter().map(|n| one_size(&with(&of, n), Some(n), None)).collect()
}

fn sizes(rows: &[&Row]) -> Vec<usize> {
    let mut sizes: Vec<usize> = rows.iter().map(|row| row.n).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn with<'a>(rows: &[&'a Row], n: usize) -> Vec<&'a Row> {
    rows.iter().copied().filter(|row| row.n == n).collect()
}

fn one_size(rows: &[&Row], n: Option<usize>, null: Option<&Null>) -> SizeSummary {
    let obfuscated = Rate::of(rows, Row::obfuscated);
    let large: Vec<&Row> = rows.iter().copied().filter(|row| row.n >= 200).collect();
    let could_fail = Rate::of(&large, |row| row.b + row.c >= DISCORDANT);
    let passes = null.map(|null| {
        obfuscated.rate <= SIZE
            && obfuscated.interval[1] < SIZE_UPPER
            && obfuscated.of >= ENOUGH
            && (!null.must_differ() || could_fail.rate >= 0.5)
    });
    SizeSummary {
        kind: rows.first().map_or_else(String::new, |row| row.kind.clone()),
        yardstick_by: rows.first().map_or("fixed", |row| row.yardstick_by),
        n,
        obfuscated,
        arms_alone: Rate::of(rows, |row| row.arms_alone),
        not_obfuscated: Rate::of(rows, |row| row.finding == Finding::NotObfuscated),
        discordant: rows.iter().map(|row| (row.b + row.c) as f64).sum::<f64>() / rows.len().max(1) as f64,
        could_fail: (null.is_some_and(Null::must_differ) && !large.is_empty()).then_some(could_fail),
        passes,
    }
}

/// Whether a verdict belongs to a planted fault.
fn is_fault(row: &Row) -> bool {
    FAULTS.iter().any(|(fault, _)| fault.name() == row.kind)
}

/// Planted faults together, by bin of gap and number of images.
pub fn power(rows: &[Row]) -> Vec<PowerSummary> {
    let of: Vec<&Row> =
        rows.iter().filter(|row| is_fault(row) && row.finding != Finding::NoRobustnessLeft).collect();
    let mut all = Vec::new();
    for n in sizes(&of) {
        for edges in EDGES.windows(2) {
            let bin = [edges[0] / 100.0, edges[1] / 100.0];
            let here: Vec<&Row> =
                with(&of, n).into_iter().filter(|row| bin[0] <= row.gap && row.gap < bin[1]).collect();
            if !here.is_empty() {
                all.push(one_power(&here, n, None, Some(bin)));
            }
        }
    }
    all
}

/// Planted faults one by one.
pub fn faults(rows: &[Row]) -> Vec<PowerSummary> {
    let mut all = Vec::new();
    for (fault, _) in FAULTS {
        let of: Vec<&Row> = rows.iter().filter(|row| row.kind == fault.name()).collect();
        let each = sizes(&of).into_iter().map(|n| one_power(&with(&of, n), n, Some(fault.name()), None));
        all.extend(each);
    }
    all
}

fn one_power(rows: &[&Row], n: usize, kind: Option<String>, gap: Option<[f64; 2]>) -> PowerSummary {
    let by = |evidence| rows.iter().filter(|row| row.evidence == Some(evidence)).count();
    PowerSummary {
        kind,
        gap,
        n,
        mean_gap: rows.iter().map(|row| row.gap).sum::<f64>() / rows.len() as f64,
        obfuscated: Rate::of(rows, Row::obfuscated),
        arms_alone: Rate::of(rows, |row| row.arms_alone),
        evidence: [
            by(VerdictEvidence::Gradient),
            by(VerdictEvidence::Aim),
            by(VerdictEvidence::GradientFree),
        ],
    }
}

/// What the power should be.
pub fn targets(rows: &[Row]) -> Vec<Target> {
    let mut all = Vec::new();
    for (n, gap, noise) in [(200, [0.07, 0.09], 0.01), (1000, [0.035, 0.045], 0.02)] {
        let of: Vec<&Row> = rows
            .iter()
            .filter(|row| is_fault(row) && row.n == n && gap[0] <= row.gap && row.gap < gap[1])
            .filter(|row| row.noise <= noise && row.finding != Finding::NoRobustnessLeft)
            .collect();
        let obfuscated = Rate::of(&of, Row::obfuscated);
        all.push(Target {
            what: format!(
                "a gap of {:.1} to {:.1} points, n = {n}, c ≤ {:.0} {}",
                100.0 * gap[0],
                100.0 * gap[1],
                100.0 * noise,
                if noise > 0.015 { "points" } else { "point" }
            ),
            obfuscated,
            passes: obfuscated.of > 0 && obfuscated.rate >= POWER,
        });
    }
    all
}

/// Each check on healthy models, then on its own faults.
pub fn checks(rows: &[CheckRow]) -> Vec<CheckSummary> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.check.as_str()) {
            names.push(&row.check);
        }
    }
    let mut all = Vec::new();
    for name in names {
        let own = PLANTED.iter().filter(|(_, checks)| checks.is_empty() || checks.contains(&name));
        for (planted, _) in own {
            let of: Vec<&CheckRow> =
                rows.iter().filter(|row| row.check == name && row.kind == planted.name()).collect();
            if of.is_empty() {
                continue;
            }
            let raised = Rate::of(&of, |row| row.raised);
            let healthy = planted.name() == "healthy";
            let passes = if healthy { raised.rate <= SIZE && raised.of >= 100 } else { raised.rate >= POWER };
            all.push(CheckSummary { check: name.into(), kind: planted.name().into(), raised, passes });
        }
    }
    all
}

/// What is not as it should be.
pub fn failures(size: &[SizeSummary], targets: &[Target], checks: &[CheckSummary]) -> Vec<String> {
    let percent = |rate: &Rate| format!("{:.1}% of {}", 100.0 * rate.rate, rate.of);
    let mut all = Vec::new();
    for summary in size.iter().filter(|summary| summary.passes == Some(false)) {
        let rate = &summary.obfuscated;
        let name = format!("{}, yardstick {}", summary.kind, summary.yardstick_by);
        if rate.of < ENOUGH {
            all.push(format!("{name}: {} verdicts are fewer than {ENOUGH}", rate.of));
        }
        if rate.rate > SIZE || rate.interval[1] >= SIZE_UPPER {
            all.push(format!(
                "{name}: `obfuscated` in {}, upper end {:.1}%",
                percent(rate),
                100.0 * rate.interval[1]
            ));
        }
        if let Some(could_fail) = summary.could_fail.filter(|rate| rate.rate < 0.5) {
            all.push(format!(
                "{name}: b + c ≥ {DISCORDANT} in {} only: it could hardly fail",
                percent(&could_fail)
            ));
        }
    }
    for target in targets.iter().filter(|target| !target.passes) {
        all.push(format!("{}: `obfuscated` in {}", target.what, percent(&target.obfuscated)));
    }
    for check in checks.iter().filter(|check| !check.passes) {
        all.push(format!("{}, {}: raised in {}", check.check, check.kind, percent(&check.raised)));
    }
    all
}
