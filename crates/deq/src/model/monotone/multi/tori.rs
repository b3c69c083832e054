//! Peaceman-Rachford splitting of tiers: each on its torus, with a resolvent by frequency, one after the other.
//!
//! V is block lower triangular, and so is K = (1+α) I − αW: z_0 = K_00⁻¹ r_0, z_i = K_ii⁻¹ (r_i − K_{i,i−1} z_{i−1}). The part
//! N_iᵀN_i of K_ii is unchanged by shifts of two units alone. With the four units of each 2×2 block as channels of their own the
//! torus has half the rows and columns, every 3×3 kernel is another one of four times the channels, N_i has no stride, and K_ii is a
//! convolution as that of a single tier is. Sides of all tiers but the last are even, with their border too.

use burn::optim::GradientsParams;
use burn::tensor::ops::PadMode;
use burn::tensor::{DType, Tensor, TensorData, activation};

use super::cell::{Tiers, Within, maps, rows};
use crate::model::cell::Cell;
use crate::model::layers::Kernel;
use crate::model::monotone::convolutional::gram;
use crate::model::monotone::convolutional::torus::{Spectrum, around, bordered, inner, inside, wrapped};
use crate::model::monotone::peaceman_rachford::Resolvent;
use crate::model::monotone::splitting::{Coupling, accumulated};
use crate::model::prepared::Prepared;

/// V on the tori.
#[derive(Clone)]
pub(super) struct Tori(pub(super) Tiers);

/// A circular convolution of stride 1.
fn circular(weight: Tensor<4>, maps: Tensor<4>) -> Tensor<4> {
    let reach = weight.dims()[2] / 2;
    Kernel::padded(weight, 1, 0).apply(wrapped(maps, reach, reach))
}

/// Its adjoint.
fn turned(weight: Tensor<4>) -> Tensor<4> {
    weight.swap_dims(0, 1).flip([2, 3])
}

impl Tori {
    /// C, H, W of each torus.
    fn sides(&self) -> impl Iterator<Item = [usize; 3]> {
        self.0.cell.states().iter().map(|state| around(*state))
    }

    fn maps(&self, rows: &Tensor<2>) -> Vec<Tensor<4>> {
        maps(rows, self.sides())
    }

    /// N of a tier's maps, without the last row and column.
    fn down(&self, tier: usize, maps: Tensor<4>) -> Tensor<4> {
        Kernel::padded(self.0.downs[tier].weight().clone(), 2, 0).apply(wrapped(maps, 1, 0))
    }

    /// Nᵀ.
    fn up(&self, tier: usize, maps: Tensor<4>) -> Tensor<4> {
        let [n, _, h, w] = maps.dims();
        let kernel = Kernel::padded(self.0.downs[tier].weight().clone(), 2, 0);
        let whole = kernel.vjp_input(maps, [2 * h + 1, 2 * w + 1]);
        let c = whole.dims()[1];
        // What was read from before the first row and column is that of the last ones.
        let rows = whole.clone().narrow(2, 1, 2 * h);
        let rows = rows + whole.narrow(2, 0, 1).pad((0, 0, 2 * h - 1, 0), PadMode::Constant(0.0));
        let columns = rows.clone().slice([0..n, 0..c, 0..2 * h, 1..2 * w + 1]);
        columns + rows.narrow(3, 0, 1).pad((2 * w - 1, 0, 0, 0), PadMode::Constant(0.0))
    }

    /// 2 A_{i+1}ᵀ N_i of the maps of tier i.
    fn lower(&self, tier: usize, maps: Tensor<4>) -> Tensor<4> {
        let whole = self.down(tier, maps).pad((0, 1, 0, 1), PadMode::Constant(0.0));
        circular(turned(self.0.within[tier + 1].twice.weight().clone()), whole)
    }

