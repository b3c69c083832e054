//! A chart of curves with optional bands: series differ in colour, dash and mark.
//!
//! One or two bands of curves are areas. More would mix to one grey, so they are bars at the points, side by side. Points
//! that are not joined have bars in any case, and lie upon the lines that were fitted to them. Charts over one horizontal
//! axis can stand below each other in one drawing.

use super::canvas::{Anchor, Canvas, Entry, Face, Key, Point, Style, width};
use super::palette::Colour;
use super::scale::Axis;
use super::{Drawing, Layout, Picture};
use crate::figure::{Figure, Kind, Mark, Series};
use crate::{numbers, table};

const HEIGHT: f64 = 260.0;
/// Of each of several charts that stand below each other.
const LOW: f64 = 150.0;
/// More bands than these are bars.
const AREAS: usize = 2;
/// From one bar to the next.
const BAR: f64 = 3.0;
/// From one mark of a curve to the next, at least.
const APART: f64 = 6.0;
/// A line of labels of marks.
const LABELS: f64 = 13.0;

/// One chart.
pub(crate) fn lines(figure: &Figure) -> Drawing {
    drawing(&figure.title, &figure.caption, std::slice::from_ref(figure), table::points(figure))
}

/// Charts over one horizontal axis, one below the other: their captions are those of the whole.
pub(crate) fn stacked(title: &str, caption: &str, figures: &[Figure]) -> Drawing {
    drawing(title, caption, figures, table::stacked(title, figures))
}

fn drawing(title: &str, caption: &str, figures: &[Figure], table: table::Table) -> Drawing {
    let left_out = |figure: &Figure| {
        figure.series.iter().flat_map(|s| &s.points).filter(|p| !drawn(figure, **p)).count()
    };
    let mut caption = caption.to_owned();
    if figures.iter().any(|figure| figure.kind == Kind::Lines && bands(figure) > AREAS) {
        caption.push_str(" Bands of more than two curves are drawn as bars.");
    }
    let left_out: usize = figures.iter().map(left_out).sum();
    if left_out > 0 {
        caption
            .push_str(&format!(" {left_out} points that this scale cannot show are in the data below only."));
    }
    Drawing {
        title: title.to_owned(),
        caption,
        description: figures.iter().map(describe).collect::<Vec<_>>().join(" "),
        table,
        wide: picture(figures, Layout::Wide),
        narrow: picture(figures, Layout::Narrow),
    }
}

fn drawn(figure: &Figure, (x, y): (f64, f64)) -> bool {
    let shows = |scale, v: f64| v.is_finite() && (scale == crate::Scale::Linear || v > 0.0);
    shows(figure.x_scale, x) && shows(figure.y_scale, y)
}

/// How many series have a band.
fn bands(figure: &Figure) -> usize {
    figure.series.iter().filter(|s| s.band.is_some()).count()
}

fn describe(figure: &Figure) -> String {
    let mut says = format!("{} against {}.", figure.y_label, figure.x_label);
    for series in figure.series.iter().chain(&figure.trends) {
        match (series.points.first(), series.points.last()) {
            (Some(first), Some(last)) => says.push_str(&format!(
                " {}: from {} at {} to {} at {}, {} points.",
                series.name,
                numbers::number(first.1),
                numbers::number(first.0),
                numbers::number(last.1),
                numbers::number(last.0),
                series.points.len()
            )),
            _ => says.push_str(&format!(" {}: no points.", series.name)),
        }
    }
    for mark in &figure.marks {
        says.push_str(&format!(" Marked at {}: {}.", numbers::number(mark.at), mark.says));
    }
    says
}

fn picture(figures: &[Figure], layout: Layout) -> Picture {
    let mut canvas = Canvas::default();
    let along = || figures.iter().flat_map(x_values);
    let height = if figures.len() == 1 { HEIGHT } else { LOW };
    let below = |top, figure| draw(&mut canvas, figure, layout, (top, height), &along().collect::<Vec<_>>());
    let height = figures.iter().fold(0.0, below);
    Picture { height, canvas }
}

/// What the horizontal axis has to hold.
fn x_values(figure: &Figure) -> impl Iterator<Item = f64> {
    let all = figure.series.iter().chain(&figure.trends).flat_map(|series| &series.points);
    let shown = all.filter(|point| drawn(figure, **point)).map(|point| point.0);
    shown.chain(figure.marks.iter().map(|mark| mark.at))
}

