//! The fused kernels of the head against the composed head: the same logits and gradients, for any batch, and in
//! training the same gradients of all parameters and the same statistics.

use crate::common::cells::all_sizes;
use crate::common::{compare_all, parameter_gradients, parameters_of, relative_error};
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use equipoise::batch::{from_vec, select, to_vec};
use equipoise::model::deq::{Head, HeadTrainingPullBack};
use equipoise::model::layers::{BatchMoments, Phase};
use equipoise::model::mdeq::{MdeqConfig, MdeqHead};
use equipoise::random::ExampleRng;

/// Relative error allowed; float32 rounding through a head is a few 1e-7.
const TOLERANCE: f64 = 1e-5;

/// Parameters and running statistics all different, variances positive.
struct Scatter(usize);

impl ModuleMapper for Scatter {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        let shape: [usize; D] = param.dims();
        if D > 1 {
            return param;
        }
        let factors = numbers(shape.iter().product(), self.0).into_iter().map(|x| 1.0 + 0.3 * x).collect();
        param.map(|tensor| tensor.clone() * from_vec(factors, shape, &tensor.device()) + 0.05)
    }
}

/// Uniform in [-1, 1].
fn numbers(count: usize, stream: usize) -> Vec<f32> {
    let mut rng = ExampleRng::new(0, "head", stream, 0);
    (0..count).map(|_| rng.uniform(-1.0, 1.0) as f32).collect()
}

fn head(config: &MdeqConfig) -> MdeqHead {
    config.init(3, &Device::default()).unwrap().head.map(&mut Scatter(0))
}

fn inputs(config: &MdeqConfig, count: usize) -> (Tensor<2>, Tensor<2>) {
    let device = Device::default();
    let (dim, classes) = (config.layout().dim(), config.classes);
    let state = from_vec(numbers(count * dim, 1000), [count, dim], &device);
    (state, from_vec(numbers(count * classes, 1001), [count, classes], &device))
}

#[test]
fn logits_and_gradients_are_those_of_the_composed_head() {
    for config in all_sizes() {
        let head = head(&config);
        let (state, u) = inputs(&config, 3);
        let (found, pull_back) = head.linearize(&state);
        let (expected, composed) = head.linearize_tracked(&state);
        let check = |what: &str, found: &Tensor<2>, expected: &Tensor<2>| {
            let error = relative_error(found, expected);
            println!("{:?} {what} {error:.1e}", config.channels);
            assert!(error < TOLERANCE, "{what}: {error} with {config:?}");
        };
        check("logits", &found, &expected);
        check("gradient", &pull_back(u.clone()), &composed(u));
        let forward = head.forward(state, &Phase::Evaluate);
        assert_eq!(to_vec(forward), to_vec(found), "logits with and without a way back");
    }
}

#[test]
fn no_example_depends_on_its_batch() {
    let config = MdeqConfig::small();
    let head = head(&config);
    let (state, u) = inputs(&config, 19);
    let (logits, pull_back) = head.linearize(&state);
    let gradient = pull_back(u.clone());
    let (again, pull_back) = head.linearize(&state);
    assert_eq!(to_vec(again), to_vec(logits.clone()), "memory that was used before");
    assert_eq!(to_vec(pull_back(u.clone())), to_vec(gradient.clone()), "memory that was used before");
    let rows = [18, 4, 7];
    let (some, pull_back) = head.linearize(&select(&state, &rows));
    assert_eq!(to_vec(some), to_vec(select(&logits, &rows)));
    assert_eq!(to_vec(pull_back(select(&u, &rows))), to_vec(select(&gradient, &rows)));
}

#[test]
fn changed_parameters_are_seen_and_nan_is_kept() {
    let config = MdeqConfig::small();
    let head = head(&config);
    let (state, _) = inputs(&config, 2);
    let before = to_vec(head.forward(state.clone(), &Phase::Evaluate));
    let changed = head.clone().map(&mut Scatter(50));
    assert_ne!(to_vec(changed.forward(state.clone(), &Phase::Evaluate)), before);
    assert_eq!(to_vec(head.forward(state.clone(), &Phase::Evaluate)), before);
    let mut broken = to_vec(state.clone());
    broken[0] = f32::NAN;
    let broken = from_vec(broken, state.dims(), &state.device());
    let logits = to_vec(head.forward(broken, &Phase::Evaluate));
    let (first, second) = logits.split_at(config.classes);
    assert!(first.iter().all(|x| x.is_nan()));
    assert_eq!(second, &before[config.classes..]);
}

/// Logits, cotangents of the states, gradients of all parameters and running statistics: what a pass in training says.
fn trained(
    head: &MdeqHead,
    u: Tensor<2>,
    moments: BatchMoments,
    (logits, pull_back): (Tensor<2>, HeadTrainingPullBack<'_>),
) -> (Tensor<2>, Tensor<2>, Vec<Vec<f32>>) {
    let mut gradients = GradientsParams::new();
    let state = pull_back(u, &mut gradients);
    let mut parameters = parameter_gradients(head, &gradients);
    parameters.extend(parameters_of(&moments.absorbed_into(head.clone())));
    (logits, state, parameters)
}

#[test]
fn training_is_that_of_the_composed_head() {
    for config in all_sizes() {
        let head = head(&config);
        // More than a chunk, and not a whole number of them.
        let (state, u) = inputs(&config, if config.final_channels > 1000 { 5 } else { 19 });
        let moments = BatchMoments::default();
        let pass = head.linearize_training(&state, &moments);
        let (logits, at_state, parameters) = trained(&head, u.clone(), moments, pass);
        let moments = BatchMoments::default();
        let pass = head.linearize_training_tracked(&state, &moments);
        let (expected, expected_at_state, expected_parameters) = trained(&head, u, moments, pass);
        let check = |what: &str, found: &Tensor<2>, expected: &Tensor<2>| {
            let error = relative_error(found, expected);
            println!("{:?} {what} {error:.1e}", config.channels);
            assert!(error < 2.0 * TOLERANCE, "{what}: {error} with {config:?}");
        };
        check("logits", &logits, &expected);
        check("cotangent of the state", &at_state, &expected_at_state);
        compare_all(&parameters, &expected_parameters, 2.0 * TOLERANCE);
    }
}

#[test]
fn training_does_not_depend_on_threads() {
    let config = MdeqConfig::small();
    let head = head(&config);
    let (state, u) = inputs(&config, 19);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let moments = BatchMoments::default();
            let pass = head.linearize_training(&state, &moments);
            let (logits, at_state, parameters) = trained(&head, u.clone(), moments, pass);
            (to_vec(logits), to_vec(at_state), parameters)
        })
    };
    assert!(run(1) == run(3));
}
