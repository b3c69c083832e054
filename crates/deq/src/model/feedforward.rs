//! Models without an equilibrium: the baselines that a DEQ is compared with.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::ConfigError;
use super::autodiff::through_autodiff;
use super::fused::Parts;
use super::layers::{BatchMoments, Dense, Phase};
use super::limits::images_within;
use super::normalisation::Normalisation;
use super::parameters::accumulate_module;
use equipoise_attack::batch::{Images, Logits};

/// From a cotangent u of the logits to uᵀ ∂logits/∂images.
pub type FeedforwardPullBack<'a> = Box<dyn FnOnce(Logits) -> Images + 'a>;

/// From a cotangent u of the logits to uᵀ ∂logits/∂θ summed over the batch: added, by parameter, to a collection.
pub type FeedforwardTrainingPullBack<'a> = Box<dyn FnOnce(Logits, &mut GradientsParams) + 'a>;

/// A model that maps images to logits in one pass.
pub trait Feedforward: Module + Sync + 'static {
    /// `[N, C, H, W]` to `[N, K]`, in Burn operations.
    fn forward(&self, images: Images, phase: &Phase<'_>) -> Logits;

    /// The logits `[N, K]` of untracked images `[N, C, H, W]` in evaluation, and the way back. Parameters are
    /// constants.
    fn linearize(&self, images: &Images) -> (Logits, FeedforwardPullBack<'_>) {
        self.linearize_tracked(images)
    }

    /// The same through autodiff, for any model: the reference for those that have a way of their own.
    fn linearize_tracked(&self, images: &Images) -> (Logits, FeedforwardPullBack<'_>) {
        through_autodiff(images, |images| self.forward(images, &Phase::Evaluate))
    }

    /// The logits `[N, K]` of untracked images in training, and the way back to the parameters. The batch's statistics are
    /// noted.
    fn linearize_training(
        &self,
        images: &Images,
        moments: &BatchMoments,
    ) -> (Logits, FeedforwardTrainingPullBack<'_>) {
        self.linearize_training_tracked(images, moments)
    }

    /// The same through autodiff, for any model: the reference for those that have a way of their own.
    fn linearize_training_tracked(
        &self,
        images: &Images,
        moments: &BatchMoments,
    ) -> (Logits, FeedforwardTrainingPullBack<'_>) {
        let model = self.clone().train();
        let logits = model.forward(images.clone(), &Phase::Train(moments));
        let plain = logits.clone().inner();
        let pull_back = move |cotangent: Logits, into: &mut GradientsParams| {
            accumulate_module(into, (logits * cotangent).backward(), &model);
        };
        (plain, Box::new(pull_back))
    }

    /// Number of classes K.
    fn classes(&self) -> usize;
}

/// A network without layers, of normalised images. It halves the resolution so many times, then pools within a window.
pub(super) fn baseline(image: [usize; 3], (halvings, window): (u32, usize), classifier: &Dense) -> Parts<'_> {
    let [_, height, width] = image;
    let window = [height, width].map(|side| side.div_ceil(1 << halvings).min(window));
    Parts::to_logits(vec![image], window, classifier)
}

/// The mean over H and W, `[N, C, H, W]` to `[N, C]`, of the first `window` rows and columns where there are more: the
/// PyTorch models pool with a window and a stride of that size, and drop what does not fill another window.
pub(super) fn pooled(x: Tensor<4>, window: usize) -> Tensor<2> {
    let [n, c, h, w] = x.dims();
    let (rows, columns) = (h.min(window), w.min(window));
    let x = if (rows, columns) == (h, w) { x } else { x.slice([0..n, 0..c, 0..rows, 0..columns]) };
    x.reshape([n, c, rows * columns]).mean_dim(2).reshape([n, c])
}

pub(super) fn cifar_image() -> [usize; 3] {
    [3, 32, 32]
}

pub(super) fn cifar_classes() -> usize {
    10
}

/// What every baseline requires of its sizes: it halves the resolution `halvings` times, rounding up, and then pools
/// with one window.
pub(super) fn check_images(
    width: usize,
    image: [usize; 3],
    classes: usize,
    (halvings, window): (u32, usize),
    normalisation: Option<&Normalisation>,
) -> Result<(), ConfigError> {
    let wrong = |field, problem| Err(ConfigError { field, problem });
    let [c, h, w] = image;
    if width == 0 {
        return wrong("width", "must be at least 1".into());
    }
    if classes < 2 {
        return wrong("classes", format!("{classes} classes; at least 2 are needed"));
    }
    let greatest = (2 * window - 1) << halvings;
    if c == 0 || h == 0 || w == 0 || h > greatest || w > greatest {
        let problem = format!(
            "{c}×{h}×{w}: height and width must be from 1 to {greatest}; the classifier of larger images has more inputs"
        );
        return wrong("image", problem);
    }
    images_within(image, classes)?;
    normalisation.iter().try_for_each(|normalisation| normalisation.validate(c))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use equipoise_attack::batch::{from_vec, to_vec};

    /// As `avg_pool2d` with a window and a stride of 4: of a 5×5 map the last row and column fill no window.
    #[test]
    fn what_fills_no_window_is_not_pooled() {
        let map = |side: usize| -> Tensor<4> {
            let values = (0..side * side).map(|k| k as f32).collect();
            from_vec(values, [1, 1, side, side], &Device::default())
        };
        let window = (0..4).flat_map(|row| (0..4).map(move |column| (5 * row + column) as f32));
        assert_eq!(to_vec(pooled(map(5), 4)), [window.sum::<f32>() / 16.0]);
        assert_eq!(to_vec(pooled(map(2), 4)), [1.5]);
    }
}
