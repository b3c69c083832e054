//! Vector-Jacobian products written by hand, against autodiff and against differences.

mod common;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use common::cells::{cell, configurations, inputs, mask};
use common::{Nudge, compare_gradients, double, inner, normal, relative_error};
use equipoise::batch::select;
use equipoise::model::cell::{BoundCell, Cell};
use equipoise::model::mdeq::MdeqCell;
use equipoise::model::parameters::accumulate_module;
use equipoise::state::State;

/// The two ways to evaluate a cell whose products are written by hand.
type Bind = fn(&MdeqCell, &Tensor<2>) -> Box<dyn BoundCell>;
const WAYS: [Bind; 2] = [|cell, x| cell.bind(x), |cell, x| cell.bind_composed(x)];

#[test]
fn state_and_injection_products_match_autodiff() {
    for config in configurations() {
        let cell = cell(&config);
        let (z, x, u) = inputs(&cell, 3);
        let (tz, tx) = (z.tensor().clone().autodiff().require_grad(), x.clone().autodiff().require_grad());
        let gradients = (cell.apply(tz.clone(), tx.clone()) * u.tensor().clone()).sum().backward();
        for bind in WAYS {
            let (by_hand, injection) = bind(&cell, &x).linearize(&z).vjp(&u);
            assert!(relative_error(by_hand.tensor(), &tz.grad(&gradients).unwrap()) < 1e-4, "{config:?}");
            assert!(relative_error(injection.tensor(), &tx.grad(&gradients).unwrap()) < 1e-4, "{config:?}");
        }
    }
}

#[test]
fn parameter_products_match_autodiff() {
    for config in configurations() {
        let cell = cell(&config);
        let (z, x, u) = inputs(&cell, 3);
        let tracked = cell.clone().train();
        let value = tracked.apply(z.tensor().clone(), x.clone());
        let gradients = (value * u.tensor().clone()).sum().backward();
        let mut by_autodiff = GradientsParams::new();
        accumulate_module(&mut by_autodiff, gradients, &tracked);
        for bind in WAYS {
            let mut by_hand = GradientsParams::new();
            bind(&cell, &x).linearize(&z).vjp_parameters(&u, &mut by_hand);
            let compared = compare_gradients(&cell, &by_hand, &by_autodiff, 1e-3, 0.0);
            assert_eq!([compared; 2], [by_hand.len(), by_autodiff.len()], "{config:?}");
        }
    }
}

/// The same for a cell under a dropout mask, both ways of evaluating it against autodiff through the composed one.
#[test]
fn products_under_a_mask_match_autodiff() {
    for config in configurations() {
        let cell = cell(&config);
        let ((z, x, u), mask) = (inputs(&cell, 3), mask(&cell, 3));
        let tracked = cell.clone().train();
        let (tz, tx) = (z.tensor().clone().autodiff().require_grad(), x.clone().autodiff().require_grad());
        let value = tracked.bind_composed_masked(&tx, Some(&mask)).apply(&tz.clone().into());
        let gradients = (value.into_tensor() * u.tensor().clone()).sum().backward();
        let (at_z, at_x) = (tz.grad(&gradients).unwrap(), tx.grad(&gradients).unwrap());
        let mut expected = GradientsParams::new();
        accumulate_module(&mut expected, gradients, &tracked);
        for bound in [cell.bind_masked(&x, &mask).unwrap(), cell.bind_composed_masked(&x, Some(&mask))] {
            let mut parameters = GradientsParams::new();
            let (state, injection) = bound.linearize(&z).vjp_parameters(&u, &mut parameters);
            assert!(relative_error(state.tensor(), &at_z) < 1e-4);
            assert!(relative_error(injection.tensor(), &at_x) < 1e-4);
            let compared = compare_gradients(&cell, &parameters, &expected, 1e-3, 0.0);
            assert_eq!([compared; 2], [parameters.len(), expected.len()], "{config:?}");
        }
    }
}

