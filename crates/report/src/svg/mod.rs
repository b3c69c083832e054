//! Figures as SVG that belongs to its page: it takes the page's colours, dark or light, and says what it
//! shows to those who do not see it.
//!
//! Written by hand, after a look at two libraries. `plotters` draws with absolute colours and without
//! titles, descriptions or classes, so its figures can neither follow the reader's colour scheme nor be read
//! out; `charming` needs ECharts, a megabyte of JavaScript, or an engine to run it. What is left to do here
//! is little: scales, a few marks and text.
//!
//! Each figure is drawn twice, for a wide and for a narrow screen, because text in a scaled-down drawing is
//! too small to read on a phone; the style sheet shows one of the two.

mod accuracy;
mod attribution;
mod canvas;
mod cascade;
mod lines;
mod scale;

pub(crate) use accuracy::accuracy;
pub(crate) use attribution::attribution;
pub(crate) use cascade::cascade;
pub(crate) use lines::lines;

use crate::table::Table;
use crate::{Report, diagnosis, effort, facts, radii};
use maud::{Markup, PreEscaped, html};

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
    pub body: Markup,
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
    /// The `svg` element in one layout; `id` must be unique in the page.
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
                (picture.body)
            }
        }
    }
}

/// Every drawing that a report makes from its records, then the figures it was given.
pub(crate) fn drawings(report: &Report) -> Vec<Drawing> {
    let rows = || facts::rows(&report.models);
    let mut drawings = Vec::new();
    drawings.extend(rows().filter_map(|(model, readout)| effort::curves(model, readout)).map(|f| lines(&f)));
    for (setting, models) in facts::by_setting(&report.models) {
        drawings.push(accuracy(&setting, &models));
        drawings.push(attribution(&setting, &models));
    }
    drawings.extend(radii::curves(&report.models).iter().map(lines));
    drawings.extend(rows().map(|(model, readout)| cascade(model, readout)));
    for diagnosis in &report.diagnoses {
        drawings.extend(diagnosis::all_figures(diagnosis).iter().map(lines));
    }
    drawings.extend(report.figures.iter().map(lines));
    drawings
}

/// A figure as a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SvgFile {
    /// A file name without folder: lower-case letters, digits and hyphens, `.svg`.
    pub name: String,
    /// The document, its style sheet included.
    pub contents: String,
}

/// Every figure of a report as a file: those drawn from the records, then the report's own.
pub fn svg_files(report: &Report) -> Vec<SvgFile> {
    // A ground of its own: the reader's scheme need not be that of the page it is put into.
    let ground = "svg{background:var(--card)}";
    let style = concat!(include_str!("../export/colours.css"), include_str!("chart.css"));
    drawings(report)
        .iter()
        .enumerate()
        .map(|(i, drawing)| {
            let svg = drawing.svg("figure", Layout::Wide).into_string();
            // The style sheet goes first inside the element; it holds no `<` or `&`, so it needs no escape.
            let contents = match svg.split_once('>') {
                Some((open, rest)) => format!("{open}><style>{ground}{style}</style>{rest}\n"),
                None => svg,
            };
            SvgFile { name: format!("{:02}-{}.svg", i + 1, slug(&drawing.title)), contents }
        })
        .collect()
}

/// The style of charts, for the page.
pub(crate) fn style() -> PreEscaped<&'static str> {
    PreEscaped(include_str!("chart.css"))
}

fn slug(title: &str) -> String {
    let words: Vec<String> = title
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let slug: String = words.join("-").chars().take(60).collect();
    if slug.is_empty() { "figure".to_owned() } else { slug }
}
