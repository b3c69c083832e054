//! Arms of equal effort: what they share, what they count, and that nothing but an example's own fate decides its.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use crate::support::{Watch, assert_same, record_of, settings, timeless};
use crate::victims::{Altered, Linear, honest, images, labels, zero};
use equipoise::attack::{self, Budget, Norm, Step, WhiteBox};
use equipoise::batch::{Images, Logits, select, to_vec};
use equipoise::evaluate::{
    Cascade, Conditions, Duel, Journal, Observer, Outcome, Pair, Points, Quiet, Run, Settings, TimeLimit,
    run, run_with,
};
use equipoise_record::{Arm, Finding, VerdictEvidence};

fn attack_of(name: &str) -> Box<dyn attack::Attack> {
    attack::parse(name).unwrap()
}

/// An evaluation with all parts: the training gradient is `training`, the other one right.
pub fn arms<'a>(linear: &'a Linear, training: &'a dyn WhiteBox) -> Cascade<'a> {
    let mut cascade =
        Cascade::ready_made("final", linear, vec![Run::new(attack_of("pgd-2"), "training", training)]);
    for (j, name) in (1..).zip(["pgd-1", "pgd-3", "apgd-ce-4", "fab-t-2"]) {
        let white_box = Run::new(attack_of(name), "other", linear).starting(j);
        let twin = Some(white_box.through("training", training));
        let aimed = Some(white_box.through("aimed", linear));
        cascade.pairs.push(Pair { white_box, twin, aimed });
    }
    let other = Run::new(attack_of("pgd-2x4"), "other", linear).starting(5);
    let training = other.through("aimed", training);
    cascade.yardsticks.push(Duel { other, training });
    cascade.gradient_free.push(Run::gradient_free(attack_of("square-30"), linear));
    cascade
}

fn points(linear: &Linear, n: usize, wrong: usize) -> Points {
    let images = images(n, 30, 0.0, 1.0);
    let mut labels = labels(linear, &images);
    for label in &mut labels[n - wrong..] {
        *label = (*label + 1) % linear.classes;
    }
    Points::new((0..n).map(|k| 1000 + k).collect(), images, labels).unwrap()
}

/// The finding of one readout alone.
fn concluded(outcome: &Outcome) -> equipoise_record::Verdict {
    record_of(outcome).readouts[0].verdict.clone()
}

/// b, c and the rest again, from what became of every example.
fn recount(outcome: &Outcome) {
    let result = &outcome.result;
    let count = |holds: &dyn Fn(&equipoise_record::ExampleResult) -> bool| {
        result.examples.iter().filter(|e| e.clean_correct && holds(e)).count()
    };
    let after_opening = |e: &equipoise_record::ExampleResult| e.broken_in.opening.is_none();
    let only = |first: Arm, second: Arm| {
        count(&|e| after_opening(e) && e.broken_in.get(first).is_some() && e.broken_in.get(second).is_none())
    };
    let verdict = &result.verdict;
    assert_eq!(verdict.b, Some(only(Arm::WhiteBox, Arm::ReadyMade)));
    assert_eq!(verdict.c, Some(only(Arm::ReadyMade, Arm::WhiteBox)));
    let aim = verdict.aim.as_ref().unwrap();
    assert_eq!((aim.b, aim.c), (only(Arm::Aimed, Arm::ReadyMade), only(Arm::ReadyMade, Arm::Aimed)));
    let n = result.examples.len() as f64;
    let share = |count: usize| count as f64 / n;
    assert_eq!(result.ready_made_opening_accuracy.unwrap().value, share(count(&after_opening)));
    let ready_made = count(&|e| after_opening(e) && e.broken_in.ready_made.is_none());
    assert_eq!(result.ready_made_accuracy.unwrap().value, share(ready_made));
    assert_eq!(result.white_box_accuracy.value, share(count(&|e| e.robust)));
    for run in &result.attacks {
        let named = count(&|e| e.broken_in.get(run.arm) == Some(run.run));
        assert_eq!(run.broken + run.carried, named, "{} {}", run.arm.name(), run.run);
    }
    for (arm, runs) in [
        (Arm::WhiteBox, &verdict.arms.white_box),
        (Arm::ReadyMade, &verdict.arms.ready_made),
        (Arm::Aimed, &verdict.arms.aimed),
    ] {
        for (k, run) in runs.iter().enumerate() {
            let standing = count(&|e| after_opening(e) && e.broken_in.get(arm).is_none_or(|by| by > k));
            assert_eq!(run.standing, standing);
        }
    }
}

