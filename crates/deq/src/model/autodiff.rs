//! A function of one tensor through Burn's autodiff: its value, and the way back.

use burn::tensor::Tensor;

/// The way back from a cotangent of the value to one of the input. It can be gone once: backward passes consume the graph.
pub type WayBack<const A: usize, const B: usize> = Box<dyn FnOnce(Tensor<B>) -> Tensor<A>>;

/// The value at an untracked input, untracked, and the way back.
pub fn through_autodiff<const A: usize, const B: usize>(
    input: &Tensor<A>,
    function: impl FnOnce(Tensor<A>) -> Tensor<B>,
) -> (Tensor<B>, WayBack<A, B>) {
    let tracked = input.clone().autodiff().require_grad();
    let value = function(tracked.clone());
    let plain = value.clone().inner();
    let pull_back = move |cotangent: Tensor<B>| {
        let gradients = (value * cotangent).backward();
        tracked.grad(&gradients).unwrap_or_else(|| tracked.inner().zeros_like())
    };
    (plain, Box::new(pull_back))
}
