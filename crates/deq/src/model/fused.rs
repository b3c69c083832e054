//! Feedforward parts of models over the fused kernels of `equipoise-kernels`: a part says which of its modules follow which,
//! and is evaluated, linearised and trained from that.
//!
//! The kernels serve plain float32 numbers of the part's own shape on the flex CPU device. Whatever is tracked by autodiff, on
//! another device, in another precision or of another shape goes through Burn operations instead.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use equipoise_kernels::{
    Convolutions, Map, Network, NetworkParameters, NetworkPass, OutputParameters, Term, TrainedNetwork,
    TrainingMemory,
};

use super::layers::{BatchMoments, BatchNorm, Conv2d, Dense};
use super::normalisation::{Normalisation, normalised};
use super::normed::{self, Normed};
use super::parameters::accumulate;
use super::prepared::{Prepared, parameters};
use equipoise_attack::batch::{Images, from_vec, to_vec};
use equipoise_attack::cpu::{numbers_of, plain};

/// The modules of a part, layer by layer.
#[derive(Debug)]
pub struct Parts<'a> {
    network: NetworkParameters<Normed<'a>, &'a BatchNorm>,
    classifier: Option<&'a Dense>,
}

/// What a layer adds up.
pub type PartTerm<'a> = Term<Normed<'a>, &'a BatchNorm>;

impl<'a> Parts<'a> {
    /// From images of these shapes, C, H, W, to the image of the last layer; no layers yet.
    pub fn to_image(inputs: Vec<[usize; 3]>) -> Self {
        Self { network: NetworkParameters::new(inputs, OutputParameters::Image), classifier: None }
    }

    /// To logits: the mean over the last image's first rows and columns, and a classifier.
    pub fn to_logits(inputs: Vec<[usize; 3]>, window: [usize; 2], classifier: &'a Dense) -> Self {
        let (weight, bias) = (to_vec(classifier.weight.val()), to_vec(classifier.bias.val()));
        let output = OutputParameters::Logits { window, weight, bias };
        Self { network: NetworkParameters::new(inputs, output), classifier: Some(classifier) }
    }

    /// One more layer; returns its image's number.
    pub fn layer(&mut self, terms: Vec<PartTerm<'a>>, rectify: bool) -> usize {
        self.network.layer(terms, rectify)
    }

    /// Batch normalisations folded into the convolutions before them, where there are any.
    fn evaluated(&self) -> NetworkParameters {
        self.network.map(Normed::folded, |norm| normed::channel_map(norm))
    }

    fn trained(&self) -> TrainedNetwork {
        self.network.map(Normed::trained, |norm| normed::affine(norm))
    }
}

/// A convolution of an image, with the batch normalisation after it.
pub fn conv_norm<'a>(from: usize, conv: &'a Conv2d, norm: &'a BatchNorm) -> PartTerm<'a> {
    term(from, Normed { conv, norm: Some(norm) })
}

/// A convolution of an image.
pub fn conv(from: usize, conv: &Conv2d) -> PartTerm<'_> {
    term(from, Normed { conv, norm: None })
}

/// One of the two.
pub fn term(from: usize, of: Normed<'_>) -> PartTerm<'_> {
    let [.., size, _] = of.conv.weight.dims();
    Term::conv(from, size, of.conv.stride(), of)
}

/// The kernels of a part, made when they are first used, and again when its parameters have changed.
#[derive(Debug, Clone)]
pub struct Fused {
    /// Of an example that they are for.
    shape: Vec<usize>,
    convolutions: Convolutions,
    prepared: Prepared<Network>,
    memory: TrainingMemory,
}

/// The way back from a cotangent of what came out.
pub type PullBack<'a, const D: usize> = Box<dyn FnOnce(Tensor<2>) -> Tensor<D> + 'a>;

/// A part on its way through a batch in training.
#[derive(Debug)]
pub struct Pass<'a, const D: usize> {
    pass: NetworkPass,
    parts: Parts<'a>,
    shape: [usize; D],
    device: Device,
}

