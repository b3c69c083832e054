//! Accuracy step by step down the cascade: what is left after each attack, and what that attack took.

use super::canvas::{Canvas, Entry, Face, Span, Style, shorten};
use super::palette::Colour;
use super::{Drawing, Layout, Picture};
use crate::derived::{self, Kind};
use crate::numbers;
use crate::table::Table;
use equipoise_record::{AttackResult, Evaluation, ReadoutResult};

/// With the numbers that it draws.
pub(crate) fn cascade(model: &Evaluation, readout: &ReadoutResult, table: Table) -> Drawing {
    Drawing {
        title: format!("{}, readout {}: accuracy after each run", model.model, readout.name),
        caption: format!(
            "{}. From top to bottom in the order of the runs, whatever their arms; the end of a bar in another colour \
             is what fell to that run first.",
            derived::setting(model)
        ),
        description: describe(readout),
        table,
        wide: draw(model, readout, Layout::Wide),
        narrow: draw(model, readout, Layout::Narrow),
    }
}

fn describe(readout: &ReadoutResult) -> String {
    let mut says = format!("Clean {}.", numbers::percent(readout.clean_accuracy.value));
    for attack in &readout.attacks {
        let after = numbers::percent(attack.accuracy.value);
        says.push_str(&format!(
            " After {}: {after}.",
            derived::attack_in_words(&attack.name, &attack.estimator)
        ));
    }
    says
}

/// The colour of what an attack broke.
pub(super) fn colour(kind: Kind) -> Colour {
    match kind {
        Kind::ReadyMade => Colour::ReadyMade,
        Kind::Adaptive => Colour::Adaptive,
        Kind::BlackBox => Colour::BlackBox,
    }
}

/// The legend of what was broken, for the kinds of attacks that occur.
pub(super) fn broken(occurs: impl Fn(Kind) -> bool) -> impl Iterator<Item = Entry> {
    let kinds =
        [Kind::ReadyMade, Kind::Adaptive, Kind::BlackBox].into_iter().filter(move |kind| occurs(*kind));
    kinds.map(|kind| Entry::swatch(format!("broken, {}", kind.name()), colour(kind)))
}

fn draw(model: &Evaluation, readout: &ReadoutResult, layout: Layout) -> Picture {
    let wide = layout == Layout::Wide;
    let (left, right) = if wide { (290.0, 640.0) } else { (14.0, 238.0) };
    let mut entries = vec![Entry::swatch("still correct", Colour::Robust)];
    entries.extend(broken(|kind| readout.attacks.iter().any(|a| Kind::of(a.arm) == kind)));
    let mut canvas = Canvas::default();
    let legend_height = canvas.legend(&entries, 14.0, (2.0, 0.0), layout.width());

    let top = legend_height + 26.0;
    let (row, head) = if wide { (36.0, 0.0) } else { (50.0, 24.0) };
    let bottom = top + 10.0 + row * (readout.attacks.len() + 1) as f64;
    let steps = steps(readout);
    canvas.percent_axis(left, right, top, bottom - 4.0);
    for (i, step) in steps.iter().enumerate() {
        let y = top + 8.0 + row * i as f64;
        label(&mut canvas, step.attack, (left, y), if wide { left - 16.0 } else { layout.width() }, wide);
        bar(&mut canvas, step, (left, right), y + head, model.count);
    }
    Picture { height: bottom, canvas }
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

fn label(canvas: &mut Canvas, attack: Option<&AttackResult>, (left, y): (f64, f64), room: f64, wide: bool) {
    match (attack, wide) {
        (None, true) => canvas.text(Face::STRONG, (0.0, y + 18.0), "clean"),
        (None, false) => {
            canvas.text(Face::STRONG, (left, y + 20.0), "clean");
            canvas.with_halo();
        }
        (Some(a), true) => {
            canvas.text_within(Face::STRONG, (0.0, y + 12.0), &a.name, room);
            canvas.text_within(Face::TICK, (0.0, y + 27.0), &part(a), room);
        }
        (Some(a), false) => canvas.group(derived::attack_in_words(&a.name, &a.estimator), |canvas| {
            let part = shorten(&part(a), 48usize.saturating_sub(a.name.chars().count()));
            let spans = vec![
                Span { says: a.name.clone(), face: Face::STRONG },
                Span { says: part, face: Face::TICK },
            ];
            canvas.spans((left, y + 20.0), spans);
            canvas.with_halo();
        }),
    }
}

/// The gradient, and the part that the run plays.
fn part(attack: &AttackResult) -> String {
    format!("{}, {} {}", derived::estimator(attack), derived::arm(attack.arm), attack.run + 1)
}

fn bar(canvas: &mut Canvas, step: &Step, (left, right): (f64, f64), y: f64, count: usize) {
    let width = |fraction: f64| (right - left) * fraction.clamp(0.0, 1.0);
    canvas.rect(Style::fill(Colour::Robust), (left, y + 6.0), width(step.after), 16.0);
    if let Some(attack) = step.attack.filter(|_| step.before > step.after) {
        let taken = Style::fill(colour(Kind::of(attack.arm)));
        canvas.rect(taken, (left + width(step.after), y + 6.0), width(step.before - step.after), 16.0);
    }
    let at = (right + 10.0, y + 18.0);
    if count == 0 {
        return canvas.text(Face::LABEL, at, "no images");
    }
    let mut spans = vec![Span { says: numbers::percent(step.after), face: Face::STRONG }];
    // What is left after it: a point that has fallen in another arm already does not fall twice.
    let broken = ((step.before - step.after) * count as f64).round() as i64;
    if broken > 0 {
        spans.push(Span { says: format!("−{broken}"), face: Face::TICK });
    }
    canvas.spans(at, spans);
}
