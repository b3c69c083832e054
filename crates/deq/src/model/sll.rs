//! A network of SDP-based Lipschitz layers (SLL; Araujo, Havens, Delattre, Allauzen and Hu 2023, arXiv 2303.03169), a feedforward
//! network whose logits move by at most γ times as much as the normalised image, in L2, whatever is trained.
//!
//! ```text
//! x_0 = E x                                        E = T^(−½) A,     T = diag(|A Aᵀ| 1), or sums over windows, divided by their side
//! x_k = x_{k−1} − 2 W_k T_k⁻¹ relu(W_kᵀ x_{k−1} + b_k)     T_k = diag(Q⁻¹ |W_kᵀ W_k| Q 1), Q = diag(exp q_k)
//! y   = H x_L + c                                  H = γ T^(−½) C,  T = diag(|C Cᵀ| 1)
//! ```
//!
//! T − A Aᵀ is diagonally dominant, so that ‖E‖ ≤ 1, and so is T_k − W_kᵀ W_k in the norm of Q, by which a layer does not expand
//! distances. Every T is taken larger by a share, so that the bound is not reached: that makes the network a
//! [Lipschitz-bounded equilibrium network](super::monotone::Lben) with a monotonicity above 0.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::feedforward::{Feedforward, cifar_classes};
use super::init::{Init, Law};
use super::layers::{Phase, products};
use super::limits::{MAX_CHANNELS, at_most, images_within, parameters_within};
use super::normalisation::{Normalisation, normalised};
use equipoise_attack::batch::{Images, Logits};

/// The most layers.
const MAX_LAYERS: usize = 1000;

/// Sizes of a network of SDP-based Lipschitz layers, and its bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SllConfig {
    /// Length of x_k.
    pub width: usize,
    /// Side p of the windows that x_0 has the sums over, divided by p, so that `width` is C (H/p) (W/p): 1 for the pixels themselves. Absent for a
    /// trained E.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// ReLUs of each layer.
    pub units: usize,
    /// Number L of layers.
    pub layers: usize,
    /// γ > 0: logits move by at most γ times as much as the normalised image, in L2.
    pub lipschitz: f64,
    /// Share ≥ 0 by which every T is larger than it must be.
    #[serde(default = "slack")]
    pub slack: f64,
    /// C, H, W of the images.
    pub image: [usize; 3],
    /// Number of classes K.
    #[serde(default = "super::feedforward::cifar_classes")]
    pub classes: usize,
    /// What the images are normalised by before anything else; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalisation: Option<Normalisation>,
}

fn slack() -> f64 {
    0.05
}

impl SllConfig {
    /// Three layers of 24 units for 8×8 digits.
    pub fn digits() -> Self {
        Self {
            width: 24,
            window: None,
            units: 24,
            layers: 3,
            lipschitz: 5.0,
            slack: slack(),
            image: [1, 8, 8],
            classes: cifar_classes(),
            normalisation: None,
        }
    }

    /// Whether the sizes fit together and are within the [limits](super::limits).
    ///
    /// # Errors
    ///
    /// Names the first field that does not fit, and what it must satisfy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |field, problem: String| Err(ConfigError { field, problem });
        for (field, size) in [("width", self.width), ("units", self.units), ("layers", self.layers)] {
            if size == 0 {
                return wrong(field, "must be at least 1".into());
            }
        }
        at_most("width", self.width, MAX_CHANNELS)?;
        at_most("units", self.units, MAX_CHANNELS)?;
        at_most("layers", self.layers, MAX_LAYERS)?;
        if !(self.lipschitz >= 1e-6 && self.lipschitz <= 1e6) {
            return wrong("lipschitz", format!("{} is not in [0.000001, 1000000]", self.lipschitz));
        }
        if !(self.slack >= 0.0 && self.slack <= 100.0) {
            return wrong("slack", format!("{} is not in [0, 100]", self.slack));
        }
        if self.classes < 2 {
            return wrong("classes", format!("{} classes; at least 2 are needed", self.classes));
        }
        if self.image.contains(&0) {
            let [c, h, w] = self.image;
            return wrong("image", format!("{c}×{h}×{w}: no side may be 0"));
        }
        images_within(self.image, self.classes)?;
        if let Some(window) = self.window {
            let [c, h, w] = self.image;
            if window == 0 || h % window != 0 || w % window != 0 {
                return wrong("window", format!("{window} divides not both sides of images of {h}×{w}"));
            }
            let windows = c * (h / window) * (w / window);
            if self.width != windows {
                let problem = format!(
                    "{}; images of {c}×{h}×{w} have {windows} windows of {window}×{window}",
                    self.width
                );
                return wrong("width", problem);
            }
        }
        self.normalisation.iter().try_for_each(|normalisation| normalisation.validate(self.image[0]))?;
        parameters_within(&self.build(&mut Init::shapes(&Device::flex())))
    }

    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the configuration contradicts itself; see [`SllConfig::validate`].
    pub fn init(&self, seed: u64, device: &Device) -> Result<Sll, ConfigError> {
        self.validate()?;
        Ok(self.build(&mut Init::new(seed, device)))
    }

    /// A model of sizes that fit together.
    pub(crate) fn build(&self, init: &mut Init) -> Sll {
        let pixels = self.image.iter().product();
        let trained = self.window.is_none();
        Sll {
            embedding: trained.then(|| init.parameter([self.width, pixels], Law::FanIn)),
            layers: (0..self.layers).map(|_| SllLayer::new([self.width, self.units], init)).collect(),
            classifier: init.parameter([self.classes, self.width], Law::FanIn),
            bias: init.filled([self.classes], 0.0),
            lipschitz: self.lipschitz,
            slack: self.slack,
            image: self.image,
            window: self.window.unwrap_or(1),
            normalisation: self.normalisation.clone(),
        }
    }
}

