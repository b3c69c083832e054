//! Peaceman-Rachford splitting towards z* = relu(W z* + x), as a cell: its state is u, and z = relu(u).
//!
//! With the resolvent R = ((1+α) I − α W)⁻¹ a step is u½ = 2z − u, z½ = R (u½ + αx), f(u; x) = 2 z½ − u½ (Winston and Kolter 2020, section
//! 3). It converges for every α > 0, mostly in fewer steps than forward-backward splitting takes. At its fixed point
//! u* = (1−α) z* + α (W z* + x), which makes relu(u*) the same z*.

use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData, activation};

use super::splitting::{Coupling, Step, where_positive};
use super::weight::identity;
use crate::model::layers::products;
use equipoise_attack::batch::to_f64;

/// Peaceman-Rachford splitting.
#[derive(Clone)]
pub(super) struct PeacemanRachford<V> {
    pub(super) coupling: V,
    /// R.
    pub(super) resolvent: Tensor<2>,
    /// α.
    pub(super) step: f64,
}

/// ((1+α) I − α W)⁻¹ of W = (1−m) I + V, V `[D, D]` and tracked or not.
pub(super) fn resolvent(v: &Tensor<2>, monotonicity: f64, step: f64) -> Tensor<2> {
    let [side, _] = v.dims();
    let device = v.device();
    let identity = |scale: f64| identity(v) * scale;
    let k = identity(1.0 + step * monotonicity) - v.clone() * step;
    let plain = if k.is_autodiff() { k.clone().inner() } else { k.clone() };
    let values = TensorData::new(inverse(to_f64(plain), side), [side, side]);
    let near = Tensor::<2>::from_data(values, (&device, DType::F64)).cast(v.dtype());
    if !k.is_autodiff() {
        return near;
    }
    // A step of Newton's method, R (2I − K R), has the inverse's derivative −R dK R.
    let near = near.autodiff();
    near.clone().matmul(identity(2.0) - k.matmul(near))
}

/// The inverse of a matrix in row-major order, by Gauss and Jordan. After a diagonal scaling its symmetric part is positive definite
/// or its rows are dominated by their diagonal, so that no pivot is 0 and none need be chosen.
fn inverse(mut k: Vec<f64>, side: usize) -> Vec<f64> {
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
    k
}

/// u½ = 2 relu(u) − u.
fn half(state: &Tensor<2>) -> Tensor<2> {
    activation::relu(state.clone()) * 2.0 - state.clone()
}

impl<V: Coupling> Step for PeacemanRachford<V> {
    fn value(&self, state: &Tensor<2>, injection: &Tensor<2>) -> Tensor<2> {
        let half = half(state);
        let solved = products(half.clone() + injection.clone() * self.step, self.resolvent.clone(), None);
        solved * 2.0 - half
    }

    fn pulled_back(&self, state: &Tensor<2>, _: &Tensor<2>, u: &Tensor<2>) -> [Tensor<2>; 2] {
        // That of 2 z½, which depends on u½ and on αx in the same way.
        let solved = products(u.clone(), self.resolvent.clone().transpose(), None) * 2.0;
        let half = solved.clone() - u.clone();
        [where_positive(state, &half) * 2.0 - half, solved * self.step]
    }

    /// dR = α R dW R, so that the derivative with respect to W is that of ⟨uᵀ ∂f/∂x, dW z½⟩.
    fn accumulate(
        &self,
        state: &Tensor<2>,
        value: &Tensor<2>,
        injection: &Tensor<2>,
        into: &mut GradientsParams,
    ) {
        self.coupling.accumulate(&((value.clone() + half(state)) * 0.5), injection, into);
    }
}
