//! A deep equilibrium model: stem, cell and head.

use burn::module::{Module, ModuleDisplay};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::autodiff::through_autodiff;
use super::cell::Cell;
use super::layers::{BatchMoments, Phase};
use super::parameters::accumulate_module;
use equipoise_attack::batch::{Images, Logits};

/// From a cotangent u of the injection to uᵀ ∂injection/∂images.
pub type StemPullBack<'a> = Box<dyn FnOnce(Tensor<2>) -> Images + 'a>;

/// From a cotangent u of the injection to uᵀ ∂injection/∂θ summed over the batch: added, by parameter, to a
/// collection.
pub type StemTrainingPullBack<'a> = Box<dyn FnOnce(Tensor<2>, &mut GradientsParams) + 'a>;

/// From images to the injection.
pub trait Stem: Module + ModuleDisplay + Sync + 'static {
    /// `[N, C, H, W]` to `[N, I]`, in Burn operations.
    fn forward(&self, images: Images, phase: &Phase<'_>) -> Tensor<2>;

    /// The injection `[N, I]` of untracked images `[N, C, H, W]` in evaluation, and the way back. Parameters are
    /// constants.
    fn linearize(&self, images: &Images) -> (Tensor<2>, StemPullBack<'_>) {
        self.linearize_tracked(images)
    }

    /// The same through autodiff, for any stem: the reference for those that have a way of their own.
    fn linearize_tracked(&self, images: &Images) -> (Tensor<2>, StemPullBack<'_>) {
        through_autodiff(images, |images| self.forward(images, &Phase::Evaluate))
    }

    /// The injection `[N, I]` of untracked images in training, and the way back to the parameters. The batch's
    /// statistics are noted.
    fn linearize_training(
        &self,
        images: &Images,
        moments: &BatchMoments,
    ) -> (Tensor<2>, StemTrainingPullBack<'_>) {
        self.linearize_training_tracked(images, moments)
    }

    /// The same through autodiff, for any stem: the reference for those that have a way of their own.
    fn linearize_training_tracked(
        &self,
        images: &Images,
        moments: &BatchMoments,
    ) -> (Tensor<2>, StemTrainingPullBack<'_>) {
        let stem = self.clone().train();
        let injection = stem.forward(images.clone(), &Phase::Train(moments));
        let plain = if injection.is_autodiff() { injection.clone().inner() } else { injection.clone() };
        let pull_back = move |cotangent: Tensor<2>, into: &mut GradientsParams| {
            let product = injection * cotangent;
            // A stem without parameters records no graph.
            if product.is_tracked() {
                accumulate_module(into, product.backward(), &stem);
            }
        };
        (plain, Box::new(pull_back))
    }
}

/// From a cotangent u of logits to uᵀ ∂logits/∂state.
pub type HeadPullBack<'a> = Box<dyn FnOnce(Logits) -> Tensor<2> + 'a>;

/// The same, and uᵀ ∂logits/∂θ summed over the batch: added, by parameter, to a collection.
pub type HeadTrainingPullBack<'a> = Box<dyn FnOnce(Logits, &mut GradientsParams) -> Tensor<2> + 'a>;

/// From a state to logits.
pub trait Head: Module + ModuleDisplay + Sync + 'static {
    /// `[N, D]` to `[N, K]`, in Burn operations.
    fn forward(&self, state: Tensor<2>, phase: &Phase<'_>) -> Logits;

    /// The logits `[N, K]` of untracked states `[N, D]` in evaluation, and the way back. Parameters are constants.
    fn linearize(&self, state: &Tensor<2>) -> (Logits, HeadPullBack<'_>) {
        self.linearize_tracked(state)
    }

    /// The same through autodiff, for any head: the reference for those that have a way of their own.
    fn linearize_tracked(&self, state: &Tensor<2>) -> (Logits, HeadPullBack<'_>) {
        through_autodiff(state, |state| self.forward(state, &Phase::Evaluate))
    }

    /// The logits `[N, K]` of untracked states `[N, D]` in training, and the way back to states and parameters. The
    /// batch's statistics are noted.
    fn linearize_training(
        &self,
        state: &Tensor<2>,
        moments: &BatchMoments,
    ) -> (Logits, HeadTrainingPullBack<'_>) {
        self.linearize_training_tracked(state, moments)
    }

    /// The same through autodiff, for any head: the reference for those that have a way of their own.
    fn linearize_training_tracked(
        &self,
        state: &Tensor<2>,
        moments: &BatchMoments,
    ) -> (Logits, HeadTrainingPullBack<'_>) {
        let head = self.clone().train();
        let tracked = state.clone().autodiff().require_grad();
        let logits = head.forward(tracked.clone(), &Phase::Train(moments));
        let plain = logits.clone().inner();
        let pull_back = move |cotangent: Logits, into: &mut GradientsParams| {
            let gradients = (logits * cotangent).backward();
            let state = tracked.grad(&gradients).unwrap_or_else(|| tracked.inner().zeros_like());
            accumulate_module(into, gradients, &head);
            state
        };
        (plain, Box::new(pull_back))
    }

    /// Number of classes K.
    fn classes(&self) -> usize;
}

/// A deep equilibrium model. Its hidden state is the fixed point z* = f(z*; x) of the cell.
///
/// Parameters are kept off autodiff; gradient estimators turn it on where they need it.
#[derive(Module, Debug)]
pub struct Deq<S: Stem, C: Cell, H: Head> {
    /// From images to the injection.
    pub stem: S,
    /// The layer whose fixed point is the state.
    pub cell: C,
    /// From a state to logits.
    pub head: H,
}
