//! A drawing as a PDF file of one page: vectors, text as text, fonts inside, the same bytes every time.
//!
//! Written with `pdf-writer`, `subsetter` and `ttf-parser`: the first two are what Typst writes its documents with, and
//! the three take 22 s of processor time to build, at release. `krilla` wraps them, with tags, images and gradients that
//! charts do not need, for 15 crates that are not in the tree yet and eight times that time. `svg2pdf` would take the
//! SVG file as it is, but needs an older release of `usvg` and 40 such crates, a rasteriser among them.
//!
//! The font is DejaVu Sans Condensed, from the crate `dejavu`: free to embed (Bitstream Vera licence), it has the Greek
//! letters and signs that charts use, and fits the widths that [`super::canvas`] reckons with. Only the glyphs that
//! occur are put into a file. PDF's own Helvetica would need no font at all, but proceedings ask for embedded fonts. A
//! character that DejaVu lacks is written as its number, `[U+4E2D]`: it must not vanish.

use super::canvas::{Anchor, Face, Item, SPAN_GAP, Shape, Stroke, Style, Text};
use super::{Drawing, Layout};
use crate::ReportError;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use pdf_writer::types::{CidFontType, FontFlags, LineCapStyle, LineJoinStyle, SystemInfo, UnicodeCmap};
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};
use std::collections::BTreeMap;
use std::io::Write;
use subsetter::GlyphRemapper;
use ttf_parser::{Face as Outlines, GlyphId};

/// Points per unit of the drawing: as in CSS, so that text of 12 units is set in 9 points.
const POINTS: f64 = 0.75;

const CATALOG: Ref = Ref::new(1);
const PAGES: Ref = Ref::new(2);
const PAGE: Ref = Ref::new(3);
const CONTENTS: Ref = Ref::new(4);
const INFO: Ref = Ref::new(5);
/// The first object of the fonts; each has as many as [`PER_FONT`].
const FONTS: i32 = 6;
const PER_FONT: i32 = 5;

pub(crate) fn pdf(drawing: &Drawing) -> Result<Vec<u8>, ReportError> {
    let (width, height) = (Layout::Wide.width(), drawing.wide.height.ceil());
    let mut page = Page { content: Content::new(), fonts: Fonts::new()?, opacities: Vec::new() };
    // Units are the drawing's, and y goes down as there.
    page.content.transform([POINTS, 0.0, 0.0, -POINTS, 0.0, POINTS * height].map(|x| x as f32));
    page.items(&drawing.wide.canvas.items);
    let Page { content, fonts, opacities } = page;

    let mut pdf = Pdf::new();
    // Nothing here is newer, and pdfTeX warns of versions above 1.5.
    pdf.set_version(1, 4);
    pdf.catalog(CATALOG).pages(PAGES);
    pdf.pages(PAGES).kids([PAGE]).count(1);
    // Of all that a document may say of itself, dates and identifiers are left out: they would differ every time.
    pdf.document_info(INFO).title(TextStr(&drawing.title)).subject(TextStr(&drawing.description));
    let mut leaf = pdf.page(PAGE);
    leaf.media_box(Rect::new(0.0, 0.0, (POINTS * width) as f32, (POINTS * height) as f32));
    leaf.parent(PAGES).contents(CONTENTS);
    let mut resources = leaf.resources();
    let mut names = resources.fonts();
    for (i, font) in fonts.both.iter().enumerate().filter(|(_, font)| font.used()) {
        names.pair(Name(font.name), Ref::new(FONTS + PER_FONT * i as i32));
    }
    names.finish();
    let mut states = resources.ext_g_states();
    for (i, (fill, stroke)) in opacities.iter().enumerate() {
        let mut state =
            states.insert(Name(opacity_name(i).as_bytes())).start::<pdf_writer::writers::ExtGraphicsState>();
        state.non_stroking_alpha(*fill).stroking_alpha(*stroke);
    }
    states.finish();
    resources.finish();
    leaf.finish();
    pdf.stream(CONTENTS, &deflated(content.finish().as_slice())?).filter(Filter::FlateDecode);
    for (i, font) in fonts.both.iter().enumerate().filter(|(_, font)| font.used()) {
        font.write(&mut pdf, FONTS + PER_FONT * i as i32)?;
    }
    Ok(pdf.finish())
}

fn failed(error: impl std::fmt::Display) -> ReportError {
    ReportError::Pdf(error.to_string())
}

fn deflated(bytes: &[u8]) -> Result<Vec<u8>, ReportError> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(failed)
}

/// The page that is being drawn, and what it needs.
struct Page {
    content: Content,
    fonts: Fonts,
    /// Pairs of opacities, of filling and of lines, that occur.
    opacities: Vec<(f32, f32)>,
}

fn opacity_name(i: usize) -> String {
    format!("O{i}")
}

