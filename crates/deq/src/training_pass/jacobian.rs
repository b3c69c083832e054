//! Jacobian regularisation (Bai, Koltun and Kolter 2021, arXiv 2106.14342): the cell's Jacobian at the fixed point is
//! kept small, so that solvers need few steps.
//!
//! Hutchinson's estimator: for v ~ N(0, I), E ‖vᵀJ‖² = ‖J‖_F². Its derivative with respect to parameters and
//! injection is of second order; the cell's product is written in operations that autodiff knows, and differentiated
//! once. The fixed point itself is held fixed.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::model::cell::{Cell, Mask};
use crate::model::parameters::accumulate_module;
use equipoise_attack::batch::{from_vec, to_vec};
use equipoise_attack::random::ExampleRng;

/// Jacobian regularisation of one step.
#[derive(Debug, Clone)]
pub struct JacobianTerm {
    /// What the estimate is multiplied with.
    pub weight: f64,
    /// The random cotangents v, each `[N, D]`.
    pub probes: Vec<Tensor<2>>,
}

/// What it adds to a step.
pub struct JacobianGradients {
    /// Mean over batch and probes of ‖vᵀJ‖² / D, without the weight.
    pub estimate: f64,
    /// `weight` times the estimate's derivative with respect to the injection, `[N, I]`.
    pub injection: Tensor<2>,
    /// And with respect to the cell's parameters.
    pub parameters: GradientsParams,
}

impl JacobianTerm {
    /// `count` standard normal probes for states of length `dim`, each example's from its own random numbers.
    pub fn draw(
        weight: f64,
        count: usize,
        indices: &[usize],
        dim: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let probe = |number| {
            let numbers = indices.iter().flat_map(|&index| {
                let mut rng = ExampleRng::new(seed, "jacobian probe", index, number);
                (0..dim).map(move |_| rng.normal() as f32)
            });
            from_vec(numbers.collect(), [indices.len(), dim], device)
        };
        Self { weight, probes: (0..count).map(probe).collect() }
    }

    /// The estimate at a state `[N, D]`, which is held fixed, and its gradients; `None` if the cell's product cannot be
    /// differentiated.
    pub fn gradients<C: Cell>(
        &self,
        cell: &C,
        state: &Tensor<2>,
        injection: &Tensor<2>,
        mask: Option<&Mask>,
    ) -> Option<JacobianGradients> {
        let tracked = cell.clone().train();
        let tracked_injection = injection.clone().autodiff().require_grad();
        let products = tracked.differentiable_vjp(state, &tracked_injection, mask, &self.probes)?;
        // Sums by example first: a sum over everything would depend on threads.
        let squares = products.into_iter().map(|product| (product.clone() * product).sum_dim(1).sum_dim(0));
        let sum = squares.reduce(|sum, term| sum + term)?;
        let [n, dim] = state.dims();
        let estimate = sum / (self.probes.len() * n * dim) as f64;
        let value = f64::from(to_vec(estimate.clone().inner())[0]);
        let gradients = (estimate * self.weight).backward();
        let at_injection = tracked_injection.grad(&gradients).unwrap_or_else(|| injection.zeros_like());
        let mut parameters = GradientsParams::new();
        accumulate_module(&mut parameters, gradients, &tracked);
        Some(JacobianGradients { estimate: value, injection: at_injection, parameters })
    }
}
