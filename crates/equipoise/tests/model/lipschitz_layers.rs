//! SDP-based Lipschitz layers: their bound, and the equilibrium network that computes the same.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use equipoise::architecture::{Architecture, Model, Parameters};
use equipoise::batch::{Images, from_vec};
use equipoise::gradient::Estimator;
use equipoise::lipschitz_layers::{converted, equilibrium};
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::feedforward::Feedforward;
use equipoise::model::layers::Phase;
use equipoise::model::monotone::{LbenConfig, Splitting};
use equipoise::model::normalisation::Normalisation;
use equipoise::model::sll::{Sll, SllConfig};
use equipoise::readout::Readout;
use equipoise::solve::SolverConfig;
use equipoise::train::feedforward_gradients;
use equipoise::victim::Deployment;

use crate::common::{entries, inner, normal, relative_error, uniform};

const IMAGE: [usize; 3] = [2, 3, 3];

fn config(normalisation: Option<Normalisation>) -> SllConfig {
    let (width, units, layers, lipschitz) = (8, 6, 3, 3.0);
    SllConfig {
        width,
        units,
        layers,
        lipschitz,
        image: IMAGE,
        classes: 4,
        normalisation,
        ..SllConfig::digits()
    }
}

fn by_channel() -> Option<Normalisation> {
    Some(Normalisation { mean: vec![0.3, 0.6], std: vec![0.4, 0.2] })
}

/// x_0 has the pixels themselves: nothing has to be kept above 0.
fn of_pixels(normalisation: Option<Normalisation>) -> SllConfig {
    SllConfig { width: 18, window: Some(1), ..config(normalisation) }
}

/// b, c and q away from 0.
struct Shake(u64);

impl ModuleMapper for Shake {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        let noise = normal(param.dims(), self.0) * 0.5;
        if D == 1 { param.map(|value| value + noise) } else { param }
    }
}

fn layers(config: &SllConfig, seed: u64) -> Sll {
    config.init(seed, &Device::default()).unwrap().map(&mut Shake(seed))
}

fn of(layers: &SllConfig, monotonicity: f64) -> LbenConfig {
    LbenConfig {
        hidden: layers.width + layers.layers * layers.units,
        lipschitz: layers.lipschitz,
        monotonicity,
        step: 0.5,
        splitting: Splitting::PeacemanRachford,
        image: layers.image,
        classes: layers.classes,
        normalisation: layers.normalisation.clone(),
    }
}

fn logits(model: &dyn Model, images: &Images) -> Tensor<2> {
    let solver = SolverConfig::picard(500, 1.0).with_tolerance(1e-7);
    let deployment = Deployment { solver, ..Deployment::default() };
    model.victim(&deployment, Readout::final_state(), Estimator::exact()).logits(images)
}

/// Weights for which every T is reached but for the slack: layers that turn x about, and do not shorten it.
fn isometric(config: &SllConfig) -> Sll {
    let mut model = config.init(0, &Device::default()).unwrap();
    let eye = |rows: usize, columns: usize| {
        let entry = |at: usize| if at / columns == at % columns { 1.0 } else { 0.0 };
        from_vec((0..rows * columns).map(entry).collect(), [rows, columns], &Device::default())
    };
    let pixels = config.image.iter().product();
    model.embedding = model.embedding.map(|embedding| embedding.map(|_| eye(config.width, pixels)));
    model.classifier = model.classifier.map(|_| eye(config.classes, config.width));
    for layer in &mut model.layers {
        layer.weight = layer.weight.clone().map(|_| eye(config.units, config.width));
    }
    model
}

#[test]
fn logits_move_by_no_more_than_the_bound() {
    for (name, model) in [
        ("random", layers(&config(None), 3)),
        ("isometric", isometric(&config(None))),
        ("of pixels", isometric(&of_pixels(None))),
    ] {
        let (images, away) = (normal([400, 2, 3, 3], 5) * 3.0, normal([400, 2, 3, 3], 6));
        let answer = |images: &Images| model.forward(images.clone(), &Phase::Evaluate);
        let mut greatest = 0.0_f64;
        for distance in [1e-2, 1.0, 30.0] {
            let moved = answer(&(images.clone() + away.clone() * distance)) - answer(&images);
            for row in 0..400 {
                let length = |x: Tensor<2>| inner(&x, &x).sqrt();
                let logits = length(moved.clone().narrow(0, row, 1));
                let pixels = length(away.clone().flatten::<2>(1, 3).narrow(0, row, 1)) * distance;
                greatest = greatest.max(logits / pixels);
            }
        }
        eprintln!("{name}: {greatest:.3} of {}", model.lipschitz());
        assert!(greatest <= model.lipschitz());
        assert!(name == "random" || greatest > 0.6 * model.lipschitz(), "{greatest}");
    }
}

