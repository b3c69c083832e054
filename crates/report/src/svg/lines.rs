//! A chart of curves with optional bands: series differ in colour, dash and mark.

use super::canvas::{Anchor, Canvas, Entry, Face, Key, Point, Style};
use super::palette::Colour;
use super::scale::Axis;
use super::{Drawing, Layout, Picture};
use crate::figure::{Figure, Kind, Series};
use crate::{table, words};

const HEIGHT: f64 = 260.0;

pub(crate) fn lines(figure: &Figure) -> Drawing {
    let left_out = figure.series.iter().flat_map(|s| &s.points).filter(|p| !drawn(figure, **p)).count();
    let mut caption = figure.caption.clone();

    if left_out > 0 {
        caption
            .push_str(&format!(" {left_out} points that this scale cannot show are in the data below only."));
    }
    Drawing {
        title: figure.title.clone(),
        caption,
        description: describe(figure),
        table: table::points(figure),
        wide: draw(figure, Layout::Wide),
        narrow: draw(figure, Layout::Narrow),
    }
}

fn drawn(figure: &Figure, (x, y): (f64, f64)) -> bool {
    let shows = |scale, v: f64| v.is_finite() && (scale == crate::Scale::Linear || v > 0.0);
    shows(figure.x_scale, x) && shows(figure.y_scale, y)
}

fn describe(figure: &Figure) -> String {
    let mut says = format!("{} against {}.", figure.y_label, figure.x_label);
    for series in &figure.series {
        match (series.points.first(), series.points.last()) {
            (Some(first), Some(last)) => says.push_str(&format!(
                " {}: from {} at {} to {} at {}, {} points.",
                series.name,
                words::number(first.1),
                words::number(first.0),
                words::number(last.1),
                words::number(last.0),
                series.points.len()
            )),
            _ => says.push_str(&format!(" {}: no points.", series.name)),
        }
    }
    says
}

fn draw(figure: &Figure, layout: Layout) -> Picture {
    let (left, right) = (48.0, layout.width() - 12.0);
    let joined = figure.kind == Kind::Lines;
    let entry = |(i, s): (usize, &Series)| Entry { says: s.name.clone(), key: Key::Curve(i, joined) };
    let entries: Vec<Entry> = figure.series.iter().enumerate().map(entry).collect();
    let mut canvas = Canvas::default();
    let legend_height = canvas.legend(&entries, 24.0, (2.0, 0.0), layout.width());

    let top = legend_height + 34.0;
    let bottom = top + HEIGHT;
    let points = || figure.series.iter().flat_map(|s| &s.points).filter(|p| drawn(figure, **p));
    let bands = || figure.series.iter().filter_map(|s| s.band.as_ref()).flatten();
    let x = Axis::new(figure.x_scale, points().map(|p| p.0), left + 6.0, right - 6.0);
    let y_values = points().map(|p| p.1).chain(bands().flat_map(|b| [b.0, b.1]));
    let y_values = y_values.chain(figure.from_zero.then_some(0.0));
    let y = Axis::new(figure.y_scale, y_values, bottom, top).over_whole_steps();
    canvas.text_within(Face::TICK, (2.0, top - 16.0), &figure.y_label, layout.width());
    axes(&mut canvas, &x, &y, (left, right), (top, bottom));
    canvas.anchored_within(Face::TICK, Anchor::End, (right, bottom + 38.0), &figure.x_label, right - left);
    // The more bands lie over each other, the paler they are; their edges tell them apart.
    let opacity = if figure.series.iter().filter(|s| s.band.is_some()).count() > 2 { 0.08 } else { 0.14 };
    for (i, series) in figure.series.iter().enumerate() {
        band(&mut canvas, i, series, opacity, &x, &y);
    }
    for (i, series) in figure.series.iter().enumerate() {
        curve(&mut canvas, i, series, figure.kind, &x, &y);
    }
    Picture { height: bottom + 46.0, canvas }
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

fn band(canvas: &mut Canvas, i: usize, series: &Series, opacity: f64, x: &Axis, y: &Axis) {
    let Some(band) = &series.band else { return };
    let place = |(&(at, _), &(low, high)): (&(f64, f64), &(f64, f64))| {
        let at = x.place(at)?;
        Some([(at, y.place(low)?), (at, y.place(high)?)])
    };
    for run in runs(series.points.iter().zip(band).map(place)) {
        let lower: Vec<Point> = run.iter().map(|ends| ends[0]).collect();
        let upper: Vec<Point> = run.iter().map(|ends| ends[1]).collect();
        let outline = upper.iter().chain(lower.iter().rev()).copied().collect();
        canvas.polygon(Style::pale(Colour::Series(i), opacity), outline);
        canvas.polyline(Style::edge(i), lower);
        canvas.polyline(Style::edge(i), upper);
    }
}

fn curve(canvas: &mut Canvas, i: usize, series: &Series, kind: Kind, x: &Axis, y: &Axis) {
    // Marks on a dense curve would merge into a thick line.
    let marked = kind == Kind::Points || series.points.len() <= 40;
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
