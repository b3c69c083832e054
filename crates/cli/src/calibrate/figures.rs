//! The figures: power against the gap, and `not-obfuscated` against the number of images.

use equipoise_report::{Figure, Kind, Series};

use super::record::{PowerSummary, Rate, SizeSummary, Summary};

/// All figures for which there are numbers, with the names of their files.
pub fn figures(summary: &Summary) -> Vec<(&'static str, Figure)> {
    let mut figures = Vec::new();
    if !summary.power.is_empty() {
        figures.push(("power", power(&summary.power)));
    }
    if !summary.healthy.is_empty() {
        figures.push(("not-obfuscated", not_obfuscated(&summary.healthy)));
    }
    if !summary.size.is_empty() {
        figures.push(("size", size(&summary.size)));
    }
    figures
}

fn series(name: String, points: impl Iterator<Item = (f64, Rate)>) -> Series {
    let percent = |share: f64| 100.0 * share;
    let (points, band) = points
        .map(|(x, rate)| ((x, percent(rate.rate)), (percent(rate.interval[0]), percent(rate.interval[1]))))
        .unzip();
    Series { name, points, band: Some(band) }
}

fn numbers(of: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut all: Vec<usize> = of.collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn power(rows: &[PowerSummary]) -> Figure {
    let curve = |n: usize| {
        let points = rows.iter().filter(move |row| row.n == n);
        let points = points.filter(|row| row.gap.is_some_and(|[low, _]| low < 0.12));
        series(format!("n = {n}"), points.map(|row| (100.0 * row.mean_gap, row.obfuscated)))
    };
    Figure {
        title: "Power against the gap".into(),
        caption: "How often the verdict on a planted fault is `obfuscated`. The gap is that of the evaluation whose images \
                  the n are part of. Bands are 95% Wilson intervals."
            .into(),
        x_label: "gap, points".into(),
        y_label: "verdicts that say obfuscated, %".into(),
        series: numbers(rows.iter().map(|row| row.n)).into_iter().map(curve).collect(),
        ..Figure::default()
    }
}

fn not_obfuscated(rows: &[SizeSummary]) -> Figure {
    let points =
        |of: fn(&SizeSummary) -> Rate| rows.iter().filter_map(move |row| Some((row.n? as f64, of(row))));
    Figure {
        title: "Healthy models".into(),
        caption: "How often the verdict on a healthy model is `not-obfuscated`, and how often `obfuscated`. Bands are 95% \
                  Wilson intervals."
            .into(),
        x_label: "images n".into(),
        y_label: "verdicts, %".into(),
        series: vec![
            series("not-obfuscated".into(), points(|row| row.not_obfuscated)),
            series("obfuscated".into(), points(|row| row.obfuscated)),
        ],
        ..Figure::default()
    }
}

fn size(rows: &[SizeSummary]) -> Figure {
    let kinds: Vec<(&str, &str)> =
        rows.iter().filter(|row| row.n.is_none()).map(|row| (row.kind.as_str(), row.yardstick_by)).collect();
    let curve = |(kind, yardstick): (&str, &str)| {
        let of = rows.iter().filter(move |row| row.kind == kind && row.yardstick_by == yardstick);
        series(format!("{kind}, {yardstick}"), of.filter_map(|row| Some((row.n? as f64, row.obfuscated))))
    };
    Figure {
        title: "Errors where nothing is obfuscated".into(),
        caption: "How often the verdict is `obfuscated` under each null; at most 5% is allowed. Bands are 95% Wilson intervals."
            .into(),
        x_label: "images n".into(),
        y_label: "verdicts that say obfuscated, %".into(),
        kind: Kind::Lines,
        series: kinds.into_iter().map(curve).collect(),
        ..Figure::default()
    }
}