    /// 2 N_iᵀ A_{i+1} of the maps of tier i + 1.
    fn upper(&self, tier: usize, maps: Tensor<4>) -> Tensor<4> {
        let [n, _, h, w] = maps.dims();
        let above = circular(self.0.within[tier + 1].twice.weight().clone(), maps);
        let c = above.dims()[1];
        self.up(tier, above.slice([0..n, 0..c, 0..h - 1, 0..w - 1]))
    }

    /// NᵀN of a tier's maps; none of the last one.
    fn across(&self, tier: usize, maps: &Tensor<4>) -> Option<Tensor<4>> {
        let down = (tier < self.0.downs.len()).then(|| self.down(tier, maps.clone()))?;
        Some(self.up(tier, down))
    }
}

impl Coupling for Tori {
    fn times(&self, states: &Tensor<2>) -> Tensor<2> {
        let maps = self.maps(states);
        let tier = |i: usize| {
            let mut sum = circular(self.0.within[i].own.weight().clone(), maps[i].clone());
            if let Some(across) = self.across(i, &maps[i]) {
                sum = sum - across;
            }
            if let Some(before) = i.checked_sub(1) {
                sum = sum - self.lower(before, maps[before].clone());
            }
            sum
        };
        rows((0..maps.len()).map(tier).collect())
    }

    fn transposed(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        let maps = self.maps(cotangents);
        let tier = |i: usize| {
            let own = circular(turned(self.0.within[i].own.weight().clone()), maps[i].clone());
            match self.across(i, &maps[i]) {
                Some(across) => own - across - self.upper(i, maps[i + 1].clone()),
                None => own,
            }
        };
        rows((0..maps.len()).map(tier).collect())
    }

    fn accumulate(&self, states: &Tensor<2>, cotangents: &Tensor<2>, into: &mut GradientsParams) {
        accumulated(
            &self.0.cell,
            |cell, states| Tori(cell.coupling()).times(states),
            states,
            cotangents,
            into,
        );
    }

    fn injected(&self, injection: &Tensor<2>) -> Tensor<2> {
        let first = bordered(injection, self.0.cell.states()[0]);
        let others = self.0.cell.state_dim() - first.dims()[1];
        first.pad((0, others, 0, 0), PadMode::Constant(0.0))
    }

    fn injection(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        let first = self.0.cell.states()[0];
        inner(&cotangents.clone().narrow(1, 0, around(first).iter().product()), first)
    }
}

/// Maps `[N, C, H, W]` with the units of each 2×2 block as channels, `[N, 4C, H/2, W/2]`.
fn split(maps: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = maps.dims();
    let blocks = maps.reshape([n, c, h / 2, 2, w / 2, 2]).permute([0, 1, 3, 5, 2, 4]);
    blocks.reshape([n, 4 * c, h / 2, w / 2])
}

/// And back.
fn joined(maps: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = maps.dims();
    let blocks = maps.reshape([n, c / 4, 2, 2, h, w]).permute([0, 1, 4, 2, 5, 3]);
    blocks.reshape([n, c / 4, 2 * h, 2 * w])
}

/// A 3×3 kernel `[C′, C, 3, 3]` between such maps, `[4C′, 4C, 3, 3]`: from unit b of a block d blocks further to unit a it has the
/// tap 2d + b − a.
fn between_blocks(kernel: Tensor<4>) -> Tensor<4> {
    let [outputs, inputs, ..] = kernel.dims();
    let meets = |tap: usize, d: usize, b: usize, a: usize| tap + 1 + a == 2 * d + b;
    // By tap, then by a, b and d of rows and columns each.
    let entry = |at: usize| {
        let (tap, rest) = (at / 144, at % 144);
        let (a, b, d) = (rest / 36, rest / 9 % 4, rest % 9);
        f64::from(u8::from(meets(tap / 3, d / 3, b / 2, a / 2) && meets(tap % 3, d % 3, b % 2, a % 2)))
    };
    let values = TensorData::new((0..9 * 144).map(entry).collect::<Vec<f64>>(), [9, 144]);
    let chosen = Tensor::<2>::from_data(values, (&kernel.device(), DType::F64)).cast(kernel.dtype());
    let chosen = if kernel.is_autodiff() { chosen.autodiff() } else { chosen };
    let taps = kernel.reshape([outputs * inputs, 9]).matmul(chosen);
    let blocks = taps.reshape([outputs, inputs, 4, 4, 9]).permute([0, 2, 1, 3, 4]);
    blocks.reshape([4 * outputs, 4 * inputs, 3, 3])
}

