//! A monotone DEQ as numbers in float64: its fixed points with what they may be off by, and the constants of its bounds.
//!
//! The ideal network is that of exact arithmetic on the stored float32 parameters. All bounds of its fixed point
//! z*(c) = relu(W z*(c) + c), c = U x + b, rest on one fact, in the [norm](Metric) in which W has it:
//!
//! > ‖z*(c) − z*(c′)‖ ≤ ‖c − c′‖/m.
//!
//! Where the symmetric part of I − W is at least m I, or that of I − ΛWΛ⁻¹, it holds in L2, or in that of Λz: the ReLU is the
//! projection onto z ≥ 0, so that W z* + c − z* lies in a normal cone. These are monotone, which leaves
//! ⟨(I − W) Δz, Δz⟩ ≤ ⟨Δc, Δz⟩, and the left side is at least m ‖Δz‖² (Pabbaraju, Winston and Kolter 2021). Where the matrix measure of
//! ΛWΛ⁻¹ in ℓ∞ is at most 1−m, it holds in the ℓ∞ norm of Λz: z* is the fixed point of relu((1−α) z + α (W z + c)) too, which
//! contracts by 1 − αm for small α and moves by α ‖Δc‖ (Jafarpour et al. 2021).
//!
//! For any p, with q = relu(W p + c), q is the fixed point for c + W (p − q). So ‖p − z*‖ ≤ ‖p − q‖ + ‖W (p − q)‖/m.

mod coupling;
mod affine;
mod boxes;
mod branching;
mod deployed;
mod large;
mod reflected;
mod zonotopes;

pub(crate) use affine::{Affine, Ball};
pub(crate) use boxes::{Boxes, Interval};
pub(crate) use branching::Branching;
pub(crate) use coupling::{Bounded, Tier};
pub(crate) use deployed::{Deployed, Error};
pub(crate) use large::{Applied, Large, Sparse, Tiers};
pub(crate) use reflected::Reflected;
pub(crate) use zonotopes::Zonotopes;

use super::matrix::Matrix;
use super::metric::{Kind, Metric};
use super::upper::{UNIT, Upper, dot, gamma, length, less};

/// W of a cell, whatever it is made of.
pub(crate) struct Coupling {
    /// W, rounded.
    pub(crate) weight: Matrix,
    /// What rounding is relative to: the same sums, of the sizes of their terms, without (1−m) I; to a part in a million.
    pub(crate) magnitude: Matrix,
    /// How many roundings in a row an entry of `weight` has behind it, in float64.
    pub(crate) entry: usize,
    /// How many a unit's value has that the cell computes in float32, from the parameters on.
    pub(crate) product: usize,
    /// The norm in which W has its property.
    pub(crate) metric: Metric,
}

/// The other parameters, exactly, but for U.
pub(crate) struct Parameters {
    /// m.
    pub(crate) monotonicity: f64,
    /// α.
    pub(crate) step: f64,
    /// b, `[D]`.
    pub(crate) offset: Vec<f64>,
    /// Mean and deviation of each pixel.
    pub(crate) mean: Vec<f64>,
    pub(crate) deviation: Vec<f64>,
    /// γ with ‖y − y′‖ ≤ γ ‖x − x′‖ for logits and normalised images, where W is made so.
    pub(crate) bound: Option<f64>,
    /// `[K, D]` and `[K]`, of the logits times `scale`: with it the entries are exact where the state is averaged first.
    pub(crate) head: Matrix,
    pub(crate) bias: Vec<f64>,
    pub(crate) scale: f64,
    /// How many roundings in a row a logit has behind it, in float32, from the state on.
    pub(crate) reading: usize,
}

/// The ideal network.
pub(crate) struct Network {
    parameters: Parameters,
    form: Form,
    /// The norm of states in which everything that follows is measured.
    metric: Metric,
    /// The norms of U diag(1/σ) and of its entries' sizes: images are measured in pixel intensity, in L2.
    gain: Upper,
    gain_of_sizes: Upper,
    /// ‖w_y − w_j‖ by y, then j, as functions of states.
    gaps: Vec<Upper>,
    /// What logits move by at most, relatively to the image, where W is made for that.
    bound: Option<Upper>,
    /// ‖(1−α) I + α W‖: what a step of forward-backward splitting contracts by.
    forward_backward: Upper,
    /// The norm of what rounding is relative to, of V = W − (1−m) I.
    coupling: Upper,
    /// Roundings of a unit's value in float32, and what V is off by there beside them, where that was looked at.
    product: usize,
    off: Upper,
    /// What is deployed instead of forward-backward splitting, where that is.
    reflected: Option<Reflected>,
}

