//! Bounds on the sizes that a configuration may ask for, checked before memory is taken for any of them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// A configuration that contradicts itself.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("model configuration: {field}: {problem}")]
pub struct ConfigError {
    /// The offending field.
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// The most numbers in a model's parameters, running statistics included: 4 GB in float32, and three times that in
/// training by Adam. WRN-34-10 has 46 million.
pub const MAX_PARAMETERS: usize = 1_000_000_000;
/// The most channels of a layer.
pub const MAX_CHANNELS: usize = 65_536;
/// The most classes.
pub const MAX_CLASSES: usize = 65_536;
/// The most pixels of an image in one direction.
pub const MAX_SIDE: usize = 16_384;
/// The most branches of an MDEQ.
pub const MAX_BRANCHES: usize = 16;
/// The most numbers in an image, and in the state of one example.
pub const MAX_NUMBERS: usize = 1 << 28;

/// `value` is at most `most`, or an error that names the field.
pub(super) fn at_most(field: &'static str, value: usize, most: usize) -> Result<(), ConfigError> {
    match value <= most {
        true => Ok(()),
        false => Err(ConfigError { field, problem: format!("{value} is too large; at most {most}") }),
    }
}

/// Bounds of images and classes, which every architecture has.
pub(super) fn images_within(
    [channels, height, width]: [usize; 3],
    classes: usize,
) -> Result<(), ConfigError> {
    at_most("classes", classes, MAX_CLASSES)?;
    at_most("image", channels, MAX_CHANNELS)?;
    at_most("image", height.max(width), MAX_SIDE)?;
    at_most("image", channels * height * width, MAX_NUMBERS)
}

/// Whether a model, built from shapes alone, is within [`MAX_PARAMETERS`].
pub(super) fn parameters_within<M: Module>(model: &M) -> Result<(), ConfigError> {
    struct Count(usize);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let numbers =
                param.lazy_shape().iter().fold(1, |product: usize, &side| product.saturating_mul(side));
            self.0 = self.0.saturating_add(numbers);
        }
    }
    let mut count = Count(0);
    model.visit(&mut count);
    match count.0 <= MAX_PARAMETERS {
        true => Ok(()),
        false => Err(ConfigError {
            field: "parameters",
            problem: format!(
                "a model of these sizes has {} numbers, more than {MAX_PARAMETERS}; give smaller sizes",
                count.0
            ),
        }),
    }
}
