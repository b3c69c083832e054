//! Figures, drawn once as a list of marks and written as SVG for the page, as SVG files and as PDF.
//!
//! In the page a figure takes the reader's colours, dark or light, and says what it shows to those who do not see it.
//! A file states its colours in full, light, for whatever program opens it.
//!
//! Written by hand, after a look at two libraries. `plotters` draws with absolute colours and without
//! titles or descriptions, so its figures can neither follow the reader's colour scheme nor be read
//! out; `charming` needs ECharts, a megabyte of JavaScript, or an engine to run it. What is left to do here
//! is little: scales, a few marks and text.
//!
//! Each figure is drawn twice, for a wide and for a narrow screen, because text in a scaled-down drawing is
//! too small to read on a phone; the style sheet shows one of the two. Files are wide.

mod accuracy;
mod attribution;
mod canvas;
mod cascade;
mod lines;
mod markup;
mod name;
mod palette;
mod pdf;
mod scale;

pub(crate) use accuracy::accuracy;
pub(crate) use attribution::attribution;
pub(crate) use cascade::cascade;
pub(crate) use lines::{lines, stacked};
pub(crate) use name::{names, slug};
pub(crate) use pdf::pdf;

use self::canvas::{Canvas, Face, Point, SIZE, Style};
use self::palette::{Colour, Palette};
use crate::table::Table;
use maud::{Markup, html};

/// The widths that figures are drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Wide,
    Narrow,
}

impl Layout {
    pub(crate) fn width(self) -> f64 {
        match self {
            Layout::Wide => 760.0,
            Layout::Narrow => 340.0,
        }
    }
}

/// What is drawn, and how tall it is.
pub(crate) struct Picture {
    pub height: f64,
    pub canvas: Canvas,
}

/// Whose a row is: two lines beside it in a wide drawing, one line above it in a narrow one.
fn owner(canvas: &mut Canvas, layout: Layout, [model, readout]: [&str; 2], (x, y): Point, room: f64) {
    match layout {
        Layout::Wide => {
            canvas.text_within(Face::STRONG, (x, y), model, room);
            canvas.text_within(Face::MUTED, (x, y + 16.0), readout, room);
        }
        Layout::Narrow => {
            canvas.text_within(Face::STRONG, (x, y), &format!("{model}, {readout}"), room);
            canvas.with_halo();
        }
    }
}

/// A figure in both layouts with everything that explains it.
pub(crate) struct Drawing {
    pub title: String,
    /// How to read it, and where its numbers come from.
    pub caption: String,
    /// What is seen, for those who do not see it.
    pub description: String,
    /// The numbers drawn.
    pub table: Table,
    pub wide: Picture,
    pub narrow: Picture,
}

impl Drawing {
    /// The `svg` element of the page in one layout; `id` must be unique in the page.
    pub(crate) fn svg(&self, id: &str, layout: Layout) -> Markup {
        let (picture, name) = match layout {
            Layout::Wide => (&self.wide, "wide"),
            Layout::Narrow => (&self.narrow, "narrow"),
        };
        let (title, description) = (format!("{id}-{name}-title"), format!("{id}-{name}-description"));
        html! {
            svg xmlns="http://www.w3.org/2000/svg" class=(format!("chart {name}")) role="img"
                viewBox=(format!("0 0 {} {}", layout.width(), picture.height.ceil()))
                aria-labelledby=(format!("{title} {description}")) {
                title id=(title) { (self.title) }
                desc id=(description) { (self.description) }
                (markup::items(&picture.canvas.items, Palette::Page))
            }
        }
    }
}

/// The fonts of a file's text: those that the page asks for have no name outside of a browser.
const FONTS: &str = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/// Ground on each side of an SVG file's drawing, which fills its width.
const MARGIN: f64 = 10.0;

/// A document of its own.
pub(crate) fn file(drawing: &Drawing) -> Markup {
    let (width, height) = (Layout::Wide.width() + 2.0 * MARGIN, drawing.wide.height.ceil() + 2.0 * MARGIN);
    // A ground of its own: the page that it is put into may be dark.
    let mut ground = Canvas::default();
    ground.rect(Style::fill(Colour::Card), (-MARGIN, -MARGIN), width, height);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" width=(width) height=(height)
            viewBox=(format!("-{MARGIN} -{MARGIN} {width} {height}")) aria-labelledby="title description"
            font-family=(FONTS) font-size=(SIZE) {
            title id="title" { (drawing.title) }
            desc id="description" { (drawing.description) }
            (markup::items(&ground.items, Palette::Paper))
            (markup::items(&drawing.wide.canvas.items, Palette::Paper))
        }
    }
}