/// W and U.
enum Form {
    /// For every method.
    Matrices(Matrices),
    /// As they are applied, for bounds by norms.
    Applied(Large),
}

/// W and U as matrices.
pub(crate) struct Matrices {
    /// W, rounded.
    weight: Matrix,
    /// ‖W − weight‖ and ‖W‖.
    error: Upper,
    norm: Upper,
    /// What rounding is relative to.
    magnitude: Matrix,
    /// Roundings of an entry of `weight`.
    entry: usize,
    /// U, exactly, and U diag(1/σ), rounded.
    plain: Matrix,
    injection: Matrix,
    /// The step that fixed points are found with, and what it contracts by.
    solving: f64,
    solves: f64,
}

/// The most iterations of a fixed point. One that is not reached makes its bound larger, not wrong.
const ITERATIONS: usize = 20_000;

/// What the longest step that is known to contract contracts by at most, if a shorter one contracts by more.
const LITTLE: f64 = 0.9;

impl Network {
    /// Of its parameters, U among them, `[D, CHW]`. Takes some matrix products of side D.
    pub(crate) fn new(coupling: Coupling, plain: Matrix, parameters: Parameters) -> Self {
        let Coupling { weight, magnitude, entry, product, metric } = coupling;
        let Parameters { monotonicity, step, deviation, .. } = &parameters;
        let (m, side) = (*monotonicity, weight.rows);
        let identity = |i: usize, j: usize| f64::from(u8::from(i == j));
        let at = |matrix: &Matrix, i: usize, j: usize| matrix.values[i * side + j];
        // Its entries carry rounding too, far below a part in a million.
        let slightly = Upper::exact(1.0 + 1e-6);
        let rounding = gamma(entry, UNIT);
        let terms = Matrix::new(side, side, |i, j| (1.0 + m) * identity(i, j) + at(&magnitude, i, j));
        let weight_error = rounding * slightly * metric.size(&terms);
        let averaged = |step: f64| averaged(&weight, weight_error, &metric, step);
        let contraction = averaged(*step);
        // Fixed points are found with the half, the quarter, .. of the cell's step while that contracts by more.
        let (mut solving, mut best) = (*step, contraction);
        while let Some(norm) = Some(averaged(solving / 2.0)).filter(|norm| *norm < best) {
            (solving, best) = (solving / 2.0, norm);
        }
        let scaled = Matrix::new(side, plain.columns, |i, j| plain.row(i)[j] / deviation[j]);
        let [gain, gain_of_sizes] = metric.of_injection(&scaled);
        let bound = parameters.bound.map(|gamma| {
            let least = deviation.iter().copied().fold(f64::INFINITY, f64::min);
            Upper::exact(gamma).over(least)
        });
        Self {
            gain: gain + gain_of_sizes * gamma(1, UNIT),
            gain_of_sizes: gain_of_sizes * slightly,
            gaps: gaps(&parameters.head, &metric),
            bound,
            forward_backward: contraction,
            coupling: metric.norm(&magnitude) * slightly,
            product,
            off: Upper::exact(0.0),
            reflected: None,
            form: Form::Matrices(Matrices {
                norm: metric.norm(&weight) + weight_error,
                error: weight_error,
                magnitude,
                entry,
                plain,
                injection: scaled,
                solving,
                solves: best.value(),
                weight,
            }),
            metric,
            parameters,
        }
    }

    /// Of a convolutional network whose matrices would be too large.
    pub(crate) fn applied(large: Large, parameters: Parameters) -> Self {
        let metric = Metric::plain(Kind::Euclidean, large.units());
        let [gain, gain_of_sizes] = large.gains(&parameters.deviation);
        Self {
            gain,
            gain_of_sizes,
            gaps: gaps(&parameters.head, &metric),
            bound: None,
            forward_backward: large.tiers().contraction(parameters.monotonicity, parameters.step),
            coupling: large.tiers().coupling(),
            product: large.tiers().product(),
            off: Upper::exact(0.0),
            reflected: None,
            form: Form::Applied(large),
            metric,
            parameters,
        }
    }

