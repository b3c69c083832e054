//! Certificates of monotone DEQs: nothing within a certified radius changes the class, of the network that they speak of; and
//! they are no smaller than they must be.

use std::path::{Path, PathBuf};

use crate::common::{entries, normal, uniform};
use burn::tensor::{Device, Tensor};
use equipoise::attack::{self, Budget, Classifier, Examples, Norm};
use equipoise::batch::{from_vec, predictions, select, to_vec};
use equipoise::certify::{Method, MonotoneCertifier, Proof};
use equipoise::checkpoint::{Configuration, ImportOptions, ModelFile, Normalise, import};
use equipoise::gradient::Estimator;
use equipoise::model::equilibrium::Equilibrium;
use equipoise::model::monotone::{Monotone, MonotoneCell, MonotoneConfig, Splitting};
use equipoise::model::normalisation::Normalisation;
use equipoise::readout::Readout;
use equipoise::record::CertifiedExample;
use equipoise::solve::SolverConfig;
use equipoise::victim::{Deployment, Victim};
use equipoise_dataset::{Dataset, Source, Split};
use rayon::prelude::*;

fn config() -> MonotoneConfig {
    let normalisation = Some(Normalisation { mean: vec![0.4], std: vec![0.25] });
    MonotoneConfig {
        hidden: 16,
        monotonicity: 8.0,
        step: 0.08,
        image: [1, 4, 4],
        classes: 3,
        normalisation,
        ..MonotoneConfig::digits()
    }
}

pub fn deployment(steps: usize) -> Deployment {
    Deployment { solver: SolverConfig::picard(steps, 1.0).with_tolerance(0.0), ..Deployment::exact() }
}

pub fn victim<'a>(model: &'a dyn Equilibrium, deployment: &'a Deployment) -> Victim<'a> {
    Victim::new(model, deployment, Readout::final_state(), Estimator::exact())
}

/// Every image's certificate.
pub fn certified(proof: &Proof<'_>, images: &Tensor<4>, norm: Norm) -> Vec<CertifiedExample> {
    let [n, c, h, w] = images.dims();
    let numbers = to_vec(images.clone());
    let each = numbers.chunks(c * h * w).enumerate();
    let found: Vec<_> = each.map(|(index, image)| proof.certified(index, image, norm)).collect();
    assert_eq!(found.len(), n);
    found
}

/// Random images within the radius of each: most on its border, some along a single pixel, all in [0, 1].
pub fn random_inside(image: &Tensor<4>, budget: &Budget, count: usize, seed: u64) -> Tensor<4> {
    let [_, c, h, w] = image.dims();
    let many = image.clone().repeat_dim(0, count);
    let direction = match budget.norm() {
        // Corners of the box.
        Norm::Linf => normal([count, c, h, w], seed).sign() * 10.0,
        _ => normal([count, c, h, w], seed) * 10.0,
    };
    budget.project(&many, &(many.clone() + direction))
}

/// No random image and no attack within any certified radius changes the class that the certificate speaks of. Returns the
/// mean certified radius, 0 where nothing is certified.
pub fn holds(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    proof: &Proof<'_>,
    norm: Norm,
    each: usize,
) -> f64 {
    let count = 25;
    let images = uniform([count, 1, 4, 4], 21);
    let victim = victim(model, deployment);
    // Examples side by side: a network as small as this one is slowest where each of its operations is handed to other threads.
    let unbroken = |(row, found): (usize, CertifiedExample)| {
        let (Some(class), Some(radius)) = (found.class, found.radius) else { return None };
        assert!(!found.abstained && radius > 0.0);
        let image = select(&images, &[row]);
        let budget = Budget::new(norm, radius).unwrap();
        let inside = random_inside(&image, &budget, each, row as u64);
        let given = predictions(&victim.logits(&inside));
        assert!(
            given.iter().all(|&given| given == Some(class)),
            "{norm} {radius}: a random image of row {row}"
        );
        let examples = Examples { images: &image, labels: &[class], indices: &[row], seed: 3, start: 0 };
        for attack in ["pgd-40", "apgd-ce"] {
            let found = attack::parse(attack).unwrap().run(&victim, &examples, &budget).images;
            assert_eq!(
                predictions(&victim.logits(&found)),
                [Some(class)],
                "{norm} {radius}: {attack} of row {row}"
            );
        }
        Some(radius)
    };
    let found = certified(proof, &images, norm);
    let radii: Vec<f64> = found.into_par_iter().enumerate().filter_map(unbroken).collect();
    assert!(radii.len() > count / 2, "{} of {count}", radii.len());
    radii.iter().sum::<f64>() / count as f64
}

