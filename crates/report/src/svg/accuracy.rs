//! Clean, ready-made and white-box accuracy side by side, with intervals: the distance between the last two
//! is the question this project asks, so it is shaded.

use super::canvas::{Canvas, Entry, Face, Key, Point, Span, Stroke, Style};
use super::palette::Colour;
use super::{Drawing, Layout, Picture, owner};
use crate::table::Table;
use crate::{derived, numbers};
use equipoise_record::{Accuracy, Evaluation, ReadoutResult};

const LANE: f64 = 19.0;
const NAMES: [&str; 3] = ["clean", "ready-made", "white-box"];
const COLOURS: [Colour; 3] = [Colour::Clean, Colour::ReadyMade, Colour::Robust];

/// With the numbers that it draws.
pub(crate) fn accuracy(setting: &str, models: &[&Evaluation], table: Table) -> Drawing {
    let rows: Vec<(&Evaluation, &ReadoutResult)> =
        models.iter().flat_map(|m| m.readouts.iter().map(move |r| (*m, r))).collect();
    Drawing {
        title: "Clean, ready-made and white-box accuracy".to_owned(),
        caption: format!(
            "{setting}. Bars are 95% Wilson intervals. Ready-made: after the opening and, where there are, the twins of \
             the runs through other gradients. The shaded gap is what everything else broke; whether it is \
             obfuscation, the verdict says."
        ),
        description: describe(&rows),
        table,
        wide: draw(&rows, Layout::Wide),
        narrow: draw(&rows, Layout::Narrow),
    }
}

fn describe(rows: &[(&Evaluation, &ReadoutResult)]) -> String {
    let row = |(model, readout): &(&Evaluation, &ReadoutResult)| {
        let share = |a: Option<Accuracy>| a.map_or("not run".to_owned(), |a| numbers::percent(a.value));
        format!(
            "{}, readout {}: clean {}, ready-made {}, white-box {}.",
            model.model,
            readout.name,
            numbers::percent(readout.clean_accuracy.value),
            share(readout.ready_made_accuracy),
            share(derived::white_box(readout))
        )
    };
    if rows.is_empty() {
        "Nothing was evaluated.".to_owned()
    } else {
        rows.iter().map(row).collect::<Vec<_>>().join(" ")
    }
}

fn draw(rows: &[(&Evaluation, &ReadoutResult)], layout: Layout) -> Picture {
    let wide = layout == Layout::Wide;
    let (left, right) = if wide { (190.0, 620.0) } else { (14.0, 202.0) };
    let entry = |i: usize| Entry { says: NAMES[i].to_owned(), key: Key::Mark(i, Style::fill(COLOURS[i])) };
    let mut entries: Vec<Entry> = (0..3).map(entry).collect();
    entries.push(Entry { says: "gap".to_owned(), key: Key::Swatch(gap(), 16.0) });
    let mut canvas = Canvas::default();
    let legend_height = canvas.legend(&entries, 16.0, (2.0, 0.0), layout.width());

    let top = legend_height + 26.0;
    let head = if wide { 0.0 } else { 20.0 }; // a narrow row has its name above
    let row_height = head + 3.0 * LANE + if wide { 20.0 } else { 16.0 };
    let bottom = top + 8.0 + row_height * rows.len() as f64;
    canvas.percent_axis(left, right, top, bottom - 10.0);
    for (i, (model, readout)) in rows.iter().enumerate() {
        let y = top + 12.0 + row_height * i as f64;
        let (down, room) = if wide { (19.0, left - 18.0) } else { (10.0, layout.width()) };
        owner(&mut canvas, layout, [&model.model, &readout.name], (0.0, y + down), room);
        lanes(&mut canvas, model, readout, (left, right), y + head);
    }
    Picture { height: bottom, canvas }
}

/// What only attacks other than the ready-made ones broke.
fn gap() -> Style {
    Style::pale(Colour::Adaptive, 0.2)
}

fn lanes(
    canvas: &mut Canvas,
    model: &Evaluation,
    readout: &ReadoutResult,
    (left, right): (f64, f64),
    y: f64,
) {
    let place = |fraction: f64| left + (right - left) * fraction.clamp(0.0, 1.0);
    let lane = |i: usize| y + LANE * (i as f64 + 0.5);
    let accuracies = [Some(readout.clean_accuracy), readout.ready_made_accuracy, derived::white_box(readout)];
    let apart = derived::gap(readout).is_some_and(|gap| gap > 0);
    if let (true, Some(ready_made)) = (apart, readout.ready_made_accuracy) {
        let (from, to) = (place(readout.white_box_accuracy.value), place(ready_made.value));
        canvas.rect(gap(), (from, lane(1)), to - from, LANE);
    }
    for (i, accuracy) in accuracies.iter().enumerate() {
        match accuracy {
            Some(a) if model.count > 0 => measured(canvas, i, *a, &place, (right, lane(i))),
            Some(_) => canvas.text(Face::TICK, (right + 10.0, lane(i) + 4.0), "no images"),
            None => canvas.text(Face::TICK, (right + 10.0, lane(i) + 4.0), "not run"),
        }
    }
}

fn measured(canvas: &mut Canvas, i: usize, a: Accuracy, place: &dyn Fn(f64) -> f64, (right, y): Point) {
    let whisker = Stroke { colour: COLOURS[i], width: 2.5, opacity: 0.55, dash: &[], round: true };
    let whisker = Style { fill: None, stroke: Some(whisker) };
    canvas.line(whisker, (place(a.interval[0]), y), (place(a.interval[1]), y));
    canvas.mark(i, Style::fill(COLOURS[i]), (place(a.value), y), 4.5);
    let spans = vec![
        Span { says: numbers::percent(a.value), face: Face::STRONG },
        Span { says: numbers::interval(a.interval), face: Face::TICK },
    ];
    canvas.spans((right + 10.0, y + 4.0), spans);
}