    /// The same, deployed with a matrix V, `[D, D]`, as this machine makes it: it is nearer to the exact one than any machine's must be.
    pub(crate) fn with_matrix(self, v: &Matrix) -> Self {
        let (side, m, known) = (self.hidden(), self.monotonicity(), self.needed());
        let exact = |i: usize, j: usize| known.weight.row(i)[j] - if i == j { 1.0 - m } else { 0.0 };
        let apart = Matrix::new(side, side, |i, j| v.row(i)[j] - exact(i, j));
        let terms =
            Matrix::new(side, side, |i, j| v.row(i)[j].abs() + known.weight.row(i)[j].abs() + m + 1.0);
        let off = self.metric.norm(&apart) + known.error + gamma(3, UNIT) * self.metric.size(&terms);
        // 1 − αm and α, products by them, a sum of D products, one by the injection and one by what was.
        Self { off, product: side + 8, coupling: self.metric.norm(&v.map(f64::abs)), ..self }
    }

    /// The same, deployed with Peaceman-Rachford splitting by an inverse of (1+α) I − α W, `[D, D]`. Of one that is none nothing is known.
    pub(crate) fn with_inverse(self, resolvent: &Matrix) -> Self {
        let step = (self.parameters.step, self.forward_backward);
        let reflected = Reflected::full(resolvent, self.needed(), &self.metric, step);
        self.with(reflected)
    }

    /// The same, deployed with Peaceman-Rachford splitting of which this is known.
    pub(crate) fn with(self, reflected: Option<Reflected>) -> Self {
        Self { reflected, ..self }
    }

    /// As if what was looked at were exact.
    #[cfg(test)]
    pub(crate) fn careless(self) -> Self {
        let reflected = self.reflected.map(|known| known.careless());
        Self { off: Upper::exact(0.0), reflected, ..self }
    }

    /// Whether it is deployed with Peaceman-Rachford splitting of which something is known.
    pub(crate) fn is_reflected(&self) -> bool {
        self.reflected.is_some()
    }

    /// W and U as matrices, if there are any.
    pub(crate) fn matrices(&self) -> Option<&Matrices> {
        match &self.form {
            Form::Matrices(matrices) => Some(matrices),
            Form::Applied(_) => None,
        }
    }

    /// For methods that work on matrices.
    fn needed(&self) -> &Matrices {
        self.matrices().expect("methods that need matrices are not offered where there are none")
    }

    /// Number of pixels CHW.
    pub(crate) fn pixels(&self) -> usize {
        self.parameters.mean.len()
    }

    /// The classifier of states, of logits times their scale.
    #[cfg(test)]
    pub(crate) fn head(&self) -> (&Matrix, &[f64]) {
        (&self.parameters.head, &self.parameters.bias)
    }

    /// relu((1−α) z + α (W z + U x + b)) at a state near the fixed point of an image, and that state.
    #[cfg(test)]
    pub(crate) fn stepped(&self, centre: &Centre) -> Vec<f64> {
        let (z, x, step) = (&centre.state, &centre.injected, self.parameters.step);
        match &self.form {
            Form::Applied(large) => large.stepped(z, x),
            Form::Matrices(Matrices { weight, .. }) => {
                let product = weight.times(z);
                let next = |i: usize| ((1.0 - step) * z[i] + step * (product[i] + x[i])).max(0.0);
                (0..z.len()).map(next).collect()
            }
        }
    }

    pub(crate) fn hidden(&self) -> usize {
        self.parameters.offset.len()
    }

    pub(crate) fn classes(&self) -> usize {
        self.parameters.bias.len()
    }

    /// m, from below as from above: it is exact.
    fn monotonicity(&self) -> f64 {
        self.parameters.monotonicity
    }

    /// ‖w_y − w_j‖.
    pub(crate) fn gap(&self, y: usize, j: usize) -> Upper {
        self.gaps[y * self.classes() + j]
    }

    /// ‖W_out‖ ‖U diag(1/σ)‖/m: what logits move by at most, relatively to the image, both in L2; or γ, if that is less.
    pub(crate) fn lipschitz(&self) -> Upper {
        let head = self.metric.to_logits(&self.parameters.head);
        let product = (head * self.gain).over(self.monotonicity()).over(self.parameters.scale);
        self.bound.map_or(product, |bound| bound.min(product))
    }

