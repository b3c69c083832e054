//! Certificates of the other parametrisations: the same claims, in the norm of each.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use equipoise::attack::{Classifier, Norm};
use equipoise::batch::{from_vec, predictions, to_vec};
use equipoise::certify::{Method, MonotoneCertifier};
use equipoise::lipschitz_layers;
use equipoise::model::equilibrium::Equilibrium;
use equipoise::model::monotone::{
    LbenConfig, Monotone, MonotoneCell, MonotoneConfig, MonotoneConvConfig, Parametrisation, Splitting,
};
use equipoise::model::normalisation::Normalisation;
use equipoise::model::sll::SllConfig;
use equipoise::readout::Readout;

use crate::common::{entries, normal, uniform};
use crate::proofs::{deployment, holds, victim};

fn config(parametrisation: Parametrisation, monotonicity: f64, step: f64) -> MonotoneConfig {
    MonotoneConfig {
        hidden: 16,
        parametrisation,
        monotonicity,
        step,
        image: [1, 4, 4],
        classes: 3,
        normalisation: Some(Normalisation { mean: vec![0.4], std: vec![0.25] }),
        ..MonotoneConfig::digits()
    }
}

/// Λ away from I.
struct Shake(u64);

impl ModuleMapper for Shake {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        if D != 1 {
            return param;
        }
        let noise = normal(param.dims(), self.0) * 0.3;
        param.map(|value| value + noise)
    }
}

/// Of the deployed network nothing is known where fixed points may be 0.
fn away_from_zero(mut model: Monotone) -> Monotone {
    model.stem.injection.bias = model.stem.injection.bias.map(|bias| bias + 1.0);
    model
}

const PROOFS: [(Method, Norm); 5] = [
    (Method::Lipschitz, Norm::L2),
    (Method::Lipschitz, Norm::Linf),
    (Method::Affine, Norm::L2),
    (Method::Affine, Norm::Linf),
    (Method::Boxes, Norm::Linf),
];

/// 10⁴ random images and the attacks for each of network and norm, of the ideal network and of a deployed one.
fn nothing_crosses(
    name: &str,
    model: &dyn Equilibrium,
    certifier: &MonotoneCertifier,
    proofs: &[(Method, Norm)],
) {
    let (rough, fine) = (deployment(20), deployment(200));
    for &(method, norm) in proofs {
        let ideal = holds(model, &fine, &certifier.ideal(method).unwrap(), norm, 400);
        let proof = certifier.deployed(method, &rough, &Readout::final_state()).unwrap();
        let deployed = holds(model, &rough, &proof, norm, 400);
        eprintln!("{name}, {method}, {norm}: {deployed} deployed, {ideal} ideal");
        assert!(deployed < ideal && deployed > 0.3 * ideal, "{name}, {method}, {norm}: {deployed} {ideal}");
    }
}

#[test]
fn nothing_within_a_certified_radius_of_a_nemon_changes_the_class() {
    let model = config(Parametrisation::Nemon, 8.0, 0.08).init(4, &Device::default()).unwrap();
    let model = away_from_zero(model.map(&mut Shake(7)));
    let certifier = MonotoneCertifier::of(&model);
    assert!((certifier.contraction() - 0.36).abs() < 1e-9, "{}", certifier.contraction());
    nothing_crosses("nemon", &model, &certifier, &PROOFS);
}

#[test]
fn nothing_within_a_certified_radius_of_an_interval_bounded_network_changes_the_class() {
    let model = config(Parametrisation::IntervalBounded, 0.5, 1.0).init(4, &Device::default()).unwrap();
    let model = away_from_zero(model.map(&mut Shake(7)));
    let certifier = MonotoneCertifier::of(&model);
    nothing_crosses("interval-bounded", &model, &certifier, &PROOFS);
}

#[test]
fn nothing_within_a_certified_radius_of_a_bounded_network_changes_the_class() {
    let config = LbenConfig {
        hidden: 16,
        lipschitz: 1.5,
        monotonicity: 2.0,
        step: 0.2,
        image: [1, 4, 4],
        classes: 3,
        normalisation: Some(Normalisation { mean: vec![0.4], std: vec![0.25] }),
        ..LbenConfig::digits()
    };
    let mut model = config.init(4, &Device::default()).unwrap().map(&mut Shake(7));
    model.stem.injection.bias = model.stem.injection.bias.map(|bias| bias + 1.0);
    let certifier = MonotoneCertifier::new(&model).unwrap();
    // γ over the deviation, or less.
    assert!(certifier.lipschitz() <= 1.5 / 0.25 + 1e-9);
    nothing_crosses("lben", &model, &certifier, &PROOFS[..4]);
}

