//! The monotone DEQ: its cell's products, its one fixed point, and what attacks and training make of it.

use crate::common::relative_error;
use crate::common::{normal, uniform};
use crate::splitting;
use burn::tensor::{Device, Tensor, activation};
use equipoise::attack::Classifier;
use equipoise::model::cell::{Cell, FixedPointMap};
use equipoise::model::monotone::{Monotone, MonotoneConfig, Splitting};
use equipoise::model::normalisation::Normalisation;
use equipoise::solve::{SolverConfig, StateChoice, solve};
use equipoise::state::State;
use equipoise::victim::Victim;

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

fn reflected(step: f64) -> Monotone {
    let splitting = Splitting::PeacemanRachford;
    MonotoneConfig { splitting, step, ..config() }.init(5, &Device::default()).unwrap()
}

#[test]
fn products_of_peaceman_rachford_match_differences_and_autodiff() {
    splitting::products_match(&reflected(0.3).cell, &inputs(), "peaceman-rachford", 1e-4, 2);
}

#[test]
fn rows_of_peaceman_rachford_are_independent() {
    splitting::rows_are_independent(&reflected(0.3).cell, &inputs());
}

/// relu(u*) = z*, whatever α and wherever the iteration starts, in fewer steps.
#[test]
fn peaceman_rachford_has_the_same_fixed_point() {
    let (start, x, _) = inputs();
    let solved = |model: &Monotone, start: State| {
        let bound = model.cell.bind(&x);
        let map: &dyn FixedPointMap = &*bound;
        let trajectory = solve(map, start, &SolverConfig::picard(1000, 1.0).with_tolerance(1e-6));
        (trajectory.choose(StateChoice::Best), trajectory.steps().to_vec())
    };
    let (expected, slow) = solved(&model(), start.zeros_like());
    for (step, start) in [(0.2, start.zeros_like()), (0.05, start.clone()), (1.0, start.clone() * 10.0)] {
        let (u, _) = solved(&reflected(step), start);
        let z = activation::relu(u.tensor().clone());
        assert!(relative_error(&z, expected.tensor()) < 1e-4, "{step}");
    }
    let (_, fast) = solved(&reflected(0.5), start.zeros_like());
    assert!(fast.iter().zip(&slow).all(|(fast, slow)| 2 * fast < *slow), "{fast:?} {slow:?}");
}

/// The head reads z of either.
#[test]
fn both_splittings_answer_alike() {
    let images = uniform([3, 1, 5, 5], 3);
    let deployment = splitting::converged();
    let answers = |model: &Monotone| Victim::ready_made(model, &deployment).logits(&images);
    assert!(relative_error(&answers(&reflected(0.3)), &answers(&model())) < 1e-4);
}

#[test]
fn gradients_of_peaceman_rachford_meet_each_other_and_differences() {
    splitting::gradients_meet_each_other(&reflected(0.3), &uniform([3, 1, 5, 5], 3), 1e-2);
}

#[test]
fn a_training_pass_through_peaceman_rachford_reaches_every_parameter() {
    splitting::a_training_pass_reaches(&reflected(0.3), &uniform([3, 1, 5, 5], 3), 6);
}

/// Files of before do not say it.
#[test]
fn the_usual_splitting_is_not_written() {
    let written = serde_json::to_value(config()).unwrap();
    assert!(written.get("splitting").is_none());
    let reflected = MonotoneConfig { splitting: Splitting::PeacemanRachford, ..config() };
    let written = serde_json::to_value(&reflected).unwrap();
    assert_eq!(written["splitting"], "peaceman-rachford");
    assert_eq!(serde_json::from_value::<MonotoneConfig>(written).unwrap(), reflected);
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