    /// What a step of the cell contracts by: ‖(1−α) I + α W‖, or ‖2R − I‖ of Peaceman-Rachford splitting.
    pub(crate) fn contraction(&self) -> Upper {
        self.reflected.as_ref().map_or(self.forward_backward, |known| known.contraction)
    }

    /// A step that is known to contract, the longest that is, by a little at least, and what it contracts by.
    fn contracting(&self) -> Option<(f64, f64)> {
        let known = self.matrices().filter(|known| known.solves < 1.0)?;
        let (mut step, mut contraction) = (known.solving, known.solves);
        loop {
            let longer = 1.1 * step;
            let norm = averaged(&known.weight, known.error, &self.metric, longer).value();
            if norm > contraction.max(LITTLE) {
                return Some((step, contraction));
            }
            (step, contraction) = (longer, norm);
        }
    }

    /// The norm of states.
    pub(crate) fn metric(&self) -> &Metric {
        &self.metric
    }

    /// How far a ball's images are from its middle.
    pub(crate) fn spread(&self, ball: &Ball<'_>) -> Spread {
        let distance = match ball {
            Ball::Distance(distance) => Upper::exact(*distance),
            Ball::Pixels { half, .. } => length(half),
        };
        let (injection, sizes) = match (ball, self.metric.kind()) {
            (Ball::Pixels { half, .. }, Kind::Maximum) => {
                let moved = self.needed().injection.map(f64::abs).times(half);
                // Two roundings of each entry, and those of a sum.
                let moved =
                    self.metric.length(&moved) * Upper::exact(1.0 + (half.len() + 8) as f64 * f64::EPSILON);
                (moved, moved)
            }
            _ => (self.gain * distance, self.gain_of_sizes * distance),
        };
        Spread { distance, injection, sizes }
    }

    /// ‖z* − z*′‖ for images that are so far apart.
    pub(crate) fn reach(&self, spread: &Spread) -> Upper {
        let by_injection = spread.injection.over(self.monotonicity());
        // Of a network with a Lipschitz bound m ‖Δζ‖² ≤ ‖Δx‖ t − t²/2γ ≤ γ ‖Δx‖²/2, t = ‖(ΛU)ᵀ Δζ‖, for the normalised image and ζ = Λz.
        let share = 2.0 * self.monotonicity();
        let by_bound = self.parameters.bound.zip(self.bound).map(|(gamma, bound)| {
            Upper::exact(gamma).over(share).sqrt() * bound.over(gamma) * spread.distance
        });
        by_bound.map_or(by_injection, |bound| bound.min(by_injection))
    }

    /// How much a class's lead over another one changes at most.
    pub(crate) fn change(&self, class: usize, other: usize, spread: &Spread) -> Upper {
        let by_states = self.gap(class, other) * self.reach(spread);
        // |Δy_a − Δy_b| ≤ √2 ‖Δy‖.
        let by_bound = self.bound.map(|bound| Upper::exact(2.0).sqrt() * bound * spread.distance);
        by_bound.map_or(by_states, |bound| bound.min(by_states))
    }

