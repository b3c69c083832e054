//! Cells to test, and arguments for them.
#![allow(dead_code)]

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use equipoise::model::cell::Cell;
use equipoise::model::mdeq::{MdeqCell, MdeqConfig};
use equipoise::state::State;

use super::normal;

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
