//! Steps towards z* = relu(W z* + x), whatever W is made of: with W = (1−m) I + V, of which V does not depend on the example, so
//! that a bound cell makes it once. A step of forward-backward splitting is
//! f(z; x) = relu((1−α) z + α (W z + x)) = relu((1 − αm) z + α (V z + x)).

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, activation};

use crate::model::cell::{BoundCell, FixedPointMap, Linearization};
use crate::model::parameters::accumulate_module;
use crate::state::{Injection, State};
use equipoise_attack::batch::select;

/// V = W − (1−m) I of a cell's parameters.
pub trait Coupling: Clone + 'static {
    /// V z of each row z, `[N, D]`.
    fn times(&self, states: &Tensor<2>) -> Tensor<2>;

    /// Vᵀ s of each row s, `[N, D]`.
    fn transposed(&self, cotangents: &Tensor<2>) -> Tensor<2>;

    /// Adds the derivatives of Σ ⟨s, V z⟩ over the batch, by parameter, to a collection.
    fn accumulate(&self, states: &Tensor<2>, cotangents: &Tensor<2>, into: &mut GradientsParams);

    /// What an injection adds to each unit, `[N, I]` to `[N, D]`: itself, or 0 at units that it does not reach.
    fn injected(&self, injection: &Tensor<2>) -> Tensor<2> {
        injection.clone()
    }

    /// Its adjoint, `[N, D]` to `[N, I]`.
    fn injection(&self, cotangents: &Tensor<2>) -> Tensor<2> {
        cotangents.clone()
    }
}

/// Adds the derivatives of Σ ⟨s, v(θ, z)⟩ over the batch by autodiff, by parameter θ of a module, to a collection.
pub(super) fn accumulated<M: Module>(
    module: &M,
    v: impl FnOnce(&M, &Tensor<2>) -> Tensor<2>,
    states: &Tensor<2>,
    cotangents: &Tensor<2>,
    into: &mut GradientsParams,
) {
    let module = module.clone().train();
    let product = v(&module, &Tensor::from_inner(states.clone())) * Tensor::from_inner(cotangents.clone());
    accumulate_module(into, product.backward(), &module);
}

/// A cell's map f(·; x) without its injection, in Burn operations on whatever is tracked.
pub(super) trait Step: Clone + 'static {
    /// f of each row.
    fn value(&self, state: &Tensor<2>, injection: &Tensor<2>) -> Tensor<2>;

    /// uᵀ ∂f/∂z and uᵀ ∂f/∂y of each row, y = W z + x of all units, where f is `value` at `state`.
    fn pulled_back(&self, state: &Tensor<2>, value: &Tensor<2>, u: &Tensor<2>) -> [Tensor<2>; 2];

    /// uᵀ ∂f/∂x, given uᵀ ∂f/∂y.
    fn injection(&self, forward: &Tensor<2>) -> Tensor<2>;

    /// Adds uᵀ ∂f/∂θ summed over the batch, by parameter, to a collection, given uᵀ ∂f/∂y.
    fn accumulate(
        &self,
        state: &Tensor<2>,
        value: &Tensor<2>,
        forward: &Tensor<2>,
        into: &mut GradientsParams,
    );

    /// uᵀ ∂f/∂z for each cotangent u.
    fn products(&self, state: &Tensor<2>, injection: &Tensor<2>, cotangents: &[Tensor<2>]) -> Vec<Tensor<2>> {
        let value = self.value(state, injection);
        let product = |u| {
            let [state, _] = self.pulled_back(state, &value, u);
            state
        };
        cotangents.iter().map(product).collect()
    }

    /// The cell with its injection fixed.
    fn bound(self, injection: &Tensor<2>) -> Box<dyn BoundCell> {
        Box::new(Bound { step: self, injection: injection.clone() })
    }
}

/// Forward-backward splitting.
#[derive(Clone)]
pub(super) struct ForwardBackward<V> {
    pub(super) coupling: V,
    pub(super) monotonicity: f64,
    pub(super) step: f64,
}

impl<V> ForwardBackward<V> {
    /// 1 − αm, by which a unit's own state enters.
    fn kept(&self) -> f64 {
        1.0 - self.step * self.monotonicity
    }
}

impl<V: Coupling> Step for ForwardBackward<V> {
    fn value(&self, state: &Tensor<2>, injection: &Tensor<2>) -> Tensor<2> {
        let forward = self.coupling.times(state) + self.coupling.injected(injection);
        activation::relu(state.clone() * self.kept() + forward * self.step)
    }

    fn pulled_back(&self, _: &Tensor<2>, value: &Tensor<2>, u: &Tensor<2>) -> [Tensor<2>; 2] {
        let s = where_positive(value, u);
        let state = s.clone() * self.kept() + self.coupling.transposed(&s) * self.step;
        [state, s * self.step]
    }

    fn injection(&self, forward: &Tensor<2>) -> Tensor<2> {
        self.coupling.injection(forward)
    }

    fn accumulate(&self, state: &Tensor<2>, _: &Tensor<2>, forward: &Tensor<2>, into: &mut GradientsParams) {
        self.coupling.accumulate(state, forward, into);
    }
}

/// u where `of` is positive, which is where a ReLU lets something through; 0 elsewhere.
pub(super) fn where_positive(of: &Tensor<2>, u: &Tensor<2>) -> Tensor<2> {
    u.clone().mask_fill(of.clone().lower_equal_elem(0.0), 0.0)
}

struct Bound<S> {
    step: S,
    injection: Tensor<2>,
}

impl<S: Step> Bound<S> {
    fn rows(&self, rows: &[usize]) -> Self {
        Self { step: self.step.clone(), injection: select(&self.injection, rows) }
    }
}

impl<S: Step> FixedPointMap for Bound<S> {
    fn apply(&self, state: &State) -> State {
        self.step.value(state.tensor(), &self.injection).into()
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(self.rows(rows))
    }
}

impl<S: Step> BoundCell for Bound<S> {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        Box::new(Linear { step: self.step.clone(), state: state.tensor().clone(), value: self.apply(state) })
    }

    fn linearize_rows(&self, state: &State, rows: &[usize]) -> Box<dyn Linearization> {
        self.rows(rows).linearize(&state.select(rows))
    }
}

struct Linear<S> {
    step: S,
    state: Tensor<2>,
    value: State,
}

impl<S: Step> Linearization for Linear<S> {
    fn value(&self) -> &State {
        &self.value
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        self.vjp(cotangent).0
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        let [state, forward] = self.step.pulled_back(&self.state, self.value.tensor(), cotangent.tensor());
        (state.into(), self.step.injection(&forward).into())
    }

    fn vjp_parameters(&self, cotangent: &State, into: &mut GradientsParams) -> (State, Injection) {
        let (z, value) = (&self.state, self.value.tensor());
        let [state, forward] = self.step.pulled_back(z, value, cotangent.tensor());
        self.step.accumulate(z, value, &forward, into);
        (state.into(), self.step.injection(&forward).into())
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        Box::new(Self {
            step: self.step.clone(),
            state: select(&self.state, rows),
            value: self.value.select(rows),
        })
    }
}
