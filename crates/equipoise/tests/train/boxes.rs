//! Certified training: its gradient, its radius, what it comes to, and what it is refused for.

use crate::common::uniform;
use burn::tensor::Device;
use equipoise::architecture::{Architecture, Model};
use equipoise::attack::Norm;
use equipoise::batch::{predictions, to_vec};
use equipoise::certify::{Method, MonotoneCertifier};
use equipoise::checkpoint::{FORMAT_VERSION, Metadata};
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::cell::Cell;
use equipoise::model::deq::{Deq, Head, Stem};
use equipoise::model::monotone::{LbenConfig, MonotoneConfig, MonotoneConvConfig, Parametrisation};
use equipoise::solve::SolverConfig;
use equipoise::train::{
    Adversary, AdversaryKind, JacobianRegularisation, OptimizerConfig, Outcome, Plan, Silent, StepOptions,
    TrainConfig, box_gradients, gradients, train,
};
use equipoise::victim::Deployment;
use equipoise_dataset::{Dataset, Source, Split};

fn config() -> MonotoneConfig {
    MonotoneConfig {
        hidden: 20,
        parametrisation: Parametrisation::IntervalBounded,
        monotonicity: 0.5,
        step: 1.0,
        ..MonotoneConfig::digits()
    }
}

fn convolutional() -> MonotoneConvConfig {
    MonotoneConvConfig {
        channels: 3,
        parametrisation: Parametrisation::IntervalBounded,
        monotonicity: 0.5,
        step: 1.0,
        ..MonotoneConvConfig::digits()
    }
}

fn deployment() -> Deployment {
    let solver = SolverConfig::picard(40, 1.0).with_tolerance(1e-6);
    Deployment { solver: solver.clone(), backward: solver, ..Deployment::exact() }
}

fn plan<'a>(data: &'a Dataset, folder: &std::path::Path, kind: AdversaryKind) -> Plan<'a> {
    let adversary = Adversary { kind, eps: 0.05, steps: 3, ..Adversary::default() };
    let config_ = TrainConfig {
        batch_size: 32,
        development: 40,
        optimizer: OptimizerConfig::Adam { learning_rate: 1e-2, weight_decay: 0.0 },
        adversary: Some(adversary),
        ..TrainConfig::standard(8)
    };
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        name: "boxes".into(),
        architecture: Architecture::from(config()),
        deployment: deployment(),
        training: serde_json::Value::Null,
        data: String::new(),
    };
    Plan { metadata, config: config_, data, init: None, seed: 1, folder: folder.to_owned(), resume: false }
}

/// Without a radius the worst logits are the differences to the label's own, so that loss and gradients are those of standard
/// training; with one the loss is larger than any that an attack finds.
#[test]
fn without_a_radius_it_is_standard_training() {
    let device = Device::default();
    without_a_radius_a_pass_is_standard(&config().init(3, &device).unwrap());
    without_a_radius_a_pass_is_standard(&convolutional().init(3, &device).unwrap());
}

fn without_a_radius_a_pass_is_standard<S: Stem, C: Cell, H: Head>(model: &Deq<S, C, H>)
where
    Deq<S, C, H>: Model,
{
    let (images, labels) = (uniform([6, 1, 8, 8], 1), vec![0, 1, 2, 3, 4, 5]);
    let (deployment, options, counter) = (deployment(), StepOptions::default(), Default::default());
    let at = |eps| box_gradients(model, eps, &labels, &deployment, &options, &images, &counter).unwrap();
    let objective = CrossEntropy { labels: labels.clone() };
    let usual = gradients(model, &deployment, &options, &images, &objective, &counter).unwrap();
    let found = at(0.0);
    assert_eq!(predictions(&found.logits), predictions(&usual.logits));
    for (found, usual) in to_vec(found.values.clone()).iter().zip(to_vec(usual.values.clone())) {
        assert!((found - usual).abs() < 1e-5, "{found} {usual}");
    }
    assert_eq!(crate::common::compare_gradients(model, &found.parameters, &usual.parameters, 1e-3, 0.0), 6);
    // The worst logits of a larger box are worse, example by example.
    let (near, far) = (to_vec(at(0.01).values), to_vec(at(0.05).values));
    for (k, value) in to_vec(found.values).into_iter().enumerate() {
        assert!(value < near[k] && near[k] < far[k]);
    }
    assert_eq!(to_vec(objective.values(at(0.05).logits)), far);
}

