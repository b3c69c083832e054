//! Peaceman-Rachford splitting where V is a convolution: on a torus its resolvent is diagonal by frequency.
//!
//! A convolution with zeros around the state has an inverse that is none. So u has a border of one unit around z, on a torus, as
//! the authors' state has (Winston and Kolter 2020, section 4), and P sets it to 0: what V, a circular convolution there, makes of a
//! P(u) is inside of the border what it makes with zeros around the state, since its 5×5 kernel does not reach across a border
//! of two units. With û(ω) = Σ_p u(p) exp(−2πi ω·p) and V̂(ω) = Σ_d V(d) exp(2πi ω·d), C×C, the resolvent is
//! R̂(ω) = ((1 + αm) I − α V̂(ω))⁻¹. States are real: half of the columns' frequencies are enough. A complex C×C matrix is kept as
//! the real one of 2C×2C that acts on real and imaginary parts, and what acts on rows of a batch is a 1×1 convolution, whose
//! result does not depend on the batch.

use std::f64::consts::TAU;

use burn::optim::GradientsParams;
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{DType, Tensor, TensorData, activation};

use super::cell::Convolution;
use crate::model::layers::Kernel;
use crate::model::monotone::peaceman_rachford::{Resolvent, resolvents};
use crate::model::monotone::splitting::Coupling;

/// C, H, W of u, whose border is around a state of as many channels.
pub(in super::super) fn around([c, h, w]: [usize; 3]) -> [usize; 3] {
    [c, h + 2, w + 2]
}

/// A state `[N, D]` of C, H, W with a border of zeros around it.
pub(in super::super) fn bordered(rows: &Tensor<2>, [c, h, w]: [usize; 3]) -> Tensor<2> {
    let maps = rows.clone().reshape([rows.dims()[0], c, h, w]);
    maps.pad((1, 1, 1, 1), PadMode::Constant(0.0)).flatten(1, 3)
}

/// What is inside of the border.
pub(in super::super) fn inner(rows: &Tensor<2>, state @ [c, h, w]: [usize; 3]) -> Tensor<2> {
    let ([n, _], [_, rows_around, columns_around]) = (rows.dims(), around(state));
    let maps = rows.clone().reshape([n, c, rows_around, columns_around]);
    maps.slice([0..n, 0..c, 1..h + 1, 1..w + 1]).flatten(1, 3)
}

/// 1 inside of the border, 0 on it, `[1, D]`, of the kind that a kernel is of.
pub(in super::super) fn inside(state @ [c, h, w]: [usize; 3], kernel: &Tensor<4>) -> Tensor<2> {
    let ones = Tensor::<2>::ones([1, c * h * w], &kernel.device()).cast(kernel.dtype());
    let inside = bordered(&ones, state);
    if kernel.is_autodiff() { inside.autodiff() } else { inside }
}

/// Maps on a torus `[N, C, H, W]` with so many units of the other side before each row and column, and after each.
pub(in super::super) fn wrapped(maps: Tensor<4>, before: usize, after: usize) -> Tensor<4> {
    let beyond = |maps: Tensor<4>, dim: usize| {
        let side = maps.dims()[dim];
        let first = (after > 0).then(|| maps.clone().narrow(dim, 0, after));
        let last = (before > 0).then(|| maps.clone().narrow(dim, side - before, before));
        Tensor::cat(last.into_iter().chain([maps]).chain(first).collect(), dim)
    };
    beyond(beyond(maps, 2), 3)
}

/// V on the torus.
#[derive(Clone)]
pub(super) struct Circular(pub(super) Convolution);

impl Circular {
    /// Rows as maps, with as much of the other side beyond each as the kernel reads.
    fn wrapped(&self, rows: &Tensor<2>) -> Tensor<4> {
        let [c, h, w] = around(self.0.state());
        wrapped(rows.clone().reshape([rows.dims()[0], c, h, w]), 2, 2)
    }
}

impl Coupling for Circular {
    fn times(&self, states: &Tensor<2>) -> Tensor<2> {
        let Convolution { kernel, .. } = &self.0;
        Kernel::padded(kernel.weight().clone(), 1, 0).apply(self.wrapped(states)).flatten(1, 3)
    }

    fn transposed(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        let turned = self.0.kernel.weight().clone().swap_dims(0, 1).flip([2, 3]);
        Kernel::padded(turned, 1, 0).apply(self.wrapped(cotangents)).flatten(1, 3)
    }

