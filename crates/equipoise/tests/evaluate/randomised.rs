//! A classifier that draws random numbers: what becomes of an example hangs on the example alone, however a run is cut.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;

use crate::support::{Watch, assert_same, cascade, entry, points, settings};
use crate::victims::{Linear, SIZE};
use equipoise::attack::{self, Classifier, Expectation, Pinned, Question, ValueAndGradient, WhiteBox};
use equipoise::batch::{Images, Logits, from_vec, predictions, to_vec};
use equipoise::evaluate::{Journal, Outcome, Quiet, Settings, run};
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::random::Key;

/// Adds normal noise to the images that it is asked about, and remembers by which keys.
struct Noisy<'a> {
    inner: &'a Linear,
    sigma: f64,
    keys: RefCell<Vec<Key>>,
}

impl<'a> Noisy<'a> {
    fn new(inner: &'a Linear) -> Self {
        Self { inner, sigma: 0.05, keys: RefCell::default() }
    }

    fn noisy(&self, question: &Question<'_>) -> Images {
        assert_eq!(question.keys.len(), question.images.dims()[0], "a key for each image");
        self.keys.borrow_mut().extend(question.keys);
        let noise = question.keys.iter().flat_map(|key| {
            let mut rng = key.rng();
            (0..SIZE).map(|_| (self.sigma * rng.normal()) as f32).collect::<Vec<_>>()
        });
        let images = question.images;
        images.clone() + from_vec(noise.collect(), images.dims(), &images.device())
    }
}

impl Classifier for Noisy<'_> {
    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        self.inner.answer(&question.about(&self.noisy(question)))
    }
}

impl WhiteBox for Noisy<'_> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        self.inner.differentiate(&question.about(&self.noisy(question)), objective)
    }
}

const ATTACKS: [&str; 7] =
    ["pgd-4x2", "pgd-3-margin", "apgd-ce-6x2", "apgd-t-4", "fab-t-5", "fab-3x2", "square-20x2"];

fn evaluated(
    name: &str,
    linear: &Linear,
    settings: &Settings,
    watch: &Watch,
    folder: Option<&str>,
) -> Outcome {
    let noisy = Noisy::new(linear);
    let mut journal = folder.map(|folder| Journal::open(Path::new(folder), "model").unwrap());
    let cascade = cascade(&noisy, vec![entry(name, "exact", true, &noisy)]);
    run(&cascade, &points(linear, 14, 1), settings, watch, journal.as_mut()).unwrap()
}

#[test]
fn outcomes_depend_on_nothing_but_the_example_and_the_seed() {
    let linear = Linear::random(5, 37);
    let mut by_seed = HashSet::new();
    for name in ATTACKS {
        let of = |seed: u64, batch_size: usize| {
            let settings = Settings { seed, batch_size, ..settings() };
            evaluated(name, &linear, &settings, &Watch::default(), None)
        };
        let reference = of(4, 16);
        for batch_size in [1, 5, 64] {
            assert_same(&of(4, batch_size), &reference, name);
        }
        by_seed.extend((1..5).map(|seed| format!("{:?}", of(seed, 16).adversarial_predictions)));
        // In pieces, each with another size of the batch.
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        let mut outcome = None;
        for piece in 0..100 {
            let settings = Settings { batch_size: 3 + piece % 4, ..settings() };
            let found = evaluated(name, &linear, &settings, &Watch::after(1), Some(folder));
            if found.complete {
                outcome = Some(found);
                break;
            }
        }
        assert_same(&outcome.expect("it ends"), &reference, name);
    }
    assert!(by_seed.len() > ATTACKS.len(), "the noise decides something: {}", by_seed.len());
}

#[test]
fn an_attack_meets_new_numbers_at_every_question_and_the_verdict_others() {
    let linear = Linear::random(5, 37);
    for name in ATTACKS {
        let noisy = Noisy::new(&linear);
        let cascade = cascade(&noisy, vec![entry(name, "exact", true, &noisy)]);
        run(&cascade, &points(&linear, 14, 1), &settings(), &Quiet, None).unwrap();
        let keys = noisy.keys.into_inner();
        let text = |key: &Key| format!("{key:?}");
        let (verdicts, attack): (Vec<Key>, Vec<Key>) = keys.iter().partition(|key| key.asker == "verdict");
        assert!(verdicts.iter().all(|key| (key.draw, key.start, key.seed) == (0, 0, 4)), "{name}");
        assert!(attack.iter().all(|key| key.asker == "attack"), "{name}");
        let distinct: HashSet<String> = attack.iter().map(text).collect();
        assert_eq!(distinct.len(), attack.len(), "{name}: no two questions share their numbers");
        assert!(attack.len() > 20, "{name}: {}", attack.len());
    }
}

