//! Where every image went: robust, misclassified when clean, or broken, and by which attack and estimator.
//!
//! There may be more breakers than colours that can be told apart, so colour says the kind of attack only
//! and a number names the breaker.

use super::canvas::{Anchor, Canvas, Entry, Face, Point, Style};
use super::cascade::{broken, colour};
use super::palette::Colour;
use super::{Drawing, Layout, Picture, owner};
use crate::derived::{self, Kind};
use crate::numbers;
use crate::table::{Cell, Table, columns};
use equipoise_record::{Arm, BrokenBy, Evaluation, ReadoutResult};

pub(crate) fn attribution(setting: &str, models: &[&Evaluation]) -> Drawing {
    let keys = keys(models);
    let rows: Vec<Row> =
        models.iter().flat_map(|m| m.readouts.iter().map(|r| Row::new(m, r, &keys))).collect();
    Drawing {
        title: "Which attack broke which share".to_owned(),
        caption: format!(
            "{setting}. Each image counts once, for the first run that broke it, in the order opening, white-box arm, \
             twins, gradient-free. Numbers in the bars name the attack and gradient below."
        ),
        description: rows.iter().map(Row::describe).collect::<Vec<_>>().join(" "),
        table: table(setting, &rows),
        wide: draw(&rows, &keys, Layout::Wide),
        narrow: draw(&rows, &keys, Layout::Narrow),
    }
}

/// A breaker: an attack through an estimator, in one of its parts.
struct Key {
    says: String,
    kind: Kind,
}

/// More breakers than these are put together, the smallest of each kind.
const NAMED: usize = 14;

/// Breakers in the order of their arms, the opening first.
fn keys(models: &[&Evaluation]) -> Vec<Key> {
    let examples = models.iter().flat_map(|m| &m.readouts).flat_map(|r| &r.examples);
    let mut found: Vec<(&BrokenBy, String, usize)> = Vec::new();
    for breaker in examples.filter_map(|example| example.broken_by.as_ref()) {
        let says = name(breaker);
        match found.iter_mut().find(|(_, known, _)| *known == says) {
            Some((.., count)) => *count += 1,
            None => found.push((breaker, says, 1)),
        }
    }
    let mut counts: Vec<usize> = found.iter().map(|(.., count)| *count).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    // Where many are equally small, all of them go.
    let least = counts.get(NAMED).copied().unwrap_or(0);
    found.retain(|(.., count)| *count > least);
    found.sort_by_key(|(breaker, _, count)| (breaker.arm, std::cmp::Reverse(*count)));
    found.into_iter().map(|(breaker, says, _)| Key { says, kind: Kind::of(breaker.arm) }).collect()
}

/// An attack and its gradient, and what sets this part apart from the opening.
fn name(breaker: &BrokenBy) -> String {
    let says = derived::attack_in_words(&breaker.attack, &breaker.estimator);
    match breaker.arm {
        Arm::ReadyMade => format!("{says}, restarts"),
        Arm::Aimed => format!("{says}, pointed at the readout"),
        Arm::YardstickOther | Arm::YardstickTraining => format!("{says}, one against one"),
        Arm::Transferred => format!("{says}, transferred"),
        Arm::Opening | Arm::WhiteBox | Arm::GradientFree => says,
    }
}

const ROBUST: &str = "robust";
const UNKNOWN: &str = "not attributed";
const WRONG: &str = "misclassified when clean";

/// A part of a bar.
struct Part {
    says: String,
    count: usize,
    colour: Colour,
    number: Option<usize>,
}

struct Row {
    model: String,
    readout: String,
    count: usize,
    parts: Vec<Part>,
}

impl Row {
    fn new(model: &Evaluation, readout: &ReadoutResult, keys: &[Key]) -> Self {
        let n = model.count;
        let part = |says: &str, count, colour| Part { says: says.to_owned(), count, colour, number: None };
        let robust = readout.white_box_accuracy.correct();
        let wrong = n.saturating_sub(readout.clean_accuracy.correct());
        let mut parts = vec![part(ROBUST, robust, Colour::Robust)];
        let broken: Vec<&BrokenBy> = readout.examples.iter().filter_map(|e| e.broken_by.as_ref()).collect();
        // From the last breaker to the first, so that the bar reads as the cascade does: what is left is left.
        for kind in [Kind::BlackBox, Kind::Adaptive, Kind::ReadyMade] {
            let colour = colour(kind);
            let of_kind = || broken.iter().filter(|b| Kind::of(b.arm) == kind).map(|b| name(b));
            let mut named = 0;
            for (i, key) in keys.iter().enumerate().rev().filter(|(_, key)| key.kind == kind) {
                let count = of_kind().filter(|says| *says == key.says).count();
                named += count;
                if count > 0 {
                    parts.push(Part { says: key.says.clone(), count, colour, number: Some(i + 1) });
                }
            }
            let others = of_kind().count() - named;
            if others > 0 {
                parts.push(part(&format!("the others, {}", kind.name()), others, colour));
            }
        }
        let known: usize = parts.iter().map(|p| p.count).sum::<usize>() + wrong;
        if known < n {
            // Nothing is dropped in silence: a record that does not add up shows it.
            parts.push(part(UNKNOWN, n - known, Colour::Unknown));
        }
        parts.push(part(WRONG, wrong, Colour::Wrong));
        Row { model: model.model.clone(), readout: readout.name.clone(), count: n, parts }
    }

