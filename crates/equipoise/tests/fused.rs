//! The fused kernels against the composed cell: the same numbers, at every size, for any batch.

mod common;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use common::cells::{all_sizes, cell, configurations, inputs, mask};
use common::{inner, relative_error};
use equipoise::batch::{select, to_vec};
use equipoise::model::cell::{BoundCell, Cell};
use equipoise::model::mdeq::{MdeqCell, MdeqConfig};

/// Relative error allowed; float32 rounding through a cell is a few 1e-7.
const TOLERANCE: f64 = 1e-5;

#[test]
fn values_and_products_are_those_of_the_composed_cell() {
    for config in all_sizes() {
        let cell = cell(&config);
        let (x, mask) = (inputs(&cell, 3).1, mask(&cell, 3));
        // The mask first: memory that it was kept in is used again without one.
        let masked = cell.bind_masked(&x, &mask).unwrap();
        compare(&config, &cell, &*masked, &*cell.bind_composed_masked(&x, Some(&mask)));
        compare(&config, &cell, &*cell.bind(&x), &*cell.bind_composed(&x));
        let (z, ..) = inputs(&cell, 3);
        assert!(relative_error(&masked.apply(&z), &cell.bind(&x).apply(&z)) > 1e-3, "the mask does nothing");
    }
}

fn compare(config: &MdeqConfig, cell: &MdeqCell, fused: &dyn BoundCell, composed: &dyn BoundCell) {
    let (z, _, u) = inputs(cell, 3);
    let check = |what: &str, found: &Tensor<2>, expected: &Tensor<2>| {
        let error = relative_error(found, expected);
        println!("{:?} {what} {error:.1e}", config.channels);
        assert!(error < TOLERANCE, "{what}: {error} with {config:?}");
    };
    check("value", &fused.apply(&z), &composed.apply(&z));
    let (fused, composed) = (fused.linearize(&z), composed.linearize(&z));
    check("value of the linearisation", fused.value(), composed.value());
    check("state product alone", &fused.vjp_state(&u), &composed.vjp_state(&u));
    let (found, expected) = (fused.vjp(&u), composed.vjp(&u));
    check("state product", &found.0, &expected.0);
    check("injection product", &found.1, &expected.1);

    let (mut by_kernels, mut by_operations) = (GradientsParams::new(), GradientsParams::new());
    let found = fused.vjp_parameters(&u, &mut by_kernels);
    let expected = composed.vjp_parameters(&u, &mut by_operations);
    check("state product with parameters", &found.0, &expected.0);
    check("injection product with parameters", &found.1, &expected.1);
    compare_parameters(cell, &by_kernels, &by_operations);
}

fn compare_parameters(cell: &MdeqCell, found: &GradientsParams, expected: &GradientsParams) {
    struct Compare<'a>(&'a GradientsParams, &'a GradientsParams, [f64; 2]);
    impl ModuleVisitor for Compare<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let found = self.0.get::<D>(param.id).expect("the kernels reach every parameter");
            let expected = self.1.get::<D>(param.id).expect("the operations reach every parameter");
            let difference = found.clone() - expected.clone();
            self.2[0] += inner(&difference, &difference);
            self.2[1] += inner(&expected, &expected);
            // A path into a branch of one pixel is normalised almost to constants: its gradient is nearly
            // all cancellation, and only the sum over all parameters is held to more.
            let error = relative_error(&found, &expected);
            assert!(error < 2e-3, "parameter of shape {:?}: {error}", param.dims());
        }
    }
    let mut compare = Compare(found, expected, [0.0; 2]);
    cell.visit(&mut compare);
    let [difference, size] = compare.2;
    let error = (difference / size).sqrt();
    println!("{:?} parameters {error:.1e}", cell.layout().branches());
    assert!(error < TOLERANCE, "parameters: {error}");
    assert_eq!(found.len(), expected.len());
}