    /// The fixed point of an image, whatever its pixels are.
    pub(crate) fn centre(&self, image: &[f64]) -> Centre {
        let Parameters { offset, mean, deviation, head, bias, monotonicity, step, .. } = &self.parameters;
        let hidden = self.hidden();
        let normal = |(j, pixel): (usize, &f64)| (pixel - mean[j]) / deviation[j];
        let normalised: Vec<f64> = image.iter().enumerate().map(normal).collect();
        let sizes: Vec<f64> = normalised.iter().map(|pixel| pixel.abs()).collect();
        let (injected, magnitudes) = match &self.form {
            Form::Matrices(Matrices { plain, .. }) => {
                (plain.times(&normalised), plain.map(f64::abs).times(&sizes))
            }
            Form::Applied(large) => large.injected(&normalised, &sizes),
        };
        let injected: Vec<f64> = injected.iter().zip(offset).map(|(u, b)| u + b).collect();
        let magnitudes: Vec<f64> = magnitudes.iter().zip(offset).map(|(u, b)| u + b.abs()).collect();
        // Its sums of positive numbers are good to a part in a million, to say the least.
        let magnitude = self.metric.length(&magnitudes) * Upper::exact(1.0 + 1e-6);
        let injection_error = gamma(image.len() + 8, UNIT) * magnitude;

        let injection = self.metric.length(&injected);
        let apart = |state: &[f64], next: &[f64]| {
            self.metric.length(&state.iter().zip(next).map(|(p, q)| p - q).collect::<Vec<_>>())
        };
        let one = Upper::exact(1.0);
        let (state, distance) = match &self.form {
            Form::Matrices(matrices) => {
                let Matrices { weight, error, norm, .. } = matrices;
                let state = matrices.solved(&injected);
                let relu = |(w, x): (f64, &f64)| (w + x).max(0.0);
                let next: Vec<f64> = weight.times(&state).into_iter().zip(&injected).map(relu).collect();
                let size = self.metric.length(&state);
                let rounding = gamma(hidden + 4, UNIT) * (self.metric.size(weight) * size + injection);
                let off = apart(&state, &next) + rounding + *error * size + injection_error;
                (state, off * (one + norm.over(*monotonicity)))
            }
            Form::Applied(large) => {
                let [state, next] = large.solved(&injected);
                // A step of the cell, whose matrix is (1−α) I + α W with the monotonicity αm, and whose injection is αc.
                let size = self.metric.length(&state);
                let off = apart(&state, &next)
                    + self.evaluation(UNIT, size, injection + injection_error)
                    + injection_error * *step;
                // αm, from below.
                let m = (step * monotonicity).next_down();
                (state, off * (one + self.forward_backward.over(m)))
            }
        };
        let size = self.metric.length(&state);
        let [to_euclidean, _] = self.metric.euclidean();
        let euclidean = length(&state);

        let logit = |row: usize| dot(head.row(row), &state) + bias[row];
        let logits: Vec<f64> = (0..self.classes()).map(logit).collect();
        let best = |best: usize, class: usize| if logits[class] > logits[best] { class } else { best };
        let class = (0..self.classes()).fold(0, best);
        let margin = |j: usize| {
            let sizes = length(head.row(class)) + length(head.row(j));
            let offsets = Upper::exact(bias[class].abs()) + Upper::exact(bias[j].abs());
            let rounding = gamma(hidden + 8, UNIT) * (sizes * euclidean + offsets);
            less(logits[class] - logits[j], rounding + self.gap(class, j) * distance)
        };
        Centre {
            class,
            margins: (0..self.classes()).map(margin).collect(),
            norm: size + distance,
            least: less(size.value() * (1.0 - 1e-9), distance),
            longest: euclidean + to_euclidean * distance,
            shortest: less(euclidean.value() * (1.0 - 1e-9), to_euclidean * distance),
            injection: injection + injection_error,
            injected,
            magnitude,
            magnitudes,
            distance,
            state,
        }
    }

    /// U x + b for all images within so much of one, pixel by pixel.
    pub(crate) fn injections(&self, image: &[f64], half: &[f64]) -> Interval {
        let Parameters { offset, mean, deviation, .. } = &self.parameters;
        let injection = &self.needed().plain;
        let slightly = Upper::exact(1.0 + 1e-6);
        let pixels = image.len();
        let normal = |j: usize| (image[j] - mean[j]) / deviation[j];
        let normalised: Vec<f64> = (0..pixels).map(normal).collect();
        let sizes: Vec<f64> = normalised.iter().map(|pixel| pixel.abs()).collect();
        let reach: Vec<f64> = half.iter().zip(deviation).map(|(half, deviation)| half / deviation).collect();
        let ends = (0..self.hidden()).map(|i| {
            let row = injection.row(i);
            let size: Vec<f64> = row.iter().map(|entry| entry.abs()).collect();
            let middle = dot(row, &normalised) + offset[i];
            let terms = Upper::exact(dot(&size, &sizes) + offset[i].abs()) * slightly;
            let away = Upper::computed(dot(&size, &reach), 3 * pixels) + gamma(pixels + 8, UNIT) * terms;
            (less(middle, away), (middle + away.value()).next_up())
        });
        let (low, high) = ends.unzip();
        Interval { low, high }
    }