/// Central differences of ⟨u, f⟩ along a random direction, in state, injection and every parameter. They are
/// taken in float64, where a step of 1e-6 crosses no kink of a ReLU to speak of.
#[test]
fn products_match_differences() {
    struct Collect(Vec<(ParamId, f64, f64)>, GradientsParams);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.1.get::<D>(param.id).unwrap();
            let along = inner(&gradient, &normal(param.dims(), 11));
            self.0.push((param.id, along, inner(&gradient, &gradient).sqrt()));
        }
    }
    const STEP: f64 = 1e-6;
    let agree = |what: String, predicted: f64, plus: f64, minus: f64, scale: f64| {
        let measured = (plus - minus) / (2.0 * STEP);
        let error = (predicted - measured).abs() / scale;
        assert!(error < 1e-3, "{what}: product {predicted}, differences {measured}, scale {scale}");
    };
    for config in configurations() {
        let cell = cell(&config);
        let (z, x, u) = inputs(&cell, 3);
        let mut parameters = GradientsParams::new();
        let (dz, dx) = cell.bind(&x).linearize(&z).vjp_parameters(&u, &mut parameters);
        let [z, u, dz, dx] = [z, u, dz, dx].map(State::into_tensor);
        let length = |v: &Tensor<2>| inner(v, v).sqrt();
        let at = |nudge: Nudge, z: &Tensor<2>, x: &Tensor<2>| {
            let value = cell.clone().map(&mut { nudge }).apply(double(z.clone()), double(x.clone()));
            inner(&value, &u)
        };
        let still = || Nudge { id: None, step: 0.0 };
        let moved = |from: &Tensor<2>, direction: &Tensor<2>, step: f64| {
            double(from.clone()) + double(direction.clone()) * step
        };

        let (wz, wx) = (normal(z.dims(), 8), normal(x.dims(), 9));
        let (plus, minus) = (moved(&z, &wz, STEP), moved(&z, &wz, -STEP));
        agree("state".into(), inner(&dz, &wz), at(still(), &plus, &x), at(still(), &minus, &x), length(&dz));
        let (plus, minus) = (moved(&x, &wx, STEP), moved(&x, &wx, -STEP));
        let (plus, minus) = (at(still(), &z, &plus), at(still(), &z, &minus));
        agree("injection".into(), inner(&dx, &wx), plus, minus, length(&dx));

        let mut collect = Collect(Vec::new(), parameters);
        cell.visit(&mut collect);
        for (id, along, length) in collect.0 {
            let nudged = |step| at(Nudge { id: Some(id), step }, &z, &x);
            agree(format!("parameter {id}"), along, nudged(STEP), nudged(-STEP), length.max(1e-3));
        }
    }
}

#[test]
fn rows_are_independent() {
    let config = &configurations()[2];
    let cell = cell(config);
    let (z, x, u) = inputs(&cell, 3);
    let (state, injection) = cell.bind(&x).linearize(&z).vjp(&u);
    let value = cell.bind(&x).apply(&z);
    for row in 0..3 {
        let (z1, x1, u1) = (z.select(&[row]), select(&x, &[row]), u.select(&[row]));
        let alone = cell.bind(&x1).linearize(&z1);
        let (state1, injection1) = alone.vjp(&u1);
        assert_eq!(alone.value().to_f32(), value.select(&[row]).to_f32());
        assert_eq!(state1.to_f32(), state.select(&[row]).to_f32());
        assert_eq!(injection1.to_f32(), injection.select(&[row]).to_f32());
        let selected = cell.bind(&x).linearize(&z);
        assert_eq!(selected.select(&[row]).vjp_state(&u1).to_f32(), state.select(&[row]).to_f32());
        assert_eq!(cell.bind(&x).select(&[row]).apply(&z1).to_f32(), value.select(&[row]).to_f32());
    }
}