/// Draws a chart of so much height from `start` down, and says where it ends.
fn draw(
    canvas: &mut Canvas,
    figure: &Figure,
    layout: Layout,
    (start, height): (f64, f64),
    along: &[f64],
) -> f64 {
    let (left, right) = (48.0, layout.width() - 12.0);
    let joined = figure.kind == Kind::Lines;
    let entry = |(i, s): (usize, &Series)| Entry { says: s.name.clone(), key: Key::Curve(i, joined) };
    let mut entries: Vec<Entry> = figure.series.iter().enumerate().map(entry).collect();
    // Trends have the numbers after the series.
    let trends = || (figure.series.len()..).zip(&figure.trends);
    entries.extend(trends().map(|(i, s)| Entry { says: s.name.clone(), key: Key::Trend(i) }));
    let start = start + canvas.legend(&entries, 24.0, (2.0, start), layout.width());

    let all = || figure.series.iter().chain(&figure.trends);
    let points = || all().flat_map(|s| &s.points).filter(|p| drawn(figure, **p));
    let bands = || all().filter_map(|s| s.band.as_ref()).flatten();
    let x = Axis::new(figure.x_scale, along.iter().copied(), left + 6.0, right - 6.0);
    let labels = labels(&figure.marks, &x, (left, right));
    let rows = labels.iter().map(|label| label.row + 1).max().unwrap_or(0);

    let top = start + 34.0 + LABELS * rows as f64;
    let bottom = top + height;
    let y_values = points().map(|p| p.1).chain(bands().flat_map(|b| [b.0, b.1]));
    let y_values = y_values.chain(figure.from_zero.then_some(0.0));
    let y = Axis::new(figure.y_scale, y_values, bottom, top).over_whole_steps();
    canvas.text_within(Face::TICK, (2.0, start + 18.0), &figure.y_label, layout.width());
    axes(canvas, &x, &y, (left, right), (top, bottom));
    canvas.anchored_within(Face::TICK, Anchor::End, (right, bottom + 38.0), &figure.x_label, right - left);
    for label in &labels {
        let above = top - 5.0 - LABELS * label.row as f64;
        canvas.line(Style::mark(), (label.at, above + 2.0), (label.at, bottom));
        canvas.anchored(Face::TICK, label.anchor, (label.at, above), label.says);
    }
    for (i, trend) in trends() {
        area(canvas, i, trend, &x, &y);
        for run in runs(trend.points.iter().map(|&(a, b)| Some((x.place(a)?, y.place(b)?)))) {
            canvas.polyline(Style::curve(i), run);
        }
    }
    let banded: Vec<(usize, &Series)> =
        figure.series.iter().enumerate().filter(|(_, series)| series.band.is_some()).collect();
    for (place, (i, series)) in banded.iter().enumerate() {
        if figure.kind == Kind::Points {
            bars(canvas, *i, series, 0.0, 0.0, &x, &y);
        } else if banded.len() <= AREAS {
            area(canvas, *i, series, &x, &y);
        } else {
            let aside = BAR * (place as f64 - (banded.len() - 1) as f64 / 2.0);
            bars(canvas, *i, series, aside, BAR * (banded.len() + 1) as f64, &x, &y);
        }
    }
    for (i, series) in figure.series.iter().enumerate() {
        curve(canvas, i, series, figure.kind, &x, &y);
    }
    bottom + 46.0
}

/// The label of a mark, above the chart; those that would overlap stand in rows of their own.
struct Label<'a> {
    says: &'a str,
    at: f64,
    anchor: Anchor,
    row: usize,
}

fn labels<'a>(marks: &'a [Mark], x: &Axis, (left, right): (f64, f64)) -> Vec<Label<'a>> {
    let mut labels: Vec<Label> = Vec::new();
    let mut taken: Vec<(usize, f64, f64)> = Vec::new();
    for mark in marks {
        let Some(at) = x.place(mark.at) else { continue };
        let half = width(&mark.says) / 2.0;
        let (anchor, from, to) = match at {
            _ if at + half > right => (Anchor::End, at - 2.0 * half, at),
            _ if at - half < left => (Anchor::Start, at, at + 2.0 * half),
            _ => (Anchor::Middle, at - half, at + half),
        };
        let free = |row: &usize| !taken.iter().any(|(r, a, b)| r == row && from < *b + 6.0 && *a < to + 6.0);
        let row = (0..=taken.len()).find(free).unwrap_or(0);
        taken.push((row, from, to));
        labels.push(Label { says: &mark.says, at, anchor, row });
    }
    labels
}

