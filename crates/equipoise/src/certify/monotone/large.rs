//! A convolutional network with too many units for matrices: its cell as it is applied, its injection by rows, and norms of convolutions
//! from those of their taps.
//!
//! A tap moves an image, with zeros coming in, and mixes its channels, so that ‖K‖ ≤ Σ_d ‖K_d‖₂ over the taps d, K_d `[C′, C]`; a stride leaves
//! rows and columns out and makes none longer. That bounds W only loosely; but of W a certificate by norms needs no more than how far a computed
//! state is from z*, and of the deployed network how fast its solver converges. ‖U‖, to which radii are inversely proportional, is that of UᵀU, a
//! matrix with as many rows as pixels.

use super::Tier;
use super::coupling::{divisor, roundings};
use crate::certify::matrix::Matrix;
use crate::certify::upper::{UNIT, Upper, dot, gamma};

/// A function of states and injections, or of injections.
type Step = Box<dyn Fn(&[f64], &[f64]) -> Vec<f64> + Send + Sync>;
type Near = Box<dyn Fn(&[f64]) -> Vec<f64> + Send + Sync>;

/// A cell as it is applied.
pub(crate) struct Applied {
    /// A state near the fixed point for an injection, by any means.
    pub(crate) near: Near,
    /// A step of the cell, relu((1−α) z + α (W z + c)), in float64.
    pub(crate) step: Step,
}

/// Rows of a matrix, of each its entries that are not 0 and their columns.
pub(crate) struct Sparse {
    pub(crate) columns: usize,
    pub(crate) rows: Vec<Vec<(usize, f64)>>,
}

/// W and U.
pub(crate) struct Large {
    pub(crate) applied: Applied,
    /// Of the units that images enter, which are the first ones.
    pub(crate) injection: Sparse,
    pub(crate) units: usize,
    pub(crate) tiers: Tiers,
}

/// Steps in float64 at most from a state that was found in float32.
const STEPS: usize = 30;
/// The square of a relative change that is small enough: a certificate by norms is worth no more digits.
const SETTLED: f64 = 1e-18;

impl Large {
    pub(super) fn units(&self) -> usize {
        self.units
    }

    pub(super) fn tiers(&self) -> &Tiers {
        &self.tiers
    }

    /// ‖U diag(1/σ)‖₂, and that of its entries' sizes.
    pub(super) fn gains(&self, deviation: &[f64]) -> [Upper; 2] {
        let Sparse { columns, rows } = &self.injection;
        let mut gram = Matrix::new(*columns, *columns, |_, _| 0.0);
        let (mut squares, mut met) = (0.0, vec![0; *columns]);
        for row in rows {
            for &(i, u) in row {
                let u = u / deviation[i];
                (squares, met[i]) = (squares + u * u, met[i] + 1);
                for &(j, v) in row {
                    gram.values[i * columns + j] += u * (v / deviation[j]);
                }
            }
        }
        let terms = rows.iter().map(Vec::len).sum::<usize>();
        let squares = Upper::computed(squares, terms + 4);
        // An entry of UᵀU is a sum over the rows that meet a pixel, of products with three roundings; all of them, by sizes, are no
        // longer than the squares of U's entries together.
        let lost = gamma(met.iter().max().unwrap_or(&0) + 4, UNIT) * squares;
        [(gram.norm() + lost).sqrt(), squares.sqrt()]
    }

    /// U x and |U| |x|.
    pub(super) fn injected(&self, image: &[f64], sizes: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let sum = |of: &[f64], by: fn(f64) -> f64| -> Vec<f64> {
            let row = |row: &Vec<(usize, f64)>| row.iter().map(|(j, u)| by(*u) * of[*j]).sum();
            let entered = self.injection.rows.iter().map(row);
            entered.chain(std::iter::repeat(0.0)).take(self.units).collect()
        };
        (sum(image, |u| u), sum(sizes, f64::abs))
    }

    #[cfg(test)]
    pub(super) fn stepped(&self, state: &[f64], injected: &[f64]) -> Vec<f64> {
        (self.applied.step)(state, &injected[..self.injection.rows.len()])
    }

    /// A state near the fixed point, and what a step of the cell makes of it.
    pub(super) fn solved(&self, injected: &[f64]) -> [Vec<f64>; 2] {
        let injected = &injected[..self.injection.rows.len()];
        let mut state = (self.applied.near)(injected);
        let mut next = (self.applied.step)(&state, injected);
        for _ in 0..STEPS {
            let apart: f64 = state.iter().zip(&next).map(|(p, q)| (p - q) * (p - q)).sum();
            if apart <= SETTLED * dot(&next, &next) {
                break;
            }
            let further = (self.applied.step)(&next, injected);
            (state, next) = (next, further);
        }
        [state, next]
    }
}