#[test]
fn an_expectation_is_the_mean_of_fresh_draws() {
    let linear = Linear::random(5, 37);
    let noisy = Noisy::new(&linear);
    let points = points(&linear, 6, 0);
    let (images, objective) = (points.images(), CrossEntropy { labels: points.labels().to_vec() });
    let question = |keys: &[Key], draws: usize| {
        Expectation::new(&noisy, draws).differentiate(&Question { images, keys }, &objective)
    };
    let keys = Key::first(4, "test", points.indices());
    let later: Vec<Key> = keys.iter().map(|key| Key { draw: 1, ..*key }).collect();
    let found = question(&keys, 8);
    // Of one draw it is the answer itself; of eight the mean of eight answers, and another question has others.
    let single = |draw: usize| {
        let keys: Vec<Key> = keys.iter().map(|key| Key { draw, ..*key }).collect();
        question(&keys, 1)
    };
    let mean = |first: usize, of: fn(ValueAndGradient) -> Vec<f32>| -> Vec<f32> {
        let all: Vec<Vec<f32>> = (first..first + 8).map(|draw| of(single(draw))).collect();
        (0..all[0].len()).map(|k| all.iter().map(|one| one[k]).sum::<f32>() / 8.0).collect()
    };
    let close = |a: Vec<f32>, b: Vec<f32>| a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5);
    let parts: [fn(ValueAndGradient) -> Vec<f32>; 3] =
        [|answer| to_vec(answer.logits), |answer| to_vec(answer.values), |answer| to_vec(answer.gradient)];
    for part in parts {
        assert!(close(part(found.clone()), mean(0, part)));
        assert!(close(part(question(&later, 8)), mean(8, part)));
        assert!(!close(part(question(&later, 8)), mean(0, part)));
    }
    let logits = to_vec(Expectation::new(&noisy, 8).answer(&Question { images, keys: &keys }));
    assert!(close(logits, to_vec(found.logits)));
    // The mean of the noise is 0, and the classifier is linear.
    let error = |draws: usize| {
        let found = to_vec(question(&keys, draws).logits);
        let exact = to_vec(linear.logits(images));
        found.iter().zip(exact).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    assert!(error(400) < 0.2 * error(4), "{} {}", error(400), error(4));
}

/// A verdict of n draws breaks what a verdict of one does, and more; an attack that knows the draw needs no luck.
#[test]
fn protocols_say_how_often_a_verdict_draws_and_who_knows_the_draw() {
    let linear = Linear::random(5, 37);
    let noisy = attack::Noisy::new(&linear, 0.1);
    let points = points(&linear, 30, 2);
    let run_on = |victim: &dyn WhiteBox, draws: usize, journal: Option<&mut Journal>| {
        let mut cascade = cascade(&noisy, vec![entry("pgd-8", "exact", true, victim)]);
        cascade.draws = draws;
        run(&cascade, &points, &settings(), &Quiet, journal)
    };
    let robust = |outcome: Outcome| -> Vec<bool> {
        let examples = outcome.result.examples;
        examples.iter().map(|example| example.clean_correct && example.broken_by.is_none()).collect()
    };
    let mean = Expectation::new(&noisy, 20);
    let of = |draws| robust(run_on(&mean, draws, None).unwrap());
    let (one, many) = (of(1), of(30));
    assert!(one.iter().zip(&many).all(|(one, many)| *one || !many), "what one draw breaks, thirty do");
    let count = |robust: &[bool]| robust.iter().filter(|robust| **robust).count();
    assert!(count(&many) < count(&one), "{} {}", count(&many), count(&one));
    let known = robust(run_on(&Pinned(&noisy), 1, None).unwrap());
    assert!(count(&known) <= count(&one), "{} {}", count(&known), count(&one));
    // An attack that meets the verdict's draw makes no claim that the verdict does not confirm.
    let attempt = attack::parse("pgd-8").unwrap().run(
        &Pinned(&noisy),
        &points.examples(settings().seed, 0),
        &settings().budget,
    );
    let judge = noisy.answer(&Question { images: &attempt.images, keys: &points.keys(4, Key::VERDICT) });
    for ((claimed, class), &label) in attempt.claimed.iter().zip(predictions(&judge)).zip(points.labels()) {
        assert!(!claimed || class != Some(label));
    }
    // A journal of one protocol is not continued by another.
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path(), "model").unwrap();
    run_on(&mean, 30, Some(&mut journal)).unwrap();
    let mut journal = Journal::open(folder.path(), "model").unwrap();
    let problem = run_on(&mean, 10, Some(&mut journal)).unwrap_err().to_string();
    assert!(problem.contains("draws of a verdict"), "{problem}");
}
