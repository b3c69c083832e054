//! A drawing as a list of the few marks that charts are made of, for SVG and PDF to write.

use super::palette::Colour;

/// A position in the drawing: to the right and down.
pub(crate) type Point = (f64, f64);

/// What is drawn, from back to front.
#[derive(Debug, Clone, Default)]
pub(crate) struct Canvas {
    pub items: Vec<Item>,
}

#[derive(Debug, Clone)]
pub(crate) enum Item {
    Shape(Style, Shape),
    Text(Text),
    /// Items that say something together when pointed at.
    Group {
        title: String,
        items: Vec<Item>,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Line(Point, Point),
    Rect { at: Point, width: f64, height: f64 },
    Circle { at: Point, radius: f64 },
    Polygon(Vec<Point>),
    Polyline(Vec<Point>),
}

/// How a shape is painted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    pub fill: Option<Fill>,
    pub stroke: Option<Stroke>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    pub colour: Colour,
    pub opacity: f64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Stroke {
    pub colour: Colour,
    pub width: f64,
    pub opacity: f64,
    /// Lengths of dashes and gaps; none for an unbroken line.
    pub dash: &'static [f64],
    /// Round ends and corners.
    pub round: bool,
}

impl Style {
    pub(crate) fn fill(colour: Colour) -> Self {
        Style { fill: Some(Fill { colour, opacity: 1.0 }), stroke: None }
    }

    pub(crate) fn pale(colour: Colour, opacity: f64) -> Self {
        Style { fill: Some(Fill { colour, opacity }), stroke: None }
    }

    pub(crate) fn stroke(colour: Colour, width: f64) -> Self {
        let stroke = Stroke { colour, width, opacity: 1.0, dash: &[], round: false };
        Style { fill: None, stroke: Some(stroke) }
    }

    /// The line of a curve: its number decides colour and dash.
    pub(crate) fn curve(i: usize) -> Self {
        let stroke = Stroke { dash: dash(i), round: true, ..Stroke::of(i, 2.0) };
        Style { fill: None, stroke: Some(stroke) }
    }

    /// The mark of a curve, set off from what lies below it.
    pub(crate) fn dot(i: usize) -> Self {
        Style { stroke: Style::stroke(Colour::Card, 1.0).stroke, ..Style::fill(Colour::Series(i)) }
    }

    /// The edge of a curve's band, fainter than the curve but dashed as it is.
    pub(crate) fn edge(i: usize) -> Self {
        let stroke = Stroke { dash: dash(i), round: true, opacity: 0.55, ..Stroke::of(i, 0.8) };
        Style { fill: None, stroke: Some(stroke) }
    }

    /// A band as a bar at one point of a curve.
    pub(crate) fn bar(i: usize) -> Self {
        Style { fill: None, stroke: Some(Stroke { opacity: 0.7, ..Stroke::of(i, 1.6) }) }
    }

    /// A marked place on an axis.
    pub(crate) fn mark() -> Self {
        let mut style = Style::stroke(Colour::Soft, 1.0);
        style.stroke = style.stroke.map(|stroke| Stroke { dash: &[4.0, 3.0], ..stroke });
        style
    }
}

impl Stroke {
    fn of(series: usize, width: f64) -> Self {
        Stroke { colour: Colour::Series(series), width, opacity: 1.0, dash: &[], round: false }
    }
}

/// Curves of one colour differ in their dash.
fn dash(i: usize) -> &'static [f64] {
    const DASHES: [&[f64]; 4] = [&[], &[7.0, 5.0], &[1.0, 5.0], &[10.0, 5.0, 1.0, 5.0]];
    DASHES[(i + i / super::palette::SERIES) % DASHES.len()]
}

/// A line of text.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// Where the baseline begins, ends or has its middle.
    pub at: Point,
    pub anchor: Anchor,
    /// A rim in the ground's colour, where text stands on grid lines. Only narrow layouts have it.
    pub halo: bool,
    /// In full, where it was shortened.
    pub title: Option<String>,
    pub spans: Vec<Span>,
}