    fn describe(&self) -> String {
        let parts: Vec<String> = self.parts.iter().map(|p| format!("{} {}", p.count, p.says)).collect();
        format!(
            "{}, readout {}, {}: {}.",
            self.model,
            self.readout,
            numbers::images(self.count),
            numbers::list(&parts)
        )
    }
}

fn table(setting: &str, rows: &[Row]) -> Table {
    let cells = |row: &Row| -> Vec<Vec<Cell>> {
        let share = |count: usize| numbers::percent(count as f64 / row.count.max(1) as f64);
        let cell = |p: &Part| -> Vec<Cell> {
            let texts =
                [row.model.clone(), row.readout.clone(), p.says.clone(), p.count.to_string(), share(p.count)];
            texts.map(Cell::from).to_vec()
        };
        row.parts.iter().map(cell).collect()
    };
    Table {
        caption: setting.to_owned(),
        columns: columns(&["Model", "Readout", "Images"], &["Count", "Share"]),
        rows: rows.iter().flat_map(cells).collect(),
    }
}

fn draw(rows: &[Row], keys: &[Key], layout: Layout) -> Picture {
    let wide = layout == Layout::Wide;
    let (left, right) = if wide { (190.0, 738.0) } else { (14.0, 322.0) };
    let (row_height, head) = if wide { (44.0, 0.0) } else { (58.0, 20.0) };
    let top = 22.0;
    let bottom = top + 10.0 + row_height * rows.len() as f64;
    let mut canvas = Canvas::default();
    canvas.percent_axis(left, right, top, bottom - 4.0);
    for (i, row) in rows.iter().enumerate() {
        let y = top + 10.0 + row_height * i as f64;
        let (from, room) = if wide { (0.0, left - 18.0) } else { (left, right - left) };
        owner(&mut canvas, layout, [&row.model, &row.readout], (from, y + 12.0), room);
        bar(&mut canvas, row, (left, right), y + head);
    }
    let legend_height = explain(&mut canvas, keys, (left, bottom + 4.0), layout.width(), rows);
    Picture { height: bottom + legend_height + 8.0, canvas }
}

fn bar(canvas: &mut Canvas, row: &Row, (left, right): (f64, f64), y: f64) {
    if row.count == 0 {
        canvas.text(Face::TICK, (left, y + 18.0), "no images");
    }
    let unit = (right - left) / row.count.max(1) as f64;
    let mut x = left;
    for part in row.parts.iter().filter(|part| part.count > 0) {
        let width = unit * part.count as f64;
        canvas.group(format!("{}: {} of {}", part.says, part.count, numbers::images(row.count)), |canvas| {
            // A hairline between parts, unless that would hide a thin one.
            let drawn = if width > 3.0 { width - 1.0 } else { width };
            canvas.rect(Style::fill(part.colour), (x, y), drawn, 26.0);
            if let Some(number) = part.number.filter(|n| width > if *n < 10 { 12.0 } else { 19.0 }) {
                numbered(canvas, part.colour, number, (x + width / 2.0, y + 17.5));
            }
        });
        x += width;
    }
}

/// The number of a breaker, on its colour.
fn numbered(canvas: &mut Canvas, colour: Colour, number: usize, at: Point) {
    let ink = if colour == Colour::ReadyMade { Colour::OnLight } else { Colour::OnDark };
    canvas.anchored(Face::on(ink), Anchor::Middle, at, &number.to_string());
}

/// The numbered list of breakers, one a line, after the parts that have no number; gives its height.
fn explain(canvas: &mut Canvas, keys: &[Key], (left, y): Point, right: f64, rows: &[Row]) -> f64 {
    let mut entries: Vec<Entry> = Vec::new();
    for (says, colour) in [(ROBUST, Colour::Robust), (UNKNOWN, Colour::Unknown), (WRONG, Colour::Wrong)] {
        if rows.iter().flat_map(|r| &r.parts).any(|p| p.says == says && p.count > 0) {
            entries.push(Entry::swatch(says, colour));
        }
    }
    entries.extend(broken(|kind| rows.iter().flat_map(|r| &r.parts).any(|p| p.colour == colour(kind))));
    let height = canvas.legend(&entries, 14.0, (left, y), right);
    for (i, key) in keys.iter().enumerate() {
        let line = y + height + 18.0 + 19.0 * i as f64;
        canvas.rect(Style::fill(colour(key.kind)), (left, line - 12.0), 22.0, 15.0);
        numbered(canvas, colour(key.kind), i + 1, (left + 11.0, line - 0.5));
        canvas.text_within(Face::LABEL, (left + 30.0, line), &key.says, right - left - 30.0);
    }
    height + if keys.is_empty() { 0.0 } else { 8.0 + 19.0 * keys.len() as f64 }
}
