//! The few marks that charts are made of. Colours are classes, so that the style sheet decides them.

use maud::{Markup, html};

/// Coordinates to a tenth of a unit: finer is invisible and makes the file larger.
pub(crate) fn r(x: f64) -> f64 {
    let rounded = (x * 10.0).round() / 10.0;
    if rounded == 0.0 { 0.0 } else { rounded }
}

pub(crate) fn line(class: &str, from: (f64, f64), to: (f64, f64)) -> Markup {
    html! { line class=(class) x1=(r(from.0)) y1=(r(from.1)) x2=(r(to.0)) y2=(r(to.1)) {} }
}

/// A rectangle from one corner; a width below zero is none.
pub(crate) fn rect(class: &str, (x, y): (f64, f64), width: f64, height: f64) -> Markup {
    html! { rect class=(class) x=(r(x)) y=(r(y)) width=(r(width.max(0.0))) height=(r(height.max(0.0))) {} }
}

/// Text at its baseline; `class` may hold `end` or `middle` to anchor it there.
pub(crate) fn text(class: &str, (x, y): (f64, f64), says: &str) -> Markup {
    html! { text class=(class) x=(r(x)) y=(r(y)) { (says) } }
}

/// Text shortened to `width`; in full it appears when pointed at.
pub(crate) fn text_within(class: &str, (x, y): (f64, f64), says: &str, width: f64) -> Markup {
    // Ticks are set in smaller type.
    let character = if class.starts_with("tick") { 0.92 * CHARACTER } else { CHARACTER };
    let room = (width / character).floor() as usize;
    if says.chars().count() <= room {
        return text(class, (x, y), says);
    }
    let short: String = says.chars().take(room.saturating_sub(1)).collect();
    html! { text class=(class) x=(r(x)) y=(r(y)) { title { (says) } (short) "…" } }
}

/// The width of a character of chart text, on the generous side: there is no font to measure with.
const CHARACTER: f64 = 6.4;

/// About how wide a text of a chart is.
pub(crate) fn width(says: &str) -> f64 {
    CHARACTER * says.chars().count() as f64
}

/// Shapes of marks, so that series differ in more than colour.
pub(crate) fn mark(shape: usize, class: &str, (x, y): (f64, f64), size: f64) -> Markup {
    let polygon = |corners: &[(f64, f64)]| {
        let points: Vec<String> =
            corners.iter().map(|(dx, dy)| format!("{},{}", r(x + dx * size), r(y + dy * size))).collect();
        html! { polygon class=(class) points=(points.join(" ")) {} }
    };
    match shape % 5 {
        0 => html! { circle class=(class) cx=(r(x)) cy=(r(y)) r=(r(size)) {} },
        1 => polygon(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]),
        2 => polygon(&[(-0.95, -0.95), (0.95, -0.95), (0.95, 0.95), (-0.95, 0.95)]),
        3 => polygon(&[(0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)]),
        _ => polygon(&[(0.0, 1.2), (1.15, -0.9), (-1.15, -0.9)]),
    }
}

/// A legend that wraps: its entries and the height it takes from `y` on.
pub(crate) fn legend(
    entries: &[(String, Markup)],
    key_width: f64,
    (left, y): (f64, f64),
    right: f64,
) -> (Markup, f64) {
    let (mut x, mut line) = (left, 0.0);
    let mut placed = Vec::new();
    for (says, key) in entries {
        let full = key_width + 6.0 + width(says) + 18.0;
        if x > left && x + full > right + 18.0 {
            x = left;
            line += 1.0;
        }
        placed.push((x, y + 12.0 + line * LEGEND_LINE, says, key));
        x += full;
    }
    let height = if entries.is_empty() { 0.0 } else { (line + 1.0) * LEGEND_LINE };
    let markup = html! {
        @for (x, y, says, key) in &placed {
            g transform=(format!("translate({} {})", r(*x), r(*y))) { (key) }
            (text_within("label", (x + key_width + 6.0, *y), says, right - x - key_width))
        }
    };
    (markup, height)
}

const LEGEND_LINE: f64 = 19.0;

/// A horizontal axis in percent, with grid lines from `top` to `bottom` and its numbers above.
pub(crate) fn percent_axis(left: f64, right: f64, top: f64, bottom: f64) -> Markup {
    let step = if right - left < 260.0 { 25 } else { 20 };
    html! {
        @for percent in (0..=100).step_by(step) {
            @let x = left + (right - left) * f64::from(percent) / 100.0;
            (line("grid", (x, top), (x, bottom)))
            (text("tick middle", (x, top - 6.0), &format!("{percent}%")))
        }
    }
}