#[test]
fn gradients_meet_differences() {
    let model = layers(&config(by_channel()), 3);
    let (images, objective) = (uniform([5, 2, 3, 3], 5), CrossEntropy { labels: vec![0, 1, 2, 3, 1] });
    let deployment = Deployment::default();
    let victim = model.boxed();
    let victim = victim.victim(&deployment, Readout::final_state(), Estimator::exact());
    let answer = victim.value_and_gradient(&images, &objective);
    let value = |model: &Sll, images: &Images| {
        let (values, _) = objective.values_and_derivative(&model.forward(images.clone(), &Phase::Evaluate));
        entries(&values.sum())[0]
    };
    let along = normal([5, 2, 3, 3], 9);
    let step = 1e-3;
    let [ahead, behind] = [step, -step].map(|step| value(&model, &(images.clone() + along.clone() * step)));
    let (difference, product) = ((ahead - behind) / (2.0 * step), inner(&answer.gradient, &along));
    assert!((difference - product).abs() < 5e-3 * difference.abs().max(1.0), "{difference} {product}");

    // Every parameter, q among them, along the gradient itself.
    let gradients = feedforward_gradients(&model, &images, &objective).parameters;
    let names: Vec<_> = model.parameters();
    assert_eq!(names.len(), 3 * 3 + 3);
    struct Along<'a>(&'a burn::optim::GradientsParams, f64, Vec<f64>);
    impl ModuleMapper for Along<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let gradient = self.0.get::<D>(param.id).expect("a gradient for every parameter");
            let square = inner(&gradient, &gradient);
            self.2.push(square);
            let by = self.1 / square.sqrt().max(1e-9);
            param.map(|value| value + gradient * by)
        }
    }
    let mut moved = [1.0, -1.0].map(|sign| Along(&gradients, sign * 3e-3, Vec::new()));
    let [ahead, behind] = moved.each_mut().map(|along| value(&model.clone().map(along), &images) / 5.0);
    let slope: f64 = moved[0].2.iter().map(|square| square.sqrt()).sum();
    let difference = (ahead - behind) / 6e-3;
    assert!((difference - slope).abs() < 0.02 * slope, "{difference} {slope}");
    assert!(moved[0].2.iter().all(|square| *square > 0.0), "{:?}", moved[0].2);
}

#[test]
fn the_equilibrium_network_computes_what_the_layers_do() {
    let corners = from_vec(
        (0..40 * 18).map(|k| ((k * 7919 / 13) % 2) as f32).collect(),
        [40, 2, 3, 3],
        &Device::default(),
    );
    let images = Tensor::cat(vec![uniform([40, 2, 3, 3], 8), corners], 0);
    for (name, config) in [
        ("plain", config(None)),
        ("normalised", config(by_channel())),
        ("of pixels", of_pixels(None)),
        ("of normalised pixels", of_pixels(by_channel())),
        ("of windows", SllConfig { width: 2, window: Some(3), ..config(None) }),
    ] {
        for (kind, model) in [("random", layers(&config, 4)), ("isometric", isometric(&config))] {
            let network = equilibrium(&model, &of(&config, 0.01), &Device::default()).unwrap();
            let error =
                relative_error(&logits(&*network, &images), &model.forward(images.clone(), &Phase::Evaluate));
            eprintln!("{name}, {kind}: off by {error:.1e}");
            assert!(error < 2e-5, "{name}, {kind}: {error}");
            // Training goes on from there: a step of another kind of network would move elsewhere.
            let architecture = Architecture::from(of(&config, 0.01));
            let again = converted(&model, &architecture, &Device::default()).unwrap().unwrap();
            assert_eq!(again.weights(), network.weights());
        }
    }
}

