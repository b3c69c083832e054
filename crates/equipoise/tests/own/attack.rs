//! An attack of one's own in one file, written against the driver, and what it gets from the driver for nothing: a name,
//! restarts, keyed random numbers, independence of its batch, progress, cancellation, verification and counted work.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::victims::{Linear, SIZE, TwoLayer, attempt, images, labels, wrong};
use burn::tensor::Device;
use equipoise::architecture::Architecture;
use equipoise::assess::{self, Assessment, Attacks};
use equipoise::attack::{
    self, Attack, AttackFamily, AttackNameError, Budget, Classifier, Counts, Examples, Norm, Queries,
    Schedule, Search, Step,
};
use equipoise::batch::{predictions, select, to_vec};
use equipoise::checkpoint::{FORMAT_VERSION, Metadata, ModelFile};
use equipoise::evaluate::{Cascade, Journal, Observer, Pair, Points, Quiet, Run, Settings, run};
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use equipoise::readout::Readout;
use equipoise::victim::Deployment;
use equipoise_dataset::{Source, Split};
use equipoise_record::Arm;

/// The momentum iterative fast gradient method (MI-FGSM; Dong et al. 2018, arXiv 1710.06081): steps of length ε/T along
/// a running sum of gradients, each divided by its L1 norm. The first search begins at the image, as published; the
/// others anywhere in the ball.
struct MiFgsm(Counts);

/// One example under attack.
struct State {
    row: usize,
    image: Vec<f32>,
    momentum: Vec<f32>,
}

/// μ: what a step keeps of the momentum.
const DECAY: f32 = 1.0;

impl State {
    fn new(search: &Search<'_>, row: usize) -> Self {
        let mut image = search.clean(row).to_vec();
        if !search.is_first() {
            let noise = search.rng("mi-fgsm", row).in_ball(search.budget(), image.len());
            image.iter_mut().zip(noise).for_each(|(pixel, noise)| *pixel += noise);
            search.project(row, &mut image);
        }
        Self { row, momentum: vec![0.0; image.len()], image }
    }

    fn step(&mut self, search: &Search<'_>, gradient: &[f32], length: f64) {
        let size: f32 = gradient.iter().map(|entry| entry.abs()).sum();
        for (momentum, entry) in self.momentum.iter_mut().zip(gradient) {
            *momentum = DECAY * *momentum + if size > 0.0 { entry / size } else { 0.0 };
        }
        let mut ahead = self.momentum.clone();
        search.budget().ascent_example(&mut ahead, length);
        self.image.iter_mut().zip(ahead).for_each(|(pixel, step)| *pixel += step);
        search.project(self.row, &mut self.image);
    }
}

impl Attack for MiFgsm {
    fn name(&self) -> String {
        self.0.name("mi-fgsm", None)
    }

    fn norms(&self) -> &'static [Norm] {
        &[Norm::Linf, Norm::L2]
    }

    fn schedule(&self, _classes: usize, _norm: Norm) -> Schedule {
        Schedule::of_gradients(self.0.steps, self.0.restarts)
    }

    fn search(&self, search: &mut Search<'_>) -> ControlFlow<()> {
        let length = search.budget().eps() / self.0.steps as f64;
        let mut states: Vec<State> = search.rows().into_iter().map(|row| State::new(search, row)).collect();
        for _ in 0..self.0.steps {
            search.step(states.len())?;
            let labels = states.iter().map(|state| search.label(state.row)).collect();
            let points: Vec<(usize, &[f32])> =
                states.iter().map(|state| (state.row, state.image.as_slice())).collect();
            let answers = search.gradients(&points, &CrossEntropy { labels });
            for (state, answer) in states.iter_mut().zip(answers) {
                if answer.fooled {
                    search.keep(state.row, &state.image, true);
                } else {
                    state.step(search, &answer.gradient, length);
                }
            }
            states.retain(|state| search.stands(state.row));
            if states.is_empty() {
                break;
            }
        }
        for state in states {
            search.keep_unseen(state.row, &state.image);
        }
        ControlFlow::Continue(())
    }
}

