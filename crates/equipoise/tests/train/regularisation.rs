//! The Jacobian regulariser: its estimate against the Jacobian itself, its second-order gradients against differences.

use crate::common::cells::{cell, configurations, inputs, mask};
use crate::common::{Nudge, double, inner, normal, small_mdeq, uniform};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use equipoise::batch::{from_vec, to_vec};
use equipoise::loss::CrossEntropy;
use equipoise::model::cell::{Cell, Mask};
use equipoise::model::init::Init;
use equipoise::model::mdeq::MdeqCell;
use equipoise::problems::linear_deq;
use equipoise::train::{JacobianTerm, StepOptions, gradients};
use equipoise::victim::Deployment;

/// Each parameter's gradient along that direction, and its length.
struct Along(Vec<(ParamId, f64, f64)>, GradientsParams);

impl ModuleVisitor for Along {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // A bias that is added last does not touch the Jacobian, and has none.
        let Some(gradient) = self.1.get::<D>(param.id) else { return };
        let along = inner(&gradient, &normal(param.dims(), 11));
        self.0.push((param.id, along, inner(&gradient, &gradient).sqrt()));
    }
}

/// With √D e_i for all i as probes, Hutchinson's sum is ‖J‖_F² / D itself.
#[test]
fn the_estimate_is_of_the_frobenius_norm() {
    let cell = cell(&configurations()[0]);
    let (z, x, _) = inputs(&cell, 2);
    let dim = cell.state_dim();
    let unit = |i: usize, length: f64| {
        let row = (0..dim).map(|k| if k == i { length as f32 } else { 0.0 });
        from_vec(row.clone().chain(row).collect(), [2, dim], &Device::default())
    };
    let probes = (0..dim).map(|i| unit(i, (dim as f64).sqrt())).collect();
    let found = JacobianTerm { weight: 1.0, probes }.gradients(&cell, z.tensor(), &x, None).unwrap();
    let linearization = cell.bind(&x).linearize(&z);
    let rows = (0..dim).map(|i| linearization.vjp_state(&unit(i, 1.0).into()));
    let squares: f64 = rows.map(|row| inner(row.tensor(), row.tensor())).sum();
    let expected = squares / 2.0 / dim as f64;
    assert!((found.estimate / expected - 1.0).abs() < 1e-4, "{} {expected}", found.estimate);

    // Random probes come near it, the nearer the more there are.
    let term = JacobianTerm::draw(1.0, 64, &[4, 9], dim, 1, &Device::default());
    let estimate = term.gradients(&cell, z.tensor(), &x, None).unwrap().estimate;
    assert!((estimate / expected - 1.0).abs() < 0.2, "{estimate} {expected}");
    let other = JacobianTerm::draw(1.0, 1, &[9], dim, 1, &Device::default());
    assert_eq!(to_vec(other.probes[0].clone()), to_vec(term.probes[0].clone())[dim..]);
}

/// In float64, where a step of 1e-6 crosses no kink of a ReLU to speak of; with a mask and without.
#[test]
fn gradients_match_differences_of_the_estimate() {
    const STEP: f64 = 1e-6;
    for (config, masked) in configurations().iter().zip([false, true, true, false]) {
        let cell = cell(config);
        let (z, x, _) = inputs(&cell, 2);
        let mask = masked.then(|| double(mask(&cell, 2)));
        let probes: Vec<Tensor<2>> = (0..2).map(|k| double(normal(z.dims(), 20 + k))).collect();
        let term = JacobianTerm { weight: 1.0, probes: probes.clone() };
        let (z, x) = (double(z.into_tensor()), double(x));
        let wide = cell.clone().map(&mut Nudge { id: None, step: 0.0 });
        let found = term.gradients(&wide, &z, &x, mask.as_ref()).unwrap();

        let estimate = |cell: &MdeqCell, x: &Tensor<2>, mask: Option<&Mask>| {
            let linearization = cell.bind_composed_masked(x, mask).linearize(&z.clone().into());
            let products = probes.iter().map(|v| linearization.vjp_state(&v.clone().into()));
            let squares = products.map(|p| inner(p.tensor(), p.tensor())).sum::<f64>();
            squares / (2 * 2 * cell.state_dim()) as f64
        };
        let here = estimate(&wide, &x, mask.as_ref());
        // The estimate comes back through float32.
        assert!((found.estimate / here - 1.0).abs() < 1e-6, "{} {here}", found.estimate);
        let agree = |what: String, predicted: f64, plus: f64, minus: f64, scale: f64| {
            let measured = (plus - minus) / (2.0 * STEP);
            let error = (predicted - measured).abs() / scale;
            assert!(error < 1e-3, "{what}: {predicted}, differences {measured}, scale {scale}, {config:?}");
        };
        let direction = double(normal(x.dims(), 9));
        let moved = |step: f64| estimate(&wide, &(x.clone() + direction.clone() * step), mask.as_ref());
        let length = inner(&found.injection, &found.injection).sqrt();
        let along = inner(&found.injection, &direction);
        agree("injection".into(), along, moved(STEP), moved(-STEP), length.max(1e-3));
        let mut along = Along(Vec::new(), found.parameters);
        cell.visit(&mut along);
        assert_eq!(along.0.len(), along.1.len());
        assert!(along.0.len() >= 6, "only {} parameters compared", along.0.len());
        for (id, predicted, length) in along.0 {
            let nudged =
                |step| estimate(&cell.clone().map(&mut Nudge { id: Some(id), step }), &x, mask.as_ref());
            agree(format!("parameter {id}"), predicted, nudged(STEP), nudged(-STEP), length.max(1e-3));
        }
    }
}

