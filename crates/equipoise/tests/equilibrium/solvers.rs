//! Each solver reaches the known fixed point, at a known cost, for each example on its own.

use crate::common::normal;
use burn::tensor::{Device, Tensor};
use equipoise::batch::{from_vec, select};
use equipoise::model::cell::{Cell, Counted, FixedPointMap};
use equipoise::model::init::Init;
use equipoise::problems::LinearCell;
use equipoise::solve::{SolverConfig, StateChoice, StopReason, solve};
use equipoise::state::State;
use equipoise::work::WorkCounter;

const DIM: usize = 12;

fn problem() -> (LinearCell, Tensor<2>) {
    let mut init = Init::new(3, &Device::default());
    (LinearCell::new(DIM, 0.9, &mut init), normal([5, DIM], 4))
}

/// Largest error against (I − A)⁻¹ b, and evaluations per example.
fn reach(config: &SolverConfig) -> (f64, Vec<usize>, u64) {
    let (cell, injection) = problem();
    let counter = WorkCounter::default();
    let map = Counted::new(cell.bind(&injection), counter.clone());
    let trajectory = solve(&map, injection.zeros_like().into(), config);
    assert!(trajectory.stop_reasons().iter().all(|&reason| reason == StopReason::Converged));
    let reached = trajectory.choose(StateChoice::Best).numbers();
    let known = cell.solution(&injection);
    let errors = known.iter().flatten().zip(&reached).map(|(known, z)| (known - z).abs());
    (errors.fold(0.0, f64::max), trajectory.steps().to_vec(), counter.total().cell_evaluations)
}

#[test]
fn every_solver_reaches_the_fixed_point() {
    let all = [
        SolverConfig::broyden(60),
        SolverConfig::anderson(60),
        SolverConfig::picard(400, 1.0),
        SolverConfig::reversible(400, 0.8),
    ];
    for config in all {
        let (error, _, _) = reach(&config.clone().with_tolerance(1e-6));
        assert!(error < 2e-5, "{config:?}: {error}");
    }
}

#[test]
fn work_is_one_evaluation_for_the_start_and_one_for_each_step() {
    let all = [
        SolverConfig::broyden(60),
        SolverConfig::anderson(60),
        SolverConfig::picard(400, 0.8),
        SolverConfig::reversible(400, 0.8),
    ];
    for config in all {
        let (_, steps, evaluations) = reach(&config.with_tolerance(1e-5));
        assert_eq!(evaluations, steps.iter().map(|steps| *steps as u64 + 1).sum::<u64>());
    }
}

#[test]
fn evaluation_counts_are_pinned() {
    let (_, broyden, _) = reach(&SolverConfig::broyden(60).with_tolerance(1e-5));
    let (_, anderson, _) = reach(&SolverConfig::anderson(60).with_tolerance(1e-5));
    assert_eq!((broyden, anderson), (vec![7, 7, 7, 6, 6], vec![11, 13, 12, 11, 13]));
}

/// Iterates that grow fifteen times a step are never near a fixed point. In float32 the norm of f overflows before that of the
/// residual, which is a fourteenth smaller, for those of many starts that come to lie between: no residual of 0 either.
#[test]
fn an_iterate_that_overflows_has_not_converged() {
    let count = 200;
    let growth = 15.0_f32;
    let scales = from_vec(vec![growth; count], [count, 1], &Device::default());
    let starts = (0..count).map(|k| growth.powf(k as f32 / count as f32)).collect();
    let start: Tensor<2> = from_vec(starts, [count, 1], &Device::default());
    let trajectory = solve(&Scale(scales), start.into(), &SolverConfig::picard(60, 1.0));
    let reasons = trajectory.stop_reasons();
    assert!(!reasons.contains(&StopReason::Converged), "{reasons:?}");
    assert!(reasons.contains(&StopReason::NonFinite), "{reasons:?}");
    assert!(trajectory.relative_residuals().iter().flatten().all(|r| !r.is_finite() || *r > 0.9));
}

