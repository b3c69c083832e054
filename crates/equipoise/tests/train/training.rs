//! Training: gradients against autodiff through the whole model, and runs that are cut off and go on.

use std::cell::Cell as Flag;
use std::path::Path;

use crate::common::{compare_gradients, small_mdeq, uniform};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use equipoise::architecture::{Architecture, Model};
use equipoise::batch::to_vec;
use equipoise::checkpoint::{FORMAT_VERSION, Metadata, ModelFile, state_dict};
use equipoise::gradient::Estimator;
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::cell::Cell;
use equipoise::model::deq::{Head, Stem};
use equipoise::model::layers::{BatchMoments, Phase};
use equipoise::model::mdeq::MdeqConfig;
use equipoise::model::parameters::accumulate_module;
use equipoise::readout::Readout;
use equipoise::solve::{SolverConfig, StateChoice, solve};
use equipoise::train::{
    Adversary, AdversaryKind, Augment, EarlyStopping, EpochReport, Initial, JacobianRegularisation, Observer,
    OptimizerConfig, Origin, Outcome, Plan, RandomBudget, RandomStates, Schedule, Silent, StepOptions,
    StepReport, TrainConfig, TrainError, Warmup, gradients, train,
};
use equipoise::victim::Deployment;
use equipoise_dataset::{Dataset, Source, Split};

/// The unrolled training gradient is that of an ordinary network: the estimator's pieces must add up to what
/// autodiff finds for stem, unrolled cell and head as one.
#[test]
fn gradients_match_autodiff_through_the_whole_model() {
    let device = Device::default();
    let model = small_mdeq().init(3, &device).unwrap();
    let (images, labels) = (uniform([6, 1, 8, 8], 1), vec![0, 1, 2, 3, 4, 5]);
    let objective = CrossEntropy { labels };
    let deployment = Deployment::unrolled();
    let found =
        gradients(&model, &deployment, &StepOptions::default(), &images, &objective, &Default::default());
    let found = found.unwrap();

    let tracked = model.clone().train();
    let moments = BatchMoments::default();
    let injection = tracked.stem.forward(images, &Phase::Train(&moments));
    let plain = injection.clone().inner();
    let start = Tensor::<2>::zeros([6, model.cell.state_dim()], &device);
    let trajectory = solve(&*model.cell.bind(&plain), start.into(), &SolverConfig::default());
    let mut a = trajectory.choose(StateChoice::Best).into_tensor();
    for damping in deployment.tail.dampings() {
        a = a.clone() * (1.0 - damping) + tracked.cell.apply(a, injection.clone()) * damping;
    }
    let loss = objective.values(tracked.head.forward(a, &Phase::Train(&moments))).mean();
    let mut expected = GradientsParams::new();
    accumulate_module(&mut expected, loss.backward(), &tracked);

    // Biases before a batch normalisation have no gradient but rounding.
    let compared = compare_gradients(&model, &found.parameters, &expected, 1e-3, 1e-12);
    assert!(compared > 30, "only {compared} parameters compared");
}

pub(crate) fn plan<'a>(data: &'a Dataset, folder: &Path) -> Plan<'a> {
    let adversary = Adversary { eps: 0.1, steps: 2, ..Adversary::default() };
    let config = TrainConfig {
        batch_size: 16,
        development: 20,
        checkpoint_steps: 2,
        adversary: Some(adversary),
        augment: Some(Augment { crop: 1, flip: false }),
        warmup: Warmup { steps: 2, layers: 2 },
        ..TrainConfig::standard(2)
    };
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        name: "test".into(),
        architecture: Architecture::from(small_mdeq()),
        deployment: Deployment { solver: SolverConfig::broyden(4), ..Deployment::exact() },
        training: serde_json::Value::Null,
        data: String::new(),
    };
    Plan { metadata, config, data, init: None, seed: 1, folder: folder.to_owned(), resume: true }
}

/// Stops after so many steps.
pub(crate) struct StopAfter(Flag<usize>);

