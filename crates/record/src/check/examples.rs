//! The outcome of each example: its fields must agree with one another and with the runs that they name.

use std::collections::{HashMap, HashSet};

use super::{Contradiction, Place, recount::runs_of, shown};
use crate::{Arm, AttackResult, BrokenBy, Evaluation, ExampleResult, ReadoutResult};

pub(super) fn check(
    place: &Place<'_>,
    model: &Evaluation,
    readout: &ReadoutResult,
) -> Result<(), Contradiction> {
    let examples = &readout.examples;
    if model.count != examples.len() {
        let place = Place { model: place.model, readout: None };
        let follows = format!("readout {} has {} examples", readout.name, examples.len());
        return Err(place.refuse("count", model.count, follows));
    }
    let runs: HashMap<(Arm, usize), &AttackResult> =
        readout.attacks.iter().map(|run| ((run.arm, run.run), run)).collect();
    // Version 1 kept no predictions.
    let predicted = examples.iter().any(|example| example.clean_prediction.is_some());
    let mut indices = HashSet::new();
    for (at, example) in examples.iter().enumerate() {
        let refuse = |field: &str, stands: String, follows: String| {
            Err(place.refuse(format!("examples[{at}].{field}"), stands, follows))
        };
        if !indices.insert(example.index) {
            return refuse("index", example.index.to_string(), "another example has the same index".into());
        }
        for (field, class) in [
            ("label", Some(example.label)),
            ("clean_prediction", example.clean_prediction),
            ("adversarial_prediction", example.adversarial_prediction),
        ] {
            if let Some(class) =
                class.filter(|&class| class >= model.classes.len() && !model.classes.is_empty())
            {
                let follows = format!("there are {} classes", model.classes.len());
                return refuse(field, class.to_string(), follows);
            }
        }
        // All readouts answered for the same images.
        if let Some(first) = model.readouts.first().and_then(|first| first.examples.get(at)) {
            for (field, here, there) in
                [("index", example.index, first.index), ("label", example.label, first.label)]
            {
                if here != there {
                    return refuse(field, here.to_string(), format!("the first readout has {there} there"));
                }
            }
        }
        for (arm, run) in runs_of(&example.broken_in) {
            if !runs.contains_key(&(arm, run)) {
                let count = runs.keys().filter(|(other, _)| *other == arm).count();
                let follows = format!("there are {count} runs in that arm");
                return refuse(&format!("broken_in.{}", key(arm)), run.to_string(), follows);
            }
        }
        outcome(example, &runs).or_else(|(field, stands, follows)| refuse(field, stands, follows))?;
        if predicted {
            predictions(example).or_else(|(field, stands, follows)| refuse(field, stands, follows))?;
        }
    }
    transferred(place, readout)
}

/// Points that are not robust, and that no run broke but those on transferred images, fell to these alone: as many as the verdict
/// counts. An older record names no run that broke them.
fn transferred(place: &Place<'_>, readout: &ReadoutResult) -> Result<(), Contradiction> {
    let only_transferred = |e: &ExampleResult| runs_of(&e.broken_in).all(|(arm, _)| arm == Arm::Transferred);
    let fallen = |e: &ExampleResult| e.clean_correct && !e.robust && only_transferred(e);
    let Some(first) = readout.examples.iter().position(fallen) else { return Ok(()) };
    let count = readout.examples.iter().filter(|example| fallen(example)).count();
    match readout.verdict.transfer_only {
        0 => {
            let follows = "it is correct when clean and no run broke it, but for transferred images";
            Err(place.refuse(format!("examples[{first}].robust"), false, follows))
        }
        known if known != count => {
            let follows =
                format!("{count} examples are not robust and broken by no run on images of their own");
            Err(place.refuse("verdict.transfer_only", known, follows))
        }
        _ => Ok(()),
    }
}

/// A field, what stands there, and what follows from the others.
type Wrong = (&'static str, String, String);

/// Whether `robust` and `broken_by` are what `clean_correct` and `broken_in` say.
fn outcome(example: &ExampleResult, runs: &HashMap<(Arm, usize), &AttackResult>) -> Result<(), Wrong> {
    let first = example.broken_in.first();
    if let (false, Some((arm, run))) = (example.clean_correct, first) {
        let follows =
            format!("run {run} of arm {} broke it: only points that are correct are attacked", arm.name());
        return Err(("clean_correct", "false".into(), follows));
    }
    if example.robust {
        let follows = match first {
            _ if !example.clean_correct => "it is misclassified when clean".to_owned(),
            Some((arm, run)) => format!("run {run} of arm {} broke it", arm.name()),
            None => String::new(),
        };
        if !follows.is_empty() {
            return Err(("robust", "true".into(), follows));
        }
    }
    let expected = first.and_then(|place| runs.get(&place)).map(|run| BrokenBy {
        arm: run.arm,
        attack: run.name.clone(),
        estimator: run.estimator.clone(),
        start: run.start,
    });
    if example.broken_by != expected {
        let words = |by: &Option<BrokenBy>| {
            shown(by.as_ref().map(|by| {
                format!(
                    "{} through {} from start {}, arm {}",
                    by.attack,
                    by.estimator,
                    by.start,
                    by.arm.name()
                )
            }))
        };
        let follows = format!("by broken_in it is {}", words(&expected));
        return Err(("broken_by", words(&example.broken_by), follows));
    }
    Ok(())
}

/// Whether the predicted classes agree with the outcome.
fn predictions(example: &ExampleResult) -> Result<(), Wrong> {
    let ExampleResult { label, clean_prediction, adversarial_prediction, .. } = *example;
    if example.clean_correct != (clean_prediction == Some(label)) {
        let follows = format!("the label is {label}, and clean_correct is {}", example.clean_correct);
        return Err(("clean_prediction", shown(clean_prediction), follows));
    }
    let broken = example.broken_by.is_some();
    if !broken && adversarial_prediction.is_some() {
        return Err((
            "adversarial_prediction",
            shown(adversarial_prediction),
            "no run broke the point".into(),
        ));
    }
    if broken && adversarial_prediction == Some(label) {
        let follows = "that is the label, so that the point is not broken".to_owned();
        return Err(("adversarial_prediction", shown(adversarial_prediction), follows));
    }
    let silent = clean_prediction.is_none() || (broken && adversarial_prediction.is_none());
    if silent && !example.non_finite {
        return Err(("non_finite", "false".into(), "a prediction is missing".into()));
    }
    Ok(())
}

/// The arm's key in `broken_in`.
fn key(arm: Arm) -> String {
    arm.name().replace('-', "_")
}
