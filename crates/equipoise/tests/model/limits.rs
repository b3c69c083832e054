//! What a file claims is refused before memory is taken for it, with the name of the file, whatever kind of file it is.

use std::fs;

use crate::common::small_mdeq;
use burn::tensor::Device;
use equipoise::architecture::Architecture;
use equipoise::checkpoint::{Configuration, FORMAT_VERSION, Metadata, ModelFile};
use equipoise::gradient::Estimator;
use equipoise::model::mdeq::MdeqConfig;
use equipoise::readout::{Readout, Tail};
use equipoise::solve::{Method, SolverConfig, StateChoice};
use equipoise::train::{
    Adversary, Augment, OptimizerConfig, Plan, RandomBudget, Silent, TrainConfig, Warmup, train,
};
use equipoise::victim::Deployment;
use equipoise_dataset::{Source, Split};

fn metadata(architecture: Architecture, deployment: Deployment) -> Metadata {
    Metadata {
        format_version: FORMAT_VERSION,
        name: "small".into(),
        architecture,
        deployment,
        training: serde_json::Value::Null,
        data: String::new(),
    }
}

/// What a model file of a small MDEQ, a configuration and a training run say to such metadata.
fn refusals(metadata: &Metadata) -> [String; 3] {
    let folder = tempfile::tempdir().unwrap();
    let network = Architecture::from(small_mdeq()).init(0, &Device::default()).unwrap();
    let model = folder.path().join("model.safetensors");
    ModelFile { metadata: metadata.clone(), model: network }.write(&model).unwrap();
    let configuration = folder.path().join("configuration.json");
    let content =
        serde_json::json!({ "architecture": metadata.architecture, "deployment": metadata.deployment });
    fs::write(&configuration, content.to_string()).unwrap();
    let of_file = ModelFile::read(&model, &Device::default()).unwrap_err().to_string();
    let of_configuration = Configuration::read(&configuration).unwrap_err().to_string();
    assert!(of_file.contains("model.safetensors"), "{of_file}");
    assert!(of_configuration.contains("configuration.json"), "{of_configuration}");
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let plan = Plan {
        metadata: metadata.clone(),
        config: TrainConfig { development: 20, batch_size: 20, ..TrainConfig::standard(1) },
        data: &data,
        init: None,
        seed: 0,
        folder: folder.path().join("run"),
        resume: false,
    };
    let of_training = train(&plan, &Device::default(), &Silent).unwrap_err().to_string();
    assert!(!plan.folder.exists());
    [of_file, of_configuration, of_training]
}

#[test]
fn sizes_are_bounded() {
    let mdeq = |change: &dyn Fn(&mut MdeqConfig)| {
        let mut config = small_mdeq();
        change(&mut config);
        Architecture::from(config)
    };
    let wide = |name: &str, width: usize| Architecture::named(name).unwrap().with_width(width).unwrap();
    for (architecture, problem) in [
        (mdeq(&|config| config.channels = vec![40_000, 40_000]), "parameters"),
        (mdeq(&|config| config.channels = vec![1 << 60, 4]), "channels"),
        (mdeq(&|config| config.channels = vec![1 << 20; 2]), "at most 65536"),
        (mdeq(&|config| (config.channels, config.head_channels) = (vec![4; 99], vec![2; 99])), "at most 16"),
        (mdeq(&|config| config.head_channels = vec![1 << 60, 2]), "head_channels"),
        (mdeq(&|config| config.final_channels = 1 << 62), "final_channels"),
        (mdeq(&|config| (config.final_channels, config.classes) = (1 << 16, 1 << 16)), "parameters"),
        (mdeq(&|config| config.expansion = 1 << 61), "expansion"),
        (mdeq(&|config| config.expansion = usize::MAX), "expansion"),
        (mdeq(&|config| config.groups = 1 << 62), "groups"),
        (mdeq(&|config| config.downsample_times = usize::MAX), "downsample_times"),
        (mdeq(&|config| config.classes = 1 << 28), "classes"),
        (mdeq(&|config| config.image = [1 << 40, 8, 8]), "image"),
        (mdeq(&|config| config.image = [1, 1 << 40, 1 << 40]), "image"),
        (mdeq(&|config| config.image = [3, 1 << 14, 1 << 14]), "image"),
        (mdeq(&|config| config.image = [1, 1 << 14, 1 << 14]), "channels times image"),
        (wide("resnet18", 1 << 40), "width"),
        (wide("resnet18", 8_192), "parameters"),
        (wide("wrn-34-10", usize::MAX), "width"),
        (wide("wrn-34-10", 1_024), "parameters"),
    ] {
        for message in refusals(&metadata(architecture.clone(), Deployment::exact())) {
            assert!(message.contains(problem), "no {problem} in: {message}");
        }
    }
    // Within the limits, and not what the file holds: nothing is made of it.
    let larger = mdeq(&|config| (config.final_channels, config.classes) = (40_000, 10_000));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let network = Architecture::from(small_mdeq()).init(0, &Device::default()).unwrap();
    ModelFile { metadata: metadata(larger, Deployment::exact()), model: network }.write(&path).unwrap();
    let message = ModelFile::read(&path, &Device::default()).unwrap_err().to_string();
    assert!(message.contains("model.safetensors") && message.contains("[10000, 40000]"), "{message}");
    // The largest models in use are well within.
    for architecture in ["mdeq-xl", "wrn-34-10"] {
        Architecture::named(architecture).unwrap().validate().unwrap();
    }
    let imagenet =
        MdeqConfig { image: [3, 224, 224], downsample_times: 2, classes: 1_000, ..MdeqConfig::xl() };
    imagenet.validate().unwrap();
}