/// In turn y ← (1−β) y + β f(z) and z ← (1−β) z + β f(y), as published: the iterates of even number are z, and each can be
/// found again from the two after it.
#[test]
fn the_reversible_iteration_is_two_states_in_turn_and_can_be_undone() {
    let (cell, injection) = problem();
    let map = cell.bind(&injection);
    let beta = 0.8;
    let config = SolverConfig::reversible(6, beta).with_tolerance(0.0);
    let trajectory = solve(&*map, injection.zeros_like().into(), &config);
    let near = |a: &State, b: &State| {
        let pairs = a.numbers().into_iter().zip(b.numbers());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    let (mut y, mut z) = (State::from(injection.zeros_like()), State::from(injection.zeros_like()));
    for n in 1..=3 {
        y = y * (1.0 - beta) + map.apply(&z) * beta;
        z = z * (1.0 - beta) + map.apply(&y) * beta;
        assert!(near(trajectory.state(2 * n - 1), &y) < 1e-5 && near(trajectory.state(2 * n), &z) < 1e-5);
    }
    for t in (2..6).rev() {
        let back = trajectory.state(t + 1).clone() - map.apply(trajectory.state(t)) * beta;
        assert!(near(&(back / (1.0 - beta)), trajectory.state(t - 1)) < 1e-4, "{t}");
    }
}

#[test]
fn the_first_broyden_step_is_f_of_the_start() {
    let (cell, injection) = problem();
    let map = cell.bind(&injection);
    let start = State::from(injection.zeros_like());
    let trajectory = solve(&*map, start.clone(), &SolverConfig::broyden(3));
    assert_eq!(trajectory.state(1).to_f32(), map.apply(&start).to_f32());
}

#[test]
fn an_example_alone_is_the_example_in_a_batch() {
    let all = [
        SolverConfig::broyden(30),
        SolverConfig::anderson(30),
        SolverConfig::picard(30, 0.7),
        SolverConfig::reversible(30, 0.7),
    ];
    for config in all {
        let (cell, injection) = problem();
        let together = solve(&*cell.bind(&injection), injection.zeros_like().into(), &config);
        for row in 0..5 {
            let alone = select(&injection, &[row]);
            let alone = solve(&*cell.bind(&alone), alone.zeros_like().into(), &config);
            for t in 1..=config.steps {
                let expected = alone.state(t).to_f32();
                assert_eq!(together.state(t).select(&[row]).to_f32(), expected, "{config:?} row {row} t {t}");
            }
            assert_eq!(alone.relative_residuals()[0], together.relative_residuals()[row]);
            assert_eq!(alone.best()[0], together.best()[row]);
            assert_eq!(alone.stop_reasons()[0], together.stop_reasons()[row]);
            assert_eq!(
                alone.choose(StateChoice::Best).to_f32(),
                together.choose(StateChoice::Best).select(&[row]).to_f32()
            );
        }
    }
}

/// z ↦ s z + 1 with a scale of its own for each example.
struct Scale(Tensor<2>);

impl FixedPointMap for Scale {
    fn apply(&self, z: &State) -> State {
        (z.tensor().clone() * self.0.clone() + 1.0).into()
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(Scale(select(&self.0, rows)))
    }
}

#[test]
fn how_an_example_stops_is_data() {
    let device = Device::default();
    let scales = from_vec(vec![0.1, -1.0, 0.999, f32::NAN, 0.5], [5, 1], &device);
    let start = from_vec(vec![0.25; 5], [5, 1], &device);
    let config = SolverConfig::picard(60, 1.0);
    let trajectory = solve(&Scale(scales), start.into(), &config);
    use StopReason::{Converged, NonFinite, Stalled, StepLimit};
    // −1 jumps between 1/4 and 3/4 for ever: no progress. 0.999 creeps.
    assert_eq!(trajectory.stop_reasons(), [Converged, Stalled, StepLimit, NonFinite, Converged]);
    assert_eq!(trajectory.steps()[3], 1);
    assert_eq!(trajectory.len(), 60);
}

#[test]
fn divergence_stops_a_solve() {
    let device = Device::default();
    // f(z) = −3 z + 1 leaves every bound; its relative residual tends to 4/3, so a start at the fixed point's
    // edge makes the growth visible.
    let scales = from_vec(vec![-3.0], [1, 1], &device);
    let start = scales.zeros_like() + 0.25001;
    let trajectory = solve(&Scale(scales), start.into(), &SolverConfig::picard(50, 1.0).with_tolerance(0.0));
    assert_eq!(trajectory.stop_reasons(), [StopReason::Diverged]);
    assert_eq!(trajectory.best(), [1]);
}

#[test]
fn a_state_at_which_f_vanishes_has_not_converged() {
    // f(z) = 1 − z: from 0 to 1, where ‖f‖ = 0 and ‖f − z‖ = 1, so the relative residual has nothing to be relative to.
    let scales = from_vec(vec![-1.0], [1, 1], &Device::default());
    let start = scales.zeros_like();
    let trajectory = solve(&Scale(scales), start.into(), &SolverConfig::picard(2, 1.0));
    assert!(trajectory.relative_residuals()[0][0] > 1e6, "{:?}", trajectory.relative_residuals());
    assert_eq!(trajectory.stop_reasons(), [StopReason::Diverged]);
}

#[test]
fn settings_out_of_range_are_named() {
    for (config, problem) in [
        (SolverConfig::broyden(0), "steps"),
        (SolverConfig::picard(5, 0.0), "damping"),
        (SolverConfig::reversible(5, 1.1), "beta"),
        (SolverConfig::broyden(5).with_tolerance(f64::NAN), "tolerance"),
    ] {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(problem), "{message}");
    }
}