impl StopAfter {
    pub(crate) fn new(steps: usize) -> Self {
        Self(Flag::new(steps))
    }
}

impl Observer for StopAfter {
    fn begin(&self, _step: usize, _steps: usize) {}
    fn step(&self, _report: &StepReport) {
        self.0.set(self.0.get().saturating_sub(1));
    }
    fn epoch(&self, _report: &EpochReport) {}
    fn cancelled(&self) -> bool {
        self.0.get() == 0
    }
}

fn weights(outcome: Outcome) -> equipoise::checkpoint::StateDict {
    assert!(outcome.complete);
    outcome.model.model.weights()
}

#[test]
fn a_run_that_was_cut_off_ends_with_the_same_weights() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let whole = tempfile::tempdir().unwrap();
    let expected = train(&plan(&data, whole.path()), &device, &Silent).unwrap();
    let history = expected.history.clone();
    let expected = weights(expected);
    // Five steps an epoch: cuts inside warm-up, inside an epoch, at an epoch's end, and in the second epoch.
    for cut in [1, 3, 5, 8] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(&data, folder.path());
        let stopped = train(&plan, &device, &StopAfter::new(cut)).unwrap();
        assert!(!stopped.complete);
        assert!(!folder.path().join("model.safetensors").exists());
        let resumed = train(&plan, &device, &Silent).unwrap();
        for (a, b) in history.iter().zip(&resumed.history) {
            assert_eq!(EpochReport { seconds: 0.0, ..*a }, EpochReport { seconds: 0.0, ..*b });
        }
        assert_eq!(weights(resumed), expected, "cut after {cut}");
    }
}

/// Everything that training can do, at once.
pub(crate) fn full_plan<'a>(data: &'a Dataset, folder: &Path) -> Plan<'a> {
    let mut plan = plan(data, folder);
    plan.metadata.architecture = Architecture::from(MdeqConfig { dropout: 0.2, ..small_mdeq() });
    let config = &mut plan.config;
    config.epochs = 3;
    config.adversary =
        Some(Adversary { kind: AdversaryKind::Trades, eps: 0.1, steps: 2, ..Adversary::default() });
    config.clip_norm = Some(0.5);
    config.jacobian =
        Some(JacobianRegularisation { weight: 0.5, frequency: 0.5, probes: 2, epochs: Some(2) });
    config.random_budget = Some(RandomBudget { steps: [2, 5], only_with_jacobian: false });
    config.early_stopping = Some(EarlyStopping { patience: 2 });
    plan
}

fn lines(folder: &Path, name: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_with_everything_is_resumed_to_the_bit() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let (device, whole) = (Device::default(), tempfile::tempdir().unwrap());
    let outcome = train(&full_plan(&data, whole.path()), &device, &Silent).unwrap();
    let (best, epochs) = (outcome.best.unwrap(), outcome.history.len());
    let expected = weights(outcome);
    let read = |folder: &Path, name: &str| std::fs::read(folder.join(name)).unwrap();
    let steps = lines(whole.path(), "steps.jsonl");
    assert_eq!(steps.len(), 5 * epochs);
    for (number, line) in steps.iter().enumerate() {
        assert_eq!(line["step"], number + 1);
        // Two steps of warm-up, which solve nothing, and two epochs of regularisation.
        let budget = line["solver_steps"].as_u64();
        assert_eq!(budget.is_some(), number >= 2, "{line}");
        assert!(budget.is_none_or(|budget| (2..=5).contains(&budget)), "{line}");
        assert!(line["jacobian"].is_null() || (2..10).contains(&number), "{line}");
        assert!(line["gradient_norm"].as_f64().unwrap() > 0.0);
    }
    let regularised = steps.iter().filter(|line| line["jacobian"].as_f64() > Some(0.0)).count();
    assert!((1..8).contains(&regularised), "{regularised} of 8 steps");
    let budgets: std::collections::BTreeSet<_> =
        steps.iter().map(|line| line["solver_steps"].as_u64()).collect();
    assert!(budgets.len() > 3, "{budgets:?}");
    let last = lines(whole.path(), "log.jsonl").pop().unwrap();
    assert_eq!((&last["best_epoch"], &last["step"]), (&best.epoch.into(), &(5 * epochs).into()));

    for cut in [1, 4, 5, 8, 10] {
        let folder = tempfile::tempdir().unwrap();
        let plan = full_plan(&data, folder.path());
        assert!(!train(&plan, &device, &StopAfter::new(cut)).unwrap().complete);
        // What a crash may leave behind: a step beyond the checkpoint, and half a line.
        let path = folder.path().join("steps.jsonl");
        let text = std::fs::read_to_string(&path).unwrap() + "{\"step\":14,\"loss\":0}\n{\"st";
        std::fs::write(&path, text).unwrap();
        let resumed = train(&plan, &device, &Silent).unwrap();
        assert_eq!(resumed.best, Some(best));
        assert_eq!(weights(resumed), expected, "cut after {cut}");
        for name in ["steps.jsonl", "best.safetensors", "model.safetensors"] {
            assert!(read(folder.path(), name) == read(whole.path(), name), "{name}, cut after {cut}");
        }
    }
    // Done is done.
    let again = train(&full_plan(&data, whole.path()), &device, &Silent).unwrap();
    assert_eq!(weights(again), expected);
}

