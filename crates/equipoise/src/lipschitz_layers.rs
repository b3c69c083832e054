//! A feedforward network of Lipschitz layers as the equilibrium network that computes the same (Havens, Araujo, Garg, Khorrami and
//! Hu 2023): where the training of a Lipschitz-bounded one may begin, and what certifies the layers themselves.
//!
//! The state is z = (z_0, z_1, .., z_L): the units of all [layers](Sll), z_k = relu(W_kᵀ x_{k−1} + b_k), behind z_0 = relu(E x + s), where s keeps
//! E x + s ≥ 0 for all images in [0, 1], so that x_k = z_0 − s − Σ 2 W_j T_j⁻¹ z_j over j ≤ k. Then W is block lower triangular, the fixed point
//! is reached in L+1 steps, and the logits are a linear function of z.
//!
//! In the coordinates P^½ z with P = γ I at z_0 and 2γ T_k⁻¹ at z_k, the symmetric part of
//!
//! ```text
//! I − W − (GᵀG + U Uᵀ)/2γ
//! ```
//!
//! is at least δ/2(1+δ) I, δ the slack of the layers: γ‖Δx‖² ≥ γ‖Δx_0‖² ≥ .. ≥ γ‖Δx_L‖² ≥ ‖Δy‖²/γ is a sum of these inequalities. So for every
//! m up to its least eigenvalue, what is left above m I is ½VᵀV by Cholesky, and the skew part is S − Sᵀ.

use burn::tensor::Device;

use crate::architecture::{Architecture, Model};
use crate::batch::to_f64;
use crate::certify::matrix::Matrix;
use crate::checkpoint::Entry;
use crate::model::ConfigError;
use crate::model::monotone::{LEAST_SCALE, LbenConfig};
use crate::model::sll::Sll;

/// A model as one of another architecture that computes the same; `None` where it is no network of Lipschitz layers, or the
/// architecture not that of a Lipschitz-bounded equilibrium network.
///
/// # Errors
///
/// As [`equilibrium`].
pub fn converted(
    model: &dyn Model,
    architecture: &Architecture,
    device: &Device,
) -> Option<Result<Box<dyn Model>, ConfigError>> {
    Some(equilibrium(model.downcast()?, architecture.config()?, device))
}

/// A Lipschitz-bounded equilibrium network of these sizes that computes what a network of layers does, on images in \[0, 1\], but for
/// roundings.
///
/// # Errors
///
/// If the sizes are not those of the layers: `hidden` their width and all their units; or if they leave no such monotonicity.
pub fn equilibrium(
    layers: &Sll,
    config: &LbenConfig,
    device: &Device,
) -> Result<Box<dyn Model>, ConfigError> {
    let architecture = Architecture::from(config.clone());
    architecture.validate()?;
    let parts = Parts::of(layers);
    let (hidden, [width, pixels]) = (parts.hidden(), [parts.inwards.rows, parts.inwards.columns]);
    let wrong = |field, problem: String| Err(ConfigError { field, problem });
    if config.hidden != hidden {
        let units = hidden - width;
        return wrong(
            "hidden",
            format!("{}; layers of width {width} with {units} units in all need {hidden}", config.hidden),
        );
    }
    if (pixels, parts.outwards.rows) != (config.image.iter().product(), config.classes) {
        let problem = format!("the layers are for {pixels} pixels and {} classes", parts.outwards.rows);
        return wrong("image", problem);
    }
    if layers.normalisation() != config.normalisation.as_ref() {
        return wrong(
            "normalisation",
            "the layers' images are normalised in another way; give theirs".into(),
        );
    }
    let (gamma, m) = (config.lipschitz, config.monotonicity);
    let Network { weight, injection, offset, head, bias } = parts.network(&parts.shift(config));

    // P^½ z, and the units of a cell whose Λ is that of d = 0.
    let roots: Vec<f64> = parts.multipliers(gamma).into_iter().map(f64::sqrt).collect();
    let scale = LEAST_SCALE + (1.0 - LEAST_SCALE) / 2.0;
    let weight = Matrix::new(hidden, hidden, |i, j| roots[i] * weight.row(i)[j] / roots[j]);
    let injected = Matrix::new(hidden, pixels, |i, j| roots[i] * injection.row(i)[j]);
    let read = Matrix::new(head.rows, hidden, |i, j| head.row(i)[j] / roots[j]);

    let bound = [injected.gram(), read.transposed().gram()];
    let left = Matrix::new(hidden, hidden, |i, j| {
        let own = f64::from(u8::from(i == j)) - 0.5 * (weight.row(i)[j] + weight.row(j)[i]);
        own - (bound[0].row(i)[j] + bound[1].row(i)[j]) / (2.0 * gamma)
    });
    let most = left.least_eigenvalue().unwrap_or(f64::NEG_INFINITY);
    let above = Matrix::new(hidden, hidden, |i, j| 2.0 * (left.row(i)[j] - if i == j { m } else { 0.0 }));
    let Some(root) = above.cholesky().filter(|_| m < most) else {
        let problem = if most > 0.0 {
            format!("{m}; these layers leave less than {most:.4} with lipschitz = {gamma}")
        } else {
            format!(
                "{m}; these layers leave none with lipschitz = {gamma}: train them with slack, for at most that bound"
            )
        };
        return wrong("monotonicity", problem);
    };
    let skew = |i: usize, j: usize| if i > j { 0.5 * (weight.row(j)[i] - weight.row(i)[j]) } else { 0.0 };

    let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect::<Vec<f32>>();
    let entry =
        |matrix: Matrix| Entry { shape: vec![matrix.rows, matrix.columns], values: single(matrix.values) };
    let vector = |values: Vec<f64>| Entry { shape: vec![values.len()], values: single(values) };
    let offset = offset.iter().zip(&roots).map(|(offset, root)| root * offset / scale).collect();
    let weights = [
        ("injection.weight", entry(injected.map(|entry| entry / scale))),
        ("injection.bias", vector(offset)),
        ("fullstage.v", entry(root.transposed())),
        ("fullstage.s", entry(Matrix::new(hidden, hidden, skew))),
        ("fullstage.d", vector(vec![0.0; hidden])),
        ("classifier.weight", entry(read.map(|entry| entry * scale))),
        ("classifier.bias", vector(bias)),
    ];
    let weights = weights.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect();
    let model = architecture.init(0, device)?.with_weights(weights);
    model.map_err(|error| ConfigError { field: "weights", problem: error.to_string() })
}

