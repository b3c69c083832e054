//! f(z; x) = relu((1−α) z + α (W z + x)): a step of forward-backward splitting, whatever W is made of.
//!
//! With W = (1−m) I + V it is relu((1 − αm) z + α (V z + x)), which is how it is computed. V does not depend on the example, so
//! that a bound cell makes it once.

use burn::optim::GradientsParams;
use burn::tensor::{Tensor, activation};

use crate::model::cell::{BoundCell, FixedPointMap, Linearization};
use crate::state::{Injection, State};
use equipoise_attack::batch::select;

/// V = W − (1−m) I of a cell's parameters.
pub(super) trait Coupling: Clone + 'static {
    /// V z of each row z, `[N, D]`.
    fn times(&self, states: &Tensor<2>) -> Tensor<2>;

    /// Vᵀ s of each row s, `[N, D]`.
    fn transposed(&self, cotangents: &Tensor<2>) -> Tensor<2>;

    /// Adds the derivatives of Σ ⟨s, V z⟩ over the batch, by parameter, to a collection.
    fn accumulate(&self, states: &Tensor<2>, cotangents: &Tensor<2>, into: &mut GradientsParams);
}

/// f without its injection.
#[derive(Clone)]
pub(super) struct Splitting<V> {
    pub(super) coupling: V,
    pub(super) monotonicity: f64,
    pub(super) step: f64,
}

impl<V: Coupling> Splitting<V> {
    /// 1 − αm, by which a unit's own state enters.
    fn kept(&self) -> f64 {
        1.0 - self.step * self.monotonicity
    }

    /// f.
    pub(super) fn value(&self, state: &Tensor<2>, injection: &Tensor<2>) -> Tensor<2> {
        let forward = self.coupling.times(state) + injection.clone();
        activation::relu(state.clone() * self.kept() + forward * self.step)
    }

    /// sᵀ ∂f/∂z for a cotangent s behind the ReLU.
    fn pulled_back(&self, s: Tensor<2>) -> Tensor<2> {
        s.clone() * self.kept() + self.coupling.transposed(&s) * self.step
    }

    /// uᵀ ∂f/∂z for each cotangent u.
    pub(super) fn products(
        &self,
        state: &Tensor<2>,
        injection: &Tensor<2>,
        cotangents: &[Tensor<2>],
    ) -> Vec<Tensor<2>> {
        let value = self.value(state, injection);
        cotangents.iter().map(|u| self.pulled_back(behind_relu(&value, u))).collect()
    }

    /// The cell with its injection fixed.
    pub(super) fn bound(self, injection: &Tensor<2>) -> Box<dyn BoundCell> {
        Box::new(Bound { splitting: self, injection: injection.clone() })
    }
}

/// u where the ReLU lets something through, 0 elsewhere.
fn behind_relu(value: &Tensor<2>, u: &Tensor<2>) -> Tensor<2> {
    u.clone().mask_fill(value.clone().lower_equal_elem(0.0), 0.0)
}

struct Bound<V> {
    splitting: Splitting<V>,
    injection: Tensor<2>,
}

impl<V: Coupling> Bound<V> {
    fn rows(&self, rows: &[usize]) -> Self {
        Self { splitting: self.splitting.clone(), injection: select(&self.injection, rows) }
    }
}

impl<V: Coupling> FixedPointMap for Bound<V> {
    fn apply(&self, state: &State) -> State {
        self.splitting.value(state.tensor(), &self.injection).into()
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(self.rows(rows))
    }
}

impl<V: Coupling> BoundCell for Bound<V> {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        Box::new(Linear {
            splitting: self.splitting.clone(),
            state: state.tensor().clone(),
            value: self.apply(state),
        })
    }

    fn linearize_rows(&self, state: &State, rows: &[usize]) -> Box<dyn Linearization> {
        self.rows(rows).linearize(&state.select(rows))
    }
}

struct Linear<V> {
    splitting: Splitting<V>,
    state: Tensor<2>,
    value: State,
}

impl<V: Coupling> Linearization for Linear<V> {
    fn value(&self) -> &State {
        &self.value
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        self.splitting.pulled_back(behind_relu(self.value.tensor(), cotangent.tensor())).into()
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        let s = behind_relu(self.value.tensor(), cotangent.tensor());
        (self.splitting.pulled_back(s.clone()).into(), (s * self.splitting.step).into())
    }

    fn vjp_parameters(&self, cotangent: &State, into: &mut GradientsParams) -> (State, Injection) {
        let (state, injection) = self.vjp(cotangent);
        self.splitting.coupling.accumulate(&self.state, injection.tensor(), into);
        (state, injection)
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        Box::new(Self {
            splitting: self.splitting.clone(),
            state: select(&self.state, rows),
            value: self.value.select(rows),
        })
    }
}