/// 10⁴ random images and the attacks for each of network and norm. The ideal network is met by one that iterates to float32's
/// last digit.
#[test]
fn nothing_within_a_certified_radius_changes_the_class() {
    let device = Device::default();
    let model = config().init(4, &device).unwrap();
    let certifier = MonotoneCertifier::of(&model);
    let (rough, fine) = (deployment(8), deployment(200));
    for (method, norm) in [
        (Method::Lipschitz, Norm::L2),
        (Method::Lipschitz, Norm::Linf),
        (Method::Affine, Norm::L2),
        (Method::Affine, Norm::Linf),
        (Method::Branching, Norm::L2),
        (Method::Branching, Norm::Linf),
        (Method::Zonotopes, Norm::L2),
        (Method::Zonotopes, Norm::Linf),
        (Method::Boxes, Norm::Linf),
    ] {
        let ideal = holds(&model, &fine, &certifier.ideal(method).unwrap(), norm, 400);
        let of = |deployment| {
            let proof = certifier.deployed(method, deployment, &Readout::final_state()).unwrap();
            holds(&model, deployment, &proof, norm, 400)
        };
        let (rough, fine) = (of(&rough), of(&fine));
        eprintln!("{method}, {norm}: {rough} {fine} {ideal}");
        // Of these a search finds two digits, and radii at which nothing is known of the deployed network.
        let (digits, known) = match method {
            Method::Branching | Method::Zonotopes => (0.01, 0.8),
            _ => (0.0, 0.99),
        };
        assert!(
            rough < fine * (1.0 + digits) && fine <= ideal * (1.0 + digits) && fine > known * ideal,
            "{method}, {norm}: {rough} {fine} {ideal}"
        );
    }
}

/// So it is where the cell is deployed with Peaceman-Rachford splitting, and rounds an inverse.
#[test]
fn nothing_within_a_certified_radius_changes_the_class_of_a_reflected_network() {
    let config = MonotoneConfig { splitting: Splitting::PeacemanRachford, step: 0.15, ..config() };
    let model = config.init(4, &Device::default()).unwrap();
    let certifier = MonotoneCertifier::of(&model);
    for (method, norm) in [(Method::Lipschitz, Norm::L2), (Method::Affine, Norm::Linf)] {
        let of = |steps| {
            let deployment = deployment(steps);
            let proof = certifier.deployed(method, &deployment, &Readout::final_state()).unwrap();
            holds(&model, &deployment, &proof, norm, 400)
        };
        let (rough, fine) = (of(4), of(200));
        let ideal = holds(&model, &deployment(200), &certifier.ideal(method).unwrap(), norm, 1);
        eprintln!("{method}, {norm}: {rough} {fine} {ideal}");
        assert!(
            rough < fine && fine <= ideal && fine > 0.99 * ideal,
            "{method}, {norm}: {rough} {fine} {ideal}"
        );
    }
}