/// One layer, by the names of its authors' code.
#[derive(Module, Debug)]
pub struct SllLayer {
    /// Wᵀ, `[units, width]`.
    pub weight: Param<Tensor<2>>,
    /// b, `[units]`.
    pub bias: Param<Tensor<1>>,
    /// q, `[units]`.
    pub q: Param<Tensor<1>>,
}

impl SllLayer {
    fn new([width, units]: [usize; 2], init: &mut Init) -> Self {
        Self {
            weight: init.parameter([units, width], Law::FanIn),
            bias: init.filled([units], 0.0),
            q: init.filled([units], 0.0),
        }
    }

    /// T as a column, `[units, 1]`.
    fn sums(&self, slack: f64) -> Tensor<2> {
        let (weight, scales) = (self.weight.val(), self.q.val().exp().unsqueeze_dim::<2>(1));
        dominance(weight.clone() / scales.clone(), weight * scales, slack)
    }

    /// −2 W T⁻¹, `[width, units]`: what is added to x is this times the units.
    fn back(&self, slack: f64) -> Tensor<2> {
        (self.weight.val() / self.sums(slack)).transpose() * -2.0
    }
}

/// A network of SDP-based Lipschitz layers.
#[derive(Module, Debug)]
pub struct Sll {
    /// A, `[width, CHW]`; absent where x_0 has sums over windows.
    pub embedding: Option<Param<Tensor<2>>>,
    /// From the image to the logits.
    pub layers: Vec<SllLayer>,
    /// C, `[K, width]`.
    pub classifier: Param<Tensor<2>>,
    /// c, `[K]`.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    lipschitz: f64,
    #[module(skip)]
    slack: f64,
    #[module(skip)]
    image: [usize; 3],
    #[module(skip)]
    window: usize,
    #[module(skip)]
    normalisation: Option<Normalisation>,
}

impl Sll {
    /// γ.
    pub fn lipschitz(&self) -> f64 {
        self.lipschitz
    }

    /// What images are normalised by.
    pub fn normalisation(&self) -> Option<&Normalisation> {
        self.normalisation.as_ref()
    }

    /// E, `[width, CHW]`.
    pub fn inwards(&self) -> Tensor<2> {
        match &self.embedding {
            Some(embedding) => contraction(embedding.val(), self.slack),
            None => self.windows(),
        }
    }

    /// Rows of length 1/√(1 + slack) that share no pixel.
    fn windows(&self) -> Tensor<2> {
        let ([c, h, w], side) = (self.image, self.window);
        let size = (1.0 / (side as f64 * (1.0 + self.slack).sqrt())) as f32;
        let columns = w / side;
        let width = c * (h / side) * columns;
        let mut values = vec![0.0; width * c * h * w];
        for pixel in 0..c * h * w {
            let (channel, y, x) = (pixel / (h * w), pixel / w % h, pixel % w);
            let window = (channel * (h / side) + y / side) * columns + x / side;
            values[window * c * h * w + pixel] = size;
        }
        let bias = self.bias.val();
        let data = TensorData::new(values, [width, c * h * w]);
        let matrix: Tensor<2> = Tensor::from_data(data, &bias.device().inner());
        let matrix = matrix.cast(bias.dtype());
        if bias.is_autodiff() { matrix.autodiff() } else { matrix }
    }

    /// T_k as a column, `[units, 1]`, and −2 W_k T_k⁻¹, `[width, units]`, of each layer.
    pub fn sums_and_back(&self) -> Vec<[Tensor<2>; 2]> {
        self.layers.iter().map(|layer| [layer.sums(self.slack), layer.back(self.slack)]).collect()
    }

    /// H, `[K, width]`.
    pub fn outwards(&self) -> Tensor<2> {
        contraction(self.classifier.val(), self.slack) * self.lipschitz
    }
}

impl Feedforward for Sll {
    fn forward(&self, images: Images, _phase: &Phase<'_>) -> Logits {
        let images = normalised(self.normalisation.as_ref(), images).flatten::<2>(1, 3);
        let x = products(images, self.inwards(), None);
        let x = self.layers.iter().fold(x, |x, layer| {
            let read = products(x.clone(), layer.weight.val(), Some(layer.bias.val()));
            x + products(activation::relu(read), layer.back(self.slack), None)
        });
        products(x, self.outwards(), Some(self.bias.val()))
    }

    fn classes(&self) -> usize {
        self.bias.lazy_shape()[0]
    }
}

/// T^(−½) A with T = (1 + slack) diag(|A Aᵀ| 1): of norm 1/√(1 + slack) at most.
fn contraction(a: Tensor<2>, slack: f64) -> Tensor<2> {
    a.clone() / dominance(a.clone(), a, slack).sqrt()
}

/// (1 + slack) |A Bᵀ| 1 as a column, and what is just above 0 for rows of zeros.
fn dominance(a: Tensor<2>, b: Tensor<2>, slack: f64) -> Tensor<2> {
    (a.matmul(b.transpose()).abs().sum_dim(1) + LEAST_SUM) * (1.0 + slack)
}

/// Added to every sum that is divided by.
const LEAST_SUM: f64 = 1e-6;
