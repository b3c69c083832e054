//! What a network is made of: layers, each the sum of some maps of earlier images.

use crate::parameters::BiasedConv;

/// A feedforward network in evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkParameters {
    /// C, H, W of each image that it reads: one after another they are an example's row of numbers.
    pub inputs: Vec<[usize; 3]>,
    /// In the order in which they are computed.
    pub layers: Vec<LayerParameters>,
    /// What is made of the last layer's image.
    pub output: OutputParameters,
}

/// The sum of some terms, and a ReLU of that or not. A batch normalisation in evaluation is folded into the convolution before
/// it, or is a map of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerParameters {
    /// At least one, all of the same shape.
    pub terms: Vec<Term>,
    /// Whether a ReLU follows.
    pub rectify: bool,
}

/// A map of an earlier image.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// Which image: the inputs have the first numbers, the layers those that follow.
    pub from: usize,
    /// What is made of it.
    pub map: Map,
}

/// What is made of an image in a sum.
#[derive(Debug, Clone, PartialEq)]
pub enum Map {
    /// The image itself.
    Same,
    /// Each channel times a factor and moved, both `[C]`.
    Affine {
        /// By what it is multiplied.
        scale: Vec<f32>,
        /// What is added.
        shift: Vec<f32>,
    },
    /// A convolution, padded so that stride 1 keeps the size; stride 2 halves it, rounding up.
    Conv {
        /// k: 1 or 3.
        size: usize,
        /// 1 or 2.
        stride: usize,
        /// `[Cout, Cin, k, k]` and `[Cout]`.
        conv: BiasedConv,
    },
}

/// What is made of the last image.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputParameters {
    /// Its numbers, in C, H, W order.
    Image,
    /// Logits: the mean over pixels, and a linear map.
    Logits {
        /// The first so many rows and columns are averaged.
        window: [usize; 2],
        /// `[K, C]`.
        weight: Vec<f32>,
        /// `[K]`.
        bias: Vec<f32>,
    },
}

impl NetworkParameters {
    /// A network without layers.
    pub fn new(inputs: Vec<[usize; 3]>, output: OutputParameters) -> Self {
        Self { inputs, layers: Vec::new(), output }
    }

    /// One more layer; returns its image's number.
    pub fn layer(&mut self, terms: Vec<Term>, rectify: bool) -> usize {
        self.layers.push(LayerParameters { terms, rectify });
        self.inputs.len() + self.layers.len() - 1
    }
}

impl Term {
    /// An image itself.
    pub fn same(from: usize) -> Self {
        Self { from, map: Map::Same }
    }

    /// A convolution of an image.
    pub fn conv(from: usize, size: usize, stride: usize, conv: BiasedConv) -> Self {
        Self { from, map: Map::Conv { size, stride, conv } }
    }
}
