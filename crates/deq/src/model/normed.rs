//! Convolutions with a batch normalisation, as the kernels want them: folded into one in evaluation, as plain numbers in
//! training, with the way back for statistics and gradients.

use burn::optim::GradientsParams;
use burn::tensor::Device;
use equipoise_kernels::{BiasedConv, NormedConv, Statistics};

use crate::model::layers::{BatchMoments, BatchNorm, Conv2d, Layer};
use crate::model::parameters::accumulate;
use equipoise_attack::batch::{from_vec, to_vec};

/// The convolution and the normalisation that a sequence begins with.
pub fn normed(layers: &[Layer]) -> (&Conv2d, &BatchNorm) {
    match layers {
        [Layer::Conv2d(conv), Layer::BatchNorm(norm), ..] => (conv, norm),
        _ => unreachable!("every such sequence begins with a convolution and its normalisation"),
    }
}

/// A convolution with the batch normalisation after it, as it is in evaluation.
pub fn folded(conv: &Conv2d, norm: &BatchNorm) -> BiasedConv {
    let (scale, mut shift) = norm.running_map();
    if let Some(bias) = &conv.bias {
        shift = shift + bias.val() * scale.clone();
    }
    let channels = scale.dims()[0];
    let kernel = conv.weight.val() * scale.reshape([channels, 1, 1, 1]);
    BiasedConv { kernel: to_vec(kernel), bias: to_vec(shift) }
}

/// Both as plain numbers. Without the convolution's bias: the batch's mean takes it away again.
pub fn plain_numbers(conv: &Conv2d, norm: &BatchNorm) -> NormedConv {
    let affine = match (&norm.weight, &norm.bias) {
        (Some(weight), Some(bias)) => Some((to_vec(weight.val()), to_vec(bias.val()))),
        _ => None,
    };
    NormedConv { outputs: conv.weight.dims()[0], kernel: to_vec(conv.weight.val()), affine }
}

/// Notes the statistics of a batch, with the bias that [`plain_numbers`] left out.
pub fn note_statistics(
    conv: &Conv2d,
    norm: &BatchNorm,
    statistics: Statistics,
    device: &Device,
    moments: &BatchMoments,
) {
    let Statistics { mean, variance, count } = statistics;
    let shape = [mean.len()];
    let mut mean = from_vec(mean, shape, device);
    if let Some(bias) = &conv.bias {
        mean = mean + bias.val();
    }
    moments.note(norm, mean, from_vec(variance, shape, device), count as f64);
}

/// Adds the gradients of both. That of the convolution's bias is zero.
pub fn accumulate_gradients(
    conv: &Conv2d,
    norm: &BatchNorm,
    gradient: NormedConv,
    device: &Device,
    into: &mut GradientsParams,
) {
    accumulate(into, conv.weight.id, from_vec(gradient.kernel, conv.weight.dims(), device));
    if let Some(bias) = &conv.bias {
        accumulate(into, bias.id, bias.val().zeros_like());
    }
    if let (Some(weight), Some(bias), Some((dw, db))) = (&norm.weight, &norm.bias, gradient.affine) {
        accumulate(into, weight.id, from_vec(dw, weight.dims(), device));
        accumulate(into, bias.id, from_vec(db, bias.dims(), device));
    }
}
