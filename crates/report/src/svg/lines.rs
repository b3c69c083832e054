//! A chart of curves with optional bands: series differ in colour, dash and mark.

use super::canvas::{legend, line, mark, r, text, text_within};
use super::scale::Axis;
use super::{Drawing, Layout, Picture};
use crate::figure::{Figure, Kind, Series};
use crate::{table, words};
use maud::{Markup, html};

/// Colours in the style sheet; further series repeat them with another dash and mark.
const COLOURS: usize = 7;
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
    let key = |i: usize| {
        html! {
            @if figure.kind == Kind::Lines { (line(&format!("curve {}", style(i)), (0.0, -4.0), (24.0, -4.0))) }
            (mark(i, &format!("dot {}", style(i)), (12.0, -4.0), 3.5))
        }
    };
    let entries: Vec<(String, Markup)> =
        figure.series.iter().enumerate().map(|(i, s)| (s.name.clone(), key(i))).collect();
    let (legend, legend_height) = legend(&entries, 24.0, (2.0, 0.0), layout.width());

    let top = legend_height + 34.0;
    let bottom = top + HEIGHT;
    let points = || figure.series.iter().flat_map(|s| &s.points).filter(|p| drawn(figure, **p));
    let bands = || figure.series.iter().filter_map(|s| s.band.as_ref()).flatten();
    let x = Axis::new(figure.x_scale, points().map(|p| p.0), left + 6.0, right - 6.0);
    let y_values = points().map(|p| p.1).chain(bands().flat_map(|b| [b.0, b.1]));
    let y_values = y_values.chain(figure.from_zero.then_some(0.0));
    let y = Axis::new(figure.y_scale, y_values, bottom, top).over_whole_steps();
    let body = html! {
        (legend)
        (text_within("tick", (2.0, top - 16.0), &figure.y_label, layout.width()))
        (axes(&x, &y, (left, right), (top, bottom)))
        (text_within("tick end", (right, bottom + 38.0), &figure.x_label, right - left))
        @for (i, series) in figure.series.iter().enumerate() { (band(i, series, &x, &y)) }
        @for (i, series) in figure.series.iter().enumerate() { (curve(i, series, figure.kind, &x, &y)) }
    };
    Picture { height: bottom + 46.0, body }
}

fn axes(x: &Axis, y: &Axis, (left, right): (f64, f64), (top, bottom): (f64, f64)) -> Markup {
    html! {
        @for (value, says) in y.ticks() {
            @if let Some(at) = y.place(value) {
                (line("grid", (left, at), (right, at)))
                (text("tick end", (left - 8.0, at + 4.0), &says))
            }
        }
        (line("axis", (left, bottom), (right, bottom)))
        @for (value, says) in x.ticks() {
            @if let Some(at) = x.place(value) {
                (line("axis", (at, bottom), (at, bottom + 4.0)))
                (text("tick middle", (at, bottom + 18.0), &says))
            }
        }
        (line("axis", (left, top), (left, bottom)))
    }
}

/// Points in runs that can be joined: one that cannot be drawn ends a run.
fn runs(points: impl Iterator<Item = Option<Vec<f64>>>) -> Vec<Vec<Vec<f64>>> {
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

fn band(i: usize, series: &Series, x: &Axis, y: &Axis) -> Markup {
    let Some(band) = &series.band else { return html! {} };
    let place = |(&(at, _), &(low, high)): (&(f64, f64), &(f64, f64))| {
        Some(vec![x.place(at)?, y.place(low)?, y.place(high)?])
    };
    let runs = runs(series.points.iter().zip(band).map(place));
    let outline = |run: &Vec<Vec<f64>>| {
        let upper = run.iter().map(|p| (p[0], p[2]));
        let lower = run.iter().rev().map(|p| (p[0], p[1]));
        let corners: Vec<String> = upper.chain(lower).map(|(a, b)| format!("{},{}", r(a), r(b))).collect();
        corners.join(" ")
    };
    html! { @for run in &runs { polygon class=(format!("band {}", style(i))) points=(outline(run)) {} } }
}

fn curve(i: usize, series: &Series, kind: Kind, x: &Axis, y: &Axis) -> Markup {
    let runs = runs(series.points.iter().map(|&(a, b)| Some(vec![x.place(a)?, y.place(b)?])));
    let path = |run: &Vec<Vec<f64>>| {
        let corners: Vec<String> = run.iter().map(|p| format!("{},{}", r(p[0]), r(p[1]))).collect();
        corners.join(" ")
    };
    // Marks on a dense curve would merge into a thick line.
    let marked = kind == Kind::Points || series.points.len() <= 40;
    html! {
        @for run in &runs {
            @if kind == Kind::Lines { polyline class=(format!("curve {}", style(i))) points=(path(run)) {} }
            // A point alone between gaps has no line, so it is marked in any case.
            @if marked || run.len() == 1 {
                @for p in run { (mark(i, &format!("dot {}", style(i)), (p[0], p[1]), 3.5)) }
            }
        }
    }
}

/// Colour and dash of a series.
fn style(i: usize) -> String {
    format!("series-{} dash-{}", i % COLOURS, (i + i / COLOURS) % 4)
}
