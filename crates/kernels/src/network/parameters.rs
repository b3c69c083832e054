//! What a network is made of: layers, each the sum of some maps of earlier images.
//!
//! One description serves evaluation and training: in evaluation a convolution is a [`BiasedConv`] and a normalisation a
//! [`ChannelMap`]; in training they are a [`TrainedConv`] and a [`BatchNormParameters`]; gradients have their shape, too.

use crate::parameters::BiasedConv;

/// A feedforward network, of convolutions C and normalisations N.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkParameters<C = BiasedConv, N = ChannelMap> {
    /// C, H, W of each image that it reads: one after another they are an example's row of numbers.
    pub inputs: Vec<[usize; 3]>,
    /// In the order in which they are computed.
    pub layers: Vec<LayerParameters<C, N>>,
    /// What is made of the last layer's image.
    pub output: OutputParameters,
}

/// The sum of some terms, and a ReLU of that or not.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerParameters<C = BiasedConv, N = ChannelMap> {
    /// At least one, all of the same shape.
    pub terms: Vec<Term<C, N>>,
    /// Whether a ReLU follows.
    pub rectify: bool,
}

/// A map of an earlier image.
#[derive(Debug, Clone, PartialEq)]
pub struct Term<C = BiasedConv, N = ChannelMap> {
    /// Which image: the inputs have the first numbers, the layers those that follow.
    pub from: usize,
    /// What is made of it.
    pub map: Map<C, N>,
}

/// What is made of an image in a sum.
#[derive(Debug, Clone, PartialEq)]
pub enum Map<C = BiasedConv, N = ChannelMap> {
    /// The image itself.
    Same,
    /// A batch normalisation that follows no convolution.
    Norm(N),
    /// A convolution, padded so that stride 1 keeps the size; stride 2 halves it, rounding up.
    Conv {
        /// k: 1 or 3.
        size: usize,
        /// 1 or 2.
        stride: usize,
        /// With the batch normalisation after it, if there is one.
        conv: C,
    },
}

/// A batch normalisation in evaluation: each channel times a factor and moved, both `[C]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelMap {
    /// By what it is multiplied.
    pub scale: Vec<f32>,
    /// What is added.
    pub shift: Vec<f32>,
}

/// A convolution in training, without a bias.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedConv {
    /// Cout.
    pub outputs: usize,
    /// `[Cout, Cin, k, k]`.
    pub kernel: Vec<f32>,
    /// The batch normalisation after it, if there is one.
    pub norm: Option<BatchNormParameters>,
}

/// A batch normalisation in training.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchNormParameters {
    /// γ and β, each `[C]`, when affine.
    pub affine: Option<(Vec<f32>, Vec<f32>)>,
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

impl<C, N> NetworkParameters<C, N> {
    /// A network without layers.
    pub fn new(inputs: Vec<[usize; 3]>, output: OutputParameters) -> Self {
        Self { inputs, layers: Vec::new(), output }
    }

    /// One more layer; returns its image's number.
    pub fn layer(&mut self, terms: Vec<Term<C, N>>, rectify: bool) -> usize {
        self.layers.push(LayerParameters { terms, rectify });
        self.inputs.len() + self.layers.len() - 1
    }

    /// All terms, layer by layer.
    pub fn terms(&self) -> impl Iterator<Item = &Term<C, N>> {
        self.layers.iter().flat_map(|layer| &layer.terms)
    }

    /// C, H, W of every image, inputs first, given the channels that a convolution makes.
    ///
    /// # Panics
    ///
    /// If there are no inputs or layers, a layer has no terms or reads a later one, or terms are of different shapes.
    pub fn shapes(&self, outputs: impl Fn(&C) -> usize) -> Vec<[usize; 3]> {
        assert!(!self.inputs.is_empty() && !self.layers.is_empty(), "a network has inputs and layers");
        let mut shapes = self.inputs.clone();
        for layer in &self.layers {
            let shape = |term: &Term<C, N>| {
                let x = shapes.get(term.from).expect("a layer reads inputs and earlier layers");
                match &term.map {
                    Map::Conv { stride, conv, .. } => {
                        [outputs(conv), x[1].div_ceil(*stride), x[2].div_ceil(*stride)]
                    }
                    Map::Same | Map::Norm(_) => *x,
                }
            };
            let first = shape(layer.terms.first().expect("a layer has terms"));
            layer.terms.iter().for_each(|term| assert_eq!(shape(term), first, "terms of one shape"));
            shapes.push(first);
        }
        shapes
    }

    /// Length of what comes out: the number of classes, or that of the numbers of the last image.
    ///
    /// # Panics
    ///
    /// As [`Self::shapes`].
    pub fn output_dim(&self, outputs: impl Fn(&C) -> usize) -> usize {
        match &self.output {
            OutputParameters::Logits { bias, .. } => bias.len(),
            OutputParameters::Image => self.shapes(outputs).last().map_or(0, |shape| shape.iter().product()),
        }
    }

    /// The same network of other convolutions and normalisations, made in the order of [`Self::terms`].
    pub fn map<'a, D, M>(
        &'a self,
        mut conv: impl FnMut(&'a C) -> D,
        mut norm: impl FnMut(&'a N) -> M,
    ) -> NetworkParameters<D, M> {
        let mut term = |of: &'a Term<C, N>| {
            let map = match &of.map {
                Map::Same => Map::Same,
                Map::Norm(of) => Map::Norm(norm(of)),
                Map::Conv { size, stride, conv: of } => {
                    Map::Conv { size: *size, stride: *stride, conv: conv(of) }
                }
            };
            Term { from: of.from, map }
        };
        let layers = self.layers.iter().map(|layer| LayerParameters {
            terms: layer.terms.iter().map(&mut term).collect(),
            rectify: layer.rectify,
        });
        let layers = layers.collect();
        NetworkParameters { inputs: self.inputs.clone(), layers, output: self.output.clone() }
    }
}

impl<C, N> Term<C, N> {
    /// An image itself.
    pub fn same(from: usize) -> Self {
        Self { from, map: Map::Same }
    }

    /// A batch normalisation of an image.
    pub fn norm(from: usize, norm: N) -> Self {
        Self { from, map: Map::Norm(norm) }
    }

    /// A convolution of an image.
    pub fn conv(from: usize, size: usize, stride: usize, conv: C) -> Self {
        Self { from, map: Map::Conv { size, stride, conv } }
    }
}