/// A step's gradients with the term are those without it and the term's own, the stem's included: regularisation
/// alone reaches the stem through the injection.
#[test]
fn a_step_adds_the_weighted_term() {
    let device = Device::default();
    let model = small_mdeq().init(3, &device).unwrap();
    let (images, objective) = (uniform([3, 1, 8, 8], 1), CrossEntropy { labels: vec![0, 1, 2] });
    let step = |weight: Option<f64>| {
        let dim = model.cell.state_dim();
        let jacobian = weight.map(|weight| JacobianTerm::draw(weight, 2, &[0, 1, 2], dim, 1, &device));
        let options = StepOptions { jacobian, ..StepOptions::default() };
        gradients(&model, &Deployment::exact(), &options, &images, &objective, &Default::default()).unwrap()
    };
    let (none, once, twice) = (step(None), step(Some(1.0)), step(Some(2.0)));
    assert!(none.jacobian.is_none() && once.jacobian == twice.jacobian && once.jacobian > Some(0.0));
    assert_eq!(to_vec(none.values), to_vec(once.values.clone()));
    struct Linear<'a>([&'a GradientsParams; 3], usize);
    impl ModuleVisitor for Linear<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let [Some(none), Some(once), Some(twice)] = self.0.map(|of| of.get::<D>(param.id)) else {
                return;
            };
            let (first, second) = (once.clone() - none, twice.clone() - once);
            if inner(&first, &first) < 1e-10 {
                return;
            }
            let error = crate::common::relative_error(&second, &first);
            assert!(error < 1e-2, "parameter of shape {:?}: {error}", param.dims());
            self.1 += 1;
        }
    }
    let three = [&none.parameters, &once.parameters, &twice.parameters];
    let mut of_stem = Linear(three, 0);
    model.stem.visit(&mut of_stem);
    let mut of_cell = Linear(three, 0);
    model.cell.visit(&mut of_cell);
    assert!(of_stem.1 >= 2 && of_cell.1 >= 10, "{} {}", of_stem.1, of_cell.1);
}

#[test]
fn cells_that_cannot_are_refused() {
    let device = Device::default();
    let model = linear_deq(9, 3, 0.5, &mut Init::new(1, &device));
    let (images, objective) = (uniform([2, 1, 3, 3], 1), CrossEntropy { labels: vec![0, 1] });
    let refused = |options: StepOptions| {
        let step =
            gradients(&model, &Deployment::exact(), &options, &images, &objective, &Default::default());
        step.err().unwrap().to_string()
    };
    let jacobian = Some(JacobianTerm::draw(1.0, 1, &[0, 1], 9, 1, &device));
    assert!(refused(StepOptions { jacobian, ..StepOptions::default() }).contains("differentiable_vjp"));
    let mask = Some(Tensor::ones([2, 9], &device));
    assert!(refused(StepOptions { mask, ..StepOptions::default() }).contains("bind_masked"));
}