    fn accumulate(&self, states: &Tensor<2>, cotangents: &Tensor<2>, into: &mut GradientsParams) {
        let [c, h, w] = around(self.0.state());
        let kernel = Kernel::padded(self.0.kernel.weight().clone(), 1, 0);
        let u = cotangents.clone().reshape([cotangents.dims()[0], c, h, w]);
        self.0.accumulate_kernel(kernel.vjp_weight(self.wrapped(states), u), into);
    }

    fn injected(&self, injection: &Tensor<2>) -> Tensor<2> {
        bordered(injection, self.0.state())
    }

    fn injection(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        inner(cotangents, self.0.state())
    }
}

/// The resolvent by frequency.
#[derive(Clone)]
pub(in super::super) struct Spectrum {
    /// C, H, W of the torus.
    torus: [usize; 3],
    /// R̂ and its adjoint, `[F·2C, 2C, 1, 1]` with F = H·(⌊W/2⌋ + 1) frequencies.
    forth: Tensor<4>,
    back: Tensor<4>,
    /// From a row of W real units to real and imaginary parts of its frequencies, and back.
    columns: [Tensor<4>; 2],
    /// From a column of H complex units to its frequencies, and back.
    rows: [Tensor<4>; 2],
}

impl Spectrum {
    /// Of a kernel of V, `[C, C, k, k]` and tracked or not, on a torus of C, H, W.
    pub(in super::super) fn new(kernel: &Tensor<4>, torus: [usize; 3], monotonicity: f64, step: f64) -> Self {
        let [c, h, w] = torus;
        let (device, dtype, half) = (kernel.device(), kernel.dtype(), w / 2 + 1);
        let tracked = kernel.is_autodiff();
        let constant = |values: Vec<f64>, [a, b]: [usize; 2]| {
            let values = Tensor::<2>::from_data(TensorData::new(values, [a, b]), (&device, DType::F64));
            if tracked { values.cast(dtype).autodiff() } else { values.cast(dtype) }
        };
        let matrix = |[a, b]: [usize; 2], entry: &dyn Fn(usize, usize) -> f64| {
            constant((0..a * b).map(|at| entry(at / b, at % b)).collect(), [a, b])
        };

        let [_, _, side, _] = kernel.dims();
        let reach = (side / 2) as f64;
        // By tap and frequency.
        let wave = |of: fn(f64) -> f64| {
            matrix([side * side, h * half], &|tap, at| {
                let [dy, dx] = [tap / side, tap % side].map(|d| d as f64 - reach);
                let [y, x] = [at / half, at % half].map(|frequency| frequency as f64);
                of(TAU * (y * dy / h as f64 + x * dx / w as f64))
            })
        };
        let taps = kernel.clone().reshape([c * c, side * side]);
        let part =
            |of: fn(f64) -> f64| taps.clone().matmul(wave(of)).reshape([c, c, h * half]).permute([2, 0, 1]);
        let (real, imaginary) = (part(f64::cos), part(f64::sin));
        let above = Tensor::cat(vec![real.clone(), imaginary.clone().neg()], 2);
        let below = Tensor::cat(vec![imaginary, real], 2);
        let resolvent = resolvents(&Tensor::cat(vec![above, below], 1), monotonicity, step);
        let weight = |by: Tensor<3>| by.reshape([h * half * 2 * c, 2 * c, 1, 1]);

        // A frequency of the half that is kept stands for its conjugate too, where that is another one.
        let counted = |frequency: usize| if frequency == 0 || 2 * frequency == w { 1.0 } else { 2.0 };
        let angle = |frequency: usize, place: usize, side: usize| {
            TAU * ((frequency * place) % side) as f64 / side as f64
        };
        let along = |part: usize, frequency: usize, place: usize| match part {
            0 => angle(frequency, place, w).cos(),
            _ => -angle(frequency, place, w).sin(),
        };
        let to = |at: usize, place: usize| along(at / half, at % half, place);
        let from = |place: usize, at: usize| counted(at % half) * to(at, place) / w as f64;
        // cos + i sin, or its conjugate, as a real matrix.
        let across = |sign: f64, size: f64| {
            matrix([2 * h, 2 * h], &|o, i| {
                let angle = angle(o % h, i % h, h);
                size * match (o / h, i / h) {
                    (0, 0) | (1, 1) => angle.cos(),
                    (0, _) => -sign * angle.sin(),
                    _ => sign * angle.sin(),
                }
            })
        };
        let pointwise = |matrix: Tensor<2>| matrix.unsqueeze_dims::<4>(&[2, 3]);
        Self {
            torus,
            back: weight(resolvent.clone().swap_dims(1, 2)),
            forth: weight(resolvent),
            columns: [matrix([2 * half, w], &to), matrix([w, 2 * half], &from)].map(pointwise),
            rows: [across(-1.0, 1.0), across(1.0, 1.0 / h as f64)].map(pointwise),
        }
    }

