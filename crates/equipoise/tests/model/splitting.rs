//! What every monotone DEQ is held to, whatever its W is made of: products, independence of rows, one fixed point, gradients.

use crate::common::cells::agree_with_differences;
use crate::common::{compare_gradients, entries, inner, normal, relative_error};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use equipoise::batch::{Images, select};
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use equipoise::model::cell::{Cell, FixedPointMap};
use equipoise::model::deq::{Deq, Head, Stem};
use equipoise::model::parameters::accumulate_module;
use equipoise::readout::Readout;
use equipoise::solve::{SolverConfig, StateChoice, solve};
use equipoise::state::State;
use equipoise::training_pass::{JacobianTerm, StepOptions, gradients};
use equipoise::victim::{Deployment, Victim};
use equipoise::work::WorkCounter;

/// A state, an injection and a cotangent.
pub type Inputs = (State, Tensor<2>, State);

/// Picard's iteration to the last digit of float32.
pub fn converged() -> Deployment {
    let solver = SolverConfig::picard(300, 1.0).with_tolerance(0.0);
    Deployment { solver: solver.clone(), backward: solver, ..Deployment::exact() }
}

/// The cell's products are those of differences and of autodiff, of which so many parameters have one.
pub fn products_match<C: Cell>(cell: &C, (z, x, u): &Inputs, what: &str, tolerance: f64, parameters: usize) {
    agree_with_differences(cell, &(z.clone(), x.clone(), u.clone()), what);
    let tracked = cell.clone().train();
    let (z_, u_) = (z.tensor().clone(), u.tensor().clone());
    let (tz, tx) = (z_.clone().autodiff().require_grad(), x.clone().autodiff().require_grad());
    let graph = (tracked.apply(tz.clone(), tx.clone()) * u_.clone()).sum().backward();
    let (at_z, at_x) = (tz.grad(&graph).unwrap(), tx.grad(&graph).unwrap());
    let (mut by_autodiff, mut by_hand) = (GradientsParams::new(), GradientsParams::new());
    accumulate_module(&mut by_autodiff, graph, &tracked);
    let (dz, dx) = cell.bind(x).linearize(z).vjp_parameters(u, &mut by_hand);
    let (dz, dx) = (dz.into_tensor(), dx.into_tensor());
    assert!(relative_error(&dz, &at_z) < 1e-5 && relative_error(&dx, &at_x) < 1e-5);
    assert_eq!(compare_gradients(cell, &by_hand, &by_autodiff, tolerance, 0.0), parameters);
    let products = cell.differentiable_vjp(&z_, x, None, &[u_]).unwrap();
    assert!(relative_error(&products[0], &dz) < 1e-6);
}

/// To the bit.
pub fn rows_are_independent<C: Cell>(cell: &C, (z, x, u): &Inputs) {
    let (bound, value) = (cell.bind(x), State::from(cell.apply(z.tensor().clone(), x.clone())));
    let (state, injection) = bound.linearize(z).vjp(u);
    for row in 0..3 {
        let rows = |state: &State| state.select(&[row]);
        let same = |a: &State, b: &State| assert_eq!(a.to_f32(), b.to_f32());
        let alone = cell.bind(&select(x, &[row])).linearize(&rows(z));
        let (state1, injection1) = alone.vjp(&rows(u));
        same(alone.value(), &rows(&value));
        same(&bound.apply(z), &value);
        same(&state1, &rows(&state));
        same(&injection1, &rows(&injection));
        same(&bound.linearize(z).select(&[row]).vjp_state(&rows(u)), &rows(&state));
        same(&bound.linearize_rows(z, &[row]).vjp_state(&rows(u)), &rows(&state));
        same(&bound.select(&[row]).apply(&rows(z)), &rows(&value));
    }
}

/// Whatever α and wherever the iteration starts; `cell` is the cell with some α.
pub fn there_is_one_fixed_point<C: Cell>(cell: impl Fn(f64) -> C, (start, x, _): &Inputs) {
    let at = |step: f64, start: State| {
        let cell = cell(step);
        let bound = cell.bind(x);
        let map: &dyn FixedPointMap = &*bound;
        solve(map, start, &SolverConfig::picard(1000, 1.0).with_tolerance(1e-7)).choose(StateChoice::Best)
    };
    let found = at(0.2, start.zeros_like());
    assert!(found.numbers().iter().any(|&entry| entry > 0.1) && found.numbers().contains(&0.0));
    for (step, start) in [(0.05, start.zeros_like()), (0.2, start.clone()), (0.1, start.clone() * 10.0)] {
        assert!(relative_error(at(step, start).tensor(), found.tensor()) < 1e-5, "{step}");
    }
}

/// At the fixed point every estimator that is exact there agrees, and a difference over `step` of the deployed loss in
/// float32 with it.
pub fn gradients_meet_each_other<S: Stem, C: Cell, H: Head>(
    model: &Deq<S, C, H>,
    images: &Images,
    step: f64,
) {
    let deployment = converged();
    let objective = CrossEntropy { labels: vec![0, 1, 3] };
    let gradient = |spec: &str| {
        let estimator: Estimator = spec.parse().unwrap();
        Victim::new(model, &deployment, Readout::final_state(), estimator).gradient(images, &objective).1
    };
    let exact = gradient("exact");
    assert!(relative_error(&gradient("through-solver"), &exact) < 1e-4);
    let victim = Victim::ready_made(model, &deployment);
    let along = normal(images.dims(), 4);
    let value = |step: f64| {
        let values = victim.gradient(&(images.clone() + along.clone() * step), &objective).0.values;
        entries(&values).iter().sum::<f64>()
    };
    let (measured, predicted) = ((value(step) - value(-step)) / (2.0 * step), inner(&exact, &along));
    assert!((measured - predicted).abs() < 2e-2 * predicted.abs().max(0.1), "{measured} {predicted}");
}

/// So many of them, with Jacobian regularisation, which differentiates the products once more.
pub fn a_training_pass_reaches<S: Stem, C: Cell, H: Head>(
    model: &Deq<S, C, H>,
    images: &Images,
    parameters: usize,
) {
    let dim = model.cell.state_dim();
    let jacobian = JacobianTerm::draw(0.5, 1, &[0, 1, 2], dim, 0, &Device::default());
    let options = StepOptions { jacobian: Some(jacobian), ..StepOptions::default() };
    let objective = CrossEntropy { labels: vec![0, 1, 3] };
    let pass = gradients(model, &converged(), &options, images, &objective, &WorkCounter::default()).unwrap();
    assert_eq!(pass.parameters.len(), parameters);
    assert!(pass.jacobian.unwrap() > 0.0 && pass.residual.unwrap() < 1e-6);
}
