//! Accuracy step by step down the cascade: what is left after each attack, and what that attack took.

use super::canvas::{legend, percent_axis, rect, text, text_within};
use super::{Drawing, Layout, Picture};
use crate::facts::{self, Kind};
use crate::{table, words};
use equipoise_record::{AttackResult, Evaluation, ReadoutResult};
use maud::{Markup, html};

pub(crate) fn cascade(model: &Evaluation, readout: &ReadoutResult) -> Drawing {
    Drawing {
        title: format!("{}, readout {}: accuracy after each run", model.model, readout.name),
        caption: format!(
            "{}. From top to bottom in the order of the runs, whatever their arms; the end of a bar in another colour \
             is what fell to that run first.",
            facts::setting(model)
        ),
        description: describe(readout),
        table: table::cascade(model, readout),
        wide: draw(model, readout, Layout::Wide),
        narrow: draw(model, readout, Layout::Narrow),
    }
}

fn describe(readout: &ReadoutResult) -> String {
    let mut says = format!("Clean {}.", words::percent(readout.clean_accuracy.value));
    for attack in &readout.attacks {
        let after = words::percent(attack.accuracy.value);
        says.push_str(&format!(
            " After {}: {after}.",
            facts::attack_in_words(&attack.name, &attack.estimator)
        ));
    }
    says
}

/// The class of what an attack broke.
pub(super) fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::ReadyMade => "ready-made",
        Kind::Adaptive => "adaptive",
        Kind::BlackBox => "black-box",
    }
}

fn draw(model: &Evaluation, readout: &ReadoutResult, layout: Layout) -> Picture {
    let wide = layout == Layout::Wide;
    let (left, right) = if wide { (290.0, 640.0) } else { (14.0, 238.0) };
    let swatch = |class: &str| rect(class, (0.0, -10.0), 14.0, 11.0);
    let mut entries = vec![("still correct".to_owned(), swatch("fill-robust"))];
    for kind in [Kind::ReadyMade, Kind::Adaptive, Kind::BlackBox] {
        if readout.attacks.iter().any(|a| Kind::of(a.arm) == kind) {
            let says = format!("broken, {}", kind.name());
            entries.push((says, swatch(&format!("fill-{}", class(kind)))));
        }
    }
    let (legend, legend_height) = legend(&entries, 14.0, (2.0, 0.0), layout.width());

    let top = legend_height + 26.0;
    let (row, head) = if wide { (36.0, 0.0) } else { (50.0, 24.0) };
    let bottom = top + 10.0 + row * (readout.attacks.len() + 1) as f64;
    let steps = steps(readout);
    let body = html! {
        (legend)
        (percent_axis(left, right, top, bottom - 4.0))
        @for (i, step) in steps.iter().enumerate() {
            @let y = top + 8.0 + row * i as f64;
            (label(step.attack, (left, y), if wide { left - 16.0 } else { layout.width() }, wide))
            (bar(step, (left, right), y + head, model.count))
        }
    };
    Picture { height: bottom, body }
}

/// One row: accuracy before and after.
struct Step<'a> {
    attack: Option<&'a AttackResult>,
    before: f64,
    after: f64,
}

fn steps(readout: &ReadoutResult) -> Vec<Step<'_>> {
    let clean = readout.clean_accuracy.value;
    let mut steps = vec![Step { attack: None, before: clean, after: clean }];
    let mut before = clean;
    for attack in &readout.attacks {
        let after = attack.accuracy.value;
        steps.push(Step { attack: Some(attack), before, after });
        before = after;
    }
    steps
}

fn label(attack: Option<&AttackResult>, (left, y): (f64, f64), room: f64, wide: bool) -> Markup {
    match (attack, wide) {
        (None, true) => text("label strong", (0.0, y + 18.0), "clean"),
        (None, false) => text("label strong halo", (left, y + 20.0), "clean"),
        (Some(a), true) => html! {
            (text_within("label strong", (0.0, y + 12.0), &a.name, room))
            (text_within("tick", (0.0, y + 27.0), &part(a), room))
        },
        (Some(a), false) => html! {
            text.label.halo x=(left) y=(y + 20.0) {
                title { (facts::attack_in_words(&a.name, &a.estimator)) }
                tspan.strong { (a.name) }
                tspan.tick dx="5" { (shorten(&part(a), 48usize.saturating_sub(a.name.chars().count()))) }
            }
        },
    }
}

/// The gradient, and the part that the run plays.
fn part(attack: &AttackResult) -> String {
    format!("{}, {} {}", facts::estimator(attack), facts::arm(attack.arm), attack.run + 1)
}

fn shorten(says: &str, room: usize) -> String {
    if says.chars().count() <= room {
        return says.to_owned();
    }
    says.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

fn bar(step: &Step, (left, right): (f64, f64), y: f64, count: usize) -> Markup {
    let width = |fraction: f64| (right - left) * fraction.clamp(0.0, 1.0);
    // What is left after it: a point that has fallen in another arm already does not fall twice.
    let broken = ((step.before - step.after) * count as f64).round() as i64;
    let kind = step.attack.map_or("", |a| class(Kind::of(a.arm)));
    html! {
        (rect("fill-robust", (left, y + 6.0), width(step.after), 16.0))
        @if step.before > step.after {
            (rect(&format!("fill-{kind}"), (left + width(step.after), y + 6.0), width(step.before - step.after), 16.0))
        }
        text.label x=(right + 10.0) y=(y + 18.0) {
            @if count > 0 {
                tspan.strong { (words::percent(step.after)) }
                @if broken > 0 { tspan.tick dx="5" { "−" (broken) } }
            } @else { "no images" }
        }
    }
}
