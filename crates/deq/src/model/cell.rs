//! The cell f(z; x), and its linearisation.
//!
//! A cell is bound to an injection, which makes it a map of the state alone, and that map is what solvers
//! iterate. A vector-Jacobian product is computed at a fixed point many times, so the cell **owns its
//! linearisation**: linearise once, apply often. Built-in cells implement it by hand; a cell of yours needs
//! only [`Cell::apply`] in Burn operations, and gets its linearisation through autodiff.

use std::rc::Rc;

use burn::module::{Module, ModuleDisplay};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::parameters::accumulate_module;
use crate::state::{Injection, State};
use equipoise_attack::batch;
use equipoise_attack::work::WorkCounter;

/// One layer f(z; x), the same at every depth.
pub trait Cell: Module + ModuleDisplay + Sync + 'static {
    /// f(z; x): state `[N, D]` and injection `[N, I]` to a state `[N, D]`, in Burn operations, row by row.
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2>;

    /// Length D of the state.
    fn state_dim(&self) -> usize;

    /// The cell with its injection fixed.
    fn bind(&self, injection: &Tensor<2>) -> Box<dyn BoundCell> {
        Box::new(Autodiff { cell: self.clone().valid(), injection: injection.clone() })
    }

    /// Length M of a dropout mask; 0 for a cell without dropout.
    fn mask_dim(&self) -> usize {
        0
    }

    /// The cell with its injection and a dropout mask fixed; `None` for a cell without dropout.
    fn bind_masked(&self, injection: &Tensor<2>, mask: &Mask) -> Option<Box<dyn BoundCell>> {
        let _ = (injection, mask);
        None
    }

    /// uᵀ ∂f/∂z for each cotangent u, in Burn operations on whatever is tracked, parameters included: what
    /// autodiff differentiates once more for Jacobian regularisation. `None` for a cell whose product is not
    /// written that way: autodiff itself is of first order only.
    fn differentiable_vjp(
        &self,
        state: &Tensor<2>,
        injection: &Tensor<2>,
        mask: Option<&Mask>,
        cotangents: &[Tensor<2>],
    ) -> Option<Vec<Tensor<2>>> {
        let _ = (state, injection, mask, cotangents);
        None
    }
}

/// A dropout mask, `[N, M]`: factors that a cell multiplies some of its activations with, the same ones at every
/// depth.
pub type Mask = Tensor<2>;

/// A map whose fixed point is wanted: what solvers see.
pub trait FixedPointMap {
    /// One application, `[N, D]` to `[N, D]`, row by row.
    fn apply(&self, state: &State) -> State;

    /// The same at an iterate of a solve, as against a state that a solver looks at on its way to the next one. A map that
    /// notes something at every iterate does so here.
    fn apply_to_iterate(&self, state: &State) -> State {
        self.apply(state)
    }

    /// The same map for some of the examples: the others have left the batch.
    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_>;
}

/// A cell bound to an injection.
pub trait BoundCell: FixedPointMap {
    /// f at a state, with what its vector-Jacobian products need.
    fn linearize(&self, state: &State) -> Box<dyn Linearization>;

    /// The linearisation of some of the examples at their rows of a state; by default, a selection from that of all.
    fn linearize_rows(&self, state: &State, rows: &[usize]) -> Box<dyn Linearization> {
        self.linearize(state).select(rows)
    }
}

/// f linearised at a state: its value, and products with its Jacobians from the left.
///
/// Cotangents u are `[N, D]`. Each method counts as one vector-Jacobian product.
pub trait Linearization {
    /// f(z; x).
    fn value(&self) -> &State;

    /// uᵀ ∂f/∂z.
    fn vjp_state(&self, cotangent: &State) -> State;

    /// uᵀ ∂f/∂z and uᵀ ∂f/∂(injection), in one pass.
    fn vjp(&self, cotangent: &State) -> (State, Injection);

    /// Both, and uᵀ ∂f/∂θ summed over the batch: added, by parameter, to what `into` holds.
    fn vjp_parameters(&self, cotangent: &State, into: &mut GradientsParams) -> (State, Injection);

    /// The linearisation of some of the examples.
    fn select(&self, rows: &[usize]) -> Box<dyn Linearization>;

    /// Bytes of memory that it takes for each example, beside its value; `None` if that is not known. A solve keeps those
    /// of many iterates only of a cell that knows it; see [`Keep`](crate::solve::Keep).
    fn memory(&self) -> Option<usize> {
        None
    }
}

/// A cell of any kind, linearised by autodiff. Burn's graphs are consumed by their backward pass, so each
/// product evaluates the cell again.
#[derive(Clone)]
struct Autodiff<C> {
    cell: C,
    injection: Tensor<2>,
}

impl<C: Cell> Autodiff<C> {
    fn rows(&self, rows: &[usize]) -> Self {
        Self { cell: self.cell.clone(), injection: batch::select(&self.injection, rows) }
    }
}

impl<C: Cell> FixedPointMap for Autodiff<C> {
    fn apply(&self, state: &State) -> State {
        self.cell.apply(state.tensor().clone(), self.injection.clone()).into()
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(self.rows(rows))
    }
}

