//! Clean, ready-made and white-box accuracy side by side, with intervals: the distance between the last two
//! is the question this project asks, so it is shaded.

use super::canvas::{legend, line, mark, percent_axis, rect, text, text_within};
use super::{Drawing, Layout, Picture};
use crate::{facts, table, words};
use equipoise_record::{Accuracy, Evaluation, ReadoutResult};
use maud::{Markup, html};

const LANE: f64 = 19.0;
const NAMES: [&str; 3] = ["clean", "ready-made", "white-box"];
const CLASSES: [&str; 3] = ["clean", "ready-made", "robust"];

pub(crate) fn accuracy(setting: &str, models: &[&Evaluation]) -> Drawing {
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
        table: table::summary(setting, models),
        wide: draw(&rows, Layout::Wide),
        narrow: draw(&rows, Layout::Narrow),
    }
}

fn describe(rows: &[(&Evaluation, &ReadoutResult)]) -> String {
    let row = |(model, readout): &(&Evaluation, &ReadoutResult)| {
        let share = |a: Option<Accuracy>| a.map_or("not run".to_owned(), |a| words::percent(a.value));
        format!(
            "{}, readout {}: clean {}, ready-made {}, white-box {}.",
            model.model,
            readout.name,
            words::percent(readout.clean_accuracy.value),
            share(readout.ready_made_accuracy),
            share(facts::white_box(readout))
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
    let key = |i: usize| html! { (mark(i, &format!("fill-{}", CLASSES[i]), (8.0, -4.0), 4.5)) };
    let mut entries: Vec<(String, Markup)> = (0..3).map(|i| (NAMES[i].to_owned(), key(i))).collect();
    entries.push(("gap".to_owned(), rect("gap", (0.0, -10.0), 16.0, 12.0)));
    let (legend, legend_height) = legend(&entries, 16.0, (2.0, 0.0), layout.width());

    let top = legend_height + 26.0;
    let head = if wide { 0.0 } else { 20.0 }; // a narrow row has its name above
    let row_height = head + 3.0 * LANE + if wide { 20.0 } else { 16.0 };
    let bottom = top + 8.0 + row_height * rows.len() as f64;
    let body = html! {
        (legend)
        (percent_axis(left, right, top, bottom - 10.0))
        @for (i, (model, readout)) in rows.iter().enumerate() {
            @let y = top + 12.0 + row_height * i as f64;
            @if wide {
                (text_within("label strong", (0.0, y + 18.0), &model.model, left - 18.0))
                (text_within("label muted", (0.0, y + 36.0), &readout.name, left - 18.0))
            } @else {
                (text_within("label strong halo", (0.0, y + 10.0), &format!("{}, {}", model.model, readout.name), layout.width()))
            }
            (lanes(model, readout, (left, right), y + head))
        }
    };
    Picture { height: bottom, body }
}

fn lanes(model: &Evaluation, readout: &ReadoutResult, (left, right): (f64, f64), y: f64) -> Markup {
    let place = |fraction: f64| left + (right - left) * fraction.clamp(0.0, 1.0);
    let lane = |i: usize| y + LANE * (i as f64 + 0.5);
    let accuracies = [Some(readout.clean_accuracy), readout.ready_made_accuracy, facts::white_box(readout)];
    let gap = facts::gap(readout, model.count).is_some_and(|gap| gap > 0);
    html! {
        @if let (true, Some(ready_made)) = (gap, readout.ready_made_accuracy) {
            @let (from, to) = (place(readout.white_box_accuracy.value), place(ready_made.value));
            (rect("gap", (from, lane(1)), to - from, LANE))
        }
        @for (i, accuracy) in accuracies.iter().enumerate() {
            @match accuracy {
                Some(a) if model.count > 0 => { (measured(i, *a, &place, lane(i), right)) }
                Some(_) => { (text("tick", (right + 10.0, lane(i) + 4.0), "no images")) }
                None => { (text("tick", (right + 10.0, lane(i) + 4.0), "not run")) }
            }
        }
    }
}

fn measured(i: usize, a: Accuracy, place: &dyn Fn(f64) -> f64, y: f64, right: f64) -> Markup {
    html! {
        (line(&format!("whisker stroke-{}", CLASSES[i]), (place(a.interval[0]), y), (place(a.interval[1]), y)))
        (mark(i, &format!("fill-{}", CLASSES[i]), (place(a.value), y), 4.5))
        text.label x=(right + 10.0) y=(y + 4.0) {
            tspan.strong { (words::percent(a.value)) }
            tspan.tick dx="5" { (words::interval(a.interval)) }
        }
    }
}