/// What a test changes about a plan.
type Change<'a> = dyn Fn(&mut Plan<'_>) + 'a;

/// Each setting changes what is learned; none is merely accepted.
#[test]
fn every_setting_matters() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let run = |change: &dyn Fn(&mut Plan<'_>)| {
        let folder = tempfile::tempdir().unwrap();
        let mut plan = plan(&data, folder.path());
        plan.config.epochs = 1;
        change(&mut plan);
        weights(train(&plan, &device, &Silent).unwrap())
    };
    let regularise = |plan: &mut Plan<'_>, only_with_jacobian: bool| {
        plan.config.jacobian =
            Some(JacobianRegularisation { weight: 0.5, frequency: 0.5, probes: 1, epochs: None });
        plan.config.random_budget = Some(RandomBudget { steps: [1, 2], only_with_jacobian });
    };
    let changes: [&Change<'_>; 12] = [
        &|_| {},
        &|plan| plan.config.adversary = None,
        &|plan| plan.config.adversary.as_mut().unwrap().kind = AdversaryKind::Trades,
        &|plan| {
            let adversary = plan.config.adversary.as_mut().unwrap();
            (adversary.kind, adversary.beta) = (AdversaryKind::Trades, Some(1.0));
        },
        &|plan| plan.config.clip_norm = Some(0.1),
        &|plan| plan.config.random_budget = Some(RandomBudget { steps: [1, 2], only_with_jacobian: false }),
        &|plan| plan.config.random_states = Some(RandomStates::default()),
        &|plan| {
            plan.config.random_states = Some(RandomStates { in_attack: false, ..RandomStates::default() })
        },
        &|plan| plan.config.random_states = Some(RandomStates { least: 2, ..RandomStates::default() }),
        &|plan| regularise(plan, false),
        &|plan| regularise(plan, true),
        &|plan| {
            plan.metadata.architecture = Architecture::from(MdeqConfig { dropout: 0.2, ..small_mdeq() });
        },
    ];
    let results: Vec<_> = changes.iter().map(|change| run(*change)).collect();
    for (i, a) in results.iter().enumerate() {
        for (j, b) in results.iter().enumerate().skip(i + 1) {
            assert!(a != b, "changes {i} and {j} end with the same weights");
        }
    }
    // A limit that no gradient reaches is no limit.
    assert!(run(&|plan| plan.config.clip_norm = Some(1e9)) == results[0]);
}