#[test]
fn the_radius_grows_slowly_and_then_evenly() {
    let adversary = Adversary { kind: AdversaryKind::Boxes, ramp: Some(8), eps: 0.2, ..Adversary::default() };
    let at = |epochs: f64| adversary.radius(epochs);
    assert_eq!((at(0.0), at(8.0), at(30.0)), (0.0, 0.2, 0.2));
    // A fourth power in the first two epochs; then it is straight, with the same slope.
    assert!((at(2.0) / at(1.0) - 16.0).abs() < 1e-9);
    let slope = |t: f64| (at(t + 1e-6) - at(t - 1e-6)) / 2e-6;
    assert!(
        (slope(2.0 - 1e-5) / slope(5.0) - 1.0).abs() < 1e-3 && (slope(3.0) / slope(7.0) - 1.0).abs() < 1e-6
    );
    assert_eq!(Adversary { ramp: None, ..adversary.clone() }.radius(0.0), 0.2);
}

/// Trained for it, a network has more images that boxes certify than one that is trained under attack.
#[test]
fn what_is_trained_for_boxes_is_certified_by_them() {
    let data = Source::Digits.load(Split::Train).unwrap().take(600);
    let trained = |kind, ramp| {
        let folder = tempfile::tempdir().unwrap();
        let mut plan = plan(&data, folder.path(), kind);
        plan.config.adversary.as_mut().unwrap().ramp = ramp;
        certified_of_60(&train(&plan, &Device::default(), &Silent).unwrap())
    };
    let (attacked, boxes) = (trained(AdversaryKind::Pgd, None), trained(AdversaryKind::Boxes, Some(4)));
    assert!(boxes > attacked + 10, "{boxes} of 60, {attacked} trained under attack");
}

/// So has a convolutional one.
#[test]
fn a_convolutional_network_is_trained_for_boxes_too() {
    let data = Source::Digits.load(Split::Train).unwrap().take(600);
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(&data, folder.path(), AdversaryKind::Boxes);
    plan.metadata.architecture = convolutional().into();
    plan.config.adversary.as_mut().unwrap().ramp = Some(4);
    let outcome = train(&plan, &Device::default(), &Silent).unwrap();
    let certified = certified_of_60(&outcome);
    assert!(certified > 20, "{certified} of 60");
}

/// Test images that boxes of the ideal network certify at 0.05.
fn certified_of_60(outcome: &Outcome) -> usize {
    assert!(outcome.complete);
    let certifier = MonotoneCertifier::new(&*outcome.model.model).unwrap();
    let proof = certifier.ideal(Method::Boxes).unwrap();
    let test = Source::Digits.load(Split::Test).unwrap().take(60);
    let holds = |k: &usize| proof.certified(*k, &test.image(*k), Norm::Linf).holds(test.labels[*k], 0.05);
    (0..60).filter(holds).count()
}

#[test]
fn what_makes_no_sense_is_refused() {
    let data = Source::Digits.load(Split::Train).unwrap().take(200);
    type Change<'a> = &'a dyn Fn(&mut Plan<'_>);
    let changes: [(Change<'_>, &str); 5] = [
        (&|plan| plan.metadata.architecture = MonotoneConfig::digits().into(), "interval-bounded"),
        (&|plan| plan.metadata.architecture = LbenConfig::digits().into(), "nemon"),
        (&|plan| plan.config.adversary.as_mut().unwrap().norm = Norm::L2, "adversary.norm l2"),
        (
            &|plan| {
                let (weight, frequency, probes) = (0.1, 1.0, 1);
                plan.config.jacobian =
                    Some(JacobianRegularisation { weight, frequency, probes, epochs: None });
            },
            "jacobian",
        ),
        (
            &|plan| {
                let adversary = plan.config.adversary.as_mut().unwrap();
                (adversary.kind, adversary.ramp) = (AdversaryKind::Pgd, Some(3));
            },
            "adversary.ramp",
        ),
    ];
    for (change, word) in changes {
        let folder = tempfile::tempdir().unwrap();
        let mut plan = plan(&data, folder.path(), AdversaryKind::Boxes);
        change(&mut plan);
        let message = train(&plan, &Device::default(), &Silent).unwrap_err().to_string();
        assert!(message.contains(word), "no {word} in: {message}");
    }
}
