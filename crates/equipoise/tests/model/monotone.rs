//! The monotone DEQ: its cell's products, its one fixed point, and what attacks and training make of it.

use crate::common::{normal, uniform};
use crate::splitting;
use burn::tensor::{Device, Tensor};
use equipoise::model::monotone::{Monotone, MonotoneConfig};
use equipoise::model::normalisation::Normalisation;
use equipoise::state::State;

fn config() -> MonotoneConfig {
    MonotoneConfig {
        hidden: 12,
        image: [1, 5, 5],
        classes: 4,
        normalisation: Some(Normalisation { mean: vec![0.3], std: vec![0.4] }),
        ..MonotoneConfig::digits()
    }
}

fn model() -> Monotone {
    config().init(5, &Device::default()).unwrap()
}

fn inputs() -> (State, Tensor<2>, State) {
    (normal([3, 12], 5).into(), normal([3, 12], 6), normal([3, 12], 7).into())
}

#[test]
fn products_match_differences_and_autodiff() {
    splitting::products_match(&model().cell, &inputs(), "monotone", 1e-5, 2);
}

#[test]
fn rows_are_independent() {
    splitting::rows_are_independent(&model().cell, &inputs());
}

/// It is z = relu(W z + x) too, whatever α and wherever the iteration starts.
#[test]
fn there_is_one_fixed_point_for_every_step() {
    let cell = |step| MonotoneConfig { step, ..config() }.init(5, &Device::default()).unwrap().cell;
    splitting::there_is_one_fixed_point(cell, &inputs());
}

/// At the fixed point every estimator that is exact there agrees, and a difference of the deployed loss in float32 with it.
#[test]
fn gradients_meet_each_other_and_differences() {
    splitting::gradients_meet_each_other(&model(), &uniform([3, 1, 5, 5], 3), 1e-2);
}

/// With Jacobian regularisation.
#[test]
fn a_training_pass_reaches_every_parameter() {
    splitting::a_training_pass_reaches(&model(), &uniform([3, 1, 5, 5], 3), 6);
}

#[test]
fn sizes_that_make_no_sense_are_named() {
    for (config, field) in [
        (MonotoneConfig { hidden: 0, ..config() }, "hidden"),
        (MonotoneConfig { monotonicity: 0.0, ..config() }, "monotonicity"),
        (MonotoneConfig { monotonicity: f64::NAN, ..config() }, "monotonicity"),
        (MonotoneConfig { step: 1.5, ..config() }, "step"),
        (MonotoneConfig { classes: 1, ..config() }, "classes"),
        (MonotoneConfig { image: [1, 0, 5], ..config() }, "image"),
        (MonotoneConfig { image: [3, 5, 5], ..config() }, "normalisation"),
    ] {
        assert_eq!(config.validate().unwrap_err().field, field);
    }
}