#[test]
fn a_deployment_is_what_commands_accept_as_flags() {
    let of = |change: &dyn Fn(&mut Deployment)| {
        let mut deployment = Deployment { solver: SolverConfig::broyden(8), ..Deployment::exact() };
        change(&mut deployment);
        deployment
    };
    let unrolled = Estimator::unrolled;
    let at = |t: usize| Estimator::adjoint(StateChoice::At(t), 1.0);
    for (deployment, problem) in [
        (of(&|d| d.solver.steps = 1 << 60), "deployment.solver: steps 1152921504606846976"),
        (of(&|d| d.backward.steps = 1_000_000), "deployment.backward: steps 1000000 must be at most 1000"),
        (of(&|d| d.backward.tolerance = -1.0), "deployment.backward: tolerance -1"),
        (of(&|d| d.tail.steps = 1 << 53), "deployment.tail: lead 1 and steps 9007199254740992"),
        (of(&|d| (d.tail.lead, d.tail.steps) = (usize::MAX, 1)), "deployment.tail: lead"),
        (of(&|d| d.tail.damping = -1.0), "deployment.tail: damping=-1"),
        (of(&|d| d.tail.damping = 1e308), "must be in (0, 1]"),
        (of(&|d| d.readout = Readout::early(99)), "deployment.readout: early(99)"),
        (of(&|d| d.training_gradient = at(99)), "state=99"),
        (
            of(&|d| d.training_gradient = unrolled(StateChoice::At(9), Tail::UNROLLED)),
            "choose a state in 1..=8",
        ),
        (
            of(&|d| d.training_gradient = Estimator::ensemble(vec![Estimator::exact(), at(9)]).unwrap()),
            "choose a state in 1..=8",
        ),
        (
            of(&|d| {
                d.training_gradient = Estimator::aimed(unrolled(StateChoice::At(9), Tail::EXACT)).unwrap()
            }),
            "1..=8",
        ),
        (of(&|d| d.solver.method = Method::anderson(1 << 60, 0.0, 1.0)), "anderson memory"),
    ] {
        for message in refusals(&metadata(Architecture::from(small_mdeq()), deployment.clone())) {
            assert!(message.contains(problem), "no {problem} in: {message}");
        }
    }
    // What no JSON can say.
    let nan = f64::NAN;
    for deployment in [
        of(&|d| d.solver.tolerance = nan),
        of(&|d| d.backward.tolerance = f64::INFINITY),
        of(&|d| d.tail.damping = nan),
        of(&|d| d.solver.method = Method::picard(nan)),
        of(&|d| d.solver.method = Method::anderson(5, f64::INFINITY, 1.0)),
        of(&|d| d.training_gradient = Estimator::adjoint(StateChoice::Last, nan)),
        of(&|d| d.training_gradient = unrolled(StateChoice::Best, Tail { damping: nan, ..Tail::EXACT })),
        of(&|d| d.training_gradient = unrolled(StateChoice::Best, Tail { lead: 0, steps: 0, ..Tail::EXACT })),
    ] {
        assert!(deployment.validate().is_err(), "{deployment:?}");
    }
    of(&|d| (d.readout, d.training_gradient) = (Readout::early(8), at(8))).validate().unwrap();
}