/// A network whose distance to the border is known: no coupling of units, all of them at work, and the classes apart along
/// the direction that U stretches most. A norm that is a little too small certifies beyond the border here.
#[test]
fn a_certificate_ends_just_before_the_border_where_that_is_known() {
    let device = Device::default();
    let config = MonotoneConfig {
        hidden: 12,
        classes: 2,
        monotonicity: 2.0,
        step: 0.25,
        normalisation: None,
        ..config()
    };
    let mut model = config.init(9, &device).unwrap();
    let MonotoneCell::WinstonKolter(weight) = &mut model.cell else { panic!("the usual one") };
    weight.a = weight.a.clone().map(|a| a * 0.0);
    weight.b = weight.b.clone().map(|b| b * 0.0);
    model.stem.injection.bias = model.stem.injection.bias.map(|bias| bias * 0.0 + 30.0);
    // The left singular vector of U's largest singular value, by power iteration in float64.
    let u = entries(&model.stem.injection.weight.val());
    let product = |v: &[f64]| -> Vec<f64> {
        u.chunks(16).map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum()).collect()
    };
    let back =
        |v: &[f64]| -> Vec<f64> { (0..16).map(|j| (0..12).map(|i| u[i * 16 + j] * v[i]).sum()).collect() };
    let size = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut right = vec![1.0; 16];
    for _ in 0..5000 {
        right = back(&product(&right));
        let length = size(&right);
        right.iter_mut().for_each(|entry| *entry /= length);
    }
    let left: Vec<f32> = product(&right).into_iter().map(|entry| entry as f32).collect();
    let (zeros, rows) = (vec![0.0; 12], left.clone());
    model.head.classifier.weight =
        model.head.classifier.weight.map(|_| from_vec([zeros, rows].concat(), [2, 12], &device));
    model.head.classifier.bias = model.head.classifier.bias.map(|bias| bias * 0.0);
    // z* = (U x + 30)/m, all positive: the second logit is left·z*, and 0.05 ahead of the first at the image.
    let image = uniform([1, 1, 4, 4], 2) * 0.2 + 0.4;
    let deployment = deployment(100);
    let logits = entries(&victim(&model, &deployment).logits(&image));
    let bias = from_vec(vec![(logits[1] - 0.05) as f32, 0.0], [2], &device);
    model.head.classifier.bias = model.head.classifier.bias.map(|_| bias);

    let logits = entries(&victim(&model, &deployment).logits(&image));
    let left: Vec<f64> = left.into_iter().map(f64::from).collect();
    let slope = size(&back(&left)) / 2.0;
    let truth = (logits[1] - logits[0]) / slope;
    let certifier = MonotoneCertifier::of(&model);
    let proof = certifier.ideal(Method::Lipschitz).unwrap();
    let ideal = proof.certified(0, &to_vec(image.clone()), Norm::L2);
    let radius = ideal.radius.unwrap();
    assert!(radius < truth + 1e-4 && radius > 0.995 * truth, "{radius} of {truth}");
    // A step further along that direction is another class.
    let along = from_vec(right.iter().map(|&entry| entry as f32).collect(), [1, 1, 4, 4], &device);
    let outside = [1.0, -1.0].map(|sign| image.clone() + along.clone() * (sign * radius * 1.01));
    let classes = outside.map(|image| predictions(&victim(&model, &deployment).logits(&image))[0]);
    assert!(classes.contains(&Some(0)) && classes.contains(&Some(1)), "{classes:?}");
}

/// Files of others beside the repository: weights that were published, and images.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

/// A published monotone DEQ of so many units, and the MNIST test images.
fn published(hidden: usize, step: f64) -> Option<(ModelFile, Dataset)> {
    let checkpoint = shared(&format!("published/mon_h{hidden}_m20.0.pt"))?;
    let images = shared("data/mnist/mnist-test.npz")?;
    let config =
        MonotoneConfig { hidden, monotonicity: 20.0, step, image: [1, 28, 28], ..MonotoneConfig::digits() };
    let configuration = Configuration { architecture: config.into(), deployment: deployment(40) };
    let normalise = Normalise::By(Normalisation::named("mnist", 1).unwrap());
    let options = ImportOptions { normalise, ..ImportOptions::default() };
    let imported = import(&checkpoint, configuration, "published", &options, &Device::default()).unwrap();
    let source: Source = format!("npz:{}", images.display()).parse().unwrap();
    Some((imported.model, source.load(Split::Test).unwrap()))
}

/// How many of the images are classified rightly by the deployed network.
pub fn correct(file: &ModelFile, data: &Dataset) -> usize {
    let victim = victim(file.model.equilibrium().unwrap(), &file.metadata.deployment);
    let all: Vec<usize> = (0..data.len()).collect();
    let of = |rows: &[usize]| {
        let images = from_vec(data.images(rows), [rows.len(), 1, 28, 28], &Device::default());
        let given = predictions(&victim.logits(&images));
        given.iter().zip(rows).filter(|(given, row)| **given == Some(data.labels[**row])).count()
    };
    all.chunks(1000).map(of).sum()
}

