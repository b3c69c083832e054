//! Peaceman-Rachford splitting towards z* = relu(W z* + x), as a cell: its state is u, and z = relu(u).
//!
//! With the resolvent R = ((1+α) I − α W)⁻¹ a step is u½ = 2z − u, z½ = R (u½ + αx), f(u; x) = 2 z½ − u½ (Winston and Kolter 2020, section
//! 3). It converges for every α > 0, mostly in fewer steps than forward-backward splitting takes. At its fixed point
//! u* = (1−α) z* + α (W z* + x), which makes relu(u*) the same z*.
//!
//! Where the resolvent has its form on more units than z has, z is 0 at those: relu becomes the projection P onto z ≥ 0 that is
//! 0 there too, x is 0 there, and all of this stays true of P(u).

use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData, activation};

use super::splitting::{Coupling, Step, where_positive};
use crate::model::layers::products;
use equipoise_attack::batch::to_f64;

/// Peaceman-Rachford splitting.
#[derive(Clone)]
pub(super) struct PeacemanRachford<V, R> {
    pub(super) coupling: V,
    pub(super) resolvent: R,
    /// α.
    pub(super) step: f64,
}

/// R, in whatever form it is had.
pub(super) trait Resolvent: Clone + 'static {
    /// R r of each row r, `[N, D]`.
    fn times(&self, rows: &Tensor<2>) -> Tensor<2>;

    /// Rᵀ s of each row s, `[N, D]`.
    fn transposed(&self, cotangents: &Tensor<2>) -> Tensor<2>;

    /// P of each row: by entries, and with a derivative of 0 or 1.
    fn projected(&self, rows: &Tensor<2>) -> Tensor<2> {
        activation::relu(rows.clone())
    }
}

/// As a matrix `[D, D]`.
impl Resolvent for Tensor<2> {
    fn times(&self, rows: &Tensor<2>) -> Tensor<2> {
        products(rows.clone(), self.clone(), None)
    }

    fn transposed(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        products(cotangents.clone(), self.clone().transpose(), None)
    }
}

/// ((1+α) I − α W)⁻¹ of each W = (1−m) I + V, V `[F, D, D]` and tracked or not.
pub(super) fn resolvents(v: &Tensor<3>, monotonicity: f64, step: f64) -> Tensor<3> {
    let [count, side, _] = v.dims();
    let device = v.device();
    let identity = |scale: f64| {
        let identity = Tensor::<2>::eye(side, &device).cast(v.dtype()).unsqueeze::<3>() * scale;
        if v.is_autodiff() { identity.autodiff() } else { identity }
    };
    let k = identity(1.0 + step * monotonicity) - v.clone() * step;
    let plain = if k.is_autodiff() { k.clone().inner() } else { k.clone() };
    let mut values = to_f64(plain);
    values.chunks_exact_mut(side * side).for_each(|k| invert(k, side));
    let values = TensorData::new(values, [count, side, side]);
    let near = Tensor::<3>::from_data(values, (&device, DType::F64)).cast(v.dtype());
    if !k.is_autodiff() {
        return near;
    }
    // A step of Newton's method, R (2I − K R), has the inverse's derivative −R dK R.
    let near = near.autodiff();
    near.clone().matmul(identity(2.0) - k.matmul(near))
}

/// Inverts a matrix in row-major order, by Gauss and Jordan. After a diagonal scaling its symmetric part is positive definite or its
/// rows are dominated by their diagonal, so that no pivot is 0 and none need be chosen.
fn invert(k: &mut [f64], side: usize) {
    for pivot in 0..side {
        let scale = 1.0 / k[pivot * side + pivot];
        k[pivot * side + pivot] = 1.0;
        let mut row = k[pivot * side..][..side].to_vec();
        row.iter_mut().for_each(|entry| *entry *= scale);
        for (i, other) in k.chunks_exact_mut(side).enumerate() {
            if i == pivot {
                other.copy_from_slice(&row);
                continue;
            }
            let factor = std::mem::take(&mut other[pivot]);
            other.iter_mut().zip(&row).for_each(|(entry, own)| *entry -= factor * own);
        }
    }
}

impl<V, R: Resolvent> PeacemanRachford<V, R> {
    /// u½ = 2 P(u) − u.
    fn half(&self, state: &Tensor<2>) -> Tensor<2> {
        self.resolvent.projected(state) * 2.0 - state.clone()
    }
}

impl<V: Coupling, R: Resolvent> Step for PeacemanRachford<V, R> {
    fn value(&self, state: &Tensor<2>, injection: &Tensor<2>) -> Tensor<2> {
        let half = self.half(state);
        let forward = self.coupling.injected(injection) * self.step;
        self.resolvent.times(&(half.clone() + forward)) * 2.0 - half
    }

    fn pulled_back(&self, state: &Tensor<2>, _: &Tensor<2>, u: &Tensor<2>) -> [Tensor<2>; 2] {
        // That of 2 z½, which depends on u½ and on αx in the same way.
        let solved = self.resolvent.transposed(u) * 2.0;
        let half = solved.clone() - u.clone();
        let projected = self.resolvent.projected(state);
        [where_positive(&projected, &half) * 2.0 - half, solved * self.step]
    }

    fn injection(&self, forward: &Tensor<2>) -> Tensor<2> {
        self.coupling.injection(forward)
    }

    /// dR = α R dW R, so that the derivative with respect to W is that of ⟨uᵀ ∂f/∂y, dW z½⟩.
    fn accumulate(
        &self,
        state: &Tensor<2>,
        value: &Tensor<2>,
        forward: &Tensor<2>,
        into: &mut GradientsParams,
    ) {
        self.coupling.accumulate(&((value.clone() + self.half(state)) * 0.5), forward, into);
    }
}