    /// The least lead of a class over another, of all states in a box.
    pub(crate) fn margin(&self, class: usize, other: usize, states: &Interval) -> f64 {
        let (own, rival) = (self.parameters.head.row(class), self.parameters.head.row(other));
        let bias = &self.parameters.bias;
        let (mut margin, mut terms) = (bias[class] - bias[other], bias[class].abs() + bias[other].abs());
        for ((own, rival), (low, high)) in own.iter().zip(rival).zip(states.low.iter().zip(&states.high)) {
            let slope = own - rival;
            margin += slope * if slope > 0.0 { low } else { high };
            terms += (own.abs() + rival.abs()) * high;
        }
        let rounding = gamma(own.len() + 8, UNIT) * Upper::computed(terms, 3 * own.len());
        less(margin, rounding)
    }

    /// What rounding does to a step of the cell at a state of this length, with an injection of this length, in arithmetic of this unit roundoff.
    fn evaluation(&self, unit: f64, state: Upper, injection: Upper) -> Upper {
        let (alpha, m) = (self.parameters.step, self.monotonicity());
        // |1 − αm|, and what float64 leaves of it.
        let kept = Upper::exact((1.0 - alpha * m).abs()) + Upper::exact(1e-15 * (1.0 + alpha * m));
        let relative = gamma(self.product, unit) * (kept + self.coupling * alpha)
            + self.off * alpha
            + Upper::exact(2e-15 * (1.0 + alpha * m));
        relative * state + gamma(8, unit) * injection * alpha
    }
}

/// ‖(1−α) I + α W‖ for a W that a matrix is off from by so much.
fn averaged(weight: &Matrix, error: Upper, metric: &Metric, step: f64) -> Upper {
    let side = weight.rows;
    let identity = |i: usize, j: usize| f64::from(u8::from(i == j));
    let matrix = Matrix::new(side, side, |i, j| (1.0 - step) * identity(i, j) + step * weight.row(i)[j]);
    let entries = Matrix::new(side, side, |i, j| identity(i, j) + weight.row(i)[j].abs());
    metric.norm(&matrix) + error * step + gamma(5, UNIT) * metric.size(&entries)
}

/// ‖w_y − w_j‖ by y, then j.
fn gaps(head: &Matrix, metric: &Metric) -> Vec<Upper> {
    let difference = |y: usize, j: usize| -> Vec<f64> {
        head.row(y).iter().zip(head.row(j)).map(|(own, other)| own - other).collect()
    };
    let pairs = (0..head.rows).flat_map(|y| (0..head.rows).map(move |j| (y, j)));
    pairs.map(|(y, j)| metric.dual(&difference(y, j))).collect()
}

impl Matrices {
    /// A state near the fixed point: as near as float64 leads.
    fn solved(&self, injected: &[f64]) -> Vec<f64> {
        let step = self.solving;
        let mut state = vec![0.0; injected.len()];
        for _ in 0..ITERATIONS {
            let product = self.weight.times(&state);
            let (mut moved, mut size) = (0.0, 0.0);
            for ((z, w), x) in state.iter_mut().zip(product).zip(injected) {
                let next = ((1.0 - step) * *z + step * (w + x)).max(0.0);
                moved += (next - *z) * (next - *z);
                size += next * next;
                *z = next;
            }
            // Squares: a relative change of 1e-15.
            if moved <= 1e-30 * size {
                break;
            }
        }
        state
    }
}

/// How far images are from another one: ‖Δx‖₂, ‖U Δx‖ and ‖|U| |Δx|‖, at most.
pub(crate) struct Spread {
    distance: Upper,
    injection: Upper,
    sizes: Upper,
}

