//! How W is made of parameters, so that there is one fixed point whatever these are trained to.
//!
//! | | W | what holds for all parameters |
//! |---|---|---|
//! | [`WinstonKolter`] | (1−m) I − AᵀA + B − Bᵀ | the symmetric part of I − W is at least m I |
//! | [`Nemon`] | Λ⁻¹ ((1−m) I − diag(\|T\|1) + T) Λ | the matrix measure of ΛWΛ⁻¹ in ℓ∞ is at most 1−m |
//! | [`IntervalBounded`] | Λ⁻¹ D^(−½) M D^(−½) Λ, D = diag(\|M\|1 + \|M\|ᵀ1)/(2(1−m)) | the spectral radius of \|W\| is at most 1−m, and the symmetric part of I − ΛWΛ⁻¹ at least m I |
//! | [`LbenCell`] | (1−m) I − Λ⁻¹ (½VᵀV + S − Sᵀ) Λ − (Λ⁻²GᵀG + UUᵀΛ²)/2γ | the symmetric part of I − ΛWΛ⁻¹ is at least m I + (Λ⁻¹GᵀGΛ⁻¹ + ΛUUᵀΛ)/2γ |
//!
//! Λ is a positive diagonal with entries 1/3 + ⅔ σ(d). A ReLU commutes with it: as ζ = Λz the network has W′ = ΛWΛ⁻¹, U′ = ΛU and the head
//! GΛ⁻¹. So everything that holds without Λ holds in the norm of Λz, and no network is lost by keeping its entries near each other, as
//! IBP-monDEQ does: a bound in that norm is then never far from one of z. Each matrix is made in Burn operations and its derivative is
//! autodiff's.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::Splitting;
use super::config::{MonotoneConfig, Parametrisation};
use crate::model::init::{Init, Law};
use crate::model::prepared::Prepared;

/// What a cell has beside its parameters.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// m.
    pub(super) monotonicity: f64,
    /// α.
    pub(super) step: f64,
    pub(super) splitting: Splitting,
    /// The resolvent of Peaceman-Rachford splitting.
    pub(super) resolvent: Prepared<Tensor<2>>,
}

impl Settings {
    pub(super) fn new(monotonicity: f64, step: f64, splitting: Splitting) -> Self {
        Self { monotonicity, step, splitting, resolvent: Prepared::default() }
    }
}

/// Monotone in L2 (Winston and Kolter 2020, arXiv 2006.08591, section 3.1).
#[derive(Module, Debug)]
pub struct WinstonKolter {
    /// A, `[D, D]`.
    pub a: Param<Tensor<2>>,
    /// B, `[D, D]`.
    pub b: Param<Tensor<2>>,
    #[module(skip)]
    pub(super) settings: Settings,
}

/// Contracting in ℓ∞ (Jafarpour, Davydov, Proskurnikov and Bullo 2021, arXiv 2106.03194, section 5).
#[derive(Module, Debug)]
pub struct Nemon {
    /// T, `[D, D]`.
    pub t: Param<Tensor<2>>,
    /// d, by which Λ is given, `[D]`.
    pub d: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) settings: Settings,
}

/// With boxes that contract (Wei and Kolter 2022, IBP-monDEQ).
#[derive(Module, Debug)]
pub struct IntervalBounded {
    /// M, `[D, D]`.
    pub m: Param<Tensor<2>>,
    /// d, by which Λ is given, `[D]`.
    pub d: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) settings: Settings,
}

/// The part of a Lipschitz-bounded network that is the cell's alone (Revay, Wang and Manchester 2020, arXiv 2010.01732,
/// section 4).
#[derive(Module, Debug)]
pub struct LbenWeight {
    /// V, `[D, D]`.
    pub v: Param<Tensor<2>>,
    /// S, `[D, D]`.
    pub s: Param<Tensor<2>>,
    /// d, by which Λ is given, `[D]`.
    pub d: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) settings: Settings,
    #[module(skip)]
    pub(super) lipschitz: f64,
}

/// The cell of a Lipschitz-bounded network, with the injection's and the head's matrices, which its W is made of too: the same
/// parameters as those of [`Lben`](super::Lben)'s stem and head.
#[derive(Module, Debug)]
pub struct LbenCell {
    /// V, S and Λ.
    pub own: LbenWeight,
    /// U, `[D, CHW]`.
    pub u: Param<Tensor<2>>,
    /// G, `[K, D]`.
    pub g: Param<Tensor<2>>,
}