const FAMILY: AttackFamily = AttackFamily {
    names: &["mi-fgsm-10"],
    usage: "mi-fgsm-STEPS[xRESTARTS] such as mi-fgsm-10",
    parse: |name| {
        Ok(Counts::read(name, "mi-fgsm", None)?.map(|counts| Box::new(MiFgsm(counts)) as Box<dyn Attack>))
    },
};

equipoise::register! { FAMILY }

// Two families with the same names are one too many.
const TWIN: AttackFamily = AttackFamily {
    names: &["twin-1"],
    usage: "twin-STEPS",
    parse: |name| {
        Ok(Counts::read(name, "twin", None)?.map(|counts| Box::new(MiFgsm(counts)) as Box<dyn Attack>))
    },
};
equipoise::register! { TWIN }
equipoise::register! { TWIN }

fn named(name: &str) -> Box<dyn Attack> {
    attack::parse(name).unwrap()
}

const EPS: f64 = 8.0 / 255.0;

#[test]
fn it_is_known_by_name() {
    assert_eq!(named(" mi-fgsm-10x3 ").name(), "mi-fgsm-10x3");
    let attacks: Attacks = "mi-fgsm-10, pgd-5, mi-fgsm-10, whitebox".parse().unwrap();
    assert_eq!(
        (attacks.names(), attacks.white_box),
        (vec!["mi-fgsm-10".to_owned(), "pgd-5".to_owned()], true)
    );
    let twins = attack::parse("twin-3").unwrap_err().to_string();
    assert!(twins.contains("`twin-3`: 2 families"), "{twins}");
    let refused = |name: &str| name.parse::<Attacks>().unwrap_err().to_string();
    let unknown = refused("mi-fgsm-0");
    for part in ["unknown attack `mi-fgsm-0`", "pgd-STEPS", FAMILY.usage, "autoattack-plus, whitebox"] {
        assert!(unknown.contains(part), "{unknown}");
    }
    let many = refused("pgd-5,mi-fgsm-1000001");
    assert!(many.contains("`mi-fgsm-1000001`: 1000001 is too many, use 1 to 1000000 steps"), "{many}");
    assert!(matches!(attack::parse("mi-fgsm-1000001"), Err(AttackNameError::TooMany { .. })));
    // What is recommended in place of others includes it.
    let few = attack::parse("apgd-t").unwrap().check(3).unwrap_err().to_string();
    assert!(few.ends_with("fab, fab-t, square or mi-fgsm-10 instead"), "{few}");
    let l1 = named("mi-fgsm-10").check_norm(Norm::L1).unwrap_err().to_string();
    assert!(
        l1.starts_with(
            "mi-fgsm-10 does not search in l1 balls: with l1 use apgd-ce, apgd-dlr, apgd-t, apgd-t-malt or"
        ),
        "{l1}"
    );
}

#[test]
fn with_two_classes_exactly_the_breakable_points_break() {
    let victim = Linear::random(2, 1);
    let x = images(96, 2, 0.0, 1.0);
    let y = labels(&victim, &x);
    for eps in [2.0 / 255.0, EPS, 0.05] {
        let budget = Budget::new(Norm::Linf, eps).unwrap();
        let breakable = victim.breakable(&x, &y, &budget);
        let count = breakable.iter().filter(|&&breakable| breakable).count();
        assert!((8..88).contains(&count), "the test needs both kinds: {count}");
        for name in ["mi-fgsm-10", "mi-fgsm-5x2"] {
            let found = attempt(named(name).as_ref(), &victim, &x, &y, &budget);
            assert_eq!(wrong(&victim, &found.images, &y), breakable, "{name} at {eps}");
            assert!(budget.contains(&x, &found.images).into_iter().all(|inside| inside));
        }
    }
}