/// Test error, ‖W_out‖ ‖U‖/m in normalised units, and the norm of the cell's step, which float64 linear algebra of others
/// gives too.
#[test]
fn published_weights_have_their_published_numbers() {
    for (hidden, step, right, constant, contraction) in
        [(40, 0.03, 9560, 3.836633, 0.457755), (100, 0.02, 9683, 5.041472, 0.730972)]
    {
        let Some((file, data)) = published(hidden, step) else { return };
        assert_eq!((data.len(), correct(&file, &data)), (10_000, right));
        let certifier = MonotoneCertifier::new(&*file.model).unwrap();
        let above = |found: f64, value: f64| {
            assert!(found >= value - 1e-6 && found < value * 1.003, "{hidden}: {found} for {value}");
        };
        above(certifier.lipschitz() * f64::from(0.3081_f32), constant);
        above(certifier.contraction(), contraction);
    }
}

/// What is certified of 100 MNIST images.
#[test]
fn published_weights_are_certified() {
    let Some((file, data)) = published(40, 0.03) else { return };
    let model: &Monotone = file.model.downcast().unwrap();
    let deployment = &file.metadata.deployment;
    let certifier = MonotoneCertifier::of(model);
    // Its skew part is large: no box of states contains what a step makes of it.
    assert!(certifier.ideal(Method::Boxes).err().unwrap().to_string().contains("skew"));
    let rows: Vec<usize> = (0..100).collect();
    let labels: Vec<usize> = rows.iter().map(|&row| data.labels[row]).collect();
    let images = data.images(&rows);
    let share = |proof: &Proof<'_>, norm: Norm, eps: f64| {
        let each = images.chunks(784).enumerate();
        let found = each.map(|(index, image)| proof.certified(index, image, norm));
        found.zip(&labels).filter(|(found, label)| found.holds(**label, eps)).count()
    };
    let both = |method: Method, norm: Norm, eps: f64| {
        let ideal = certifier.ideal(method).unwrap();
        let deployed = certifier.deployed(method, deployment, &Readout::final_state()).unwrap();
        let shares = (share(&ideal, norm, eps), share(&deployed, norm, eps));
        eprintln!("{method}, {norm} {eps}: {} ideal, {} deployed of 100", shares.0, shares.1);
        assert!(shares.1 <= shares.0 && shares.1 + 2 >= shares.0);
        shares.1
    };
    assert!(both(Method::Lipschitz, Norm::L2, 0.3) >= 75);
    assert!(both(Method::Lipschitz, Norm::Linf, 0.02) >= 60);
    assert!(both(Method::Affine, Norm::L2, 0.3) >= 90);
    assert!(both(Method::Affine, Norm::Linf, 0.02) >= 93);

    // Parts of balls show more than twice as many where affine functions of a whole one show few; zonotopes no more than these.
    let at = |method: Method, eps: f64, count: usize| {
        let deployed = certifier.deployed(method, deployment, &Readout::final_state()).unwrap().among(&[eps]);
        let each = images.chunks(784).take(count).enumerate();
        let found = each.map(|(index, image)| deployed.certified(index, image, Norm::Linf));
        found.zip(&labels).map(|(found, label)| found.holds(*label, eps)).collect::<Vec<bool>>()
    };
    let count = 12;
    let [affine, zonotopes, branching] =
        [Method::Affine, Method::Zonotopes, Method::Branching].map(|method| at(method, 0.05, count));
    let each = |found: &[bool]| found.iter().filter(|found| **found).count();
    eprintln!("at 0.05 of {count}: {} {} {}", each(&zonotopes), each(&affine), each(&branching));
    for row in 0..count {
        assert!(zonotopes[row] <= affine[row] && affine[row] <= branching[row], "{row}");
    }
    assert!(each(&branching) > each(&affine));
}

/// Some of its hundred units hardly move, and its steps contract little: sets of states come to lie in one another all the same.
#[test]
fn zonotopes_certify_published_weights_whose_steps_contract_little() {
    let Some((file, data)) = published(100, 0.015) else { return };
    let certifier = MonotoneCertifier::new(&*file.model).unwrap();
    let proof = certifier.ideal(Method::Zonotopes).unwrap().among(&[0.02]);
    let rows: Vec<usize> = (0..12).collect();
    let images = data.images(&rows);
    let holds =
        |(row, image): (usize, &[f32])| proof.certified(row, image, Norm::Linf).holds(data.labels[row], 0.02);
    let held = images.chunks(784).enumerate().filter(|each| holds(*each)).count();
    assert!(held >= 10, "{held} of 12");
}