#[test]
fn clipped_gradients_have_the_norm_asked_for() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(&data, folder.path());
    // Plain gradient descent moves by rate times gradient.
    plan.config.optimizer = OptimizerConfig::Sgd { learning_rate: 0.5, weight_decay: 0.0, momentum: 0.0 };
    (plan.config.schedule, plan.config.clip_norm) = (Schedule::Constant, Some(0.01));
    let before = plan.metadata.architecture.init(plan.seed, &Device::default()).unwrap().weights();
    let outcome = train(&plan, &Device::default(), &StopAfter::new(1)).unwrap();
    let norm = lines(folder.path(), "steps.jsonl")[0]["gradient_norm"].as_f64().unwrap();
    assert!(norm > 0.1, "{norm}");
    let after = outcome.model.model.weights();
    let moved: f64 = before
        .iter()
        .filter(|(name, _)| !name.contains("running"))
        .flat_map(|(name, entry)| entry.values.iter().zip(&after[name].values))
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum();
    assert!((moved.sqrt() / (0.5 * 0.01) - 1.0).abs() < 1e-2, "{}", moved.sqrt());
}

#[test]
fn trades_lowers_its_loss_and_learns() {
    let data = Source::Digits.load(Split::Train).unwrap().take(600);
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(&data, folder.path());
    plan.metadata.architecture = Architecture::named("mdeq-digits").unwrap();
    plan.config = TrainConfig {
        batch_size: 50,
        development: 100,
        optimizer: OptimizerConfig::Adam { learning_rate: 3e-3, weight_decay: 0.0 },
        adversary: Some(Adversary {
            kind: AdversaryKind::Trades,
            eps: 0.1,
            steps: 3,
            ..Adversary::default()
        }),
        ..TrainConfig::standard(5)
    };
    let history = train(&plan, &Device::default(), &Silent).unwrap().history;
    let (first, last) = (&history[0], &history[4]);
    assert!(last.loss < 0.8 * first.loss, "{} {}", first.loss, last.loss);
    assert!(last.development_robust_accuracy > Some(0.4), "{last:?}");
}

/// A model that is trained with dropout answers as one without: it is off on the development split, in attacks, and in
/// use.
#[test]
fn dropout_is_off_outside_of_training() {
    let device = Device::default();
    let (with, without) = (MdeqConfig { dropout: 0.5, ..small_mdeq() }, small_mdeq());
    let [with, without] = [with, without].map(|config| Architecture::from(config).init(3, &device).unwrap());
    let (images, deployment) = (uniform([4, 1, 8, 8], 2), Deployment::exact());
    let answer = |network: &dyn Model| {
        let victim = network.victim(&deployment, Readout::final_state(), Estimator::exact());
        let answer = victim.value_and_gradient(&images, &CrossEntropy { labels: vec![1, 2, 3, 4] });
        (to_vec(answer.logits), to_vec(answer.gradient))
    };
    assert_eq!(answer(&*with), answer(&*without));
}