impl Fused {
    /// For examples of this shape.
    pub fn new(shape: &[usize], convolutions: Convolutions) -> Self {
        let (prepared, memory) = (Prepared::default(), TrainingMemory::default());
        Self { shape: shape.to_vec(), convolutions, prepared, memory }
    }

    /// Lets go of the memory of past training passes.
    pub fn release(&self) {
        self.memory.clear();
    }

    /// The numbers of an input that can be served.
    fn plain<const D: usize>(&self, input: &Tensor<D>) -> Option<FlexTensor> {
        if input.dims()[1..] == self.shape { plain(input) } else { None }
    }

    /// The kernels and the numbers of an input, if it can be served.
    fn serve<'a, const D: usize>(
        &self,
        module: &impl Module,
        input: &Tensor<D>,
        parts: impl FnOnce() -> Parts<'a>,
    ) -> Option<(Arc<Network>, FlexTensor)> {
        let numbers = self.plain(input)?;
        let make = || Network::new(&parts().evaluated(), self.convolutions);
        Some((self.prepared.get(module, make)?, numbers))
    }

    /// What comes out `[N, ..]` in evaluation, if it can be served.
    pub fn forward<'a, const D: usize>(
        &self,
        module: &impl Module,
        input: &Tensor<D>,
        parts: impl FnOnce() -> Parts<'a>,
    ) -> Option<Tensor<2>> {
        let (network, numbers) = self.serve(module, input, parts)?;
        let shape = [input.dims()[0], network.output_dim()];
        let mut output = vec![0.0; shape[0] * shape[1]];
        network.forward(numbers_of(&numbers), &mut output);
        Some(from_vec(output, shape, &input.device()))
    }

    /// The same, and the way back to the input, parameters being constants.
    pub fn linearize<'a, const D: usize>(
        &self,
        module: &impl Module,
        input: &Tensor<D>,
        parts: impl FnOnce() -> Parts<'a>,
    ) -> Option<(Tensor<2>, PullBack<'static, D>)> {
        let (network, numbers) = self.serve(module, input, parts)?;
        let (shape, device) = (input.dims(), input.device());
        let out = [shape[0], network.output_dim()];
        let mut output = vec![0.0; out[0] * out[1]];
        let tape = network.linearize(numbers_of(&numbers), &mut output);
        let output = from_vec(output, out, &device);
        let pull_back = move |cotangent: Tensor<2>| {
            let mut input = vec![0.0; shape.iter().product()];
            tape.pull_back(&to_vec(cotangent), &mut input);
            from_vec(input, shape, &device)
        };
        Some((output, Box::new(pull_back)))
    }

    /// What comes out in training, and the way back to input and parameters, if it can be served. The batch's statistics are
    /// noted.
    pub fn train<'a, const D: usize>(
        &self,
        module: &impl Module,
        input: &Tensor<D>,
        moments: &BatchMoments,
        parts: impl FnOnce() -> Parts<'a>,
    ) -> Option<(Tensor<2>, Pass<'a, D>)> {
        let numbers = self.plain(input)?;
        parameters(module)?;
        // Those of evaluation would lie in memory beside the images of the whole batch, and the weights are about to change.
        self.prepared.clear();
        let (parts, shape, device) = (parts(), input.dims(), input.device());
        let trained = parts.trained();
        let out = [shape[0], trained.output_dim(|conv| conv.outputs)];
        let mut output = vec![0.0; out[0] * out[1]];
        let (way, numbers) = (self.convolutions, numbers_of(&numbers));
        let pass = NetworkPass::forward(&trained, way, &self.memory, numbers, &mut output);
        for (of, found) in parts.network.terms().zip(pass.statistics().terms()) {
            match (&of.map, &found.map) {
                (Map::Conv { conv: of, .. }, Map::Conv { conv: Some(found), .. }) => {
                    of.note(found, &device, moments);
                }
                (Map::Norm(of), Map::Norm(found)) => normed::note(of, None, found, &device, moments),
                _ => {}
            }
        }
        Some((from_vec(output, out, &device), Pass { pass, parts, shape, device }))
    }
}