impl Page {
    fn items(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Shape(style, shape) => self.shape(*style, shape),
                Item::Text(text) => self.text(text),
                // Paper cannot be pointed at.
                Item::Group { items, .. } => self.items(items),
            }
        }
    }

    fn shape(&mut self, style: Style, shape: &Shape) {
        self.content.save_state();
        let opacities = (
            style.fill.map_or(1.0, |fill| fill.opacity as f32),
            style.stroke.map_or(1.0, |stroke| stroke.opacity as f32),
        );
        if opacities != (1.0, 1.0) {
            let i = self.opacities.iter().position(|known| *known == opacities).unwrap_or_else(|| {
                self.opacities.push(opacities);
                self.opacities.len() - 1
            });
            self.content.set_parameters(Name(opacity_name(i).as_bytes()));
        }
        if let Some(fill) = style.fill {
            let [r, g, b] = fill.colour.rgb();
            self.content.set_fill_rgb(r, g, b);
        }
        if let Some(stroke) = style.stroke {
            self.stroke(stroke);
        }
        self.path(shape);
        match (style.fill, style.stroke) {
            (Some(_), Some(_)) => self.content.fill_nonzero_and_stroke(),
            (Some(_), None) => self.content.fill_nonzero(),
            (None, Some(_)) => self.content.stroke(),
            (None, None) => self.content.end_path(),
        };
        self.content.restore_state();
    }

    fn stroke(&mut self, stroke: Stroke) {
        let [r, g, b] = stroke.colour.rgb();
        self.content.set_stroke_rgb(r, g, b).set_line_width(stroke.width as f32);
        if stroke.round {
            self.content.set_line_cap(LineCapStyle::RoundCap).set_line_join(LineJoinStyle::RoundJoin);
        }
        if !stroke.dash.is_empty() {
            self.content.set_dash_pattern(stroke.dash.iter().map(|length| *length as f32), 0.0);
        }
    }

    fn path(&mut self, shape: &Shape) {
        match shape {
            Shape::Line(a, b) => self.corners(&[*a, *b]),
            Shape::Rect { at, width, height } => {
                self.content.rect(at.0 as f32, at.1 as f32, *width as f32, *height as f32);
            }
            Shape::Circle { at: (x, y), radius } => {
                // Four cubic curves: with this distance of their controls they are off by 0.03% of the radius.
                let k = 0.5523 * radius;
                let point = |dx: f64, dy: f64| ((x + dx) as f32, (y + dy) as f32);
                let start = point(*radius, 0.0);
                self.content.move_to(start.0, start.1);
                // Each quarter is the one before it, turned: (a, b) becomes (-b, a).
                let mut quarter = [(*radius, k), (k, *radius), (0.0, *radius)];
                for _ in 0..4 {
                    let [a, b, c] = quarter.map(|(dx, dy)| point(dx, dy));
                    self.content.cubic_to(a.0, a.1, b.0, b.1, c.0, c.1);
                    quarter = quarter.map(|(dx, dy)| (-dy, dx));
                }
                self.content.close_path();
            }
            Shape::Polygon(points) => {
                self.corners(points);
                if !points.is_empty() {
                    self.content.close_path();
                }
            }
            Shape::Polyline(points) => self.corners(points),
        }
    }

    fn corners(&mut self, points: &[(f64, f64)]) {
        for (i, &(x, y)) in points.iter().enumerate() {
            match i {
                0 => self.content.move_to(x as f32, y as f32),
                _ => self.content.line_to(x as f32, y as f32),
            };
        }
    }

    /// Text, measured by its font. A halo is a matter of narrow screens.
    fn text(&mut self, text: &Text) {
        let lines: Vec<Line> = text.spans.iter().map(|span| self.fonts.line(span.face, &span.says)).collect();
        let gaps = SPAN_GAP * lines.len().saturating_sub(1) as f64;
        let width: f64 = gaps + lines.iter().map(|line| line.width).sum::<f64>();
        let mut x = match text.anchor {
            Anchor::Start => text.at.0,
            Anchor::Middle => text.at.0 - width / 2.0,
            Anchor::End => text.at.0 - width,
        };
        for (span, line) in text.spans.iter().zip(&lines) {
            let [r, g, b] = span.face.colour.rgb();
            self.content.begin_text().set_fill_rgb(r, g, b);
            self.content
                .set_font(Name(self.fonts.both[usize::from(span.face.bold)].name), span.face.size as f32);
            // Upright although y goes down.
            self.content.set_text_matrix([1.0, 0.0, 0.0, -1.0, x as f32, text.at.1 as f32]);
            self.content.show(Str(&line.glyphs)).end_text();
            x += line.width + SPAN_GAP;
        }
    }
}

/// Text as glyphs.
struct Line {
    /// Two bytes for each glyph of the subset.
    glyphs: Vec<u8>,
    width: f64,
}

/// Regular and bold.
struct Fonts {
    both: [Font; 2],
}