#[test]
fn an_example_does_not_see_its_batch_and_restarts_add() {
    let victim = TwoLayer::random(6, 4);
    let x = images(48, 5, 0.0, 1.0);
    let y: Vec<usize> = predictions(&victim.logits(&x)).into_iter().flatten().collect();
    for (norm, eps) in [(Norm::Linf, 0.02), (Norm::L2, 0.12)] {
        let budget = Budget::new(norm, eps).unwrap();
        let found = |name: &str, rows: &[usize], (seed, start): (u64, usize)| {
            let part = select(&x, rows);
            let labels: Vec<usize> = rows.iter().map(|&row| y[row]).collect();
            let examples = Examples { images: &part, labels: &labels, indices: rows, seed, start };
            let found = named(name).run(&victim, &examples, &budget);
            let pixels = to_vec(found.images);
            pixels.chunks(SIZE).map(<[f32]>::to_vec).zip(found.claimed).collect::<Vec<_>>()
        };
        let all: Vec<usize> = (0..48).collect();
        let together = found("mi-fgsm-4x5", &all, (3, 0));
        for size in [1, 7] {
            let apart: Vec<_> =
                all.chunks(size).flat_map(|rows| found("mi-fgsm-4x5", rows, (3, 0))).collect();
            assert_eq!(apart, together, "batches of {size}");
        }
        let claims = |found: &[(Vec<f32>, bool)]| found.iter().filter(|(_, claimed)| *claimed).count();
        let once = found("mi-fgsm-4", &all, (3, 0));
        assert!((1..48).contains(&claims(&together)) && claims(&once) < claims(&together));
        // The first search draws nothing; later ones, and those of other starts, do.
        assert_eq!(once, found("mi-fgsm-4", &all, (4, 0)));
        assert_ne!(together, found("mi-fgsm-4x5", &all, (4, 0)));
        assert_ne!(once, found("mi-fgsm-4", &all, (3, 1)));
        assert_eq!(found("mi-fgsm-4", &all, (3, 1)), found("mi-fgsm-4", &all, (3, 1)));
    }
}

#[test]
fn its_work_is_what_it_says_beforehand() {
    let victim = Linear::random(4, 19);
    let x = images(16, 20, 0.35, 0.65);
    let y = labels(&victim, &x);
    let tiny = Budget::new(Norm::Linf, 1e-6).unwrap();
    assert!(victim.breakable(&x, &y, &tiny).iter().all(|breakable| !breakable));
    let attack = named("mi-fgsm-5x3");
    let before = victim.work();
    attempt(attack.as_ref(), &victim, &x, &y, &tiny);
    let work = victim.work() - before;
    let Queries { gradients, logits } = attack.queries(4, Norm::Linf);
    assert_eq!((gradients, logits), (15, 2));
    assert_eq!((work.vjps, work.cell_evaluations), (16 * 15, 16 * (15 + 2)));
}

/// Stops an attack at its so-manieth step.
struct Impatient(Cell<usize>);

