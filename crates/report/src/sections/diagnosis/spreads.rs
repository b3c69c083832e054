//! How the numbers of a diagnosis look: a spread or a share as a curve, as a cell of a table, as fields of a CSV file.

use crate::figure::{Mark, Series};
use crate::numbers;
use crate::table::{Cell, Column, Table};
use equipoise_record::{ModelDiagnosis, Share, Spread};
use std::fmt::Display;

/// How curves of spreads are read.
pub(super) const BANDS: &str = "Lines are medians over images, bands the 10th to 90th percentile.";
/// How curves of shares are read.
pub(super) const INTERVALS: &str = "Bands are 95% Wilson intervals.";

/// A curve of medians with its band. A median that is absent is not drawn.
pub(super) fn curve<'a>(name: String, points: impl Iterator<Item = (f64, &'a Spread)>) -> Series {
    let or_nan = |number: Option<f64>| number.unwrap_or(f64::NAN);
    let (points, band) =
        points.map(|(x, s)| ((x, or_nan(s.median)), (or_nan(s.low), or_nan(s.high)))).unzip();
    Series { name, points, band: Some(band) }
}

/// A curve of shares in percent, with Wilson intervals.
pub(super) fn shares<'a>(name: String, points: impl Iterator<Item = (f64, &'a Share)>) -> Series {
    let percent = |x: f64| 100.0 * x;
    let (points, band) = points
        .map(|(x, share)| {
            let [low, high] = share.accuracy.interval;
            ((x, percent(share.accuracy.value)), (percent(low), percent(high)))
        })
        .unzip();
    Series { name, points, band: Some(band) }
}

/// The deployed setting of each model, a mark for each value; models are named where they differ in it.
pub(super) fn deployed<'a>(
    settings: impl Iterator<Item = (&'a ModelDiagnosis, f64)>,
    says: &str,
) -> Vec<Mark> {
    let mut values: Vec<(f64, Vec<String>)> = Vec::new();
    for (model, value) in settings {
        match values.iter_mut().find(|(known, _)| *known == value) {
            Some((_, models)) => models.push(model.model.clone()),
            None => values.push((value, vec![model.model.clone()])),
        }
    }
    let alone = values.len() == 1;
    let mark = |(at, models): (f64, Vec<String>)| {
        let whose = if alone { String::new() } else { format!(", {}", numbers::list(&models)) };
        Mark { at, says: format!("{says} = {}{whose}", numbers::number(at)) }
    };
    values.into_iter().map(mark).collect()
}

/// Steps of the deployed solvers.
pub(super) fn deployed_steps<T>(found: &[(&ModelDiagnosis, &T)]) -> Vec<Mark> {
    let steps = found.iter().filter_map(|(model, _)| Some((*model, model.solver_steps? as f64)));
    deployed(steps, "deployed T")
}

/// A median in a sentence: three digits are enough there, the tables have more.
pub(super) fn median(spread: &Spread) -> String {
    spread.median.map_or("unknown".to_owned(), three)
}

/// A number with three digits.
pub(super) fn three(number: f64) -> String {
    numbers::number(format!("{number:.2e}").parse().unwrap_or(number))
}

/// A median in a table, with the 10th and 90th percentile.
pub(super) fn spread(spread: &Spread) -> Cell {
    let number = |x: Option<f64>| x.map_or("–".to_owned(), numbers::number);
    match spread.median {
        None => "–".into(),
        Some(median) => Cell::noted(
            numbers::number(median),
            vec![format!("[{}, {}]", number(spread.low), number(spread.high))],
        ),
    }
}

/// A share in a table.
pub(super) fn share(share: &Share) -> Cell {
    Cell::accuracy(share.accuracy)
}

/// A table, unless it has no rows.
pub(super) fn table(caption: String, columns: Vec<Column>, rows: Vec<Vec<Cell>>) -> Vec<Table> {
    if rows.is_empty() { Vec::new() } else { vec![Table { caption, columns, rows }] }
}

/// The CSV file of a section, in long form: a row for each number. Shares are fractions; a field without a value is empty.
pub(crate) struct Sheet {
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

/// Columns that [`spread_fields`] fills.
pub(super) const SPREAD: [&str; 5] = ["p10", "median", "p90", "finite", "non_finite"];
/// Columns that [`share_fields`] fills.
pub(super) const SHARE: [&str; 5] = ["correct", "count", "share", "share_low", "share_high"];

impl Sheet {
    pub(super) fn new(head: &[&[&'static str]]) -> Self {
        Self { head: head.concat(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, parts: &[Vec<String>]) {
        self.rows.push(parts.concat());
    }
}

pub(super) fn spread_fields(s: &Spread) -> Vec<String> {
    let number = |x: Option<f64>| x.map_or(String::new(), |x| x.to_string());
    vec![number(s.low), number(s.median), number(s.high), s.finite.to_string(), s.non_finite.to_string()]
}

pub(super) fn share_fields(s: &Share) -> Vec<String> {
    let [low, high] = s.accuracy.interval;
    vec![
        s.correct.to_string(),
        s.count.to_string(),
        s.accuracy.value.to_string(),
        low.to_string(),
        high.to_string(),
    ]
}

pub(super) fn fields(parts: &[&dyn Display]) -> Vec<String> {
    parts.iter().map(ToString::to_string).collect()
}

pub(super) fn empty(count: usize) -> Vec<String> {
    vec![String::new(); count]
}