/// The fixed point z* of an image.
pub(crate) struct Centre {
    /// The class with the largest logit there.
    pub(crate) class: usize,
    /// Its logit's lead over each class's, from below; that over itself means nothing.
    pub(crate) margins: Vec<f64>,
    /// ‖z*‖ from above and from below, and ‖z*‖₂.
    norm: Upper,
    least: f64,
    longest: Upper,
    shortest: f64,
    /// ‖U x + b‖, and ‖|U| |x| + |b|‖, of the normalised x, and both, computed.
    injection: Upper,
    injected: Vec<f64>,
    magnitude: Upper,
    magnitudes: Vec<f64>,
    /// A state, and how far it may be from z*.
    pub(crate) state: Vec<f64>,
    pub(crate) distance: Upper,
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Numbers in ± `scale`, as float32 has them.
    pub(super) fn numbers(seed: u64, count: usize, scale: f64) -> Vec<f64> {
        let mut state = seed;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from((((state >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 2.0 * scale) as f32)
        };
        (0..count).map(|_| draw()).collect()
    }

    /// 16 pixels, 10 units, 3 classes.
    pub(super) fn network(monotonicity: f64, skew: f64) -> Network {
        let (a, b) = (Matrix::of(10, 10, numbers(1, 100, 0.3)), Matrix::of(10, 10, numbers(2, 100, skew)));
        let parameters = Parameters {
            monotonicity,
            step: 0.1,
            offset: numbers(4, 10, 0.5),
            mean: vec![0.4; 16],
            deviation: vec![0.25; 16],
            head: Matrix::of(3, 10, numbers(5, 30, 1.0)),
            bias: numbers(6, 3, 0.1),
            bound: None,
            scale: 1.0,
            reading: 14,
        };
        Network::new(
            Coupling::full(&a, &b, monotonicity),
            Matrix::of(10, 16, numbers(3, 160, 1.0)),
            parameters,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::testing::numbers;
    use super::*;

    /// Units in pairs that are the same to the bit, and two classes that weigh the halves of each pair the other way round: their
    /// logits are equal in exact arithmetic, and float64 gives either of them a lead. No method may take it for one.
    #[test]
    fn a_tie_is_not_taken_for_a_lead() {
        let mut seeming = 0;
        for seed in 0..40 {
            let (side, pixels) = (18, 12);
            let twice = |seed: u64, columns: usize, scale: f64| {
                let half = numbers(seed, side / 2 * columns, scale);
                [half.clone(), half].concat()
            };
            let halves = [numbers(7 + 10 * seed, side / 2, 1.0), numbers(8 + 10 * seed, side / 2, 1.0)];
            let rows = [[&halves[0][..], &halves[1]].concat(), [&halves[1][..], &halves[0]].concat()];
            let zeros = Matrix::of(side, side, vec![0.0; side * side]);
            let parameters = Parameters {
                monotonicity: 3.0,
                step: 0.3,
                offset: twice(4 + 10 * seed, 1, 2.0),
                mean: vec![0.4; pixels],
                deviation: vec![0.3; pixels],
                head: Matrix::of(2, side, rows.concat()),
                bias: vec![0.1; 2],
                bound: None,
                scale: 1.0,
                reading: side + 4,
            };
            let injection = Matrix::of(side, pixels, twice(3 + 10 * seed, pixels, 1.0));
            let network = Network::new(Coupling::full(&zeros, &zeros, 3.0), injection, parameters);
            let image: Vec<f64> = numbers(9 + 10 * seed, pixels, 0.5).into_iter().map(|x| x + 0.5).collect();
            let centre = network.centre(&image);
            let other = 1 - centre.class;
            let lead = dot(&rows[centre.class], &centre.state) - dot(&rows[other], &centre.state);
            seeming += usize::from(lead > 0.0);
            assert!(centre.margins[other] <= 0.0);
            let ball = Ball::Distance(0.0);
            let reach = network.reach(&network.spread(&ball)) + centre.distance;
            let (affine, _) = Affine::new(&network).margins(&network, &centre, &ball, reach);
            assert!(affine[other] <= 0.0 && affine[other] > -1e-9, "{}", affine[other]);
            let leads = |lost: f64| {
                let branching = Branching::new(&network);
                let zonotopes = Zonotopes::new(&network).unwrap();
                [
                    branching.leads(
                        &network,
                        &centre,
                        &ball,
                        reach,
                        (&[f64::NEG_INFINITY; 2], &|_| Some(vec![lost; 2])),
                    ),
                    zonotopes.leads(&network, &centre, &ball, &|_| lost),
                ]
            };
            assert_eq!((leads(0.0), leads(-1e-9)), ([false; 2], [true; 2]));
            let boxes = Boxes::new(&network).unwrap();
            let states =
                boxes.around(&network.injections(&image, &vec![0.0; pixels]), &centre.state).unwrap();
            let margin = network.margin(centre.class, other, &states);
            assert!(margin <= 0.0 && margin > -1e-9, "{margin}");
        }
        assert!(seeming > 5, "{seeming} of 40 seem to lead");
    }
}
