//! Attacks that cheat, and what does not fit together.

use std::ops::ControlFlow;

use crate::support::{cascade, entry, points, settings};
use crate::victims::{Linear, SIZE, images};
use equipoise::attack::{
    Attack, Attempt, Budget, Examples, Norm, Pgd, PgdConfig, Progress, Queries, Schedule, Search, WhiteBox,
};
use equipoise::batch::{from_vec, select, to_vec};
use equipoise::evaluate::{Cascade, EvaluateError, Pair, Points, PointsError, Quiet, Run, Settings, run};

/// An attack that returns whatever it is told to.
struct Cheat<F>(F);

impl<F: Fn(&Examples<'_>) -> Attempt + Send + Sync> Attack for Cheat<F> {
    fn name(&self) -> String {
        "cheat".to_owned()
    }
    fn schedule(&self, _: usize, _: Norm) -> Schedule {
        Schedule::new(1, 1, Queries::default())
    }
    fn search(&self, _: &mut Search<'_>) -> ControlFlow<()> {
        unreachable!("it takes the driver's place")
    }
    fn run_with(&self, _: &dyn WhiteBox, examples: &Examples<'_>, _: &Budget, _: &dyn Progress) -> Attempt {
        (self.0)(examples)
    }
}

#[test]
fn cheating_attacks_are_named() {
    let linear = Linear::random(2, 35);
    let points = points(&linear, 20, 0);
    let try_with = |cheat: Box<dyn Attack>| {
        let entry = Run::new(cheat, "exact", &linear);
        run(&cascade(&linear, vec![(entry, false)]), &points, &settings(), &Quiet, None)
    };
    let shift = |examples: &Examples<'_>, index: usize, by: f32| {
        let shape = examples.images.dims();
        let mut pixels = to_vec(examples.images.clone());
        for (k, row) in pixels.chunks_mut(SIZE).enumerate() {
            if examples.indices[k] == index {
                row[5] += by;
            }
        }
        Attempt { images: from_vec(pixels, shape, &examples.images.device()), ..Attempt::nothing(examples) }
    };
    // In the second batch, so that the row within the batch would be the wrong name.
    for by in [0.04, -0.04, 2.0, f32::NAN] {
        let error = try_with(Box::new(Cheat(move |t: &Examples<'_>| shift(t, 1017, by)))).unwrap_err();
        let EvaluateError::OutsideBudget { attack, index, .. } = &error else { panic!("{error}") };
        assert_eq!((attack.as_str(), *index), ("cheat/exact", 1017));
        assert!(error.to_string().contains("cheat/exact") && error.to_string().contains("1017"), "{error}");
    }
    assert!(try_with(Box::new(Cheat(move |t: &Examples<'_>| shift(t, 1017, 0.0)))).is_ok());

    let fewer = Cheat(|t: &Examples<'_>| Attempt { images: select(t.images, &[0]), ..Attempt::nothing(t) });
    assert!(matches!(try_with(Box::new(fewer)), Err(EvaluateError::Shape { .. })));
    let mute = Cheat(|t: &Examples<'_>| Attempt { claimed: Vec::new(), ..Attempt::nothing(t) });
    assert!(matches!(try_with(Box::new(mute)), Err(EvaluateError::Shape { .. })));
}

#[test]
fn what_does_not_fit_is_refused_with_advice() {
    let linear = Linear::random(2, 36);
    let points_ok = points(&linear, 4, 0);
    let good = || cascade(&linear, vec![entry("pgd-2", "exact", false, &linear)]);
    let error = |cascade: &Cascade<'_>, points: &Points, settings: &Settings| {
        run(cascade, points, settings, &Quiet, None).unwrap_err().to_string()
    };
    assert!(error(&good(), &points_ok, &Settings { batch_size: 0, ..settings() }).contains("batch size"));
    let labelled = Points::new(vec![7], images(1, 1, 0.0, 1.0), vec![2]).unwrap();
    assert!(error(&good(), &labelled, &settings()).contains("example 7 has label 2"));
    // An arm's run from the opening's start, and one that draws none.
    let still = PgdConfig { random_start: false, ..PgdConfig::default() };
    let still: Box<dyn Attack> = Box::new(Pgd::new(still).unwrap());
    for white_box in
        [entry("pgd-2", "unrolled", false, &linear).0, Run::new(still, "unrolled", &linear).starting(1)]
    {
        let mut arms = good();
        let twin = Some(white_box.through("exact", &linear));
        arms.pairs = vec![Pair { white_box, twin, aimed: None }];
        let message = error(&arms, &points_ok, &settings());
        assert!(message.contains("/unrolled has no start of its own"), "{message}");
    }

    let x = || images(2, 1, 0.0, 1.0);
    assert!(matches!(Points::new(vec![1], x(), vec![0, 0]), Err(PointsError::Lengths { .. })));
    assert!(matches!(Points::new(vec![1, 1], x(), vec![0, 0]), Err(PointsError::Twice(1))));
    for bad in [x() * 255.0, x() - 1.0, x().mul_scalar(f32::NAN)] {
        assert!(matches!(Points::new(vec![1, 2], bad, vec![0, 0]), Err(PointsError::Intensity { .. })));
    }
    let none = Points::new(Vec::new(), select(&x(), &[]), Vec::new()).unwrap();
    let outcome = run(&good(), &none, &settings(), &Quiet, None).unwrap();
    assert!(outcome.complete && outcome.result.examples.is_empty());
}
