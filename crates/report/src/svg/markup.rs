//! A drawing as SVG elements whose attributes say all there is to know, so that any program paints them alike.
//!
//! Presentation attributes were preferred to a style sheet because programs differ in what they know of CSS: librsvg
//! and cairosvg drop what refers to a variable. A browser takes variables in attributes as well, so one way of writing
//! serves the page and the files.

use super::canvas::{Anchor, Face, Item, Point, SIZE, SPAN_GAP, Shape, Span, Style, Text};
use super::palette::{Colour, Palette};
use maud::{Markup, html};

pub(super) fn items(items: &[Item], palette: Palette) -> Markup {
    html! { @for item in items { (self::item(item, palette)) } }
}

fn item(item: &Item, palette: Palette) -> Markup {
    match item {
        Item::Shape(style, shape) => self::shape(shape, *style, palette),
        Item::Text(text) => self::text(text, palette),
        Item::Group { title, items } => html! { g { title { (title) } (self::items(items, palette)) } },
    }
}

/// Coordinates to a tenth of a unit: finer is invisible and makes the file larger.
fn r(x: f64) -> f64 {
    let rounded = (x * 10.0).round() / 10.0;
    if rounded == 0.0 { 0.0 } else { rounded }
}

fn corners(points: &[Point]) -> String {
    let corners: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", r(*x), r(*y))).collect();
    corners.join(" ")
}

fn shape(shape: &Shape, style: Style, palette: Palette) -> Markup {
    let fill = style.fill.map_or("none".into(), |fill| palette.css(fill.colour));
    let opacity = style.fill.map(|fill| fill.opacity).filter(|&opacity| opacity < 1.0);
    let stroke = style.stroke.map(|stroke| palette.css(stroke.colour));
    let width = style.stroke.map(|stroke| stroke.width).filter(|&width| width != 1.0);
    let thin = style.stroke.map(|stroke| stroke.opacity).filter(|&opacity| opacity < 1.0);
    let dash = style.stroke.filter(|stroke| !stroke.dash.is_empty()).map(|stroke| {
        let lengths: Vec<String> = stroke.dash.iter().map(f64::to_string).collect();
        lengths.join(" ")
    });
    let round = style.stroke.filter(|stroke| stroke.round).map(|_| "round");
    // One element for each shape, with the same attributes; those that are `None` are left out.
    macro_rules! painted {
        ($name:ident $($attribute:ident = $value:expr),*) => {
            html! {
                $name $($attribute=($value))* fill=(fill) fill-opacity=[opacity] stroke=[&stroke]
                    stroke-width=[width] stroke-opacity=[thin] stroke-dasharray=[&dash] stroke-linecap=[round]
                    stroke-linejoin=[round] {}
            }
        };
    }
    match shape {
        Shape::Line(a, b) => painted!(line x1 = r(a.0), y1 = r(a.1), x2 = r(b.0), y2 = r(b.1)),
        Shape::Rect { at, width: w, height: h } => {
            painted!(rect x = r(at.0), y = r(at.1), width = r(*w), height = r(*h))
        }
        Shape::Circle { at, radius } => painted!(circle cx = r(at.0), cy = r(at.1), r = r(*radius)),
        Shape::Polygon(points) => painted!(polygon points = corners(points)),
        Shape::Polyline(points) => painted!(polyline points = corners(points)),
    }
}

fn text(text: &Text, palette: Palette) -> Markup {
    let anchor = match text.anchor {
        Anchor::Start => None,
        Anchor::Middle => Some("middle"),
        Anchor::End => Some("end"),
    };
    let rim = text.halo.then(|| palette.css(Colour::Card));
    let halo = |value: &'static str| text.halo.then_some(value);
    let face = match text.spans.as_slice() {
        [span] => span.face,
        _ => Face::LABEL,
    };
    html! {
        text x=(r(text.at.0)) y=(r(text.at.1)) fill=(palette.css(face.colour)) font-size=[size(face)]
            font-weight=[weight(face)] text-anchor=[anchor] stroke=[&rim] stroke-width=[halo("5")]
            stroke-linejoin=[halo("round")] paint-order=[halo("stroke")] {
            @if let Some(title) = &text.title { title { (title) } }
            @match text.spans.as_slice() {
                [span] => (span.says),
                spans => { @for (i, span) in spans.iter().enumerate() { (self::span(i, span, palette)) } }
            }
        }
    }
}

fn span(i: usize, span: &Span, palette: Palette) -> Markup {
    let colour = (span.face.colour != Face::LABEL.colour).then(|| palette.css(span.face.colour));
    let gap = (i > 0).then_some(SPAN_GAP);
    html! {
        tspan dx=[gap] fill=[colour] font-size=[size(span.face)] font-weight=[weight(span.face)] { (span.says) }
    }
}

/// The drawing's own size needs no mention.
fn size(face: Face) -> Option<f64> {
    (face.size != SIZE).then_some(face.size)
}

fn weight(face: Face) -> Option<&'static str> {
    face.bold.then_some("600")
}