/// The way back from a cotangent of what came out to the parameters, whose gradients are added to a collection.
pub type TrainingPullBack<'a> = Box<dyn FnOnce(Tensor<2>, &mut GradientsParams) + 'a>;

impl Fused {
    /// [`Self::linearize`] of images that are normalised first.
    pub fn linearize_images<'a>(
        &self,
        module: &impl Module,
        images: &Images,
        normalisation: Option<&'a Normalisation>,
        parts: impl FnOnce() -> Parts<'a>,
    ) -> Option<(Tensor<2>, PullBack<'a, 4>)> {
        let (output, pull_back) =
            self.linearize(module, &normalised(normalisation, images.clone()), parts)?;
        let pull_back = move |cotangent: Tensor<2>| {
            let gradient = pull_back(cotangent);
            match normalisation {
                Some(normalisation) => normalisation.pull_back(gradient),
                None => gradient,
            }
        };
        Some((output, Box::new(pull_back)))
    }

    /// [`Self::train`] of images that are normalised first, back to the parameters alone.
    pub fn train_images<'a>(
        &self,
        module: &impl Module,
        images: &Images,
        normalisation: Option<&Normalisation>,
        moments: &BatchMoments,
        parts: impl FnOnce() -> Parts<'a>,
    ) -> Option<(Tensor<2>, TrainingPullBack<'a>)> {
        let (output, pass) =
            self.train(module, &normalised(normalisation, images.clone()), moments, parts)?;
        let pull_back =
            move |cotangent: Tensor<2>, into: &mut GradientsParams| pass.pull_back(cotangent, into);
        Some((output, Box::new(pull_back)))
    }
}

impl<const D: usize> Pass<'_, D> {
    /// Adds uᵀ ∂output/∂θ, summed over the batch, for a cotangent u of what came out.
    pub fn pull_back(self, cotangent: Tensor<2>, into: &mut GradientsParams) {
        let Self { pass, parts, device, .. } = self;
        parts.accumulate(pass.pull_back(&to_vec(cotangent), None), &device, into);
    }

    /// The same, and uᵀ ∂output/∂input.
    pub fn pull_back_to_input(self, cotangent: Tensor<2>, into: &mut GradientsParams) -> Tensor<D> {
        let Self { pass, parts, shape, device } = self;
        let mut input = vec![0.0; shape.iter().product()];
        parts.accumulate(pass.pull_back(&to_vec(cotangent), Some(&mut input)), &device, into);
        from_vec(input, shape, &device)
    }
}

impl Parts<'_> {
    /// Adds gradients to those of the modules' parameters.
    fn accumulate(&self, gradients: TrainedNetwork, device: &Device, into: &mut GradientsParams) {
        let TrainedNetwork { layers, output, .. } = gradients;
        let found = layers.into_iter().flat_map(|layer| layer.terms);
        for (of, found) in self.network.terms().zip(found) {
            match (&of.map, found.map) {
                (Map::Conv { conv: of, .. }, Map::Conv { conv: found, .. }) => {
                    of.accumulate(found, device, into);
                }
                (Map::Norm(of), Map::Norm(found)) => normed::accumulate_affine(of, found, device, into),
                _ => {}
            }
        }
        if let (Some(Dense { weight: w, bias: b }), OutputParameters::Logits { weight, bias, .. }) =
            (self.classifier, output)
        {
            accumulate(into, w.id, from_vec(weight, w.dims(), device));
            accumulate(into, b.id, from_vec(bias, b.dims(), device));
        }
    }
}
