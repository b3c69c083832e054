//! The fused kernels against the composed cell: the same numbers, at every size, for any batch.

use crate::common::cells::{all_sizes, cell, configurations, inputs, mask};
use crate::common::{inner, relative_error};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use equipoise::batch::select;
use equipoise::model::cell::{BoundCell, Cell};
use equipoise::model::mdeq::{MdeqCell, MdeqConfig};
use equipoise::state::State;

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
        let (with, without) = (masked.apply(&z), cell.bind(&x).apply(&z));
        assert!(relative_error(with.tensor(), without.tensor()) > 1e-3, "the mask does nothing");
    }
}

fn compare(config: &MdeqConfig, cell: &MdeqCell, fused: &dyn BoundCell, composed: &dyn BoundCell) {
    let (z, _, u) = inputs(cell, 3);
    let check = |what: &str, found: &State, expected: &State| {
        let error = relative_error(found.tensor(), expected.tensor());
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
        assert_eq!(whole.value().to_f32(), value.to_f32());
        let mask = mask(&cell, 9);
        let masked = cell.bind_masked(&x, &mask).unwrap();
        let at_mask = masked.linearize(&z);
        for rows in [vec![0], vec![8], vec![7, 2, 3, 5, 1], (0..9).rev().collect::<Vec<usize>>()] {
            let u_whole = u.clone();
            let (z, x, u) = (z.select(&rows), select(&x, &rows), u.select(&rows));
            let part = cell.bind(&x).linearize(&z);
            assert_eq!(part.value().to_f32(), value.select(&rows).to_f32());
            for linearization in [part, whole.select(&rows)] {
                let (s, i) = linearization.vjp(&u);
                assert_eq!(s.to_f32(), state.select(&rows).to_f32());
                assert_eq!(i.to_f32(), injection.select(&rows).to_f32());
            }
            let expected = at_mask.value().select(&rows).to_f32();
            assert_eq!(masked.select(&rows).apply(&z).to_f32(), expected);
            let alone = cell.bind_masked(&x, &select(&mask, &rows)).unwrap().linearize(&z);
            assert_eq!(alone.value().to_f32(), expected);
            let expected = at_mask.vjp_state(&u_whole).select(&rows).to_f32();
            assert_eq!(at_mask.select(&rows).vjp_state(&u).to_f32(), expected);
            assert_eq!(alone.vjp_state(&u).to_f32(), expected);
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
    assert!(relative_error(after.tensor(), expected.tensor()) < TOLERANCE);
    assert!(relative_error(after.tensor(), before.tensor()) > 1e-3);
    assert_eq!(first.bind(&x).apply(&z).to_f32(), before.to_f32());
}

/// Whatever is tracked or in another precision goes through the composed cell.
#[test]
fn tracked_arguments_stay_differentiable() {
    let cell = cell(&configurations()[1]);
    let (z, x, u) = inputs(&cell, 2);
    let tracked = z.tensor().clone().autodiff().require_grad();
    let value = cell.bind(&x.clone().autodiff()).apply(&tracked.clone().into());
    let gradients = (value.into_tensor() * u.tensor().clone().autodiff()).sum().backward();
    let expected = cell.bind(&x).linearize(&z).vjp_state(&u);
    assert!(relative_error(&tracked.grad(&gradients).unwrap(), expected.tensor()) < TOLERANCE);
}

/// A value that is not a number stays one: evaluations count on finding it.
#[test]
fn what_is_not_a_number_is_not_hidden() {
    let cell = cell(&configurations()[1]);
    let (z, x, _) = inputs(&cell, 2);
    let [_, dim] = z.dims();
    let mut numbers = z.numbers();
    numbers[5] = f64::NAN;
    let [value, sound] = [&z.like(numbers, dim), &z].map(|z| cell.bind(&x).apply(z).to_f32());
    assert!(value[..dim].iter().any(|x| x.is_nan()));
    assert_eq!(value[dim..], sound[dim..]);
}