/// The matrices of the layers, in float64.
struct Parts {
    /// E and H.
    inwards: Matrix,
    outwards: Matrix,
    bias: Vec<f64>,
    layers: Vec<Layer>,
}

struct Layer {
    /// W_kᵀ and b_k.
    weight: Matrix,
    bias: Vec<f64>,
    /// −2 W_k T_k⁻¹, and T_k.
    back: Matrix,
    sums: Vec<f64>,
}

/// z = relu(W z + U x + b), y = G z + c.
struct Network {
    weight: Matrix,
    injection: Matrix,
    offset: Vec<f64>,
    head: Matrix,
    bias: Vec<f64>,
}

impl Parts {
    fn of(model: &Sll) -> Self {
        let matrix = |tensor: burn::tensor::Tensor<2>| {
            let [rows, columns] = tensor.dims();
            Matrix::of(rows, columns, to_f64(tensor))
        };
        let layers = model.layers.iter().zip(model.sums_and_back()).map(|(layer, [sums, back])| Layer {
            weight: matrix(layer.weight.val()),
            bias: to_f64(layer.bias.val()),
            back: matrix(back),
            sums: to_f64(sums),
        });
        Self {
            inwards: matrix(model.inwards()),
            outwards: matrix(model.outwards()),
            bias: to_f64(model.bias.val()),
            layers: layers.collect(),
        }
    }

    fn hidden(&self) -> usize {
        self.inwards.rows + self.layers.iter().map(|layer| layer.weight.rows).sum::<usize>()
    }

    /// P.
    fn multipliers(&self, gamma: f64) -> Vec<f64> {
        let units = self.layers.iter().flat_map(|layer| layer.sums.iter().map(|sum| 2.0 * gamma / sum));
        std::iter::repeat_n(gamma, self.inwards.rows).chain(units).collect()
    }

    /// s: the most that E x falls below 0, for normalised images x of those in \[0, 1\].
    fn shift(&self, config: &LbenConfig) -> Vec<f64> {
        let pixels = self.inwards.columns;
        let ends: Vec<[f64; 2]> = match &config.normalisation {
            None => vec![[0.0, 1.0]; pixels],
            Some(normalisation) => {
                let each = pixels / normalisation.mean.len();
                let channels = normalisation.mean.iter().zip(&normalisation.std);
                let channels = channels.map(|(&mean, &std)| [-mean / std, (1.0 - mean) / std].map(f64::from));
                channels.flat_map(|ends| std::iter::repeat_n(ends, each)).collect()
            }
        };
        let below = |i: usize| {
            let terms = self.inwards.row(i).iter().zip(&ends);
            -terms.map(|(entry, [low, high])| (entry * low).min(entry * high)).sum::<f64>()
        };
        (0..self.inwards.rows).map(below).collect()
    }

    fn network(&self, shift: &[f64]) -> Network {
        let (hidden, width, pixels) = (self.hidden(), self.inwards.rows, self.inwards.columns);
        let mut weight = Matrix::new(hidden, hidden, |_, _| 0.0);
        let mut offset = shift.to_vec();
        // From z to x_k + s.
        let mut state = Matrix::new(width, hidden, |i, j| f64::from(u8::from(i == j)));
        let mut start = width;
        for Layer { weight: read, bias, back, .. } in &self.layers {
            let units = read.rows;
            weight.values[start * hidden..(start + units) * hidden]
                .copy_from_slice(&read.product(&state).values);
            offset.extend(bias.iter().zip(read.times(shift)).map(|(bias, shift)| bias - shift));
            for i in 0..width {
                state.values[i * hidden + start..][..units].copy_from_slice(back.row(i));
            }
            start += units;
        }
        Network {
            weight,
            injection: Matrix::new(
                hidden,
                pixels,
                |i, j| if i < width { self.inwards.row(i)[j] } else { 0.0 },
            ),
            offset,
            head: self.outwards.product(&state),
            bias: self
                .bias
                .iter()
                .zip(self.outwards.times(shift))
                .map(|(bias, shift)| bias - shift)
                .collect(),
        }
    }
}