#[test]
fn a_gradient_against_itself_differs_nowhere() {
    let linear = Linear::random(5, 37);
    let points = points(&linear, 40, 3);
    let outcome = run(&arms(&linear, &linear), &points, &settings(), &Quiet, None).unwrap();
    recount(&outcome);
    let verdict = &outcome.result.verdict;
    // Run and twin start alike and see the same gradient: they break the same points.
    assert_eq!((verdict.b, verdict.c, verdict.p_value), (Some(0), Some(0), Some(1.0)));
    for (white_box, twin) in verdict.arms.white_box.iter().zip(&verdict.arms.ready_made) {
        assert_eq!((white_box.attempted, white_box.broken), (twin.attempted, twin.broken));
        assert_eq!((white_box.start, &white_box.attack), (twin.start, &twin.attack));
    }
    let yardstick = verdict.yardstick.as_ref().unwrap();
    assert_eq!((yardstick.b, yardstick.c, yardstick.chosen_from), (0, 0, 1));
    assert!(verdict.arms.white_box.iter().any(|run| run.broken > 0), "the arms break something");
    // No run of the arms starts where the opening did.
    assert!(
        outcome
            .result
            .attacks
            .iter()
            .all(|a| (a.start == 0) == matches!(a.arm, Arm::Opening | Arm::GradientFree))
    );
}

#[test]
fn a_blind_training_gradient_is_found_out() {
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let points = points(&linear, 90, 3);
    let mut cascade = arms(&linear, &blind);
    let outcome = run(&cascade, &points, &settings(), &Quiet, None).unwrap();
    recount(&outcome);
    let verdict = concluded(&outcome);
    assert_eq!((verdict.finding, verdict.evidence), (Finding::Obfuscated, Some(VerdictEvidence::Gradient)));
    assert!(verdict.b > Some(20) && verdict.c <= Some(1), "{verdict:?}");
    // Aimed, it sees: what the yardstick is then measured with is no worse than the other.
    for pair in &mut cascade.pairs {
        pair.aimed = Some(pair.white_box.through("aimed", &linear));
    }
    cascade.yardsticks[0].training.victim = &linear;
    let aimed = concluded(&run(&cascade, &points, &settings(), &Quiet, None).unwrap());
    assert_eq!((aimed.finding, aimed.evidence), (Finding::Obfuscated, Some(VerdictEvidence::Aim)));
    // Without a control the same gap is open.
    for pair in &mut cascade.pairs {
        (pair.twin, pair.aimed) = (None, None);
    }
    cascade.yardsticks.clear();
    let open = run(&cascade, &points, &settings(), &Quiet, None).unwrap();
    assert!(open.result.white_box_accuracy.value < open.result.ready_made_accuracy.unwrap().value);
    assert_eq!(concluded(&open).finding, Finding::NoControl);
}

#[test]
fn what_only_queries_find_is_counted_apart() {
    let linear = Linear::random(5, 37);
    let flat = Altered { inner: &linear, logits: honest, gradient: zero };
    let points = points(&linear, 90, 0);
    let mut cascade = arms(&linear, &flat);
    for pair in &mut cascade.pairs {
        pair.white_box.victim = &flat;
        pair.aimed = None;
    }
    cascade.yardsticks[0].other.victim = &flat;
    cascade.gradient_free[0].attack = attack_of("square-300").into();
    let outcome = run(&cascade, &points, &settings(), &Quiet, None).unwrap();
    let verdict = concluded(&outcome);
    let alone = |e: &&equipoise_record::ExampleResult| {
        e.broken_by.as_ref().is_some_and(|by| by.arm == Arm::GradientFree)
    };
    assert_eq!(verdict.gradient_free_only, outcome.result.examples.iter().filter(alone).count());
    assert!(verdict.gradient_free_only > 6, "{verdict:?}");
    assert_eq!(
        (verdict.finding, verdict.evidence),
        (Finding::Obfuscated, Some(VerdictEvidence::GradientFree))
    );
}