fn axes(canvas: &mut Canvas, x: &Axis, y: &Axis, (left, right): (f64, f64), (top, bottom): (f64, f64)) {
    let axis = Style::stroke(Colour::Soft, 1.0);
    for (value, says) in y.ticks() {
        if let Some(at) = y.place(value) {
            canvas.line(Style::stroke(Colour::Grid, 1.0), (left, at), (right, at));
            canvas.anchored(Face::TICK, Anchor::End, (left - 8.0, at + 4.0), &says);
        }
    }
    canvas.line(axis, (left, bottom), (right, bottom));
    for (value, says) in x.ticks() {
        if let Some(at) = x.place(value) {
            canvas.line(axis, (at, bottom), (at, bottom + 4.0));
            canvas.anchored(Face::TICK, Anchor::Middle, (at, bottom + 18.0), &says);
        }
    }
    canvas.line(axis, (left, top), (left, bottom));
}

/// Points in runs that can be joined: one that cannot be drawn ends a run.
fn runs<T>(points: impl Iterator<Item = Option<T>>) -> Vec<Vec<T>> {
    let mut runs = vec![Vec::new()];
    for point in points {
        match (point, runs.last_mut()) {
            (Some(point), Some(run)) => run.push(point),
            _ => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

/// Where the two ends of a band stand at each point; nothing where it cannot be drawn.
fn ends<'a>(series: &'a Series, x: &'a Axis, y: &'a Axis) -> impl Iterator<Item = Option<[Point; 2]>> + 'a {
    let band = series.band.iter().flatten();
    series.points.iter().zip(band).map(|(&(at, _), &(low, high))| {
        let at = x.place(at)?;
        Some([(at, y.place(low)?), (at, y.place(high)?)])
    })
}

fn area(canvas: &mut Canvas, i: usize, series: &Series, x: &Axis, y: &Axis) {
    for run in runs(ends(series, x, y)) {
        let lower: Vec<Point> = run.iter().map(|ends| ends[0]).collect();
        let upper: Vec<Point> = run.iter().map(|ends| ends[1]).collect();
        let outline = upper.iter().chain(lower.iter().rev()).copied().collect();
        canvas.polygon(Style::pale(Colour::Series(i), 0.14), outline);
        canvas.polyline(Style::edge(i), lower);
        canvas.polyline(Style::edge(i), upper);
    }
}

/// A bar for each point, so far beside it; where points stand closer than `room`, for some of them.
fn bars(canvas: &mut Canvas, i: usize, series: &Series, aside: f64, room: f64, x: &Axis, y: &Axis) {
    let mut last = f64::NEG_INFINITY;
    for [low, high] in ends(series, x, y).flatten() {
        if (low.0 - last).abs() >= room {
            last = low.0;
            canvas.line(Style::bar(i), (low.0 + aside, low.1), (high.0 + aside, high.1));
        }
    }
}

fn curve(canvas: &mut Canvas, i: usize, series: &Series, kind: Kind, x: &Axis, y: &Axis) {
    // Marks on a dense curve would merge into a thick line.
    let along: Vec<f64> = series.points.iter().filter_map(|point| x.place(point.0)).collect();
    let length = along.last().zip(along.first()).map_or(0.0, |(last, first)| (last - first).abs());
    let apart = length >= APART * (along.len() as f64 - 1.0);
    let marked = kind == Kind::Points || (series.points.len() <= 40 && apart);
    for run in runs(series.points.iter().map(|&(a, b)| Some((x.place(a)?, y.place(b)?)))) {
        // A point alone between gaps has no line, so it is marked in any case.
        let dots = if marked || run.len() == 1 { run.clone() } else { Vec::new() };
        if kind == Kind::Lines {
            canvas.polyline(Style::curve(i), run);
        }
        for at in dots {
            canvas.mark(i, Style::dot(i), at, 3.5);
        }
    }
}
