//! Training: gradients against autodiff through the whole model, and runs that are cut off and go on.

mod common;

use std::cell::Cell as Flag;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use common::{relative_error, uniform};
use equipoise::checkpoint::{FORMAT_VERSION, Metadata, state_dict};
use equipoise::deployed::Deployment;
use equipoise::gradient::Estimator;
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::cell::Cell;
use equipoise::model::deq::{Head, Stem};
use equipoise::model::layers::{BatchMoments, Phase};
use equipoise::model::mdeq::MdeqConfig;
use equipoise::model::parameters::accumulate_module;
use equipoise::network::Architecture;
use equipoise::solve::{SolverConfig, StateChoice, solve};
use equipoise::train::{
    Adversary, Augment, EpochReport, Observer, Outcome, Plan, Silent, StepReport, TrainConfig, TrainError,
    Warmup, gradients, train,
};
use equipoise_dataset::{Dataset, Source, Split};

fn architecture() -> MdeqConfig {
    MdeqConfig {
        channels: vec![4, 4],
        head_channels: vec![2, 2],
        final_channels: 8,
        groups: 2,
        expansion: 1,
        ..MdeqConfig::digits()
    }
}

/// The unrolled training gradient is that of an ordinary network: the estimator's pieces must add up to what
/// autodiff finds for stem, unrolled cell and head as one.
#[test]
fn gradients_match_autodiff_through_the_whole_model() {
    let device = Device::default();
    let model = architecture().init(3, &device).unwrap();
    let (images, labels) = (uniform([6, 1, 8, 8], 1), vec![0, 1, 2, 3, 4, 5]);
    let objective = CrossEntropy { labels };
    let deployment = Deployment::unrolled();
    let found = gradients(&model, &deployment, None, &images, &objective, &Default::default());

    let tracked = model.clone().train();
    let moments = BatchMoments::default();
    let injection = tracked.stem.forward(images, &Phase::Train(&moments));
    let plain = injection.clone().inner();
    let start = Tensor::zeros([6, model.cell.state_dim()], &device);
    let trajectory = solve(&*model.cell.bind(&plain), start, &SolverConfig::default());
    let mut a = trajectory.choose(StateChoice::Best);
    for damping in deployment.tail.dampings() {
        a = a.clone() * (1.0 - damping) + tracked.cell.apply(a, injection.clone()) * damping;
    }
    let loss = objective.values(tracked.head.forward(a, &Phase::Train(&moments))).mean();
    let mut expected = GradientsParams::new();
    accumulate_module(&mut expected, loss.backward(), &tracked);

    struct Compare<'a>(&'a GradientsParams, &'a GradientsParams, usize);
    impl ModuleVisitor for Compare<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(expected) = self.1.get::<D>(param.id) else { return };
            // Biases before a batch normalisation have no gradient but rounding.
            if common::inner(&expected, &expected) < 1e-12 {
                return;
            }
            let found = self.0.get::<D>(param.id).expect("a gradient for every parameter");
            let error = relative_error(&found, &expected);
            assert!(error < 1e-3, "parameter {} {:?}: {error}", param.id, param.dims());
            self.2 += 1;
        }
    }
    let mut compare = Compare(&found.parameters, &expected, 0);
    model.visit(&mut compare);
    assert!(compare.2 > 30, "only {} parameters compared", compare.2);
}

fn plan<'a>(data: &'a Dataset, folder: &Path) -> Plan<'a> {
    let adversary =
        Adversary { norm: "linf".parse().unwrap(), eps: 0.1, step_size: None, steps: 2, gradient: None, warm_start: false };
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
        architecture: Architecture::Mdeq(architecture()),
        deployment: Deployment { solver: SolverConfig::broyden(4), ..Deployment::exact() },
        training: serde_json::Value::Null,
        data: String::new(),
    };
    Plan { metadata, config, data, seed: 1, folder: folder.to_owned(), resume: true }
}

/// Stops after so many steps.
struct StopAfter(Flag<usize>);

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
    state_dict(&outcome.model.network)
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
        let stopped = train(&plan, &device, &StopAfter(Flag::new(cut))).unwrap();
        assert!(!stopped.complete);
        assert!(!folder.path().join("model.safetensors").exists());
        let resumed = train(&plan, &device, &Silent).unwrap();
        for (a, b) in history.iter().zip(&resumed.history) {
            assert_eq!(EpochReport { seconds: 0.0, ..*a }, EpochReport { seconds: 0.0, ..*b });
        }
        assert_eq!(weights(resumed), expected, "cut after {cut}");
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let folder = tempfile::tempdir().unwrap();
    let first = plan(&data, folder.path());
    train(&first, &Device::default(), &StopAfter(Flag::new(3))).unwrap();
    let other = Plan { seed: 2, ..plan(&data, folder.path()) };
    let message = train(&other, &Device::default(), &Silent).unwrap_err().to_string();
    assert!(message.contains("another seed"), "{message}");
}

#[test]
fn data_that_does_not_fit_is_refused() {
    let data = Source::Digits.load(Split::Train).unwrap().take(30);
    let folder = tempfile::tempdir().unwrap();
    let error = train(&plan(&data, folder.path()), &Device::default(), &Silent).unwrap_err();
    assert!(matches!(error, TrainError::Data { .. }), "{error}");
    assert!(error.to_string().contains("30 examples"));
}

#[test]
fn dropout_is_refused_rather_than_ignored() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(&data, folder.path());
    plan.metadata.architecture = Architecture::Mdeq(MdeqConfig { dropout: 0.2, ..architecture() });
    let message = train(&plan, &Device::default(), &Silent).unwrap_err().to_string();
    assert!(message.contains("dropout"), "{message}");
}

#[test]
fn the_training_gradient_may_be_an_estimator_of_any_kind() {
    let device = Device::default();
    let model = architecture().init(3, &device).unwrap();
    let objective = CrossEntropy { labels: vec![1, 2] };
    let estimator: Estimator = "ensemble(exact,unrolled:state=2..3,lead=1,steps=1)".parse().unwrap();
    let deployment = Deployment { training_gradient: estimator, ..Deployment::exact() };
    let step =
        gradients(&model, &deployment, None, &uniform([2, 1, 8, 8], 4), &objective, &Default::default());
    assert_eq!(step.logits.dims(), [2, 10]);
    assert!(step.parameters.len() > 30);
}
