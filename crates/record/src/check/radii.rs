//! Radii: what smaller ones, which have no examples, must have in common with the largest.

use super::verdict::Scene;
use super::{Contradiction, Place, accuracies, arms, same, shown};
use crate::{Accuracy, Evaluation, RadiusResult, ReadoutResult, Verdict};

/// Every radius: accuracies and verdicts that fit together, the last the same as the readout's own.
pub(super) fn check(
    place: &Place<'_>,
    model: &Evaluation,
    readout: &ReadoutResult,
) -> Result<(), Contradiction> {
    if let Some(last) = readout.radii.last() {
        same_as_outside(place, readout.radii.len() - 1, last, model, readout)?;
    }
    let mut before: Option<(f64, Counts)> = None;
    for (at, radius) in readout.radii.iter().enumerate() {
        let field = |name: &str| format!("radii[{at}].{name}");
        if !(radius.eps.is_finite() && radius.eps >= 0.0) {
            return Err(place.refuse(field("eps"), radius.eps, "a radius is a number from 0"));
        }
        if radius.eps > model.eps {
            let follows = format!("the largest radius is the model's eps, {}", model.eps);
            return Err(place.refuse(field("eps"), radius.eps, follows));
        }
        if let Some((smaller, _)) = before
            && radius.eps <= smaller
        {
            return Err(place.refuse(field("eps"), radius.eps, format!("the one before is {smaller}")));
        }
        let counts = counts(place, at, radius, model.count, before.map(|(_, counts)| counts), readout)?;
        let scene = Scene {
            place,
            at: field("verdict"),
            n: model.count,
            begin: counts.opening.unwrap_or(counts.clean),
            ready_made: counts.ready_made.unwrap_or(counts.clean),
            robust: counts.white_box,
        };
        scene.n(&radius.verdict)?;
        if at == 0 {
            arms::nothing_carried(&scene, &radius.verdict)?;
        }
        scene.check(&radius.verdict, counts.ready_made.is_some())?;
        before = Some((radius.eps, counts));
    }
    Ok(())
}

/// The counts behind the accuracies of a radius.
#[derive(Clone, Copy)]
struct Counts {
    clean: usize,
    opening: Option<usize>,
    ready_made: Option<usize>,
    white_box: usize,
}

fn counts(
    place: &Place<'_>,
    at: usize,
    radius: &RadiusResult,
    n: usize,
    before: Option<Counts>,
    readout: &ReadoutResult,
) -> Result<Counts, Contradiction> {
    let whole = |name: &str, accuracy: &Accuracy, least: usize, most: usize| {
        accuracies::between(place, &format!("radii[{at}].{name}"), accuracy, n, least, most)
    };
    // Clean accuracy is the readout's at every radius. The others are in order, and do not rise with the radius.
    let clean = readout.clean_accuracy.correct();
    let clean = whole("clean_accuracy", &radius.clean_accuracy, clean, clean)?;
    let mut most = clean;
    let mut next = |name: &str, accuracy: &Accuracy, before: Option<usize>| {
        most = whole(name, accuracy, 0, most.min(before.unwrap_or(n)))?;
        Ok(most)
    };
    let opening = radius.ready_made_opening_accuracy.as_ref();
    let opening = opening
        .map(|accuracy| next("ready_made_opening_accuracy", accuracy, before.and_then(|b| b.opening)))
        .transpose()?;
    let ready_made = radius.ready_made_accuracy.as_ref();
    let ready_made = ready_made
        .map(|accuracy| next("ready_made_accuracy", accuracy, before.and_then(|b| b.ready_made)))
        .transpose()?;
    let white_box = next("white_box_accuracy", &radius.white_box_accuracy, before.map(|b| b.white_box))?;
    for (name, here, outside) in [
        ("ready_made_opening_accuracy", opening, readout.ready_made_opening_accuracy),
        ("ready_made_accuracy", ready_made, readout.ready_made_accuracy),
    ] {
        if here.is_some() != outside.is_some() {
            let follows = format!("at the largest radius it is {}", shown(outside.map(|a| a.value)));
            let here = shown(here.map(|count| Accuracy::new(count, n).value));
            return Err(place.refuse(format!("radii[{at}].{name}"), here, follows));
        }
    }
    Ok(Counts { clean, opening, ready_made, white_box })
}

fn same_as_outside(
    place: &Place<'_>,
    at: usize,
    last: &RadiusResult,
    model: &Evaluation,
    readout: &ReadoutResult,
) -> Result<(), Contradiction> {
    let field = |name: &str| format!("radii[{at}].{name}");
    if last.eps != model.eps {
        let follows = format!("the largest radius is the model's eps, {}", model.eps);
        return Err(place.refuse(field("eps"), last.eps, follows));
    }
    let value = |accuracy: Option<Accuracy>| shown(accuracy.map(|accuracy| accuracy.value));
    for (name, here, outside) in [
        (
            "ready_made_opening_accuracy",
            last.ready_made_opening_accuracy,
            readout.ready_made_opening_accuracy,
        ),
        ("ready_made_accuracy", last.ready_made_accuracy, readout.ready_made_accuracy),
        ("white_box_accuracy", Some(last.white_box_accuracy), Some(readout.white_box_accuracy)),
    ] {
        // Intervals were compared with their shares already.
        if here.zip(outside).is_some_and(|(here, outside)| !same(here.value, outside.value)) {
            let follows = format!("the readout's own is {}", value(outside));
            return Err(place.refuse(field(name), value(here), follows));
        }
    }
    if last.verdict != readout.verdict {
        let fields = |verdict: &Verdict| serde_json::to_value(verdict).unwrap_or_default();
        let (here, outside) = (fields(&last.verdict), fields(&readout.verdict));
        let keys = here.as_object().into_iter().flat_map(|fields| fields.keys());
        let key = keys.into_iter().find(|&key| here[key] != outside[key]).map_or("", String::as_str);
        let follows = format!("the readout's own is {}", outside[key]);
        return Err(place.refuse(field(&format!("verdict.{key}")), &here[key], follows));
    }
    Ok(())
}