/// Lipschitz layers as the equilibrium network that computes the same: behind an offset, and of the pixels themselves.
#[test]
fn nothing_within_a_certified_radius_of_lipschitz_layers_changes_the_class() {
    for window in [None, Some(1)] {
        let config = SllConfig {
            width: 16,
            window,
            units: 6,
            layers: 2,
            lipschitz: 1.5,
            slack: 0.2,
            image: [1, 4, 4],
            classes: 3,
            normalisation: None,
        };
        let layers = config.init(4, &Device::default()).unwrap().map(&mut Shake(7));
        let sizes = LbenConfig {
            hidden: 28,
            lipschitz: 1.5,
            monotonicity: 0.1,
            step: 0.5,
            splitting: Splitting::PeacemanRachford,
            image: [1, 4, 4],
            classes: 3,
            normalisation: None,
        };
        let model = lipschitz_layers::equilibrium(&layers, &sizes, &Device::default()).unwrap();
        let certifier = MonotoneCertifier::new(&*model).unwrap();
        assert!(certifier.lipschitz() <= 1.5 + 1e-9);
        nothing_crosses("layers", model.equilibrium().unwrap(), &certifier, &PROOFS[..4]);
    }
}

/// A convolutional one of either kind, of 2 channels of 4×4 units.
#[test]
fn nothing_within_a_certified_radius_of_a_convolution_changes_the_class() {
    for (parametrisation, monotonicity, step) in
        [(Parametrisation::Nemon, 8.0, 0.08), (Parametrisation::IntervalBounded, 0.5, 1.0)]
    {
        let config =
            MonotoneConvConfig { parametrisation, monotonicity, step, ..crate::proofs_conv::config(2) };
        let mut model = config.init(4, &Device::default()).unwrap().map(&mut Shake(7));
        let injection = &mut model.stem.injection;
        injection.bias = injection.bias.take().map(|bias| bias.map(|bias| bias + 1.0));
        let certifier = MonotoneCertifier::of_convolutional(&model).unwrap();
        nothing_crosses(&format!("convolutional {}", parametrisation.name()), &model, &certifier, &PROOFS);
    }
}

/// Boxes exist for every T: here one that is large and mostly skew, for which the usual parametrisation has none.
#[test]
fn a_nemon_always_has_boxes() {
    for factor in [1.0, 10.0, 100.0] {
        let mut model = config(Parametrisation::Nemon, 1.0, 0.01).init(4, &Device::default()).unwrap();
        let MonotoneCell::Nemon(weight) = &mut model.cell else { panic!("its own kind") };
        weight.t = weight.t.clone().map(|t| (t.clone() - t.transpose()) * factor);
        let model = model.map(&mut Shake(7));
        assert!(MonotoneCertifier::of(&model).ideal(Method::Boxes).is_ok(), "{factor}");
    }
}