#[test]
fn an_example_is_alone_with_its_arms() {
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let points = points(&linear, 20, 2);
    let cascade = arms(&linear, &blind);
    let reference = run(&cascade, &points, &settings(), &Quiet, None).unwrap();
    for batch_size in [1, 7] {
        let other = run(&cascade, &points, &Settings { batch_size, ..settings() }, &Quiet, None).unwrap();
        assert_same(&other, &reference, &format!("batch size {batch_size}"));
    }
    for row in 0..20 {
        let (index, label) = (points.indices()[row], points.labels()[row]);
        let alone = Points::new(vec![index], select(points.images(), &[row]), vec![label]).unwrap();
        let alone = run(&cascade, &alone, &settings(), &Quiet, None).unwrap();
        assert_eq!(alone.result.examples[0], reference.result.examples[row]);
        assert_eq!(to_vec(alone.adversarial), to_vec(select(&reference.adversarial, &[row])));
    }
}

/// Stops at its so-manieth step, in the middle of whatever half.
struct Impatient(Cell<usize>);

impl Observer for Impatient {
    fn stage(&self, _: &str, _: usize) {}
    fn advance(&self, _: usize, _: &str) {}
    fn step(&self, _: Step) -> ControlFlow<()> {
        self.0.set(self.0.get().saturating_sub(1));
        if self.0.get() == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
    fn cancelled(&self) -> bool {
        self.0.get() == 0
    }
}

#[test]
fn arms_that_are_interrupted_anywhere_end_the_same() {
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let points = points(&linear, 12, 1);
    let cascade = arms(&linear, &blind);
    for limit in [None, Some(TimeLimit { seconds: 1e6 })] {
        let settings = Settings { batch_size: 5, ..settings() };
        let with = |observer: &dyn Observer, mut journal: Option<Journal>| {
            let conditions = Conditions { limit, journal: journal.as_mut(), ..Conditions::default() };
            run_with(&cascade, &points, &settings, observer, conditions).unwrap()
        };
        let reference = with(&Quiet, None);
        for steps in (1..160).step_by(7) {
            let folder = tempfile::tempdir().unwrap();
            let open = || Journal::open(folder.path(), "model").unwrap();
            let stopped = with(&Impatient(Cell::new(steps)), Some(open()));
            let resumed = with(&Quiet, Some(open()));
            assert_same(&resumed, &reference, &format!("{steps} steps"));
            assert!(stopped.complete || stopped.result.attacks.len() < reference.result.attacks.len());
        }
    }
}

#[test]
fn a_run_is_extended_by_more_images() {
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let all = points(&linear, 30, 3);
    let first = |n: usize| {
        let rows: Vec<usize> = (0..n).collect();
        Points::new(all.indices()[..n].to_vec(), select(all.images(), &rows), all.labels()[..n].to_vec())
            .unwrap()
    };
    let cascade = arms(&linear, &blind);
    let reference = run(&cascade, &all, &settings(), &Quiet, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let open = || Journal::open(folder.path(), "model").unwrap();
    run(&cascade, &first(11), &settings(), &Watch::after(9), Some(&mut open())).unwrap();
    run(&cascade, &first(11), &settings(), &Quiet, Some(&mut open())).unwrap();
    assert_eq!(open().look(11).unwrap(), [11]);
    let before = linear.counter.total();
    let extended = run(&cascade, &all, &settings(), &Quiet, Some(&mut open())).unwrap();
    assert!((linear.counter.total() - before).cell_evaluations > 0);
    assert_same(&extended, &reference, "extended");
    assert_eq!(open().look(30).unwrap(), [11, 30]);
    assert_eq!(open().look(30).unwrap(), [11, 30], "seen twice is seen once");
    // Not with fewer again, nor with others before the new ones.
    let error = run(&cascade, &first(11), &settings(), &Quiet, Some(&mut open())).unwrap_err().to_string();
    assert!(error.contains("number of images"), "{error}");
    let moved = Points::new((0..40).collect(), images(40, 30, 0.0, 1.0), vec![0; 40]).unwrap();
    let error = run(&cascade, &moved, &settings(), &Quiet, Some(&mut open())).unwrap_err().to_string();
    assert!(error.contains("images or labels"), "{error}");
}

#[test]
fn what_falls_at_one_radius_falls_at_every_larger_one() {
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let points = points(&linear, 40, 2);
    let cascade = arms(&linear, &blind);
    let mut smaller: Option<Outcome> = None;
    for eps in [0.005, 0.01, 0.02, 0.03] {
        let settings = Settings { budget: Budget::new(Norm::Linf, eps).unwrap(), ..settings() };
        let folder = tempfile::tempdir().unwrap();
        let with = |observer: &dyn Observer, mut journal: Option<Journal>| {
            let journal = journal.as_mut();
            let conditions = Conditions { smaller: smaller.as_ref(), journal, ..Conditions::default() };
            run_with(&cascade, &points, &settings, observer, conditions).unwrap()
        };
        let open = || Journal::open(folder.path(), "model").unwrap();
        let outcome = with(&Quiet, None);
        with(&Watch::after(4), Some(open()));
        assert_same(&with(&Quiet, Some(open())), &outcome, "resumed");
        recount(&outcome);
        if let Some(smaller) = &smaller {
            let pairs = smaller.result.examples.iter().zip(&outcome.result.examples);
            for (before, after) in pairs {
                for arm in Arm::ALL {
                    let run = before.broken_in.get(arm);
                    assert!(run.is_none() || after.broken_in.get(arm) <= run, "{arm:?} {before:?} {after:?}");
                }
            }
            let fell = smaller.result.attacks.iter().any(|run| run.broken > 0);
            assert_eq!(outcome.result.attacks.iter().any(|run| run.carried > 0), fell);
            assert!(outcome.result.white_box_accuracy.value <= smaller.result.white_box_accuracy.value);
        }
        smaller = Some(outcome);
    }
    // Another cascade's outcome is not carried over.
    let other = Cascade::ready_made("final", &linear, vec![Run::new(attack_of("pgd-2"), "training", &blind)]);
    let conditions = Conditions { smaller: smaller.as_ref(), ..Conditions::default() };
    let error = run_with(&other, &points, &settings(), &Quiet, conditions).unwrap_err().to_string();
    assert!(error.contains("smaller radius"), "{error}");
}

/// Logits so slow that time ends in the middle of the arms.
fn late(_: &Images, logits: Logits) -> Logits {
    std::thread::sleep(std::time::Duration::from_millis(4));
    logits
}

#[test]
fn time_ends_pairs_and_never_halves() {
    let linear = Linear::random(5, 37);
    let slow = Altered { inner: &linear, logits: late, gradient: zero };
    let points = points(&linear, 40, 0);
    let mut cascade =
        Cascade::ready_made("final", &linear, vec![Run::new(attack_of("pgd-1"), "training", &slow)]);
    for j in 1..=6 {
        let white_box = Run::new(attack_of("pgd-8"), "other", &slow).starting(j);
        let twin = Some(white_box.through("training", &slow));
        cascade.pairs.push(Pair { white_box, twin, aimed: None });
    }
    let tiny = Settings { budget: Budget::new(Norm::Linf, 1e-6).unwrap(), ..settings() };
    for seconds in [0.2, 0.3, 0.4] {
        let conditions = Conditions { limit: Some(TimeLimit { seconds }), ..Conditions::default() };
        let outcome = run_with(&cascade, &points, &tiny, &Quiet, conditions).unwrap();
        let arms = &outcome.result.verdict.arms;
        assert_eq!(arms.white_box.len(), arms.ready_made.len());
        // Nothing can fall, so that both arms meet all points that a pair came to.
        for (white_box, twin) in arms.white_box.iter().zip(&arms.ready_made) {
            assert_eq!(white_box.attempted, twin.attempted, "{seconds} s");
        }
        assert!(
            arms.white_box.iter().any(|run| run.attempted < 40),
            "{seconds} s were enough for everything"
        );
        assert_eq!(outcome.result.verdict.b, Some(0));
    }
    let whole = run(&cascade, &points, &tiny, &Quiet, None).unwrap();
    assert!(timeless(&whole.result).verdict.arms.white_box.iter().all(|run| run.attempted == 40));
}

/// Remembers what it was told of the time.
#[derive(Default)]
struct Clock(std::cell::RefCell<Vec<equipoise::evaluate::Forecast>>);

impl Observer for Clock {
    fn stage(&self, _label: &str, _total: usize) {}
    fn advance(&self, _examples: usize, _note: &str) {}
    fn forecast(&self, forecast: equipoise::evaluate::Forecast) {
        self.0.borrow_mut().push(forecast);
    }
    fn cancelled(&self) -> bool {
        false
    }
}

/// The forecast ends where the evaluation ends, and what it takes only grows.
#[test]
fn the_time_left_comes_to_nothing() {
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let clock = Clock::default();
    let outcome = run(&arms(&linear, &blind), &points(&linear, 60, 4), &settings(), &clock, None).unwrap();
    let told = clock.0.borrow();
    assert!(told.len() > 10);
    assert!(told.windows(2).all(|pair| pair[0].spent <= pair[1].spent));
    assert!(told.iter().all(|forecast| forecast.left >= 0.0 && forecast.left.is_finite()));
    assert!(told[0].left > 0.0);
    assert_eq!(told.last().unwrap().left, 0.0);
    let seconds: f64 = outcome.result.attacks.iter().map(|attack| attack.seconds).sum();
    assert!(told.last().unwrap().spent >= seconds);
}

/// Every event of a journal, less the seconds that it took.
fn batches(folder: &Path) -> BTreeMap<String, String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let kept = |path: &Path| path.extension().is_some_and(|end| end == "safetensors");
    let batches = files.filter(|path| kept(path) || path.to_string_lossy().contains("turn-"));
    let content = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        if !kept(path) {
            return String::from_utf8(bytes).unwrap();
        }
        let (length, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let mut said: BTreeMap<String, String> =
            header.metadata().clone().unwrap_or_default().into_iter().collect();
        said.remove("seconds");
        let mut shapes: Vec<String> = header.tensors().iter().map(|entry| format!("{entry:?}")).collect();
        shapes.sort();
        format!("{said:?} {shapes:?} {:?}", &bytes[8 + length..])
    };
    batches.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), content(&path))).collect()
}