impl<C: Cell> BoundCell for Autodiff<C> {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        Box::new(AutodiffLinearization {
            value: self.apply(state),
            state: state.tensor().clone(),
            bound: self.clone(),
        })
    }

    fn linearize_rows(&self, state: &State, rows: &[usize]) -> Box<dyn Linearization> {
        self.rows(rows).linearize(&state.select(rows))
    }
}

/// The same for whoever shares it.
impl Linearization for Rc<dyn Linearization> {
    fn value(&self) -> &State {
        (**self).value()
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        (**self).vjp_state(cotangent)
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        (**self).vjp(cotangent)
    }

    fn vjp_parameters(&self, cotangent: &State, into: &mut GradientsParams) -> (State, Injection) {
        (**self).vjp_parameters(cotangent, into)
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        (**self).select(rows)
    }

    fn memory(&self) -> Option<usize> {
        (**self).memory()
    }
}

struct AutodiffLinearization<C> {
    bound: Autodiff<C>,
    state: Tensor<2>,
    value: State,
}

impl<C: Cell> AutodiffLinearization<C> {
    /// Runs the cell once more and pulls the cotangent back through it.
    fn pull_back(&self, cell: &C, cotangent: &State) -> (State, Injection, burn::tensor::Gradients) {
        let state = self.state.clone().autodiff().require_grad();
        let injection = self.bound.injection.clone().autodiff().require_grad();
        let value = cell.apply(state.clone(), injection.clone());
        let gradients = (value * cotangent.tensor().clone()).backward();
        let at_state = state.grad(&gradients).unwrap_or_else(|| self.state.zeros_like());
        let at_injection = injection.grad(&gradients).unwrap_or_else(|| self.bound.injection.zeros_like());
        (at_state.into(), at_injection.into(), gradients)
    }
}

impl<C: Cell> Linearization for AutodiffLinearization<C> {
    fn value(&self) -> &State {
        &self.value
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        self.vjp(cotangent).0
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        let (state, injection, _) = self.pull_back(&self.bound.cell, cotangent);
        (state, injection)
    }

    fn vjp_parameters(&self, cotangent: &State, into: &mut GradientsParams) -> (State, Injection) {
        let cell = self.bound.cell.clone().train();
        let (state, injection, gradients) = self.pull_back(&cell, cotangent);
        accumulate_module(into, gradients, &cell);
        (state, injection)
    }

    fn memory(&self) -> Option<usize> {
        // A state; products evaluate the cell again.
        Some(self.state.dims()[1] * size_of::<f32>())
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        Box::new(Self {
            bound: self.bound.rows(rows),
            state: batch::select(&self.state, rows),
            value: self.value.select(rows),
        })
    }
}

/// A bound cell that counts its work.
pub struct Counted {
    cell: Box<dyn BoundCell>,
    counter: WorkCounter,
}

impl Counted {
    /// Counts everything that goes through `cell` into `counter`.
    pub fn new(cell: Box<dyn BoundCell>, counter: WorkCounter) -> Self {
        Self { cell, counter }
    }
}

impl FixedPointMap for Counted {
    fn apply(&self, state: &State) -> State {
        self.counter.evaluated(state.dims()[0]);
        self.cell.apply(state)
    }

    fn apply_to_iterate(&self, state: &State) -> State {
        self.counter.evaluated(state.dims()[0]);
        self.cell.apply_to_iterate(state)
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(CountedMap { map: self.cell.select(rows), counter: self.counter.clone() })
    }
}

impl BoundCell for Counted {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        self.counter.evaluated(state.dims()[0]);
        Box::new(CountedLinearization { inner: self.cell.linearize(state), counter: self.counter.clone() })
    }

    fn linearize_rows(&self, state: &State, rows: &[usize]) -> Box<dyn Linearization> {
        self.counter.evaluated(rows.len());
        let inner = self.cell.linearize_rows(state, rows);
        Box::new(CountedLinearization { inner, counter: self.counter.clone() })
    }
}

struct CountedMap<'a> {
    map: Box<dyn FixedPointMap + 'a>,
    counter: WorkCounter,
}

impl FixedPointMap for CountedMap<'_> {
    fn apply(&self, state: &State) -> State {
        self.counter.evaluated(state.dims()[0]);
        self.map.apply(state)
    }

    fn apply_to_iterate(&self, state: &State) -> State {
        self.counter.evaluated(state.dims()[0]);
        self.map.apply_to_iterate(state)
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(CountedMap { map: self.map.select(rows), counter: self.counter.clone() })
    }
}

struct CountedLinearization {
    inner: Box<dyn Linearization>,
    counter: WorkCounter,
}

impl Linearization for CountedLinearization {
    fn value(&self) -> &State {
        self.inner.value()
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        self.counter.pulled_back(cotangent.dims()[0]);
        self.inner.vjp_state(cotangent)
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        self.counter.pulled_back(cotangent.dims()[0]);
        self.inner.vjp(cotangent)
    }

    fn vjp_parameters(&self, cotangent: &State, into: &mut GradientsParams) -> (State, Injection) {
        self.counter.pulled_back(cotangent.dims()[0]);
        self.inner.vjp_parameters(cotangent, into)
    }

    fn memory(&self) -> Option<usize> {
        self.inner.memory()
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        Box::new(CountedLinearization { inner: self.inner.select(rows), counter: self.counter.clone() })
    }
}
