//! Images that were not made against the judge: tried last, verified like any other, and counted apart.

use std::sync::Arc;

use crate::arms::arms;
use crate::support::{assert_same, points, record_of, settings};
use crate::victims::{Altered, Linear, honest, zero};
use equipoise::attack::{self, Attack};
use equipoise::batch::{from_vec, to_vec};
use equipoise::evaluate::{
    Cascade, Journal, Outcome, Points, Quiet, Run, Settings, Stored, read_adversarial, run, save_adversarial,
};
use equipoise_record::Arm;

/// Nothing but attacks that see no gradient: what follows the true one is left to the transferred images.
fn weak<'a>(linear: &'a Linear, blind: &'a dyn attack::WhiteBox) -> Cascade<'a> {
    let mut cascade = Cascade::ready_made(
        "final",
        linear,
        vec![Run::new(attack::parse("pgd-2").unwrap(), "training", blind)],
    );
    cascade.gradient_free.push(Run::gradient_free(attack::parse("square-5").unwrap(), linear));
    cascade
}

fn evaluated(cascade: &Cascade<'_>, points: &Points, settings: &Settings) -> Outcome {
    run(cascade, points, settings, &Quiet, None).unwrap()
}

/// The whole record of one outcome, which must follow from its examples.
fn checked(outcome: &Outcome) {
    let models = vec![record_of(outcome)];
    let collection =
        equipoise_record::Collection { version: 2, models, diagnoses: Vec::new(), trainings: Vec::new() };
    equipoise_verdict::check(&collection).unwrap();
}

fn broken_in(outcome: &Outcome, arm: Arm) -> Vec<usize> {
    let examples = outcome.result.examples.iter().filter(|example| example.broken_in.get(arm).is_some());
    examples.map(|example| example.index).collect()
}

#[test]
fn images_of_a_sibling_are_tried_last_and_counted_apart() {
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let all = points(&linear, 40, 3);
    let without = evaluated(&weak(&linear, &blind), &all, &settings());
    let mut cascade = weak(&linear, &blind);
    let sibling = Run::new(attack::parse("pgd-3").unwrap(), "through-solver of early(2)", &linear);
    cascade.transferred.push(sibling.starting(7));
    let with = evaluated(&cascade, &all, &settings());
    checked(&with);
    let fallen = broken_in(&with, Arm::Transferred);
    assert!(fallen.len() > 3, "{fallen:?}");
    assert_eq!(with.result.verdict.transfer_only, fallen.len());
    let (before, after) = (&without.result, &with.result);
    assert_eq!(before.verdict.gradient_free_only, after.verdict.gradient_free_only);
    assert_eq!(before.white_box_accuracy.correct(), after.white_box_accuracy.correct() + fallen.len());
    for (before, after) in before.examples.iter().zip(&after.examples) {
        if fallen.contains(&after.index) {
            let by = after.broken_by.as_ref().unwrap();
            assert!(before.robust && !after.robust && by.arm == Arm::Transferred);
            assert_eq!((by.estimator.as_str(), by.start), ("through-solver of early(2)", 7));
        } else {
            assert_eq!(before, after);
        }
    }
    // What other arms broke is not met again.
    let tried = after.attacks.last().unwrap();
    assert_eq!((tried.arm, tried.attempted), (Arm::Transferred, before.white_box_accuracy.correct()));
    // Neither the batch size nor an interruption matters.
    let few = Settings { batch_size: 3, ..settings() };
    assert_same(&evaluated(&cascade, &all, &few), &with, "batches of three");
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut journal = Journal::open(folder.path(), "model").unwrap();
        assert_same(&run(&cascade, &all, &few, &Quiet, Some(&mut journal)).unwrap(), &with, "with a journal");
    }
}

#[test]
fn stored_images_break_where_they_fool_within_the_budget() {
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let all = points(&linear, 40, 3);
    let strong = arms(&linear, &linear);
    let source = evaluated(&strong, &all, &settings());
    let folder = tempfile::tempdir().unwrap();
    let stem = folder.path().join("adversarial");
    let path = save_adversarial(stem, &all, &settings().budget, "another model", &source).unwrap();
    let stored: Arc<dyn Attack> = Arc::new(Stored::new("adversarial", read_adversarial(&path).unwrap()));
    let mut cascade = weak(&linear, &blind);
    cascade.transferred.push(Run::gradient_free(stored.clone(), &linear));
    let with = evaluated(&cascade, &all, &settings());
    checked(&with);
    let robust = |outcome: &Outcome| -> Vec<usize> {
        outcome.result.examples.iter().filter(|example| example.robust).map(|example| example.index).collect()
    };
    // What the source broke is broken here too, by those very images where nothing else broke it.
    let expected: Vec<usize> = robust(&evaluated(&weak(&linear, &blind), &all, &settings()))
        .into_iter()
        .filter(|k| robust(&source).contains(k))
        .collect();
    assert_eq!(robust(&with), expected);
    let fallen = broken_in(&with, Arm::Transferred);
    assert!(fallen.len() > 3);
    let size = to_vec(all.images().clone()).len() / all.len();
    for (row, _) in all.indices().iter().enumerate().filter(|(_, index)| fallen.contains(index)) {
        let image = |of: &Outcome| to_vec(of.adversarial.clone())[row * size..][..size].to_vec();
        assert_eq!(image(&with), image(&source));
    }
    assert!(with.result.attacks.last().unwrap().name == "stored(adversarial)");

    // Within a smaller ball they are nothing.
    let tiny =
        Settings { budget: equipoise::attack::Budget::new(attack::Norm::Linf, 1e-6).unwrap(), ..settings() };
    assert!(broken_in(&evaluated(&cascade, &all, &tiny), Arm::Transferred).is_empty());
    // Nor for examples that they are not of, nor for images of another shape.
    let (labels, images) = (all.labels().to_vec(), all.images().clone());
    let others = Points::new((5000..5040).collect(), images, labels).unwrap();
    assert!(broken_in(&evaluated(&cascade, &others, &settings()), Arm::Transferred).is_empty());
    let victim: &dyn attack::WhiteBox = &linear;
    let small = from_vec(vec![0.5; 4], [1, 1, 2, 2], &all.images().device());
    let examples =
        attack::Examples { images: &small, labels: &[0], indices: &[all.indices()[0]], seed: 0, start: 0 };
    assert_eq!(to_vec(stored.run(victim, &examples, &settings().budget).images), [0.5; 4]);
    // Other images are another attack.
    let again: Arc<dyn Attack> = Arc::new(Stored::new("adversarial", read_adversarial(&path).unwrap()));
    assert!(*again == *stored);
    let path = save_adversarial(
        folder.path().join("b"),
        &all,
        &settings().budget,
        "another model",
        &evaluated(&weak(&linear, &blind), &all, &settings()),
    );
    let other: Arc<dyn Attack> =
        Arc::new(Stored::new("adversarial", read_adversarial(path.unwrap()).unwrap()));
    assert!(*other != *stored);
}