    fn frequencies(&self) -> Frequencies {
        let [c, h, w] = self.torus;
        let matrix = |weight: &Tensor<4>| {
            let [outputs, inputs, _, _] = weight.dims();
            weight.clone().reshape([outputs, inputs])
        };
        Frequencies {
            resolvent: self.forth.clone().reshape([h * (w / 2 + 1), 2 * c, 2 * c]),
            columns: [&self.columns[0], &self.columns[1]].map(matrix),
            rows: [&self.rows[0], &self.rows[1]].map(matrix),
        }
    }

    /// R of maps `[N, C, H, W]`.
    pub(in super::super) fn times(&self, maps: Tensor<4>) -> Tensor<4> {
        self.filtered(maps, &self.forth)
    }

    /// Rᵀ.
    pub(in super::super) fn transposed(&self, maps: Tensor<4>) -> Tensor<4> {
        self.filtered(maps, &self.back)
    }

    /// The maps' frequencies by their matrices, and back.
    fn filtered(&self, maps: Tensor<4>, by: &Tensor<4>) -> Tensor<4> {
        let ([n, ..], [c, h, w]) = (maps.dims(), self.torus);
        let half = w / 2 + 1;
        let pointwise = |maps: Tensor<4>, by: &Tensor<4>, groups: usize| {
            conv2d(maps, by.clone(), None, ConvOptions::new([1, 1], [0, 0], [1, 1], groups))
        };
        let maps = pointwise(maps.permute([0, 3, 1, 2]), &self.columns[0], 1);
        let maps = maps.reshape([n, 2, half, c, h]).permute([0, 1, 4, 2, 3]);
        let maps = pointwise(maps.reshape([n, 2 * h, half, c]), &self.rows[0], 1);
        let maps = maps.reshape([n, 2, h, half, c]).permute([0, 2, 3, 1, 4]);
        let maps = pointwise(maps.reshape([n, h * half * 2 * c, 1, 1]), by, h * half);
        let maps = maps.reshape([n, h, half, 2, c]).permute([0, 3, 1, 2, 4]);
        let maps = pointwise(maps.reshape([n, 2 * h, half, c]), &self.rows[1], 1);
        let maps = maps.reshape([n, 2, h, half, c]).permute([0, 1, 3, 2, 4]);
        let maps = pointwise(maps.reshape([n, 2 * half, h, c]), &self.columns[1], 1);
        maps.permute([0, 3, 2, 1])
    }
}

/// A resolvent on a torus as the matrices that it is applied by, one after the other: from each row of W units to real and imaginary
/// parts of its frequencies, `[2·half, W]`, from each column of H complex ones to its, `[2H, 2H]`, by a matrix at each frequency, and back.
pub struct Frequencies {
    /// R̂, `[H·half, 2C, 2C]` with half = ⌊W/2⌋ + 1.
    pub resolvent: Tensor<3>,
    /// Forth and back.
    pub columns: [Tensor<2>; 2],
    /// Forth and back.
    pub rows: [Tensor<2>; 2],
}

/// The resolvent around a state, and P.
#[derive(Clone)]
pub(super) struct Bordered {
    spectrum: Spectrum,
    inside: Tensor<2>,
}

impl Bordered {
    /// Of a kernel of V, `[C, C, k, k]` and tracked or not, around a state of C, H, W.
    pub(super) fn new(kernel: &Tensor<4>, state: [usize; 3], monotonicity: f64, step: f64) -> Self {
        let spectrum = Spectrum::new(kernel, around(state), monotonicity, step);
        Self { spectrum, inside: inside(state, kernel) }
    }

    /// R, as rows are multiplied by it.
    pub(super) fn frequencies(&self) -> Frequencies {
        self.spectrum.frequencies()
    }