#[test]
fn a_run_stops_when_it_no_longer_gets_better() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(&data, folder.path());
    // Steps too small to change an answer: no epoch is better than the first.
    plan.config.optimizer = OptimizerConfig::Adam { learning_rate: 1e-12, weight_decay: 0.0 };
    plan.config.early_stopping = Some(EarlyStopping { patience: 2 });
    (plan.config.epochs, plan.config.warmup) = (6, Warmup::default());
    plan.config.adversary = None;
    let outcome = train(&plan, &Device::default(), &Silent).unwrap();
    let best = outcome.best.unwrap();
    assert!(
        outcome.complete && outcome.history.len() == best.epoch + 2,
        "{best:?} {}",
        outcome.history.len()
    );
    assert!(outcome.history.len() < 6);
    for name in ["best.safetensors", "model.safetensors"] {
        ModelFile::read(&folder.path().join(name), &Device::default()).unwrap();
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let refused = |change: &dyn Fn(&mut Plan<'_>)| {
        let folder = tempfile::tempdir().unwrap();
        let mut plan = full_plan(&data, folder.path());
        change(&mut plan);
        train(&plan, &Device::default(), &Silent).unwrap_err().to_string()
    };
    let baseline = || Architecture::named("resnet18").unwrap().with_width(2).unwrap().for_data([1, 8, 8], 10);
    let expected: [(&Change<'_>, &str); 13] = [
        (&|plan| plan.metadata.architecture = baseline(), "warmup"),
        (
            &|plan| {
                (plan.metadata.architecture, plan.config.warmup.steps) = (baseline(), 0);
            },
            "jacobian",
        ),
        (
            &|plan| {
                (plan.metadata.architecture, plan.config.warmup.steps) = (baseline(), 0);
                plan.config.jacobian = None;
            },
            "random_budget",
        ),
        (
            &|plan| {
                (plan.metadata.architecture, plan.config.warmup.steps) = (baseline(), 0);
                (plan.config.jacobian, plan.config.random_budget) = (None, None);
                plan.config.random_states = Some(RandomStates::default());
            },
            "no states to draw from",
        ),
        (&|plan| plan.config.random_states = Some(RandomStates::default()), "remove one of the two"),
        (
            &|plan| {
                plan.config.random_budget = None;
                plan.config.random_states = Some(RandomStates { least: 99, ..RandomStates::default() });
            },
            "random_states.least 99",
        ),
        (
            &|plan| {
                plan.config.random_budget = None;
                plan.config.random_states = Some(RandomStates::default());
                plan.metadata.deployment.training_gradient = "unrolled:state=2".parse().unwrap();
            },
            "a draw may not reach",
        ),
        (&|plan| plan.config.development = 0, "early_stopping"),
        (&|plan| plan.config.random_budget.as_mut().unwrap().steps = [3, 2], "[3, 2]"),
        (&|plan| plan.config.jacobian.as_mut().unwrap().frequency = 1.5, "frequency 1.5"),
        (&|plan| plan.config.clip_norm = Some(f64::NAN), "clip_norm"),
        (
            &|plan| {
                let adversary = plan.config.adversary.as_mut().unwrap();
                (adversary.kind, adversary.beta) = (AdversaryKind::Pgd, Some(6.0));
            },
            "beta",
        ),
        (
            &|plan| {
                plan.metadata.deployment.training_gradient = "ensemble(exact,unrolled)".parse().unwrap();
            },
            "TRADES",
        ),
    ];
    for (change, word) in expected {
        let message = refused(change);
        assert!(message.contains(word), "no {word} in: {message}");
    }
}

#[test]
fn a_baseline_is_trained_by_trades_too() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let folder = tempfile::tempdir().unwrap();
    let mut plan = full_plan(&data, folder.path());
    plan.metadata.architecture =
        Architecture::named("resnet18").unwrap().with_width(2).unwrap().for_data([1, 8, 8], 10);
    (plan.config.warmup.steps, plan.config.jacobian, plan.config.random_budget) = (0, None, None);
    let outcome = train(&plan, &Device::default(), &Silent).unwrap();
    assert!(outcome.complete && outcome.best.is_some());
    assert!(lines(folder.path(), "steps.jsonl").iter().all(|line| line["solver_steps"].is_null()));
}

/// Recipes of earlier versions, and every new setting written and read.
#[test]
fn recipes_are_read_as_they_are_written() {
    let old = r#"{"epochs": 2, "adversary": {"norm": "linf", "eps": 0.1, "step_size": null, "steps": 2}}"#;
    let config: TrainConfig = serde_json::from_str(old).unwrap();
    assert_eq!(config.adversary, Some(Adversary { eps: 0.1, steps: 2, ..Adversary::default() }));
    assert!(serde_json::to_value(&config).unwrap()["adversary"].get("kind").is_none());
    let data = Source::Digits.load(Split::Train).unwrap().take(1);
    let config = full_plan(&data, Path::new("")).config;
    let text = serde_json::to_string(&config).unwrap();
    assert!(text.contains(r#""kind":"trades""#), "{text}");
    assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), config);
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let folder = tempfile::tempdir().unwrap();
    let first = plan(&data, folder.path());
    train(&first, &Device::default(), &StopAfter::new(3)).unwrap();
    let other = Plan { seed: 2, ..plan(&data, folder.path()) };
    let message = train(&other, &Device::default(), &Silent).unwrap_err().to_string();
    assert!(message.contains("another seed"), "{message}");
}

