//! The runs: what each broke, by the examples that name it, and what stood after it.

use super::recount::Recount;
use super::{Contradiction, Place, accuracies};
use crate::{Arm, AttackResult, ReadoutResult};

pub(super) fn check(
    place: &Place<'_>,
    readout: &ReadoutResult,
    recount: &Recount,
) -> Result<(), Contradiction> {
    let mut last = recount.clean;
    for (at, run) in readout.attacks.iter().enumerate() {
        let field = |name: &str| format!("attacks[{at}].{name}");
        if run.carried > 0 && readout.radii.len() < 2 {
            return Err(place.refuse(field("carried"), run.carried, "there is no smaller radius"));
        }
        check_run(place, at, run, recount)?;
        let carried_later: usize =
            readout.attacks[at + 1..].iter().fold(0, |sum, run| sum.saturating_add(run.carried));
        // A point that a later run carried over, or that a transferred image broke, may be gone already.
        let most = recount.standing_after[at].min(last);
        let least =
            recount.standing_after[at].saturating_sub(carried_later.saturating_add(recount.transferred));
        last = accuracies::between(place, &field("accuracy"), &run.accuracy, recount.n, least, most)?;
    }
    Ok(())
}

/// Whether each run has the next number of its arm.
pub(super) fn check_numbers(place: &Place<'_>, readout: &ReadoutResult) -> Result<(), Contradiction> {
    let mut numbers = [0; Arm::ALL.len()];
    for (at, run) in readout.attacks.iter().enumerate() {
        let next = &mut numbers[run.arm as usize];
        if run.run != *next {
            let follows = format!("it is run {next} of arm {}", run.arm.name());
            return Err(place.refuse(format!("attacks[{at}].run"), run.run, follows));
        }
        *next += 1;
    }
    Ok(())
}

/// One run by itself.
fn check_run(
    place: &Place<'_>,
    at: usize,
    run: &AttackResult,
    recount: &Recount,
) -> Result<(), Contradiction> {
    let refuse = |name: &str, stands: String, follows: String| {
        Err(place.refuse(format!("attacks[{at}].{name}"), stands, follows))
    };
    let AttackResult { arm, attempted, broken, carried, unconfirmed, .. } = *run;
    let black_box = run.gradient().is_none();
    // Transferred images may be those of an attack on another victim, or stored ones.
    if arm != Arm::Transferred && black_box != (arm == Arm::GradientFree) {
        let follows = format!("its arm is {}", arm.name());
        return refuse("estimator", run.estimator.clone(), follows);
    }
    let expected = match arm {
        Arm::Opening | Arm::ReadyMade => Some(true),
        Arm::WhiteBox | Arm::GradientFree | Arm::YardstickOther | Arm::Transferred => Some(false),
        // The training method, which may be pointed at another function than in training.
        Arm::Aimed | Arm::YardstickTraining => None,
    };
    if expected.is_some_and(|expected| expected != run.ready_made) {
        return refuse("ready_made", run.ready_made.to_string(), format!("its arm is {}", arm.name()));
    }
    if attempted > recount.clean {
        let follows = format!("{} examples are correct when clean", recount.clean);
        return refuse("attempted", attempted.to_string(), follows);
    }
    let named = recount.named(arm, run.run);
    if carried > named {
        return refuse("carried", carried.to_string(), format!("{named} examples name the run"));
    }
    if broken != named - carried {
        let follows = format!("{named} examples name the run, {carried} of them carried over");
        return refuse("broken", broken.to_string(), follows);
    }
    if broken > attempted {
        return refuse("attempted", attempted.to_string(), format!("the run broke {broken}"));
    }
    if unconfirmed > attempted - broken {
        let follows = format!("of {attempted} points {broken} were broken");
        return refuse("unconfirmed", unconfirmed.to_string(), follows);
    }
    if !(run.seconds.is_finite() && run.seconds >= 0.0) {
        return refuse("seconds", run.seconds.to_string(), "a time is a number from 0".into());
    }
    Ok(())
}