/// Layers that shorten nothing leave what their slack does, δ/2(1+δ), and others more.
#[test]
fn the_monotonicity_that_is_left_is_at_least_that_of_the_slack() {
    let most = |model: &Sll, config: &SllConfig| {
        let error = equilibrium(model, &of(config, 1e3), &Device::default()).unwrap_err();
        assert_eq!(error.field, "monotonicity");
        let said = error.problem.split("less than ").nth(1).unwrap().split(' ').next().unwrap();
        said.parse::<f64>().unwrap()
    };
    for slack in [0.02, 0.2] {
        let config = SllConfig { slack, ..config(None) };
        let (least, tight) = (slack / (2.0 * (1.0 + slack)), most(&isometric(&config), &config));
        assert!(tight >= least - 1e-4 && tight < 4.0 * least, "{tight} {least}");
        assert!(most(&layers(&config, 4), &config) > tight);
        let build = |m: f64| equilibrium(&isometric(&config), &of(&config, m), &Device::default());
        assert!(build(0.99 * tight).is_ok() && build(1.01 * tight).is_err());
    }
    let none = SllConfig { slack: 0.0, ..config(None) };
    let error = equilibrium(&isometric(&none), &of(&none, 0.01), &Device::default()).unwrap_err();
    assert_eq!(error.field, "monotonicity");
}

#[test]
fn sizes_that_do_not_fit_are_refused_by_name() {
    let (layers, device) = (layers(&config(None), 4), Device::default());
    let fits = of(&config(None), 0.01);
    for (wrong, field) in [
        (LbenConfig { hidden: 25, ..fits.clone() }, "hidden"),
        (LbenConfig { image: [1, 3, 3], ..fits.clone() }, "image"),
        (LbenConfig { classes: 5, ..fits.clone() }, "image"),
        (LbenConfig { normalisation: by_channel(), ..fits.clone() }, "normalisation"),
        (LbenConfig { lipschitz: 0.3, ..fits.clone() }, "monotonicity"),
        (LbenConfig { step: 7.0, ..fits.clone() }, "step"),
    ] {
        assert_eq!(equilibrium(&layers, &wrong, &device).unwrap_err().field, field);
    }
    for (wrong, field) in [
        (SllConfig { width: 0, ..config(None) }, "width"),
        (SllConfig { window: Some(1), ..config(None) }, "width"),
        (SllConfig { window: Some(2), ..config(None) }, "window"),
        (SllConfig { window: Some(0), ..config(None) }, "window"),
        (SllConfig { units: 0, ..config(None) }, "units"),
        (SllConfig { layers: 0, ..config(None) }, "layers"),
        (SllConfig { layers: 1 << 40, ..config(None) }, "layers"),
        (SllConfig { lipschitz: f64::NAN, ..config(None) }, "lipschitz"),
        (SllConfig { slack: -0.1, ..config(None) }, "slack"),
        (SllConfig { classes: 1, ..config(None) }, "classes"),
        (SllConfig { image: [0, 3, 3], ..config(None) }, "image"),
    ] {
        assert_eq!(wrong.init(0, &device).unwrap_err().field, field);
    }
    let other = Architecture::named("monotone-digits").unwrap();
    assert!(converted(&layers, &other, &device).is_none());
    assert!(converted(&*other.init(0, &device).unwrap(), &fits.into(), &device).is_none());
}

/// Windows that share no pixel, each of length 1 but for the slack; pixels are never below 0, so that no unit needs an offset.
#[test]
fn windows_are_sums_of_their_pixels() {
    let config = SllConfig { width: 8, window: Some(2), image: [2, 4, 4], slack: 0.0, ..config(None) };
    let model = config.init(0, &Device::default()).unwrap();
    assert!(model.embedding.is_none());
    let image = uniform([1, 2, 4, 4], 3);
    let found = entries(&image.clone().flatten::<2>(1, 3).matmul(model.inwards().transpose()));
    let pixels = entries(&image);
    for (at, found) in found.iter().enumerate() {
        let (c, y, x) = (at / 4, at / 2 % 2, at % 2);
        let sum: f64 = (0..4).map(|k| pixels[c * 16 + (2 * y + k / 2) * 4 + 2 * x + k % 2]).sum();
        assert!((found - sum / 2.0).abs() < 1e-6, "{at}: {found} {sum}");
    }
    let config = SllConfig { slack: 0.1, ..config };
    let network = equilibrium(&layers(&config, 2), &of(&config, 0.01), &Device::default()).unwrap();
    assert!(network.weights()["injection.bias"].values[..8].iter().all(|offset| *offset == 0.0));
}