    fn maps(&self, rows: &Tensor<2>) -> Tensor<4> {
        let [c, h, w] = self.spectrum.torus;
        rows.clone().reshape([rows.dims()[0], c, h, w])
    }
}

impl Resolvent for Bordered {
    fn times(&self, rows: &Tensor<2>) -> Tensor<2> {
        self.spectrum.times(self.maps(rows)).flatten(1, 3)
    }

    fn transposed(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        self.spectrum.transposed(self.maps(cotangents)).flatten(1, 3)
    }

    fn projected(&self, rows: &Tensor<2>) -> Tensor<2> {
        activation::relu(rows.clone()) * self.inside.clone()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::monotone::{MonotoneConvCell, MonotoneConvConfig};
    use equipoise_attack::batch::to_f64;

    const ALPHA: f64 = 0.7;

    /// V around a state of these sides in float64, and m.
    fn coupling([c, h, w]: [usize; 3]) -> (Circular, f64) {
        let config = MonotoneConvConfig {
            channels: c,
            stride: 1,
            image: [1, h, w],
            pool: 1,
            ..MonotoneConvConfig::digits()
        };
        let mut cell = config.init(3, &Device::default()).unwrap().cell;
        let MonotoneConvCell::WinstonKolter(weight) = &mut cell else { unreachable!("the usual kind") };
        weight.g = weight.g.clone().map(|g| g * 2.3);
        weight.h = weight.h.clone().map(|h| h * 1.4);
        let mut coupling = cell.coupling();
        coupling.kernel = Kernel::new(coupling.kernel.weight().clone().cast(DType::F64), 1);
        (Circular(coupling), cell.monotonicity())
    }

    fn identity(side: usize) -> Tensor<2> {
        Tensor::<2>::eye(side, &Device::default()).cast(DType::F64)
    }

    /// Largest difference, relatively to the largest entry.
    fn apart(found: Tensor<2>, expected: &Tensor<2>) -> f64 {
        let (found, expected) = (to_f64(found), to_f64(expected.clone()));
        let largest = expected.iter().fold(0.0, |most: f64, entry| most.max(entry.abs()));
        found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
    }

    /// By frequency it is the inverse of the matrix whose rows are convolutions, to the precision of the numbers; the adjoint too.
    /// Sides are even and odd, and so short that the kernel meets itself around the torus.
    #[test]
    fn the_resolvent_is_the_inverse_of_the_convolution() {
        for state in [[3, 4, 5], [2, 5, 4], [2, 1, 2], [1, 2, 1]] {
            let (circular, m) = coupling(state);
            let kernel = circular.0.kernel.weight().clone();
            let side = around(state).iter().product();
            // Rows are states: what is made of the identity is a matrix transposed.
            let v = circular.times(&identity(side)).transpose();
            assert!(apart(circular.transposed(&identity(side)), &v) < 1e-14);
            let inverse = resolvents(&v.unsqueeze::<3>(), m, ALPHA).squeeze_dim::<2>(0);
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
                let resolvent = Bordered::new(&kernel.clone().cast(dtype), state, m, ALPHA);
                let rows = identity(side).cast(dtype);
                let (forth, back) = (resolvent.times(&rows).transpose(), resolvent.transposed(&rows));
                assert!(apart(forth, &inverse) < tolerance && apart(back, &inverse) < tolerance, "{state:?}");
            }
            // ((1+α) I − αW) R z = z, with W by convolution.
            let solved = Bordered::new(&kernel, state, m, ALPHA).times(&identity(side));
            let back = solved.clone() * (1.0 + ALPHA * m) - circular.times(&solved) * ALPHA;
            assert!(apart(back, &identity(side)) < 1e-12, "{state:?}");
        }
    }

    /// Inside of the border nothing comes around the torus.
    #[test]
    fn of_a_projected_state_it_is_the_convolution_with_zeros_around() {
        for state in [[3, 4, 5], [2, 1, 2]] {
            let (circular, m) = coupling(state);
            let resolvent = Bordered::new(circular.0.kernel.weight(), state, m, ALPHA);
            let side = around(state).iter().product();
            let projected = resolvent.projected(&(identity(side) + 0.25));
            let found = inner(&circular.times(&projected), state);
            let within = inner(&projected, state);
            assert!(apart(found, &circular.0.times(&within)) < 1e-14, "{state:?}");
            assert!(apart(bordered(&within, state), &projected) == 0.0);
        }
    }
}