/// Text of one kind, [`SPAN_GAP`] apart from the span before it.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub says: String,
    pub face: Face,
}

/// The space between two spans of a text.
pub(crate) const SPAN_GAP: f64 = 5.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// Colour, size and weight of text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Face {
    pub colour: Colour,
    pub size: f64,
    pub bold: bool,
}

/// The size that most text has.
pub(crate) const SIZE: f64 = 12.0;

impl Face {
    pub(crate) const LABEL: Face = Face { colour: Colour::Ink, size: SIZE, bold: false };
    pub(crate) const STRONG: Face = Face { bold: true, ..Face::LABEL };
    pub(crate) const MUTED: Face = Face { colour: Colour::Soft, ..Face::LABEL };
    pub(crate) const TICK: Face = Face { colour: Colour::Soft, size: 11.0, bold: false };

    /// Bold, on a ground of another colour than the page's.
    pub(crate) fn on(colour: Colour) -> Self {
        Face { colour, ..Face::STRONG }
    }
}

impl Canvas {
    pub(crate) fn line(&mut self, style: Style, from: Point, to: Point) {
        self.items.push(Item::Shape(style, Shape::Line(from, to)));
    }

    /// A rectangle from one corner; a width below zero is none.
    pub(crate) fn rect(&mut self, style: Style, at: Point, width: f64, height: f64) {
        let shape = Shape::Rect { at, width: width.max(0.0), height: height.max(0.0) };
        self.items.push(Item::Shape(style, shape));
    }

    pub(crate) fn polygon(&mut self, style: Style, corners: Vec<Point>) {
        self.items.push(Item::Shape(style, Shape::Polygon(corners)));
    }

    pub(crate) fn polyline(&mut self, style: Style, corners: Vec<Point>) {
        self.items.push(Item::Shape(style, Shape::Polyline(corners)));
    }

    /// Text that begins at `at`.
    pub(crate) fn text(&mut self, face: Face, at: Point, says: &str) {
        self.anchored(face, Anchor::Start, at, says);
    }

    pub(crate) fn anchored(&mut self, face: Face, anchor: Anchor, at: Point, says: &str) {
        let spans = vec![Span { says: says.to_owned(), face }];
        self.items.push(Item::Text(Text { at, anchor, halo: false, title: None, spans }));
    }

    /// Text shortened to `width`; in full it appears when pointed at.
    pub(crate) fn text_within(&mut self, face: Face, at: Point, says: &str, width: f64) {
        self.anchored_within(face, Anchor::Start, at, says, width);
    }

    pub(crate) fn anchored_within(&mut self, face: Face, anchor: Anchor, at: Point, says: &str, width: f64) {
        let room = (width / (CHARACTER * face.size / SIZE)).floor() as usize;
        let short = shorten(says, room);
        let title = (short != says).then(|| says.to_owned());
        let spans = vec![Span { says: short, face }];
        self.items.push(Item::Text(Text { at, anchor, halo: false, title, spans }));
    }

    /// Gives the last text a rim.
    pub(crate) fn with_halo(&mut self) {
        if let Some(Item::Text(text)) = self.items.last_mut() {
            text.halo = true;
        }
    }

    /// Spans of text, one after the other.
    pub(crate) fn spans(&mut self, at: Point, spans: Vec<Span>) {
        self.items.push(Item::Text(Text { at, anchor: Anchor::Start, halo: false, title: None, spans }));
    }

