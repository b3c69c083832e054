//! What a recipe asks of training: every setting matters, and what makes no sense is refused.

use std::path::Path;

use crate::common::{small_mdeq, uniform};
use crate::plans::{StopAfter, full_plan, lines, plan, weights};
use burn::tensor::Device;
use equipoise::architecture::{Architecture, Model};
use equipoise::batch::to_vec;
use equipoise::checkpoint::ModelFile;
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use equipoise::model::mdeq::MdeqConfig;
use equipoise::readout::Readout;
use equipoise::train::{
    Adversary, AdversaryKind, EarlyStopping, Initial, JacobianRegularisation, OptimizerConfig, Origin, Plan,
    RandomBudget, RandomStates, Schedule, Silent, TrainConfig, TrainError, Warmup, train,
};
use equipoise::victim::Deployment;
use equipoise_dataset::{Source, Split};

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
