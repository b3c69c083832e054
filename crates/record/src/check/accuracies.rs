//! Accuracies and their intervals, by the counts behind them.

use super::recount::Recount;
use super::{Contradiction, Place, same};
use crate::{Accuracy, Arm, Interval, ReadoutResult};

pub(super) fn check(
    place: &Place<'_>,
    readout: &ReadoutResult,
    recount: &Recount,
) -> Result<(), Contradiction> {
    let n = recount.n;
    let ran = |arm: Arm| readout.attacks.iter().any(|run| run.arm == arm);
    let words = "are correct when clean";
    counted(place, "clean_accuracy", &readout.clean_accuracy, recount.clean, n, words)?;
    for (field, accuracy, correct, ran, words) in [
        (
            "ready_made_opening_accuracy",
            &readout.ready_made_opening_accuracy,
            recount.opening,
            ran(Arm::Opening),
            "stand after the opening",
        ),
        (
            "ready_made_accuracy",
            &readout.ready_made_accuracy,
            recount.ready_made,
            ran(Arm::Opening) || ran(Arm::ReadyMade),
            "stand after the opening and the twins",
        ),
    ] {
        match accuracy {
            Some(accuracy) => counted(place, field, accuracy, correct, n, words)?,
            None if ran => {
                return Err(place.refuse(field, "null", format!("{correct} of {n} examples {words}")));
            }
            None => {}
        }
    }
    counted(place, "white_box_accuracy", &readout.white_box_accuracy, recount.robust, n, "are robust")
}

/// Whether an accuracy is `correct` of `n`, which do what `words` say.
pub(super) fn counted(
    place: &Place<'_>,
    field: &str,
    accuracy: &Accuracy,
    correct: usize,
    n: usize,
    words: &str,
) -> Result<(), Contradiction> {
    let expected = Accuracy::new(correct, n);
    if !same(accuracy.value, expected.value) {
        let follows = format!("{correct} of {n} examples {words} ({})", expected.value);
        return Err(place.refuse(field, accuracy.value, follows));
    }
    interval(place, field, &expected, &accuracy.interval)
}

/// Whether the interval beside an accuracy is that of what is expected there.
pub(super) fn interval(
    place: &Place<'_>,
    field: &str,
    expected: &Accuracy,
    stands: &Interval,
) -> Result<(), Contradiction> {
    let [low, high] = expected.interval;
    if same(stands[0], low) && same(stands[1], high) {
        return Ok(());
    }
    let stands = format!("[{}, {}]", stands[0], stands[1]);
    let follows = format!("the 95% Wilson interval of {} is [{low}, {high}]", expected.value);
    Err(place.refuse(format!("{field}_interval"), stands, follows))
}

/// The count behind an accuracy, which must be a whole number from `least` to `most` of `n`.
pub(super) fn between(
    place: &Place<'_>,
    field: &str,
    accuracy: &Accuracy,
    n: usize,
    least: usize,
    most: usize,
) -> Result<usize, Contradiction> {
    // A share that is of no whole number of them has a count that does not give it back.
    let correct = accuracy.correct();
    let expected = Accuracy::new(correct, n);
    if !same(accuracy.value, expected.value) {
        let follows = format!("it is the share of a whole number of {n} examples");
        return Err(place.refuse(field, accuracy.value, follows));
    }
    if correct < least || correct > most {
        let share = |count: usize| Accuracy::new(count, n).value;
        let follows = if least == most {
            format!("{most} of {n} examples stand there ({})", share(most))
        } else {
            format!("{least} to {most} of {n} examples stand there ({} to {})", share(least), share(most))
        };
        return Err(place.refuse(field, accuracy.value, follows));
    }
    interval(place, field, &expected, &accuracy.interval)?;
    Ok(correct)
}
