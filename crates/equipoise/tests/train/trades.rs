//! TRADES: its gradient against autodiff through the whole model with both passes as one graph, and its inner attack.

use crate::common::{compare_gradients, relative_error, small_mdeq, uniform};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, activation};
use equipoise::attack::{Budget, Norm, Pgd, PgdConfig, WhiteBox};
use equipoise::batch::{Images, Logits, Values, to_vec};
use equipoise::loss::{CrossEntropy, KlFrom, Objective};
use equipoise::model::cell::Cell;
use equipoise::model::deq::{Head, Stem};
use equipoise::model::feedforward::Feedforward;
use equipoise::model::init::Init;
use equipoise::model::layers::{BatchMoments, Phase};
use equipoise::model::mdeq::Mdeq;
use equipoise::model::parameters::accumulate_module;
use equipoise::model::resnet::ResNet18Config;
use equipoise::readout::Readout;
use equipoise::solve::{SolverConfig, StateChoice, solve};
use equipoise::train::{StepOptions, feedforward_gradients, gradients, trades_gradients};
use equipoise::victim::{Deployment, Victim};

const BETA: f64 = 6.0;

fn labels() -> Vec<usize> {
    vec![0, 1, 2, 3, 4, 5]
}

/// Clean images, and others within 0.1 of them.
fn images() -> (Images, Images) {
    let clean: Images = uniform([6, 1, 8, 8], 1);
    let moved = (clean.clone() + uniform([6, 1, 8, 8], 2) * 0.2 - 0.1).clamp(0.0, 1.0);
    (clean, moved)
}

fn mdeq() -> Mdeq {
    small_mdeq().init(3, &Device::default()).unwrap()
}

/// The loss as the paper writes it, on a graph of both answers.
fn loss(clean: Logits, perturbed: Logits) -> Values {
    let natural = CrossEntropy { labels: labels() }.values(clean.clone());
    let (p, q) = (activation::softmax(clean.clone(), 1), activation::log_softmax(perturbed, 1));
    let divergence = (p * (activation::log_softmax(clean, 1) - q)).sum_dim(1).squeeze_dim::<1>(1);
    natural + divergence * BETA
}

/// Biases before a batch normalisation have no gradient but rounding.
fn compare<M: Module>(model: &M, found: &GradientsParams, expected: &GradientsParams) {
    let compared = compare_gradients(model, found, expected, 2e-3, 1e-10);
    assert!(compared >= 30, "only {compared} parameters compared");
}

#[test]
fn gradients_match_autodiff_through_both_passes_of_a_deq() {
    let (device, model, (clean, moved)) = (Device::default(), mdeq(), images());
    let deployment = Deployment::unrolled();
    let pass = |images: &Images, objective: &dyn Objective| {
        gradients(&model, &deployment, &StepOptions::default(), images, objective, &Default::default())
    };
    let (first, second) = (|o: &dyn Objective| pass(&clean, o), |o: &dyn Objective| pass(&moved, o));
    let found = trades_gradients(&model, &labels(), BETA, &first, &second).unwrap();

    let tracked = model.clone().train();
    let mut moments = BatchMoments::default();
    let mut logits = |images: &Images| {
        let noted = BatchMoments::default();
        let injection = tracked.stem.forward(images.clone(), &Phase::Train(&noted));
        let start = Tensor::<2>::zeros([6, model.cell.state_dim()], &device);
        let bound = model.cell.bind(&injection.clone().inner());
        let mut a =
            solve(&*bound, start.into(), &SolverConfig::default()).choose(StateChoice::Best).into_tensor();
        for damping in deployment.tail.dampings() {
            a = a.clone() * (1.0 - damping) + tracked.cell.apply(a, injection.clone()) * damping;
        }
        let logits = tracked.head.forward(a, &Phase::Train(&noted));
        moments.extend(noted);
        logits
    };
    let (at_clean, at_moved) = (logits(&clean), logits(&moved));
    let values = loss(at_clean, at_moved.clone());
    assert!(relative_error(&found.values, &values.clone().inner()) < 1e-4);
    assert!(relative_error(&found.logits, &at_moved.inner()) < 1e-4);
    let mut expected = GradientsParams::new();
    accumulate_module(&mut expected, values.mean().backward(), &tracked);
    compare(&model, &found.parameters, &expected);

    // Running statistics have seen the clean batch first, then the other.
    let of = |moments: BatchMoments| {
        let stem = moments.absorbed_into(model.clone()).stem;
        stem.forward(clean.clone(), &Phase::Evaluate)
    };
    let after = of(found.moments);
    assert!(relative_error(&after, &of(moments)) < 1e-5);
    let once = pass(&clean, &CrossEntropy { labels: labels() }).unwrap().moments;
    assert!(relative_error(&after, &of(once)) > 1e-3);
}

#[test]
fn gradients_match_autodiff_through_both_passes_of_a_baseline() {
    let config = ResNet18Config { image: [1, 8, 8], ..ResNet18Config::new(2) };
    let model = config.init(&mut Init::new(1, &Device::default())).unwrap();
    let (clean, moved) = images();
    let first = |o: &dyn Objective| Ok(feedforward_gradients(&model, &clean, o));
    let second = |o: &dyn Objective| Ok(feedforward_gradients(&model, &moved, o));
    let found = trades_gradients(&model, &labels(), BETA, &first, &second).unwrap();
    let tracked = model.clone().train();
    let moments = BatchMoments::default();
    let logits = |images: &Images| tracked.forward(images.clone(), &Phase::Train(&moments));
    let values = loss(logits(&clean), logits(&moved));
    assert!(relative_error(&found.values, &values.clone().inner()) < 1e-4);
    let mut expected = GradientsParams::new();
    accumulate_module(&mut expected, values.mean().backward(), &tracked);
    compare(&model, &found.parameters, &expected);
}

/// From the image itself the divergence has no gradient; from a little noise its ascent gets far, within the budget.
#[test]
fn the_inner_attack_drives_the_answers_apart() {
    let (deq, deployment, (clean, _)) = (mdeq(), Deployment::exact(), images());
    let estimator = deployment.training_gradient.clone();
    let victim: Box<dyn WhiteBox> =
        Box::new(Victim::new(&deq, &deployment, Readout::final_state(), estimator));
    let budget = Budget::new(Norm::Linf, 0.1).unwrap();
    let pgd = Pgd::new(PgdConfig::default()).unwrap();
    let divergence = KlFrom { reference: victim.logits(&clean) };
    let start = clean.clone() + crate::common::normal(clean.dims(), 5) * 0.001;
    let [at_rest, nearby] = [&clean, &start].map(|x| victim.value_and_gradient(x, &divergence).gradient);
    let length = |gradient: &Images| crate::common::inner(gradient, gradient).sqrt();
    // Rounding, and nothing else.
    assert!(length(&at_rest) < 1e-2 * length(&nearby), "{} {}", length(&at_rest), length(&nearby));
    let found = pgd.ascend(&*victim, &clean, &budget, &start, &divergence);
    assert!(to_vec((found.clone() - clean.clone()).abs()).iter().all(|&moved| moved <= 0.1 + 1e-6));
    let value = |images: &Images| to_vec(divergence.values(victim.logits(images)));
    let (before, after) = (value(&budget.project(&clean, &start)), value(&found));
    assert!(before.iter().zip(&after).all(|(before, after)| after > before), "{before:?} {after:?}");
    assert!(after.iter().sum::<f32>() > 10.0 * before.iter().sum::<f32>(), "{before:?} {after:?}");
}