/// To the bit, however many examples there are and whichever were chosen.
#[test]
fn an_example_does_not_depend_on_its_batch() {
    for config in [configurations().remove(2), MdeqConfig::small()] {
        let cell = cell(&config);
        let (z, x, u) = inputs(&cell, 9);
        let whole = cell.bind(&x).linearize(&z);
        let (state, injection) = whole.vjp(&u);
        let value = cell.bind(&x).apply(&z);
        assert_eq!(to_vec(whole.value().clone()), to_vec(value.clone()));
        let mask = mask(&cell, 9);
        let masked = cell.bind_masked(&x, &mask).unwrap();
        let at_mask = masked.linearize(&z);
        for rows in [vec![0], vec![8], vec![7, 2, 3, 5, 1], (0..9).rev().collect::<Vec<usize>>()] {
            let u_whole = u.clone();
            let (z, x, u) = (select(&z, &rows), select(&x, &rows), select(&u, &rows));
            let part = cell.bind(&x).linearize(&z);
            assert_eq!(to_vec(part.value().clone()), to_vec(select(&value, &rows)));
            for linearization in [part, whole.select(&rows)] {
                let (s, i) = linearization.vjp(&u);
                assert_eq!(to_vec(s), to_vec(select(&state, &rows)));
                assert_eq!(to_vec(i), to_vec(select(&injection, &rows)));
            }
            let expected = to_vec(select(at_mask.value(), &rows));
            assert_eq!(to_vec(masked.select(&rows).apply(&z)), expected);
            let alone = cell.bind_masked(&x, &select(&mask, &rows)).unwrap().linearize(&z);
            assert_eq!(to_vec(alone.value().clone()), expected);
            let expected = to_vec(select(&at_mask.vjp_state(&u_whole), &rows));
            assert_eq!(to_vec(at_mask.select(&rows).vjp_state(&u)), expected);
            assert_eq!(to_vec(alone.vjp_state(&u)), expected);
        }
    }
}

/// Kernels are kept between binds; new parameters must not meet old kernels.
#[test]
fn changed_parameters_are_noticed() {
    struct Scale;
    impl ModuleMapper for Scale {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|value| value * 1.5 + 0.01)
        }
    }
    let first = cell(&configurations()[1]);
    let (z, x, _) = inputs(&first, 2);
    let before = first.bind(&x).apply(&z);
    let second = first.clone().map(&mut Scale);
    let (after, expected) = (second.bind(&x).apply(&z), second.bind_composed(&x).apply(&z));
    assert!(relative_error(&after, &expected) < TOLERANCE);
    assert!(relative_error(&after, &before) > 1e-3);
    assert_eq!(to_vec(first.bind(&x).apply(&z)), to_vec(before));
}

/// Whatever is tracked or in another precision goes through the composed cell.
#[test]
fn tracked_arguments_stay_differentiable() {
    let cell = cell(&configurations()[1]);
    let (z, x, u) = inputs(&cell, 2);
    let tracked = z.clone().autodiff().require_grad();
    let value = cell.bind(&x.clone().autodiff()).apply(&tracked);
    let gradients = (value * u.clone().autodiff()).sum().backward();
    let expected = cell.bind(&x).linearize(&z).vjp_state(&u);
    assert!(relative_error(&tracked.grad(&gradients).unwrap(), &expected) < TOLERANCE);
}

/// A value that is not a number stays one: evaluations count on finding it.
#[test]
fn what_is_not_a_number_is_not_hidden() {
    let cell = cell(&configurations()[1]);
    let (z, x, _) = inputs(&cell, 2);
    let mut numbers = to_vec(z.clone());
    numbers[5] = f32::NAN;
    let broken = equipoise::batch::from_vec(numbers, z.dims(), &z.device());
    let (value, sound) = (to_vec(cell.bind(&x).apply(&broken)), to_vec(cell.bind(&x).apply(&z)));
    let dim = value.len() / 2;
    assert!(value[..dim].iter().any(|x| x.is_nan()));
    assert_eq!(value[dim..], sound[dim..]);
}