/// What is known of V = W − (1−m) I from its kernels.
pub(crate) struct Tiers {
    /// ‖V‖, and that of its terms' sizes.
    norm: Upper,
    sizes: Upper,
    /// Roundings of a unit's value.
    product: usize,
}

impl Tiers {
    pub(crate) fn new(tiers: &[Tier]) -> Self {
        // Of entries that carry the roundings of a division by a length.
        let slightly = Upper::exact(1.0 + 1e-6);
        let over_length = |kernel: &[f64]| -> Vec<f64> {
            let length = divisor(kernel);
            kernel.iter().map(|entry| entry / length).collect()
        };
        let both = |kernel: &[f64], channels: [usize; 2]| {
            let sizes: Vec<f64> = kernel.iter().map(|entry| entry.abs()).collect();
            [by_taps(kernel, channels) * slightly, by_taps(&sizes, channels) * slightly]
        };
        let most = |of: &dyn Fn(usize) -> Upper| -> Upper {
            (0..tiers.len()).map(of).fold(Upper::exact(0.0), Upper::max)
        };
        // ‖A‖, ‖N‖ into each tier, and ‖B − Bᵀ‖: of themselves at 0, of their sizes at 1.
        let inner: Vec<[Upper; 2]> = tiers
            .iter()
            .map(|tier| {
                let root = Upper::exact(tier.g).sqrt();
                both(&over_length(&tier.a), [tier.state[0]; 2]).map(|norm| norm * root)
            })
            .collect();
        let into: Vec<[Upper; 2]> = (0..tiers.len())
            .map(|at| match &tiers[at].from {
                Some((kernel, gamma)) => {
                    let (channels, root) =
                        ([tiers[at].state[0], tiers[at - 1].state[0]], Upper::exact(*gamma).sqrt());
                    both(&over_length(kernel), channels).map(|norm| norm * root)
                }
                None => [Upper::exact(0.0); 2],
            })
            .collect();
        let skew: Vec<[Upper; 2]> = tiers
            .iter()
            .map(|tier| {
                let (channels, b, size) = (tier.state[0], over_length(&tier.b), Upper::exact(tier.h.abs()));
                let skew: Vec<f64> = (0..b.len()).map(|at| b[at] - b[turned(at, channels)]).collect();
                let [_, sizes] = both(&b, [channels; 2]);
                [both(&skew, [channels; 2])[0] * size, sizes * size * 2.0]
            })
            .collect();
        let of = |kind: usize| {
            let gram = |at: usize| {
                let (own, further) =
                    (inner[at][kind], into.get(at + 1).map_or(Upper::exact(0.0), |into| into[kind]));
                own * own + further * further
            };
            let below = |at: usize| inner[at][kind] * into[at][kind] * 2.0;
            most(&gram) + most(&below) + most(&|at| skew[at][kind])
        };
        let [_, product] = roundings(tiers);
        Self { norm: of(0), sizes: of(1), product }
    }

    /// ‖(1−α) I + α W‖ for (1−m) I + V = W, whose I − W has a symmetric part of at least m I: by the triangle inequality, or by
    /// ‖z − α (I − W) z‖² ≤ (1 − 2αm + α² ‖I − W‖²) ‖z‖².
    pub(super) fn contraction(&self, m: f64, step: f64) -> Upper {
        let kept = Upper::exact((1.0 - step * m).abs()) + Upper::exact(1e-15 * (1.0 + step * m));
        let sum = kept + self.norm * step;
        let size = (Upper::exact(m) + self.norm) * step;
        let square = Upper::exact(1.0) + size * size;
        let root = Upper::exact((square.value() - (2.0 * step * m).next_down()).next_up().max(0.0)).sqrt();
        sum.min(root)
    }

    pub(super) fn coupling(&self) -> Upper {
        self.sizes
    }

    pub(super) fn product(&self) -> usize {
        self.product
    }
}

/// Σ ‖K_d‖₂ over the taps of a kernel `[C′, C, 3, 3]`.
fn by_taps(kernel: &[f64], [outputs, inputs]: [usize; 2]) -> Upper {
    let tap = |d: usize| Matrix::new(outputs, inputs, |o, i| kernel[(o * inputs + i) * 9 + d]).norm();
    (0..9).map(tap).sum()
}

/// Where the transposed of a convolution `[C, C, 3, 3]` has an entry.
fn turned(at: usize, channels: usize) -> usize {
    let (o, i, tap) = (at / (9 * channels), at / 9 % channels, at % 9);
    (i * channels + o) * 9 + 8 - tap
}
