//! The fused kernels of feedforward networks against the composed networks: the same logits and gradients, for any sizes and
//! any batch.

use crate::common::{normal, relative_error, uniform};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use equipoise::batch::{select, to_vec};
use equipoise::model::feedforward::Feedforward;
use equipoise::model::init::Init;
use equipoise::model::layers::Phase;
use equipoise::model::normalisation::Normalisation;
use equipoise::model::resnet::ResNet18Config;
use equipoise::model::wide_resnet::WideResNetConfig;

/// Relative error allowed; float32 rounding through a network is a few 1e-7.
const TOLERANCE: f64 = 1e-5;

/// Affine maps that are not the identity, and running statistics that are not those of a standard normal.
struct Shake(u64);

impl ModuleMapper for Shake {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        let noise = uniform(param.dims(), self.0) * 0.3;
        param.map(|value| if D == 1 { value + noise } else { value })
    }
}

/// Sizes that halve evenly and sizes that do not, more rows than the pooling's window, one channel, many.
const IMAGES: [[usize; 3]; 5] = [[3, 32, 32], [1, 28, 28], [3, 17, 9], [3, 40, 36], [1, 8, 8]];

fn normalisations(channels: usize) -> [Option<Normalisation>; 2] {
    [None, Normalisation::named("half", channels)]
}

fn resnets() -> impl Iterator<Item = ResNet18Config> {
    let sizes = IMAGES.into_iter().zip([8, 5, 3, 4, 20]);
    sizes.flat_map(|(image, width)| {
        let of = move |normalisation| ResNet18Config { width, image, classes: 7, normalisation };
        normalisations(image[0]).map(of)
    })
}

fn wide_resnets() -> impl Iterator<Item = WideResNetConfig> {
    let sizes = IMAGES.into_iter().zip([(1, 16), (1, 10), (2, 10), (1, 10), (3, 10)]);
    sizes.flat_map(|(image, (width, depth))| {
        let of = move |normalisation| WideResNetConfig { width, depth, image, classes: 7, normalisation };
        normalisations(image[0]).map(of)
    })
}

fn init() -> Init {
    Init::new(3, &Device::default())
}

fn compare<M: Feedforward>(what: &str, model: &M, image: [usize; 3]) {
    let [channels, height, width] = image;
    let images = uniform([3, channels, height, width], 4);
    let u = normal([3, model.classes()], 5);
    let (found, pull_back) = model.linearize(&images);
    let (expected, composed) = model.linearize_tracked(&images);
    let forward = model.forward(images, &Phase::Evaluate);
    assert_eq!(to_vec(forward), to_vec(found.clone()), "with and without a way back");
    let errors = [relative_error(&found, &expected), relative_error(&pull_back(u.clone()), &composed(u))];
    println!("{what} {image:?} {errors:?}");
    assert!(errors.iter().all(|error| *error < TOLERANCE), "{what} {image:?}: {errors:?}");
}

#[test]
fn logits_and_gradients_are_those_of_the_composed_networks() {
    for config in resnets() {
        compare("resnet18", &config.init(&mut init()).unwrap().map(&mut Shake(40)), config.image);
    }
    for config in wide_resnets() {
        compare("wide resnet", &config.init(&mut init()).unwrap().map(&mut Shake(40)), config.image);
    }
}

#[test]
fn neither_batch_nor_threads_matter() {
    let model = ResNet18Config::new(4).init(&mut init()).unwrap().map(&mut Shake(40));
    let (images, u) = (uniform([19, 3, 32, 32], 4), normal([19, 10], 5));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (logits, pull_back) = model.linearize(&images);
            (to_vec(logits), to_vec(pull_back(u.clone())))
        })
    };
    let one = run(1);
    assert!(one == run(3));
    let rows = [18, 4, 7];
    let (some, pull_back) = model.linearize(&select(&images, &rows));
    let (all, all_back) = model.linearize(&images);
    assert_eq!(to_vec(some), to_vec(select(&all, &rows)));
    assert_eq!(to_vec(pull_back(select(&u, &rows))), to_vec(select(&all_back(u), &rows)));
}

/// The pooling's window is the same, so the composed network takes them.
#[test]
fn images_of_another_size_go_through_the_composed_network() {
    let model = ResNet18Config::new(4).init(&mut init()).unwrap();
    let images = uniform([2, 3, 30, 26], 6);
    let (logits, _) = model.linearize(&images);
    let (expected, _) = model.linearize_tracked(&images);
    assert_eq!(to_vec(logits), to_vec(expected));
}

/// Kernels are made again when the weights are others.
#[test]
fn other_weights_are_another_network() {
    let model = WideResNetConfig { depth: 10, ..WideResNetConfig::new(1) }.init(&mut init()).unwrap();
    let images = uniform([1, 3, 32, 32], 6);
    let before = to_vec(model.forward(images.clone(), &Phase::Evaluate));
    let model = model.map(&mut Shake(7));
    assert_ne!(to_vec(model.forward(images.clone(), &Phase::Evaluate)), before);
    compare("shaken", &model.map(&mut Shake(9)), [3, 32, 32]);
}
