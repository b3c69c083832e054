//! The fused kernels of the stem against the composed stem: the same injections and gradients, for any batch, and in
//! training the same gradients of all parameters and the same statistics.

use crate::common::cells::all_sizes;
use crate::common::{compare_all, normal, parameter_gradients, parameters_of, relative_error, uniform};
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use equipoise::batch::{select, to_vec};
use equipoise::model::deq::{Stem, StemTrainingPullBack};
use equipoise::model::layers::{BatchMoments, Phase};
use equipoise::model::mdeq::{MdeqConfig, MdeqStem};

/// Relative error allowed; float32 rounding through a stem is a few 1e-7.
const TOLERANCE: f64 = 1e-5;

/// Affine maps that are not the identity, and running statistics that are not those of a standard normal.
struct Shake(u64);

impl ModuleMapper for Shake {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        let noise = uniform(param.dims(), self.0) * 0.3;
        param.map(|value| value + noise)
    }
}

fn stem(config: &MdeqConfig) -> MdeqStem {
    config.init(3, &Device::default()).unwrap().stem.map(&mut Shake(40))
}

fn sizes() -> Vec<MdeqConfig> {
    let mut sizes = all_sizes();
    sizes.push(MdeqConfig { downsample_times: 2, ..MdeqConfig::large() });
    sizes
}

fn inputs(config: &MdeqConfig, stem: &MdeqStem, count: usize) -> (Tensor<4>, Tensor<2>) {
    let [channels, height, width] = config.image;
    let images = uniform([count, channels, height, width], 4);
    let shape = stem.forward(images.clone(), &Phase::Evaluate).dims();
    (images, normal(shape, 5))
}

fn check<const D: usize>(what: &str, found: &Tensor<D>, expected: &Tensor<D>, config: &MdeqConfig) {
    let error = relative_error(found, expected);
    println!("{:?} {what} {error:.1e}", config.channels);
    assert!(error < TOLERANCE, "{what}: {error} with {config:?}");
}

#[test]
fn injections_and_gradients_are_those_of_the_composed_stem() {
    for config in sizes() {
        let stem = stem(&config);
        let (images, u) = inputs(&config, &stem, 3);
        let (found, pull_back) = stem.linearize(&images);
        let (expected, composed) = stem.linearize_tracked(&images);
        check("injection", &found, &expected, &config);
        check("gradient", &pull_back(u.clone()), &composed(u), &config);
        let forward = stem.forward(images, &Phase::Evaluate);
        assert_eq!(to_vec(forward), to_vec(found), "with and without a way back");
    }
}

/// Injections, gradients of all parameters and running statistics: what a pass in training says.
fn trained(
    stem: &MdeqStem,
    u: Tensor<2>,
    moments: BatchMoments,
    (injection, pull_back): (Tensor<2>, StemTrainingPullBack<'_>),
) -> (Tensor<2>, Vec<Vec<f32>>) {
    let mut gradients = GradientsParams::new();
    pull_back(u, &mut gradients);
    let mut parameters = parameter_gradients(stem, &gradients);
    parameters.extend(parameters_of(&moments.absorbed_into(stem.clone())));
    (injection, parameters)
}

#[test]
fn training_is_that_of_the_composed_stem() {
    for config in sizes() {
        let stem = stem(&config);
        // More than a chunk, and not a whole number of them.
        let (images, u) = inputs(&config, &stem, 19);
        let moments = BatchMoments::default();
        let pass = stem.linearize_training(&images, &moments);
        let (injection, parameters) = trained(&stem, u.clone(), moments, pass);
        let moments = BatchMoments::default();
        let pass = stem.linearize_training_tracked(&images, &moments);
        let (expected, expected_parameters) = trained(&stem, u, moments, pass);
        check("injection", &injection, &expected, &config);
        // Sums over the batch in which most cancels, and units at the kinks of their ReLUs.
        compare_all(&parameters, &expected_parameters, 5.0 * TOLERANCE);
    }
}

#[test]
fn neither_batch_nor_threads_matter() {
    let config = MdeqConfig::small();
    let stem = stem(&config);
    let (images, u) = inputs(&config, &stem, 19);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (injection, pull_back) = stem.linearize(&images);
            let moments = BatchMoments::default();
            let pass = stem.linearize_training(&images, &moments);
            let (training, parameters) = trained(&stem, u.clone(), moments, pass);
            (to_vec(injection), to_vec(pull_back(u.clone())), to_vec(training), parameters)
        })
    };
    let one = run(1);
    assert!(one == run(3));
    let rows = [18, 4, 7];
    let (some, pull_back) = stem.linearize(&select(&images, &rows));
    let (all, all_back) = stem.linearize(&images);
    assert_eq!(to_vec(some), to_vec(select(&all, &rows)));
    assert_eq!(to_vec(pull_back(select(&u, &rows))), to_vec(select(&all_back(u), &rows)));
}

#[test]
fn images_of_another_size_go_through_the_composed_stem() {
    let stem = stem(&MdeqConfig::small());
    let images = uniform([2, 3, 20, 12], 6);
    let dims = stem.forward(images.clone(), &Phase::Evaluate).dims();
    assert_eq!(dims, [2, 16 * 10 * 6]);
    let (injection, _) = stem.linearize(&images);
    assert_eq!(injection.dims(), dims);
}
