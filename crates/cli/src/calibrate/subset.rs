//! The verdict on some of the images of an evaluation, recounted from what became of each example.
//!
//! An example goes its own way through the arms, whatever else is evaluated with it: so the verdict on a subset is that
//! of an evaluation of the subset alone.

use equipoise_record::{
    Accuracy, Aim, Arm, ArmRun, Arms, Evaluation, ExampleResult, FORMAT_VERSION, ReadoutResult, Verdict,
    Yardstick,
};
use equipoise_verdict::{conclude, difference_interval, exact_test, paired};

/// The readout's record for these rows of it. Work is not recounted: it is not known by example.
///
/// `yardstick` has the names; its counts are made here, from `broken_in` of the examples.
pub fn recount(
    of: &ReadoutResult,
    examples: Vec<ExampleResult>,
    yardstick: Option<&Yardstick>,
) -> ReadoutResult {
    let n = examples.len();
    let count = |holds: &dyn Fn(&ExampleResult) -> bool| {
        examples.iter().filter(|e| e.clean_correct && holds(e)).count()
    };
    let share = |holds: &dyn Fn(&ExampleResult) -> bool| Accuracy::new(count(holds), n);
    let after_opening = |e: &ExampleResult| e.broken_in.opening.is_none();
    let broken = |e: &ExampleResult, arm: Arm| e.broken_in.get(arm).is_some();
    let runs = |arm: Arm, runs: &[ArmRun]| -> Vec<ArmRun> {
        let again = runs.iter().enumerate().map(|(k, run)| {
            let by = |e: &ExampleResult| e.broken_in.get(arm);
            ArmRun {
                attempted: count(&|e| after_opening(e) && by(e).is_none_or(|by| by >= k)),
                broken: count(&|e| by(e) == Some(k)),
                carried: 0,
                standing: count(&|e| after_opening(e) && by(e).is_none_or(|by| by > k)),
                cell_evaluations: 0,
                vjps: 0,
                ..run.clone()
            }
        });
        again.collect()
    };
    let discordant = |first: Arm, second: Arm| {
        let b = count(&|e| after_opening(e) && broken(e, first) && !broken(e, second));
        let c = count(&|e| after_opening(e) && broken(e, second) && !broken(e, first));
        let standing = count(&|e| after_opening(e) && !broken(e, first) && !broken(e, second));
        (b, c, standing)
    };
    let mut verdict = Verdict::no_control(n);
    verdict.arms = Arms {
        ready_made: runs(Arm::ReadyMade, &of.verdict.arms.ready_made),
        white_box: runs(Arm::WhiteBox, &of.verdict.arms.white_box),
        aimed: runs(Arm::Aimed, &of.verdict.arms.aimed),
    };
    verdict.gradient_free_runs = of.verdict.gradient_free_runs;
    verdict.gradient_free_only = count(&|e| {
        e.broken_in.first().is_some_and(|(arm, _)| arm == Arm::GradientFree) && {
            Arm::ALL.iter().all(|&arm| arm == Arm::GradientFree || !broken(e, arm))
        }
    });
    if of.verdict.b.is_some() {
        let (b, c, standing) = discordant(Arm::WhiteBox, Arm::ReadyMade);
        verdict.b = Some(b);
        verdict.c = Some(c);
        verdict.p_value = Some(exact_test(b, c));
        verdict.difference = Some(if n == 0 { 0.0 } else { (b as f64 - c as f64) / n as f64 });
        verdict.difference_interval = Some(difference_interval(n - standing - b - c, b, c, standing));
        let twins = &verdict.arms.ready_made;
        let last: usize = twins[twins.len() - twins.len().div_ceil(4)..].iter().map(|run| run.broken).sum();
        verdict.flattened = (twins.len() >= 4).then(|| last <= (n / 200).max(1));
        if !verdict.arms.aimed.is_empty() {
            let (b, c, _) = discordant(Arm::Aimed, Arm::ReadyMade);
            let (left_b, left_c, standing) = discordant(Arm::WhiteBox, Arm::Aimed);
            let difference = if n == 0 { 0.0 } else { (b as f64 - c as f64) / n as f64 };
            verdict.aim = Some(Aim { b, c, difference, remainder: paired(n, standing, left_b, left_c) });
        }
        verdict.yardstick = yardstick.map(|named| {
            let (other, training) = (Arm::YardstickOther, Arm::YardstickTraining);
            let b = count(&|e| broken(e, other) && !broken(e, training));
            let c = count(&|e| broken(e, training) && !broken(e, other));
            let p_value = (named.chosen_from as f64 * exact_test(b, c)).min(1.0);
            Yardstick { b, c, p_value, ..named.clone() }
        });
    }
    let ready_made = |e: &ExampleResult| after_opening(e) && !broken(e, Arm::ReadyMade);
    let unbroken = |e: &ExampleResult| e.broken_in.first().is_none();
    ReadoutResult {
        name: of.name.clone(),
        clean_accuracy: share(&|_| true),
        ready_made_accuracy: of.ready_made_accuracy.map(|_| share(&ready_made)),
        ready_made_opening_accuracy: of.ready_made_opening_accuracy.map(|_| share(&after_opening)),
        white_box_accuracy: share(&unbroken),
        verdict,
        radii: Vec::new(),
        attacks: Vec::new(),
        flags: Vec::new(),
        plan: None,
        gallery: None,
        randomness: None,
        certificates: Vec::new(),
        examples,
    }
}

/// The verdict of a record that holds nothing else: its p-value is not corrected.
pub fn concluded(result: ReadoutResult) -> Verdict {
    let mut models = vec![Evaluation {
        version: FORMAT_VERSION,
        model: String::new(),
        configuration: serde_json::Value::Null,
        dataset: String::new(),
        classes: Vec::new(),
        norm: "linf".into(),
        eps: 0.0,
        seed: 0,
        count: result.examples.len(),
        clean_accuracy: result.clean_accuracy,
        readouts: vec![result],
    }];
    conclude(&mut models);
    models.swap_remove(0).readouts.swap_remove(0).verdict
}
