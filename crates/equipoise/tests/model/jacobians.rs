//! Vector-Jacobian products written by hand, against autodiff and against differences.

use crate::common::cells::{agree_with_differences, cell, configurations, inputs, mask};
use crate::common::{compare_gradients, relative_error};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use equipoise::batch::select;
use equipoise::model::cell::{BoundCell, Cell};
use equipoise::model::mdeq::MdeqCell;
use equipoise::model::parameters::accumulate_module;

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

#[test]
fn products_match_differences() {
    for config in configurations() {
        let cell = cell(&config);
        agree_with_differences(&cell, &inputs(&cell, 3), &format!("{config:?}"));
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