/// R by forward substitution, and P.
#[derive(Clone)]
pub(super) struct Substitution {
    coupling: Tori,
    step: f64,
    /// K_ii⁻¹, of all tiers but the last between blocks.
    tiers: Vec<Spectrum>,
    inside: Tensor<2>,
}

impl Substitution {
    pub(super) fn new(coupling: &Tori, monotonicity: f64, step: f64) -> Self {
        let tiers = &coupling.0;
        let tier = |(i, [c, h, w]): (usize, [usize; 3])| {
            let within = &tiers.within[i];
            let Some(down) = tiers.downs.get(i) else {
                return Spectrum::new(within.own.weight(), [c, h, w], monotonicity, step);
            };
            let a = between_blocks(within.twice.weight().clone() * 0.5);
            let skew = between_blocks(within.skew.clone()).pad((1, 1, 1, 1), PadMode::Constant(0.0));
            // Its outputs are the first units of blocks.
            let n = between_blocks(down.weight().clone());
            let [outputs, inputs, ..] = n.dims();
            let n =
                n.reshape([outputs / 4, 4, inputs, 9]).narrow(1, 0, 1).reshape([outputs / 4, inputs, 3, 3]);
            Spectrum::new(&(skew - gram(a) - gram(n)), [4 * c, h / 2, w / 2], monotonicity, step)
        };
        let inside = |(state, within): (&[usize; 3], &Within)| inside(*state, within.own.weight());
        // A cell that keeps its resolvent is not kept by it.
        let mut kept = coupling.clone();
        kept.0.cell.prepared = Prepared::default();
        let inside = tiers.cell.states().iter().zip(&tiers.within).map(inside).collect();
        Self {
            tiers: coupling.sides().enumerate().map(tier).collect(),
            inside: Tensor::cat(inside, 1),
            coupling: kept,
            step,
        }
    }

    fn solved(&self, tier: usize, maps: Tensor<4>, by: fn(&Spectrum, Tensor<4>) -> Tensor<4>) -> Tensor<4> {
        let spectrum = &self.tiers[tier];
        if tier + 1 == self.tiers.len() { by(spectrum, maps) } else { joined(by(spectrum, split(maps))) }
    }
}

impl Resolvent for Substitution {
    fn times(&self, states: &Tensor<2>) -> Tensor<2> {
        let mut found: Vec<Tensor<4>> = Vec::new();
        for (tier, mut maps) in self.coupling.maps(states).into_iter().enumerate() {
            if let Some(before) = tier.checked_sub(1) {
                maps = maps - self.coupling.lower(before, found[before].clone()) * self.step;
            }
            found.push(self.solved(tier, maps, Spectrum::times));
        }
        rows(found)
    }

    fn transposed(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        let mut found: Vec<Tensor<4>> = Vec::new();
        for (tier, mut maps) in self.coupling.maps(cotangents).into_iter().enumerate().rev() {
            if let Some(after) = found.last() {
                maps = maps - self.coupling.upper(tier, after.clone()) * self.step;
            }
            found.push(self.solved(tier, maps, Spectrum::transposed));
        }
        found.reverse();
        rows(found)
    }

