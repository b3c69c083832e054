//! ResNet-18 and wide residual networks against PyTorch (`scripts/make_parity_fixture.py`).

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::{
    Fixture, compare_all, normal, parameter_gradients, parameters_of, relative_error, uniform, worst_cosine,
};
use burn::module::{ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use equipoise::architecture::{Architecture, Model};
use equipoise::batch::{Images, to_vec};
use equipoise::checkpoint::StateDict;
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use equipoise::model::feedforward::Feedforward;
use equipoise::model::layers::BatchMoments;
use equipoise::model::resnet::{ResNet18, ResNet18Config};
use equipoise::model::wide_resnet::{WideResNet, WideResNetConfig};
use equipoise::readout::Readout;
use equipoise::train::{StepGradients, feedforward_gradients};
use equipoise::victim::Deployment;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

fn architectures() -> [(&'static str, Architecture); 2] {
    let (image, classes) = ([3, 16, 16], 5);
    let wide = WideResNetConfig { width: 2, depth: 10, image, classes, normalisation: None };
    [
        ("resnet18", Architecture::from(ResNet18Config { width: 4, image, classes, normalisation: None })),
        ("wrn-34-10", Architecture::from(wide)),
    ]
}

/// The weights that the script gives a model: uniform numbers from places of tensors and entries.
fn by_formula(mut weights: StateDict) -> StateDict {
    for (place, (name, entry)) in weights.iter_mut().enumerate() {
        let fan_in: usize = entry.shape.iter().skip(1).product();
        for (at, value) in entry.values.iter_mut().enumerate() {
            let mut x = (at as u64 + ((place as u64) << 32) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            x ^= x >> 31;
            let uniform = (x >> 11) as f64 / (1_u64 << 53) as f64 * 2.0 - 1.0;
            *value = if entry.shape.len() > 1 {
                uniform * (6.0 / fan_in as f64).sqrt()
            } else if name.ends_with("running_var") || name.ends_with("weight") {
                1.0 + 0.5 * uniform
            } else {
                0.2 * uniform
            } as f32;
        }
    }
    weights
}

#[test]
fn names_and_shapes_are_those_of_pytorch() {
    let text = std::fs::read_to_string(Path::new(FIXTURES).join("baselines.json")).unwrap();
    let mut expected: BTreeMap<String, BTreeMap<String, Vec<usize>>> = serde_json::from_str(&text).unwrap();
    for (name, architecture) in architectures() {
        let weights = architecture.init(0, &Device::default()).unwrap().weights();
        let found: BTreeMap<_, _> = weights.into_iter().map(|(name, entry)| (name, entry.shape)).collect();
        assert_eq!(found, expected.remove(name).unwrap());
    }
}

fn network(architecture: &Architecture) -> Box<dyn Model> {
    let network = architecture.init(0, &Device::default()).unwrap();
    let weights = by_formula(network.weights());
    network.with_weights(weights).unwrap()
}

#[test]
fn logits_and_gradients_are_those_of_pytorch() {
    let expected = Fixture::read(&Path::new(FIXTURES).join("baselines.safetensors"));
    for (name, architecture) in architectures() {
        let (network, deployment) = (network(&architecture), Deployment::default());
        let victim = network.victim(&deployment, Readout::final_state(), Estimator::exact());
        assert_eq!(victim.classes(), 5);
        let loss = CrossEntropy { labels: expected.labels() };
        let answer = victim.value_and_gradient(&expected.tensor("x"), &loss);
        let error = relative_error(&answer.logits, &expected.tensor(&format!("{name}.logits")));
        assert!(error < 1e-5, "{name}: logits off by {error}");
        let gradient = expected.tensor(&format!("{name}.gradient"));
        let (error, cosine) =
            (relative_error(&answer.gradient, &gradient), worst_cosine(&answer.gradient, &gradient));
        eprintln!("{name}: gradient off by {error:.1e}, cosine {cosine:.6}");
        assert!(error < 1e-3 && cosine > 0.9999, "{name}: gradient off by {error}, cosine {cosine}");
        assert_eq!(to_vec(victim.logits(&expected.tensor("x"))), to_vec(answer.logits));
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused_by_name() {
    let device = Device::default();
    for (architecture, field) in [
        (Architecture::named("resnet18").unwrap().with_width(0).unwrap(), "width"),
        (Architecture::named("resnet18").unwrap().for_data([3, 57, 16], 10), "image"),
        (Architecture::named("wrn-34-10").unwrap().for_data([3, 32, 32], 1), "classes"),
        (Architecture::from(WideResNetConfig { depth: 33, ..WideResNetConfig::new(1) }), "depth"),
    ] {
        let message = architecture.init(0, &device).unwrap_err().to_string();
        assert!(message.contains(field), "{message}");
    }
    assert!(Architecture::named("mdeq-small").unwrap().with_width(3).is_none());
}

/// Logits, gradients of all parameters and running statistics of a pass in training, fused and composed.
#[test]
fn training_is_that_of_the_composed_network() {
    fn compare<M: Feedforward>(model: &M, images: &Images, u: &Tensor<2>) {
        let read = |fused: bool| {
            let (moments, mut gradients) = (BatchMoments::default(), GradientsParams::new());
            let (logits, pull_back) = match fused {
                true => model.linearize_training(images, &moments),
                false => model.linearize_training_tracked(images, &moments),
            };
            pull_back(u.clone(), &mut gradients);
            let mut all = parameter_gradients(model, &gradients);
            all.extend(parameters_of(&moments.absorbed_into(model.clone())));
            (logits, all)
        };
        let ((logits, parameters), (expected, expected_parameters)) = (read(true), read(false));
        let error = relative_error(&logits, &expected);
        eprintln!("{} numbers, logits off by {error:.1e}", parameters.iter().map(Vec::len).sum::<usize>());
        assert!(error < 1e-5, "logits off by {error}");
        // Sums over the batch in which most cancels, and units at the kinks of their ReLUs.
        compare_all(&parameters, &expected_parameters, 1e-3);
    }
    // More than a chunk, and not a whole number of them.
    let (images, u) = (uniform([19, 3, 16, 16], 5), normal([19, 5], 6));
    for (_, architecture) in architectures() {
        let model = network(&architecture);
        match model.downcast::<ResNet18>() {
            Some(model) => compare(model, &images, &u),
            None => compare(model.downcast::<WideResNet>().unwrap(), &images, &u),
        }
    }
}

/// A small step against the training gradient lowers the mean loss by the step times the gradient's square.
#[test]
fn training_gradients_point_uphill() {
    struct Descend<'a>(&'a GradientsParams, f64, f64);
    impl ModuleMapper for Descend<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(gradient) = self.0.get::<D>(param.id) else { return param };
            self.2 += crate::common::inner(&gradient, &gradient);
            param.map(|value| value - gradient * self.1)
        }
    }
    let fixture = Fixture::read(&Path::new(FIXTURES).join("baselines.safetensors"));
    let (images, objective) = (fixture.tensor("x"), CrossEntropy { labels: fixture.labels() });
    for (name, architecture) in architectures() {
        let descend = |step: f64| {
            let model = network(&architecture);
            let (before, after, square) = match model.downcast::<ResNet18>() {
                Some(model) => descent(model.clone(), &images, &objective, step),
                None => descent(model.downcast::<WideResNet>().unwrap().clone(), &images, &objective, step),
            };
            (before - after) / (step * square)
        };
        let ratio = descend(1e-5);
        assert!((ratio - 1.0).abs() < 0.1, "{name}: the loss fell {ratio} times as far as predicted");
    }

    fn descent<M: Feedforward>(
        model: M,
        images: &Images,
        objective: &CrossEntropy,
        step: f64,
    ) -> (f64, f64, f64) {
        let mean = |step: &StepGradients| crate::common::entries(&step.values.clone().mean())[0];
        let before = feedforward_gradients(&model, images, objective);
        let mut descend = Descend(&before.parameters, step, 0.0);
        let moved = model.map(&mut descend);
        let after = feedforward_gradients(&moved, images, objective);
        (mean(&before), mean(&after), descend.2)
    }
}
