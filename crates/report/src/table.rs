//! Tables as plain text, made once and laid out by each format, so that formats cannot disagree.

use crate::figure::{Figure, Series};
use crate::numbers;
use equipoise_record::Accuracy;

/// A table without any markup: exporters escape and lay out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub caption: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Takes a column away and gives back its cells.
    pub(crate) fn remove(&mut self, title: &str) -> Vec<Cell> {
        let Some(at) = self.columns.iter().position(|c| c.title == title) else { return Vec::new() };
        self.columns.remove(at);
        self.rows.iter_mut().filter(|row| at < row.len()).map(|row| row.remove(at)).collect()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub title: String,
    pub numeric: bool,
}

/// What a cell says, and what it adds in smaller print.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    pub main: String,
    pub notes: Vec<String>,
}

impl<S: Into<String>> From<S> for Cell {
    fn from(main: S) -> Self {
        Cell { main: main.into(), notes: Vec::new() }
    }
}

impl Cell {
    pub(crate) fn noted(main: impl Into<String>, notes: Vec<String>) -> Self {
        Cell { main: main.into(), notes }
    }

    /// Percentage, interval and count.
    pub(crate) fn accuracy(a: Accuracy) -> Self {
        if a.count() == 0 {
            return "no images".into();
        }
        let share = format!("{}/{}", a.correct(), a.count());
        Cell::noted(numbers::percent(a.value), vec![numbers::interval(a.interval), share])
    }
}

/// Text columns, then columns of numbers, by title.
pub(crate) fn columns(text: &[&str], numeric: &[&str]) -> Vec<Column> {
    let column = |numeric| move |title: &&str| Column { title: (*title).to_owned(), numeric };
    text.iter().map(column(false)).chain(numeric.iter().map(column(true))).collect()
}

/// The points of a figure, one row for each point of each series and each trend.
pub(crate) fn points(figure: &Figure) -> Table {
    let name = |label: &str, otherwise: &str| if label.is_empty() { otherwise } else { label }.to_owned();
    let (x, y) = (name(&figure.x_label, "x"), name(&figure.y_label, "y"));
    let all = || figure.series.iter().chain(&figure.trends);
    let banded = all().any(|s| s.band.is_some());
    let numeric: &[&str] = if banded { &[&x, &y, "low", "high"] } else { &[&x, &y] };
    let rows = all().flat_map(|s| series_rows(s, banded)).collect();
    Table { caption: figure.title.clone(), columns: columns(&["Series"], numeric), rows }
}

/// The points of several figures over one horizontal axis, one row for each point of each series.
pub(crate) fn stacked(title: &str, figures: &[Figure]) -> Table {
    let x = figures.first().map_or("x", |figure| &figure.x_label);
    let row = |figure: &Figure, mut row: Vec<Cell>| {
        row.insert(0, figure.y_label.clone().into());
        row
    };
    let rows = figures.iter().flat_map(|figure| {
        let points = figure.series.iter().flat_map(|series| series_rows(series, true));
        points.map(move |points| row(figure, points))
    });
    let columns = columns(&["Chart", "Series"], &[x, "value", "low", "high"]);
    Table { caption: title.to_owned(), columns, rows: rows.collect() }
}

fn series_rows(series: &Series, banded: bool) -> impl Iterator<Item = Vec<Cell>> {
    series.points.iter().enumerate().map(move |(i, &(x, y))| {
        let mut row: Vec<Cell> =
            vec![series.name.clone().into(), numbers::number(x).into(), numbers::number(y).into()];
        if banded {
            match series.band.as_ref().and_then(|band| band.get(i)) {
                Some(&(low, high)) => row.extend([numbers::number(low).into(), numbers::number(high).into()]),
                None => row.extend(["–".into(), "–".into()]),
            }
        }
        row
    })
}
