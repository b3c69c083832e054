//! Convolutions and batch normalisations as the kernels want them: folded into one in evaluation, as plain numbers in
//! training, with the way back for statistics and gradients.

use burn::optim::GradientsParams;
use burn::tensor::Device;
use equipoise_kernels::{BatchNormParameters, BiasedConv, ChannelMap, Statistics, TrainedConv};

use crate::model::layers::{BatchMoments, BatchNorm, Conv2d, Layer};
use crate::model::parameters::accumulate;
use equipoise_attack::batch::{from_vec, to_vec};

/// A convolution, and the batch normalisation after it if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Normed<'a> {
    /// The convolution.
    pub conv: &'a Conv2d,
    /// What follows it.
    pub norm: Option<&'a BatchNorm>,
}

impl<'a> Normed<'a> {
    /// Those that a sequence begins with.
    pub fn first_of(layers: &'a [Layer]) -> Self {
        match layers {
            [Layer::Conv2d(conv), Layer::BatchNorm(norm), ..] => Self { conv, norm: Some(norm) },
            _ => unreachable!("every such sequence begins with a convolution and its normalisation"),
        }
    }

    /// Both in one, as they are in evaluation.
    pub fn folded(&self) -> BiasedConv {
        let kernel = self.conv.weight.val();
        let [channels, ..] = kernel.dims();
        let bias = self.conv.bias.as_ref().map(|bias| bias.val());
        let Some(norm) = self.norm else {
            let bias = bias.map_or_else(|| vec![0.0; channels], to_vec);
            return BiasedConv { kernel: to_vec(kernel), bias };
        };
        let (scale, mut shift) = norm.running_map();
        if let Some(bias) = bias {
            shift = shift + bias * scale.clone();
        }
        let kernel = kernel * scale.reshape([channels, 1, 1, 1]);
        BiasedConv { kernel: to_vec(kernel), bias: to_vec(shift) }
    }

    /// Both as plain numbers. Without the convolution's bias: the batch's mean takes it away again.
    ///
    /// # Panics
    ///
    /// If there is a bias and no normalisation. No architecture has such a convolution.
    pub fn trained(&self) -> TrainedConv {
        assert!(
            self.norm.is_some() || self.conv.bias.is_none(),
            "the kernels train no convolution that has a bias and no normalisation after it"
        );
        TrainedConv {
            outputs: self.conv.weight.dims()[0],
            kernel: to_vec(self.conv.weight.val()),
            norm: self.norm.map(affine),
        }
    }

    /// Notes the statistics of a batch, with the bias that [`Self::trained`] left out.
    pub fn note(&self, statistics: &Statistics, device: &Device, moments: &BatchMoments) {
        if let Some(norm) = self.norm {
            note(norm, Some(self.conv), statistics, device, moments);
        }
    }

    /// Adds the gradients of both. That of the convolution's bias is zero.
    pub fn accumulate(&self, gradient: TrainedConv, device: &Device, into: &mut GradientsParams) {
        let Self { conv, norm } = self;
        accumulate(into, conv.weight.id, from_vec(gradient.kernel, conv.weight.dims(), device));
        if let Some(bias) = &conv.bias {
            accumulate(into, bias.id, bias.val().zeros_like());
        }
        if let (Some(norm), Some(gradient)) = (norm, gradient.norm) {
            accumulate_affine(norm, gradient, device, into);
        }
    }
}

/// A normalisation by itself, as it is in evaluation.
pub fn channel_map(norm: &BatchNorm) -> ChannelMap {
    let (scale, shift) = norm.running_map();
    ChannelMap { scale: to_vec(scale), shift: to_vec(shift) }
}

/// A normalisation's γ and β.
pub fn affine(norm: &BatchNorm) -> BatchNormParameters {
    let affine = norm.weight.as_ref().zip(norm.bias.as_ref());
    BatchNormParameters { affine: affine.map(|(weight, bias)| (to_vec(weight.val()), to_vec(bias.val()))) }
}

/// Notes the statistics of a batch, with the bias of the convolution before it, which the kernels leave out.
pub fn note(
    norm: &BatchNorm,
    conv: Option<&Conv2d>,
    statistics: &Statistics,
    device: &Device,
    moments: &BatchMoments,
) {
    let Statistics { mean, variance, count } = statistics;
    let shape = [mean.len()];
    let mut mean = from_vec(mean.clone(), shape, device);
    if let Some(bias) = conv.and_then(|conv| conv.bias.as_ref()) {
        mean = mean + bias.val();
    }
    moments.note(norm, mean, from_vec(variance.clone(), shape, device), *count as f64);
}

/// Adds the gradients of γ and β.
pub fn accumulate_affine(
    norm: &BatchNorm,
    gradient: BatchNormParameters,
    device: &Device,
    into: &mut GradientsParams,
) {
    if let (Some(weight), Some(bias), Some((dw, db))) = (&norm.weight, &norm.bias, gradient.affine) {
        accumulate(into, weight.id, from_vec(dw, weight.dims(), device));
        accumulate(into, bias.id, from_vec(db, bias.dims(), device));
    }
}
