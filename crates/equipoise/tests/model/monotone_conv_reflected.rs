//! The convolutional monotone DEQ by Peaceman-Rachford splitting: its products, and the same answers as by the other splitting.

use crate::common::{entries, normal, relative_error, uniform};
use crate::monotone_conv::{config, model_of};
use crate::splitting;
use burn::tensor::Tensor;
use equipoise::attack::Classifier;
use equipoise::model::cell::{Cell, FixedPointMap};
use equipoise::model::deq::{Head, Stem};
use equipoise::model::layers::Phase;
use equipoise::model::monotone::{MonotoneConv, MonotoneConvConfig, Splitting};
use equipoise::solve::{SolverConfig, StateChoice, Trajectory, solve};
use equipoise::state::State;
use equipoise::victim::Victim;

fn reflected(step: f64) -> MonotoneConv {
    model_of(&MonotoneConvConfig { splitting: Splitting::PeacemanRachford, step, ..config() })
}

/// u has 6×5 units of 3 channels, the injection 4×3.
fn inputs() -> (State, Tensor<2>, State) {
    (normal([3, 90], 5).into(), normal([3, 36], 6), normal([3, 90], 7).into())
}

#[test]
fn products_match_differences_and_autodiff() {
    splitting::products_match(&reflected(0.3).cell, &inputs(), "peaceman-rachford", 1e-4, 4);
}

#[test]
fn rows_are_independent() {
    splitting::rows_are_independent(&reflected(0.3).cell, &inputs());
}

fn solved(model: &MonotoneConv, x: &Tensor<2>, start: State) -> Trajectory {
    let bound = model.cell.bind(x);
    let map: &dyn FixedPointMap = &*bound;
    solve(map, start, &SolverConfig::picard(1000, 1.0).with_tolerance(1e-6))
}

/// The head reads z of either, whatever α and wherever the iteration starts; and it takes fewer steps.
#[test]
fn it_has_the_same_fixed_point() {
    let (start, x, _) = inputs();
    let read = |model: &MonotoneConv, trajectory: &Trajectory| {
        model.head.forward(trajectory.choose(StateChoice::Best).into_tensor(), &Phase::Evaluate)
    };
    let model = model_of(&config());
    let slow = solved(&model, &x, normal([3, 36], 5).into());
    let expected = read(&model, &slow);
    for (step, start) in [(0.2, start.zeros_like()), (0.05, start.clone()), (1.0, start.clone() * 10.0)] {
        let model = reflected(step);
        let found = read(&model, &solved(&model, &x, start));
        assert!(relative_error(&found, &expected) < 1e-4, "{step}");
    }
    let fast = solved(&reflected(0.5), &x, start.zeros_like());
    let steps = |trajectory: &Trajectory| trajectory.steps().to_vec();
    let (fast, slow) = (steps(&fast), steps(&slow));
    assert!(fast.iter().zip(&slow).all(|(fast, slow)| 2 * fast < *slow), "{fast:?} {slow:?}");
}

/// At the step α = 1 of a network with m = 4 the other one never settles.
#[test]
fn it_converges_where_forward_backward_splitting_does_not() {
    let of =
        |splitting, step| model_of(&MonotoneConvConfig { splitting, step, monotonicity: 4.0, ..config() });
    let images = uniform([3, 2, 7, 6], 3);
    let residuals = |splitting, step| {
        let model = of(splitting, step);
        let x = model.stem.forward(images.clone(), &Phase::Evaluate);
        let start = Tensor::zeros([3, model.cell.state_dim()], &x.device()).into();
        let trajectory = solved(&model, &x, start);
        let state = trajectory.choose(StateChoice::Best);
        let value = model.cell.apply(state.tensor().clone(), x);
        let apart = entries(&(value.clone() - state.into_tensor()));
        apart
            .chunks(apart.len() / 3)
            .map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt())
            .fold(0.0, f64::max)
            / entries(&value).iter().map(|x| x * x).sum::<f64>().sqrt()
    };
    assert!(residuals(Splitting::ForwardBackward, 1.0) > 0.1);
    assert!(residuals(Splitting::ForwardBackward, 0.1) < 1e-5);
    assert!(residuals(Splitting::PeacemanRachford, 1.0) < 1e-5);
}

#[test]
fn both_splittings_answer_alike() {
    let images = uniform([3, 2, 7, 6], 3);
    let deployment = splitting::converged();
    let answers = |model: &MonotoneConv| Victim::ready_made(model, &deployment).logits(&images);
    assert!(relative_error(&answers(&reflected(0.3)), &answers(&model_of(&config()))) < 1e-4);
    // With a head that averages nothing.
    let plain = |splitting| model_of(&MonotoneConvConfig { pool: 1, splitting, ..config() });
    let [reflected, usual] = [Splitting::PeacemanRachford, Splitting::ForwardBackward].map(plain);
    assert!(relative_error(&answers(&reflected), &answers(&usual)) < 1e-4);
}

#[test]
fn gradients_meet_each_other_and_differences() {
    splitting::gradients_meet_each_other(&reflected(0.3), &uniform([3, 2, 7, 6], 3), 1e-3);
}

#[test]
fn a_training_pass_reaches_every_parameter() {
    splitting::a_training_pass_reaches(&reflected(0.3), &uniform([3, 2, 7, 6], 3), 8);
}

/// Files of before do not say it.
#[test]
fn the_usual_splitting_is_not_written() {
    let written = serde_json::to_value(config()).unwrap();
    assert!(written.get("splitting").is_none());
    let reflected = MonotoneConvConfig { splitting: Splitting::PeacemanRachford, ..config() };
    let written = serde_json::to_value(&reflected).unwrap();
    assert_eq!(written["splitting"], "peaceman-rachford");
    assert_eq!(serde_json::from_value::<MonotoneConvConfig>(written).unwrap(), reflected);
}
