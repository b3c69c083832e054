//! Cells to test, and arguments for them.
#![allow(dead_code)]

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use equipoise::model::cell::Cell;
use equipoise::model::mdeq::{MdeqCell, MdeqConfig};
use equipoise::state::State;

use super::{Nudge, double, inner, normal};

/// [`configurations`], and those with names.
pub fn all_sizes() -> Vec<MdeqConfig> {
    let mut sizes = configurations();
    sizes.extend([
        MdeqConfig::digits(),
        MdeqConfig::single_scale(),
        MdeqConfig::small(),
        MdeqConfig::large(),
    ]);
    sizes
}

/// Small cells that differ in everything that a cell can differ in.
pub fn configurations() -> Vec<MdeqConfig> {
    let small = MdeqConfig {
        channels: vec![4, 8],
        head_channels: vec![2, 2],
        final_channels: 8,
        groups: 2,
        expansion: 2,
        image: [3, 8, 8],
        ..MdeqConfig::small()
    };
    vec![
        MdeqConfig { channels: vec![4], head_channels: vec![2], ..small.clone() },
        MdeqConfig { post_affine: true, downsample_times: 0, ..small.clone() },
        MdeqConfig {
            channels: vec![4, 4, 6, 8],
            head_channels: vec![2; 4],
            image: [3, 16, 16],
            fuse_affine: false,
            block_affine: false,
            ..small.clone()
        },
        MdeqConfig { image: [1, 8, 16], ..small },
    ]
}

/// A cell with weights large enough that every path matters, and affine maps that are not the identity.
pub fn cell(config: &MdeqConfig) -> MdeqCell {
    struct Shake(u64);
    impl ModuleMapper for Shake {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 += 1;
            let noise = normal(param.dims(), self.0) * 0.2;
            param.map(|value| value + noise)
        }
    }
    config.init(1, &Device::default()).unwrap().cell.map(&mut Shake(100))
}

/// A dropout mask, a third of it zero.
pub fn mask(cell: &MdeqCell, count: usize) -> Tensor<2> {
    let dropped = normal([count, cell.mask_dim()], 12).lower_elem(-0.43);
    let mask = Tensor::full([count, cell.mask_dim()], 1.5, &Device::default());
    mask.mask_fill(dropped, 0.0)
}

/// State, injection and cotangent of `count` examples.
pub fn inputs(cell: &MdeqCell, count: usize) -> (State, Tensor<2>, State) {
    let dim = cell.layout().dim();
    let injected: usize = cell.layout().branches()[0].iter().product();
    (normal([count, dim], 5).into(), normal([count, injected], 6), normal([count, dim], 7).into())
}

/// The cell's products against central differences of ⟨u, f⟩ along a random direction, in state, injection and every
/// parameter. They are taken in float64, where a step of 1e-6 crosses no kink of a ReLU to speak of.
pub fn agree_with_differences<C: Cell>(cell: &C, (z, x, u): &(State, Tensor<2>, State), what: &str) {
    struct Collect(Vec<(ParamId, f64, f64)>, GradientsParams);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.1.get::<D>(param.id).unwrap();
            let along = inner(&gradient, &normal(param.dims(), 11));
            self.0.push((param.id, along, inner(&gradient, &gradient).sqrt()));
        }
    }
    const STEP: f64 = 1e-6;
    let agree = |part: &str, predicted: f64, plus: f64, minus: f64, scale: f64| {
        let measured = (plus - minus) / (2.0 * STEP);
        let error = (predicted - measured).abs() / scale;
        assert!(error < 1e-3, "{what}, {part}: product {predicted}, differences {measured}, scale {scale}");
    };
    let mut parameters = GradientsParams::new();
    let (dz, dx) = cell.bind(x).linearize(z).vjp_parameters(u, &mut parameters);
    let (z, u, dz, dx) = (z.tensor(), u.tensor(), dz.into_tensor(), dx.into_tensor());
    let length = |v: &Tensor<2>| inner(v, v).sqrt();
    let at = |nudge: Nudge, z: &Tensor<2>, x: &Tensor<2>| {
        let value = cell.clone().map(&mut { nudge }).apply(double(z.clone()), double(x.clone()));
        inner(&value, u)
    };
    let still = || Nudge { id: None, step: 0.0 };
    let moved = |from: &Tensor<2>, direction: &Tensor<2>, step: f64| {
        double(from.clone()) + double(direction.clone()) * step
    };

    let (wz, wx) = (normal(z.dims(), 8), normal(x.dims(), 9));
    let (plus, minus) = (moved(z, &wz, STEP), moved(z, &wz, -STEP));
    agree("state", inner(&dz, &wz), at(still(), &plus, x), at(still(), &minus, x), length(&dz));
    let (plus, minus) = (moved(x, &wx, STEP), moved(x, &wx, -STEP));
    agree("injection", inner(&dx, &wx), at(still(), z, &plus), at(still(), z, &minus), length(&dx));

    let mut collect = Collect(Vec::new(), parameters);
    cell.visit(&mut collect);
    for (id, along, length) in collect.0 {
        let nudged = |step| at(Nudge { id: Some(id), step }, z, x);
        agree(&format!("parameter {id}"), along, nudged(STEP), nudged(-STEP), length.max(1e-3));
    }
}