impl Observer for Impatient {
    fn stage(&self, _: &str, _: usize) {}
    fn advance(&self, _: usize, _: &str) {}
    fn step(&self, step: Step) -> ControlFlow<()> {
        assert!(step.done < step.total && (1..=step.examples).contains(&step.standing), "{step:?}");
        self.0.set(self.0.get().saturating_sub(1));
        if self.0.get() == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn an_evaluation_runs_twins_of_it_and_resumes_it() {
    let victim = Linear::random(5, 37);
    let x = images(24, 30, 0.0, 1.0);
    let y = labels(&victim, &x);
    let points = Points::new((1000..1024).collect(), x, y).unwrap();
    let settings = Settings { budget: Budget::new(Norm::Linf, EPS).unwrap(), seed: 4, batch_size: 5 };
    let attack: Arc<dyn Attack> = named("mi-fgsm-4x2").into();
    let mut cascade = Cascade::new("final", &victim);
    // One step of PGD, of a quarter of the radius, leaves something to break.
    cascade.opening.push(Run::new(named("pgd-1"), "exact", &victim));
    let white_box = Run::new(attack, "unrolled", &victim).starting(1);
    let twin = Some(white_box.through("exact", &victim));
    cascade.pairs.push(Pair { white_box, twin, aimed: None });
    let whole = run(&cascade, &points, &settings, &Quiet, None).unwrap();
    let broken = |arm| {
        let runs = whole.result.attacks.iter().filter(|run| run.arm == arm);
        runs.map(|run| (run.attempted, run.broken, run.unconfirmed)).collect::<Vec<_>>()
    };
    // A twin through the same gradient breaks the same points.
    assert_eq!(broken(Arm::WhiteBox), broken(Arm::ReadyMade));
    let [(attempted, fell, unconfirmed)] = broken(Arm::WhiteBox)[..] else { panic!("one pair") };
    assert!(attempted > fell && fell > 0 && unconfirmed == 0, "{fell} of {attempted}");
    for steps in [1, 2, 9] {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journal::open(folder.path(), "model").unwrap();
        let stopped = Impatient(Cell::new(steps));
        let outcome = run(&cascade, &points, &settings, &stopped, Some(&mut open())).unwrap();
        assert!(!outcome.complete, "it has more than {steps} steps");
        let resumed = run(&cascade, &points, &settings, &Quiet, Some(&mut open())).unwrap();
        assert_eq!(to_vec(resumed.adversarial), to_vec(whole.adversarial.clone()), "stopped at step {steps}");
        assert_eq!(resumed.result.examples, whole.result.examples);
    }
}

#[test]
fn an_assessment_takes_it_by_name_or_as_it_is() {
    named("mi-fgsm-10");
    let device = Device::default();
    let architecture = Architecture::named("mdeq-digits").unwrap();
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        name: "untrained".to_owned(),
        architecture: architecture.clone(),
        deployment: Deployment::exact(),
        training: serde_json::Value::Null,
        data: String::new(),
    };
    let model = ModelFile { metadata, model: architecture.init(3, &device).unwrap() };
    // Labelled by the model itself, so that every image is right when clean and is attacked.
    let mut data = Source::Digits.load(Split::Test).unwrap().take(4);
    let points = assess::points(&data, (0..4).collect(), &device).unwrap();
    let victim = model.model.victim(&model.metadata.deployment, Readout::final_state(), Estimator::exact());
    data.labels = predictions(&victim.logits(points.images())).into_iter().flatten().collect();
    let assess = |attacks: Attacks| {
        let assessment = Assessment::new(&model, &data).attacks(attacks).checks(None);
        let assessment = assessment.gradients(vec![Estimator::through_solver()], Vec::new());
        assessment.run(&Quiet).unwrap().unwrap().readouts.remove(0)
    };
    let by_name = assess("mi-fgsm-2x2".parse().unwrap());
    assert_eq!(by_name.clean_accuracy.value, 1.0);
    let attack: Arc<dyn Attack> = Arc::new(MiFgsm(Counts { steps: 2, restarts: 2 }));
    let as_it_is = assess(Attacks::of([attack]));
    assert_eq!(by_name.examples, as_it_is.examples);
    let runs: Vec<(Arm, &str, &str)> = by_name
        .attacks
        .iter()
        .map(|run| (run.arm, run.name.as_str(), run.estimator.as_str()))
        .filter(|(arm, ..)| [Arm::Opening, Arm::WhiteBox, Arm::ReadyMade].contains(arm))
        .collect();
    let expected = [
        (Arm::Opening, "mi-fgsm-2x2", "exact"),
        (Arm::WhiteBox, "mi-fgsm-2x2", "through-solver"),
        (Arm::ReadyMade, "mi-fgsm-2x2", "exact"),
    ];
    assert_eq!(runs, expected);
}
