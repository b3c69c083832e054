//! Certificates of multi-tier convolutional monotone DEQs: the same claims as of the other kinds.

use burn::tensor::Device;
use equipoise::attack::Norm;
use equipoise::certify::{Method, MonotoneCertifier};
use equipoise::model::monotone::MonotoneMultiConfig;
use equipoise::model::normalisation::Normalisation;
use equipoise::readout::Readout;

use crate::proofs::{deployment, holds};

/// 10⁴ random images and attacks within every certified radius, of the ideal network and of the deployed one.
#[test]
fn nothing_within_a_certified_radius_changes_the_class() {
    let config = MonotoneMultiConfig {
        channels: vec![2, 3],
        monotonicity: 8.0,
        step: 0.08,
        image: [1, 4, 4],
        classes: 3,
        normalisation: Some(Normalisation { mean: vec![0.4], std: vec![0.25] }),
        ..MonotoneMultiConfig::digits()
    };
    let mut model = config.init(4, &Device::default()).unwrap();
    // The second tier sees more of the first one than at the start of training.
    for tier in &mut model.cell.tiers {
        tier.g = tier.g.clone().map(|g| g * 8.0);
    }
    for down in &mut model.cell.downs {
        down.gamma = down.gamma.clone().map(|gamma| gamma * 8.0);
    }
    let certifier = MonotoneCertifier::of_multi(&model).unwrap();
    assert!(certifier.contraction() < 0.9, "{}", certifier.contraction());
    let fine = deployment(60);
    for (method, norm) in [
        (Method::Lipschitz, Norm::L2),
        (Method::Lipschitz, Norm::Linf),
        (Method::Affine, Norm::L2),
        (Method::Affine, Norm::Linf),
    ] {
        let ideal = certifier.ideal(method).unwrap();
        let deployed = certifier.deployed(method, &fine, &Readout::final_state()).unwrap();
        let means = [holds(&model, &fine, &deployed, norm, 400), holds(&model, &fine, &ideal, norm, 400)];
        eprintln!("{method}, {norm}: {means:?}");
        assert!(means[0] <= means[1], "{method}, {norm}: {means:?}");
    }
}
