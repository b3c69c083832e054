//! Training gradients against autodiff through the whole model.

use crate::common::{compare_gradients, small_mdeq, uniform};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use equipoise::checkpoint::state_dict;
use equipoise::gradient::Estimator;
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::cell::Cell;
use equipoise::model::deq::{Head, Stem};
use equipoise::model::layers::{BatchMoments, Phase};
use equipoise::model::parameters::accumulate_module;
use equipoise::solve::{SolverConfig, StateChoice, solve};
use equipoise::train::{StepOptions, gradients};
use equipoise::victim::Deployment;

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