impl Fonts {
    fn new() -> Result<Self, ReportError> {
        use dejavu::sans_condensed::{bold, regular};
        let regular = Font::new(b"F0", "DejaVuSansCondensed", regular())?;
        Ok(Fonts { both: [regular, Font::new(b"F1", "DejaVuSansCondensed-Bold", bold())?] })
    }

    fn line(&mut self, face: Face, says: &str) -> Line {
        let font = &mut self.both[usize::from(face.bold)];
        let mut line = Line { glyphs: Vec::new(), width: 0.0 };
        let mut add = |font: &mut Font, character: char, glyph: GlyphId| {
            let (id, width) = font.take(glyph, character);
            line.glyphs.extend(id.to_be_bytes());
            line.width += width * face.size / 1000.0;
        };
        for character in says.chars() {
            match font.outlines.glyph_index(character) {
                Some(glyph) => add(font, character, glyph),
                None => {
                    for digit in format!("[U+{:04X}]", u32::from(character)).chars() {
                        let glyph = font.outlines.glyph_index(digit).unwrap_or_default();
                        add(font, digit, glyph);
                    }
                }
            }
        }
        line
    }
}

/// A font, and the glyphs of it that occur.
struct Font {
    /// In the page.
    name: &'static [u8],
    family: &'static str,
    bytes: &'static [u8],
    outlines: Outlines<'static>,
    subset: GlyphRemapper,
    /// By its number in the subset: what a glyph stands for, and its width in thousandths of the size.
    taken: BTreeMap<u16, (char, f64)>,
}

impl Font {
    fn new(name: &'static [u8], family: &'static str, bytes: &'static [u8]) -> Result<Self, ReportError> {
        let outlines = Outlines::parse(bytes, 0).map_err(failed)?;
        Ok(Font { name, family, bytes, outlines, subset: GlyphRemapper::new(), taken: BTreeMap::new() })
    }

    fn used(&self) -> bool {
        !self.taken.is_empty()
    }

    /// Number in the subset, and width in thousandths of the size.
    fn take(&mut self, glyph: GlyphId, character: char) -> (u16, f64) {
        let id = self.subset.remap(glyph.0);
        let width = self.thousandths(self.outlines.glyph_hor_advance(glyph).unwrap_or(0).into());
        self.taken.entry(id).or_insert((character, width));
        (id, width)
    }

    fn thousandths(&self, units: f64) -> f64 {
        (1000.0 * units / f64::from(self.outlines.units_per_em())).round()
    }

    /// The font as objects from `first` on: a composite font addressed by glyph, as the subset has no table of
    /// characters any more.
    fn write(&self, pdf: &mut Pdf, first: i32) -> Result<(), ReportError> {
        let object = |i: i32| Ref::new(first + i);
        let [font, glyphs, descriptor, file, characters] = [0, 1, 2, 3, 4].map(object);
        // Six letters say that it is a subset.
        let base = format!("EQUIPO+{}", self.family);
        let base = Name(base.as_bytes());
        let system = || SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };

        pdf.type0_font(font)
            .base_font(base)
            .encoding_predefined(Name(b"Identity-H"))
            .descendant_font(glyphs)
            .to_unicode(characters);

        let mut cid = pdf.cid_font(glyphs);
        cid.subtype(CidFontType::Type2).base_font(base).system_info(system()).font_descriptor(descriptor);
        cid.default_width(0.0).cid_to_gid_map_predefined(Name(b"Identity"));
        let mut widths = cid.widths();
        for (id, (_, width)) in &self.taken {
            widths.consecutive(*id, [*width as f32]);
        }
        widths.finish();
        cid.finish();

        let in_thousandths = |units: i16| self.thousandths(units.into()) as f32;
        let bounds = self.outlines.global_bounding_box();
        pdf.font_descriptor(descriptor)
            .name(base)
            .flags(FontFlags::SYMBOLIC)
            .bbox(Rect::new(
                in_thousandths(bounds.x_min),
                in_thousandths(bounds.y_min),
                in_thousandths(bounds.x_max),
                in_thousandths(bounds.y_max),
            ))
            .italic_angle(0.0)
            .ascent(in_thousandths(self.outlines.ascender()))
            .descent(in_thousandths(self.outlines.descender()))
            .cap_height(in_thousandths(self.outlines.capital_height().unwrap_or(self.outlines.ascender())))
            .stem_v(if self.name == b"F1" { 160.0 } else { 80.0 })
            .font_file2(file);

        let subset = subsetter::subset(self.bytes, 0, &self.subset).map_err(failed)?;
        let compressed = deflated(&subset)?;
        let mut stream = pdf.stream(file, &compressed);
        stream.filter(Filter::FlateDecode).pair(Name(b"Length1"), subset.len() as i32);
        stream.finish();

        let mut map = UnicodeCmap::new(Name(b"Custom"), system());
        for (id, (character, _)) in &self.taken {
            map.pair(*id, *character);
        }
        pdf.cmap(characters, map.finish().as_slice());
        Ok(())
    }
}