    fn projected(&self, rows: &Tensor<2>) -> Tensor<2> {
        activation::relu(rows.clone()) * self.inside.clone()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::monotone::MonotoneMultiConfig;
    use crate::model::monotone::peaceman_rachford::resolvents;
    use equipoise_attack::batch::to_f64;

    const ALPHA: f64 = 0.7;

    /// V in some precision, and m.
    fn coupling(channels: &[usize], [h, w]: [usize; 2], dtype: DType) -> (Tori, f64) {
        let config = MonotoneMultiConfig {
            channels: channels.to_vec(),
            image: [1, h, w],
            splitting: crate::model::monotone::Splitting::PeacemanRachford,
            ..MonotoneMultiConfig::digits()
        };
        let mut cell = config.init(3, &Device::default()).unwrap().cell;
        for (at, tier) in cell.tiers.iter_mut().enumerate() {
            tier.g = tier.g.clone().map(|g| g * (2.3 + at as f64));
            tier.h = tier.h.clone().map(|h| h * 1.4);
        }
        for down in &mut cell.downs {
            down.gamma = down.gamma.clone().map(|gamma| gamma * 1.9);
        }
        let Tiers { within, downs, cell } = cell.coupling();
        // Products are formed anew, so that they have that precision too.
        let within = within.into_iter().map(|within| {
            let twice = within.twice.weight().clone().cast(dtype);
            let skew = within.skew.cast(dtype);
            let own = skew.clone().pad((1, 1, 1, 1), PadMode::Constant(0.0)) - gram(twice.clone() * 0.5);
            Within { own: Kernel::new(own, 1), twice: Kernel::padded(twice, 1, 2), skew }
        });
        let within = within.collect();
        let downs =
            downs.iter().map(|down| Kernel::padded(down.weight().clone().cast(dtype), 2, 2)).collect();
        let m = cell.monotonicity();
        (Tori(Tiers { within, downs, cell }), m)
    }

    fn identity(side: usize, dtype: DType) -> Tensor<2> {
        Tensor::<2>::eye(side, &Device::default()).cast(dtype)
    }

    /// Largest difference, relatively to the largest entry.
    fn apart(found: Tensor<2>, expected: &Tensor<2>) -> f64 {
        let (found, expected) = (to_f64(found), to_f64(expected.clone()));
        let largest = expected.iter().fold(0.0, |most: f64, entry| most.max(entry.abs()));
        found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
    }

    /// It is the inverse of the matrix whose rows are convolutions, to the precision of the numbers; the adjoints too.
    #[test]
    fn the_resolvent_is_the_inverse_of_the_convolutions() {
        for (channels, sides) in [(&[3, 2, 4][..], [8, 4]), (&[2, 3][..], [2, 6])] {
            let (double, m) = coupling(channels, sides, DType::F64);
            let side = double.0.cell.state_dim();
            // Rows are states: what is made of the identity is a matrix transposed.
            let v = double.times(&identity(side, DType::F64)).transpose();
            assert!(apart(double.transposed(&identity(side, DType::F64)), &v) < 1e-14);
            let inverse = resolvents(&v.unsqueeze::<3>(), m, ALPHA).squeeze_dim::<2>(0);
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
                let (coupling, m) = coupling(channels, sides, dtype);
                let resolvent = Substitution::new(&coupling, m, ALPHA);
                let rows = identity(side, dtype);
                let (forth, back) = (resolvent.times(&rows).transpose(), resolvent.transposed(&rows));
                let off = (apart(forth, &inverse), apart(back, &inverse));
                assert!(off.0 < tolerance && off.1 < tolerance, "{channels:?} {dtype:?}: {off:?}");
            }
        }
    }

    /// Inside of the borders nothing comes around the tori.
    #[test]
    fn of_a_projected_state_it_is_what_it_is_with_zeros_around() {
        let (tori, m) = coupling(&[3, 2, 4], [8, 4], DType::F64);
        let resolvent = Substitution::new(&tori, m, ALPHA);
        let projected = resolvent.projected(&(identity(tori.0.cell.state_dim(), DType::F64) + 0.25));
        let within = |all: &Tensor<2>| {
            let each = tori.maps(all).into_iter().zip(tori.0.cell.states());
            Tensor::cat(each.map(|(maps, state)| inner(&maps.flatten(1, 3), *state)).collect(), 1)
        };
        let expected = tori.0.times(&within(&projected));
        assert!(apart(within(&tori.times(&projected)), &expected) < 1e-14);
    }
}