#[test]
fn training_settings_are_bounded() {
    let of = |change: &dyn Fn(&mut TrainConfig)| {
        let mut config = TrainConfig { adversary: Some(Adversary::default()), ..TrainConfig::standard(1) };
        change(&mut config);
        config
    };
    let adam = |learning_rate: f64, weight_decay: f64| OptimizerConfig::Adam { learning_rate, weight_decay };
    let sgd = |momentum: f64| OptimizerConfig::Sgd { learning_rate: 0.1, weight_decay: 0.0, momentum };
    for (config, setting) in [
        (of(&|c| c.epochs = usize::MAX), "epochs"),
        (of(&|c| c.batch_size = usize::MAX), "batch_size"),
        (of(&|c| c.warmup = Warmup { steps: 1, layers: 1 << 40 }), "warmup.layers"),
        (of(&|c| c.augment = Some(Augment { crop: usize::MAX, flip: true })), "augment.crop"),
        (of(&|c| c.adversary.as_mut().unwrap().steps = 1 << 40), "adversary.steps"),
        (of(&|c| c.adversary.as_mut().unwrap().eps = 8.0), "adversary.eps 8"),
        (of(&|c| c.adversary.as_mut().unwrap().eps = -1.0), "adversary.eps"),
        (of(&|c| c.adversary.as_mut().unwrap().step_size = Some(f64::NAN)), "adversary.step_size"),
        (of(&|c| c.optimizer = adam(f64::NAN, 0.0)), "learning_rate"),
        (of(&|c| c.optimizer = adam(0.1, f64::INFINITY)), "weight_decay"),
        (of(&|c| c.optimizer = sgd(1.0)), "momentum"),
        (
            of(&|c| c.random_budget = Some(RandomBudget { steps: [1, 1 << 60], only_with_jacobian: false })),
            "random_budget.steps",
        ),
    ] {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(setting), "no {setting} in: {message}");
    }
    // A step that solves for less has fewer states.
    let config = of(&|c| c.random_budget = Some(RandomBudget { steps: [2, 8], only_with_jacobian: false }));
    let deployment = Deployment {
        training_gradient: "unrolled:state=3".parse().unwrap(),
        solver: SolverConfig::broyden(8),
        ..Deployment::exact()
    };
    let mdeq = Architecture::from(small_mdeq());
    let message = config.validate_for(&mdeq, &deployment).unwrap_err().to_string();
    assert!(message.contains("choose a state in 1..=2"), "{message}");
    // A number of held-out examples that would overflow.
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let plan = Plan {
        metadata: metadata(mdeq, Deployment::exact()),
        config: TrainConfig { development: usize::MAX, ..TrainConfig::standard(1) },
        data: &data,
        init: None,
        seed: 0,
        folder: tempfile::tempdir().unwrap().path().join("run"),
        resume: false,
    };
    let message = train(&plan, &Device::default(), &Silent).unwrap_err().to_string();
    assert!(message.contains("100 examples are fewer"), "{message}");
}

#[test]
fn long_configurations_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ["toml", "json", "yaml"] {
        let path = folder.path().join(format!("long.{ending}"));
        fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
        let message = Configuration::read(&path).unwrap_err().to_string();
        assert!(
            message.contains(&format!("long.{ending}")) && message.contains("1048576 bytes"),
            "{message}"
        );
        for deep in ["[".repeat(100_000), "a = ".to_owned() + &"[".repeat(100_000), "- ".repeat(100_000)] {
            fs::write(&path, deep).unwrap();
            let message = Configuration::read(&path).unwrap_err().to_string();
            assert!(
                message.contains(&format!("long.{ending}")) && message.len() < 1_000,
                "{}",
                message.len()
            );
        }
    }
}
