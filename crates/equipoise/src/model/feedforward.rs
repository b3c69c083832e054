//! Models without an equilibrium: the baselines that a DEQ is compared with.

use burn::module::Module;
use burn::tensor::Tensor;

use super::layers::Phase;
use super::mdeq::ConfigError;
use crate::batch::{Images, Logits};

/// A model that maps images to logits in one pass.
pub trait Feedforward: Module + Sync + 'static {
    /// `[N, C, H, W]` to `[N, K]`, in Burn operations.
    fn forward(&self, images: Images, phase: &Phase<'_>) -> Logits;

    /// Number of classes K.
    fn classes(&self) -> usize;
}

/// The mean over H and W: `[N, C, H, W]` to `[N, C]`.
pub(super) fn global_average(x: Tensor<4>) -> Tensor<2> {
    let [n, c, h, w] = x.dims();
    x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c])
}

pub(super) fn cifar_image() -> [usize; 3] {
    [3, 32, 32]
}

pub(super) fn cifar_classes() -> usize {
    10
}

/// What every baseline requires of its sizes.
pub(super) fn check_images(
    width: usize,
    image: [usize; 3],
    classes: usize,
    factor: usize,
) -> Result<(), ConfigError> {
    let wrong = |field, problem| Err(ConfigError { field, problem });
    let [c, h, w] = image;
    if width == 0 {
        return wrong("width", "must be at least 1".into());
    }
    if classes < 2 {
        return wrong("classes", format!("{classes} classes; at least 2 are needed"));
    }
    if c == 0 || h == 0 || w == 0 || !h.is_multiple_of(factor) || !w.is_multiple_of(factor) {
        let problem = format!("{c}×{h}×{w}: height and width must be positive multiples of {factor}");
        return wrong("image", problem);
    }
    Ok(())
}