/// Under a constant learning rate the length of a run decides nothing but its end; under a cosine it decides every step.
#[test]
fn a_run_can_be_lengthened_where_its_steps_do_not_depend_on_its_length() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let constant = |folder: &Path, epochs| {
        let mut plan = plan(&data, folder);
        (plan.config.schedule, plan.config.epochs) = (Schedule::Constant, epochs);
        plan
    };
    let whole = tempfile::tempdir().unwrap();
    let expected = train(&constant(whole.path(), 3), &device, &Silent).unwrap();
    let folder = tempfile::tempdir().unwrap();
    train(&constant(folder.path(), 1), &device, &Silent).unwrap();
    // What is kept and when it stops decides no weight either.
    let mut longer = constant(folder.path(), 3);
    (longer.config.keep_every, longer.config.checkpoint_steps) = (Some(1), 7);
    let resumed = train(&longer, &device, &Silent).unwrap();
    assert_eq!(resumed.history.len(), 3);
    assert_eq!(weights(resumed), weights(expected));
    let kept = |epoch| folder.path().join(format!("epoch-00{epoch}.safetensors"));
    assert!(!kept(1).exists());
    let second = ModelFile::read(&kept(2), &device).unwrap();
    assert_eq!(
        (&second.metadata.training["epoch"], &second.metadata.training["step"]),
        (&2.into(), &10.into())
    );
    let last = ModelFile::read(&folder.path().join("model.safetensors"), &device).unwrap();
    assert_eq!(ModelFile::read(&kept(3), &device).unwrap().metadata, last.metadata);

    let refused = |plan: &Plan<'_>| train(plan, &device, &Silent).unwrap_err().to_string();
    let message = refused(&constant(folder.path(), 2));
    assert!(message.contains("epochs 2") && message.contains("at least 3"), "{message}");
    let cosine = tempfile::tempdir().unwrap();
    train(&plan(&data, cosine.path()), &device, &Silent).unwrap();
    let mut longer = plan(&data, cosine.path());
    longer.config.epochs = 3;
    let message = refused(&longer);
    assert!(message.contains("number of epochs") && message.contains("initial weights"), "{message}");
}

#[test]
fn a_run_starts_from_the_weights_it_is_given() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let first = tempfile::tempdir().unwrap();
    let pretrained = train(&plan(&data, first.path()), &device, &Silent).unwrap().model;
    let start = || Initial {
        model: pretrained.model.clone(),
        origin: Origin { name: "pretrained".into(), sha256: "00".into() },
    };
    let tuned = |folder: &Path| {
        let mut plan = plan(&data, folder);
        plan.init = Some(start());
        plan.config.warmup.steps = 0;
        plan
    };
    // A step that moves nothing: the weights are those that were given, whatever the seed.
    let still = tempfile::tempdir().unwrap();
    let mut frozen = tuned(still.path());
    frozen.seed = 7;
    frozen.config.optimizer = OptimizerConfig::Sgd { learning_rate: 1e-60, weight_decay: 0.0, momentum: 0.0 };
    let outcome = train(&frozen, &device, &Silent).unwrap();
    assert_eq!(outcome.model.metadata.training["init"]["sha256"], "00");
    let trained = |name: &String| !name.contains("running");
    let (found, expected) = (weights(outcome), pretrained.model.weights());
    assert!(found.iter().filter(|(name, _)| trained(name)).all(|(name, entry)| *entry == expected[name]));

    // Interrupted and resumed, also without the weights at hand being those of the seed.
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = weights(train(&tuned(whole.path()), &device, &Silent).unwrap());
    train(&tuned(cut.path()), &device, &StopAfter::new(4)).unwrap();
    assert_eq!(weights(train(&tuned(cut.path()), &device, &Silent).unwrap()), expected);
    let mut other = tuned(cut.path());
    other.init.as_mut().unwrap().origin.sha256 = "11".into();
    let message = train(&other, &device, &Silent).unwrap_err().to_string();
    assert!(message.contains("init.sha256"), "{message}");

    let mut wider = tuned(whole.path());
    wider.resume = false;
    wider.metadata.architecture = Architecture::from(MdeqConfig { final_channels: 24, ..small_mdeq() });
    let message = train(&wider, &device, &Silent).unwrap_err().to_string();
    assert!(message.contains("pretrained") && message.contains("classifier.weight"), "{message}");
}

