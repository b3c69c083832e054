//! Tensors as plain slices of numbers, where that takes no copy: on the flex CPU device, in float32, untracked.

use burn::backend::{Flex, flex::FlexTensor};
use burn::tensor::{DType, Tensor};

/// A tensor on the flex device in float32, contiguous; `None` for any other, tracked ones included.
pub fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    let tensor = tensor.clone().try_into_primitive::<Flex>().ok()?;
    if tensor.dtype() != DType::F32 {
        return None;
    }
    Some(if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() })
}

/// The numbers of a tensor that [`plain`] returned, in row-major order.
pub fn numbers_of(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("`plain` makes tensors contiguous and float32")
}