    /// Shapes of marks, so that series differ in more than colour.
    pub(crate) fn mark(&mut self, shape: usize, style: Style, (x, y): Point, size: f64) {
        let mut corners = |corners: &[Point]| {
            self.polygon(style, corners.iter().map(|(dx, dy)| (x + dx * size, y + dy * size)).collect());
        };
        match shape % 5 {
            0 => self.items.push(Item::Shape(style, Shape::Circle { at: (x, y), radius: size })),
            1 => corners(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]),
            2 => corners(&[(-0.95, -0.95), (0.95, -0.95), (0.95, 0.95), (-0.95, 0.95)]),
            3 => corners(&[(0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)]),
            _ => corners(&[(0.0, 1.2), (1.15, -0.9), (-1.15, -0.9)]),
        }
    }

    /// What `draw` draws, with words that appear when it is pointed at.
    pub(crate) fn group(&mut self, title: String, draw: impl FnOnce(&mut Canvas)) {
        let mut inside = Canvas::default();
        draw(&mut inside);
        self.items.push(Item::Group { title, items: inside.items });
    }

    /// A legend that wraps; gives the height it takes from `y` on. A key is drawn at the start of its line of text.
    pub(crate) fn legend(&mut self, entries: &[Entry], key_width: f64, (left, y): Point, right: f64) -> f64 {
        let (mut x, mut line) = (left, 0.0);
        for entry in entries {
            let full = key_width + 6.0 + width(&entry.says) + 18.0;
            if x > left && x + full > right + 18.0 {
                x = left;
                line += 1.0;
            }
            let at = (x, y + 12.0 + line * LEGEND_LINE);
            self.key(entry.key, at);
            let room = right - x - key_width;
            self.text_within(Face::LABEL, (x + key_width + 6.0, at.1), &entry.says, room);
            x += full;
        }
        if entries.is_empty() { 0.0 } else { (line + 1.0) * LEGEND_LINE }
    }

    fn key(&mut self, key: Key, (x, y): Point) {
        match key {
            Key::Swatch(style, width) => self.rect(style, (x, y - 10.0), width, 11.0),
            Key::Mark(shape, style) => self.mark(shape, style, (x + 8.0, y - 4.0), 4.5),
            Key::Trend(i) => self.line(Style::curve(i), (x, y - 4.0), (x + 24.0, y - 4.0)),
            Key::Curve(i, joined) => {
                if joined {
                    self.line(Style::curve(i), (x, y - 4.0), (x + 24.0, y - 4.0));
                }
                self.mark(i, Style::dot(i), (x + 12.0, y - 4.0), 3.5);
            }
        }
    }

    /// A horizontal axis in percent, with grid lines from `top` to `bottom` and its numbers above.
    pub(crate) fn percent_axis(&mut self, left: f64, right: f64, top: f64, bottom: f64) {
        let step = if right - left < 260.0 { 25 } else { 20 };
        for percent in (0..=100).step_by(step) {
            let x = left + (right - left) * f64::from(percent) / 100.0;
            self.line(Style::stroke(Colour::Grid, 1.0), (x, top), (x, bottom));
            self.anchored(Face::TICK, Anchor::Middle, (x, top - 6.0), &format!("{percent}%"));
        }
    }
}

/// A line of a legend.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub says: String,
    pub key: Key,
}

impl Entry {
    pub(crate) fn swatch(says: impl Into<String>, colour: Colour) -> Self {
        Entry { says: says.into(), key: Key::Swatch(Style::fill(colour), 14.0) }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Key {
    /// A field of this style and width.
    Swatch(Style, f64),
    /// A mark of this shape.
    Mark(usize, Style),
    /// A curve by its number, with a line or without.
    Curve(usize, bool),
    /// A line without marks.
    Trend(usize),
}

pub(crate) fn shorten(says: &str, room: usize) -> String {
    if says.chars().count() <= room {
        return says.to_owned();
    }
    says.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

/// The width of a character of chart text, on the generous side: the reader's font is not known.
const CHARACTER: f64 = 6.4;

/// About how wide a text of a chart is.
pub(crate) fn width(says: &str) -> f64 {
    CHARACTER * says.chars().count() as f64
}

const LEGEND_LINE: f64 = 19.0;