/// A stage has several runs, which meet each its own points of a batch: one that was stopped between two of them leaves the same
/// batches as one that was not, where the arms differ too.
#[test]
fn batches_are_cut_the_same_wherever_a_run_is_stopped() {
    /// Stops an attack at its so-manieth step.
    struct Stops(Cell<usize>);
    impl Observer for Stops {
        fn stage(&self, _: &str, _: usize) {}
        fn advance(&self, _: usize, _: &str) {}
        fn cancelled(&self) -> bool {
            false
        }
        fn step(&self, _: Step) -> ControlFlow<()> {
            self.0.set(self.0.get().saturating_sub(1));
            if self.0.get() == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    let linear = Linear::random(5, 37);
    let blind = Altered { inner: &linear, logits: honest, gradient: zero };
    let cascade = arms(&linear, &blind);
    let points = points(&linear, 24, 2);
    let settings = Settings { batch_size: 4, ..settings() };
    let evaluated = |folder: &Path, observer: &dyn Observer| {
        let mut journal = Journal::open(folder, "model").unwrap();
        run(&cascade, &points, &settings, observer, Some(&mut journal)).unwrap()
    };
    let whole = tempfile::tempdir().unwrap();
    let reference = evaluated(whole.path(), &Quiet);
    let expected = batches(whole.path());
    let mut stopped = 0;
    for steps in (1..).step_by(11) {
        let folder = tempfile::tempdir().unwrap();
        if evaluated(folder.path(), &Stops(Cell::new(steps))).complete {
            break;
        }
        stopped += 1;
        assert_same(&evaluated(folder.path(), &Quiet), &reference, &format!("{steps} steps"));
        assert_eq!(batches(folder.path()), expected, "{steps} steps");
    }
    assert!(stopped > 20, "{stopped}");
}