#[test]
fn data_that_does_not_fit_is_refused() {
    let data = Source::Digits.load(Split::Train).unwrap().take(30);
    let folder = tempfile::tempdir().unwrap();
    let error = train(&plan(&data, folder.path()), &Device::default(), &Silent).unwrap_err();
    assert!(matches!(error, TrainError::Data { .. }), "{error}");
    assert!(error.to_string().contains("30 examples"));
}

/// The head passes each state of a joint gradient once: its running statistics see each once.
#[test]
fn a_joint_gradient_notes_each_state_once() {
    let device = Device::default();
    let model = small_mdeq().init(3, &device).unwrap();
    let (images, objective) = (uniform([4, 1, 8, 8], 4), CrossEntropy { labels: vec![1, 2, 3, 4] });
    let after = |estimator: &str| {
        let training_gradient: Estimator = estimator.parse().unwrap();
        let deployment = Deployment { training_gradient, ..Deployment::exact() };
        let options = StepOptions::default();
        let step =
            gradients(&model, &deployment, &options, &images, &objective, &Default::default()).unwrap();
        state_dict(&step.moments.absorbed_into(model.clone()))
    };
    let (single, double) = (after("exact"), after("joint(exact,exact)"));
    let before = state_dict(&model);
    let mut compared = 0;
    for (name, entry) in &before {
        if !name.contains("running") {
            continue;
        }
        // One pass of a batch b: r ← 0.9 r + 0.1 b. The stem sees one batch, the head the same state twice.
        let in_stem = name.starts_with("downsample") || name.starts_with("stage0");
        let rows = entry.values.iter().zip(&single[name].values).zip(&double[name].values);
        for ((r, one), two) in rows {
            let again = one * 0.9 + (one - r * 0.9);
            let expected = if in_stem { *one } else { again };
            assert!((two - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{name}: {two} {expected}");
            compared += 1;
        }
    }
    assert!(compared > 50);
}

#[test]
fn the_training_gradient_may_be_an_estimator_of_any_kind() {
    let device = Device::default();
    let model = small_mdeq().init(3, &device).unwrap();
    let objective = CrossEntropy { labels: vec![1, 2] };
    let estimator: Estimator = "ensemble(exact,unrolled:state=2..3,lead=1,steps=1)".parse().unwrap();
    let deployment = Deployment { training_gradient: estimator, ..Deployment::exact() };
    let (images, options) = (uniform([2, 1, 8, 8], 4), StepOptions::default());
    let step = gradients(&model, &deployment, &options, &images, &objective, &Default::default()).unwrap();
    assert_eq!(step.logits.dims(), [2, 10]);
    assert!(step.parameters.len() > 30);
}

/// Files of a folder and those below it, by their path within it, with their content.
fn files(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn no_bit_of_a_checkpoint_may_change() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&data, folder.path());
    train(&plan, &device, &StopAfter::new(3)).unwrap();
    let kept: Vec<_> =
        files(folder.path()).into_iter().filter(|(path, _)| path.starts_with("step-000000003")).collect();
    assert_eq!(kept.len(), 4);
    for (path, bytes) in kept {
        let path = folder.path().join(path);
        let mut changed = vec![Vec::new(), bytes[..bytes.len() / 2].to_vec(), [&bytes[..], b"x"].concat()];
        changed.extend((0..bytes.len()).step_by(1 + bytes.len() / 29).map(|at| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        }));
        for bytes in changed {
            std::fs::write(&path, bytes).unwrap();
            let error = train(&plan, &device, &Silent).unwrap_err().to_string();
            assert!(error.contains("step-000000003"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(train(&plan, &device, &Silent).unwrap_err().to_string().contains("step-000000003"));
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(train(&plan, &device, &Silent).unwrap().complete);
}

/// An optimiser's state that is not of this model would end a later step in a panic.
#[test]
fn the_state_of_another_optimiser_is_refused_even_with_right_checksums() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let [folder, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let plan_here = plan(&data, folder.path());
    let mut plan_there = plan(&data, other.path());
    plan_there.metadata.architecture = Architecture::from(MdeqConfig { final_channels: 12, ..small_mdeq() });
    for plan in [&plan_here, &plan_there] {
        train(plan, &device, &StopAfter::new(3)).unwrap();
    }
    let [here, there] = [&folder, &other].map(|folder| folder.path().join("step-000000003"));
    std::fs::copy(there.join("optimizer.bpk"), here.join("optimizer.bpk")).unwrap();
    let names = ["model.safetensors", "optimizer.bpk"];
    let contents = names.map(|name| std::fs::read(here.join(name)).unwrap());
    let sums = equipoise_files::sums(names.into_iter().zip(contents.iter().map(Vec::as_slice)));
    std::fs::write(here.join(equipoise_files::SUMS), sums).unwrap();
    let error = train(&plan_here, &device, &Silent).unwrap_err().to_string();
    assert!(error.contains("optimizer.bpk") && error.contains("no parameter of the model"), "{error}");
}

#[test]
fn the_same_run_writes_the_same_bytes() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let [once, again] = [(); 2].map(|()| {
        let folder = tempfile::tempdir().unwrap();
        train(&plan(&data, folder.path()), &device, &StopAfter::new(3)).unwrap();
        files(folder.path())
    });
    assert!(once.len() >= 5 && once.keys().eq(again.keys()));
    for (path, bytes) in once {
        assert!(again[&path] == bytes, "{}", path.display());
    }
}

#[test]
fn a_folder_has_one_run_and_no_litter() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&data, folder.path());
    train(&plan, &device, &StopAfter::new(3)).unwrap();
    let before = files(folder.path());
    let held = equipoise_files::lock(folder.path()).unwrap();
    let error = train(&plan, &device, &Silent).unwrap_err().to_string();
    assert!(error.contains("another run") && error.contains(&*folder.path().to_string_lossy()), "{error}");
    drop(held);
    assert_eq!(files(folder.path()), before, "nothing was touched");
    // What a killed run leaves: a temporary file and folder, and an older checkpoint of which a part is removed.
    std::fs::write(folder.path().join(".equipoise-abcdef"), "half").unwrap();
    std::fs::create_dir(folder.path().join(".equipoise-ghijkl")).unwrap();
    std::fs::create_dir(folder.path().join("step-000000001")).unwrap();
    std::fs::write(folder.path().join("step-000000001/progress.json"), "{}").unwrap();
    train(&plan, &device, &StopAfter::new(1)).unwrap();
    let names: Vec<_> = files(folder.path()).into_keys().map(|path| path.display().to_string()).collect();
    assert!(names.iter().all(|name| name.starts_with("step-000000004") || !name.contains('/')), "{names:?}");
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
}

/// Removes its folder after a step.
struct Remove<'a>(&'a Path);

impl Observer for Remove<'_> {
    fn begin(&self, _step: usize, _steps: usize) {}
    fn step(&self, report: &StepReport) {
        if report.step == 3 {
            std::fs::remove_dir_all(self.0).unwrap();
        }
    }
    fn epoch(&self, _report: &EpochReport) {}
    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn a_run_ends_when_its_folder_is_removed() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let error = train(&plan(&data, &path), &Device::default(), &Remove(&path)).unwrap_err().to_string();
    assert!(error.contains(&*path.to_string_lossy()) && error.contains("was removed"), "{error}");
    assert!(!path.exists(), "it is not made anew");
}