/// Uncoupled units, all of them at work, of which one says which class it is: the lead falls by Σ_j |U_kj| ε/m in L∞ and no less. A
/// bound that is a little too small certifies beyond the border here.
#[test]
fn the_bound_of_a_nemon_in_linf_is_met() {
    let device = Device::default();
    let plain =
        MonotoneConfig { classes: 2, normalisation: None, ..config(Parametrisation::Nemon, 2.0, 0.3) };
    let mut model = plain.init(9, &device).unwrap();
    let MonotoneCell::Nemon(weight) = &mut model.cell else { panic!("its own kind") };
    weight.t = weight.t.clone().map(|t| t * 0.0);
    model.stem.injection.bias = model.stem.injection.bias.map(|bias| bias * 0.0 + 30.0);
    // The unit that the steepest row of U is for.
    let u = entries(&model.stem.injection.weight.val());
    let steepness = |unit: &usize| u[16 * unit..][..16].iter().map(|u| u.abs()).sum::<f64>();
    let unit = (0..16).max_by(|a, b| steepness(a).total_cmp(&steepness(b))).unwrap();
    let rows = (0..32).map(|at| if at == 16 + unit { 1.0 } else { 0.0 }).collect();
    model.head.classifier.weight = model.head.classifier.weight.map(|_| from_vec(rows, [2, 16], &device));
    let image = uniform([1, 1, 4, 4], 2) * 0.2 + 0.4;
    let fine = deployment(200);
    model.head.classifier.bias = model.head.classifier.bias.map(|bias| bias * 0.0);
    let logits = entries(&victim(&model, &fine).logits(&image));
    let bias = from_vec(vec![(logits[1] - 0.02) as f32, 0.0], [2], &device);
    model.head.classifier.bias = model.head.classifier.bias.map(|_| bias);
    let logits = entries(&victim(&model, &fine).logits(&image));
    let truth = (logits[1] - logits[0]) * 2.0 / steepness(&unit);
    let certifier = MonotoneCertifier::of(&model);
    let found = certifier.ideal(Method::Lipschitz).unwrap().certified(0, &to_vec(image.clone()), Norm::Linf);
    let radius = found.radius.unwrap();
    assert!(radius < truth + 1e-4 && radius > 0.995 * truth, "{radius} of {truth}");
    let steepest = u[16 * unit..][..16].iter().map(|u| -u.signum() as f32).collect();
    let steepest = from_vec(steepest, [1, 1, 4, 4], &device);
    let class = |distance: f64| {
        predictions(&victim(&model, &fine).logits(&(image.clone() + steepest.clone() * distance)))[0]
    };
    assert_eq!((class(0.999 * radius), class(1.01 * radius)), (Some(1), Some(0)));
}

/// G and U of one size along the direction in which two logits part: √2 γ is met there.
#[test]
fn the_bound_of_a_bounded_network_is_met() {
    let device = Device::default();
    let config = LbenConfig {
        hidden: 2,
        lipschitz: 2.0,
        monotonicity: 0.01,
        step: 1e-3,
        image: [1, 4, 4],
        classes: 2,
        ..LbenConfig::digits()
    };
    let mut model = config.init(9, &device).unwrap();
    let zero = |param: Param<Tensor<2>>| param.map(|value| value * 0.0);
    (model.cell.v, model.cell.s) = (zero(model.cell.v), zero(model.cell.s));
    // Λ is 2/3: of ΛU and GΛ⁻¹ either is 30.
    let along = from_vec(vec![0.25; 16], [1, 16], &device);
    let parting = from_vec(vec![0.5_f32.sqrt(), -(0.5_f32.sqrt())], [2, 1], &device);
    model.stem.injection.weight =
        model.stem.injection.weight.map(|_| parting.clone().matmul(along.clone()) * 45.0);
    model.head.classifier.weight =
        model.head.classifier.weight.map(|_| from_vec(vec![20.0, 0.0, 0.0, 20.0], [2, 2], &device));
    model.stem.injection.bias = model.stem.injection.bias.map(|bias| bias * 0.0 + 2000.0);
    model.head.classifier.bias = model.head.classifier.bias.map(|bias| bias * 0.0);
    let image = uniform([1, 1, 4, 4], 2) * 0.2 + 0.4;
    let certifier = MonotoneCertifier::new(&model).unwrap();
    let found = certifier.ideal(Method::Lipschitz).unwrap().certified(0, &to_vec(image.clone()), Norm::L2);
    let radius = found.radius.unwrap();
    // z = (I − W)⁻¹ (U x + b): along the direction that parts them ΛWΛ⁻¹ is that of m + (30² + 30²)/2γ.
    let pixels: f64 = entries(&image).iter().sum::<f64>() * 0.25;
    let stiff = 0.01 + 2.0 * 900.0 / 4.0;
    let slope = 900.0 * 2.0_f64.sqrt() / stiff;
    assert!((slope - 2.0 * 2.0_f64.sqrt()).abs() < 1e-3, "{slope}");
    // The lead is the slope times that, and falls to 0 along it.
    assert!(radius <= pixels + 1e-4 && radius > 0.995 * pixels, "{radius} of {pixels}");
    assert!(found.class == Some(0));
}