impl WinstonKolter {
    /// W − (1−m) I.
    pub(super) fn matrix(&self) -> Tensor<2> {
        let (a, b) = (self.a.val(), self.b.val());
        b.clone() - b.transpose() - a.clone().transpose().matmul(a)
    }
}

impl Nemon {
    /// W − (1−m) I.
    pub(super) fn matrix(&self) -> Tensor<2> {
        let t = self.t.val();
        let sums = t.clone().abs().sum_dim(1);
        scaled(t.clone(), self.d.val()) - identity(&t) * sums
    }
}

impl IntervalBounded {
    /// Added to D, whose entries may be 0.
    pub const SMALLEST_SUM: f64 = 1e-8;

    /// W − (1−m) I.
    pub(super) fn matrix(&self) -> Tensor<2> {
        let m = self.m.val();
        let share = 1.0 - self.settings.monotonicity;
        let size = m.clone().abs();
        let sums =
            (size.clone().sum_dim(1) + size.sum_dim(0).transpose()) * (0.5 / share) + Self::SMALLEST_SUM;
        let factor = sums.sqrt().recip();
        let normalised = m.clone() * factor.clone() * factor.transpose();
        scaled(normalised, self.d.val()) - identity(&m) * share
    }
}

impl LbenWeight {
    /// γ.
    pub fn lipschitz(&self) -> f64 {
        self.lipschitz
    }
}

impl LbenCell {
    /// W − (1−m) I.
    pub(super) fn matrix(&self) -> Tensor<2> {
        let LbenWeight { v, s, d, lipschitz, .. } = &self.own;
        let (v, s, u, g) = (v.val(), s.val(), self.u.val(), self.g.val());
        let scale = scale(d.val());
        let squares = scale.clone() * scale;
        let inner = v.clone().transpose().matmul(v) * 0.5 + s.clone() - s.transpose();
        let read = g.clone().transpose().matmul(g) / squares.clone();
        let injected = u.clone().matmul(u.transpose()) * squares.transpose();
        (scaled(inner, d.val()) + (read + injected) * (0.5 / lipschitz)) * -1.0
    }
}

/// The least entry that Λ may have; 1 is the largest.
pub const LEAST_SCALE: f64 = 1.0 / 3.0;

/// Λ as a column.
pub(super) fn scale(d: Tensor<1>) -> Tensor<2> {
    let sigmoid = ((d * -1.0).exp() + 1.0).recip();
    (sigmoid * (1.0 - LEAST_SCALE) + LEAST_SCALE).unsqueeze_dim(1)
}

/// Λ⁻¹ X Λ.
fn scaled(x: Tensor<2>, d: Tensor<1>) -> Tensor<2> {
    let scale = scale(d);
    x * scale.clone().transpose() / scale
}

/// I, of a square matrix's size and kind.
pub(super) fn identity(like: &Tensor<2>) -> Tensor<2> {
    let [side, _] = like.dims();
    let identity = Tensor::<2>::eye(side, &like.device()).cast(like.dtype());
    if like.is_autodiff() { identity.autodiff() } else { identity }
}

impl MonotoneConfig {
    /// Random parameters of the cell.
    pub(super) fn cell(&self, init: &mut Init) -> super::MonotoneCell {
        let side = self.hidden;
        let settings = Settings::new(self.monotonicity, self.step, self.splitting);
        match self.parametrisation {
            Parametrisation::WinstonKolter => super::MonotoneCell::WinstonKolter(WinstonKolter {
                a: init.parameter([side, side], Law::FanIn),
                b: init.parameter([side, side], Law::FanIn),
                settings,
            }),
            Parametrisation::Nemon => super::MonotoneCell::Nemon(Nemon {
                t: init.parameter([side, side], Law::FanIn),
                d: init.filled([side], 0.0),
                settings,
            }),
            Parametrisation::IntervalBounded => super::MonotoneCell::IntervalBounded(IntervalBounded {
                m: init.parameter([side, side], Law::FanIn),
                d: init.filled([side], 0.0),
                settings,
            }),
        }
    }
}
