//! The steps of the input between two segments, forwards and backwards.
//!
//! With q = ∇ₓ H(z, x), H the entropy of the answer at f(z; x), a step is
//!
//! ```text
//! x ← clip₀₁(clip_[x̄−ρ, x̄+ρ](x − β sign q)),
//! ```
//!
//! x̄ the image received. The slope of the sign is 0, so that backwards a cotangent passes where no clip binds, goes to x̄ on
//! a face of the ball, and is dropped on a face of [0, 1]. Where the sign is taken for q/(|q| + τ), τ = c · median |q|, it
//! leaves products with the second derivatives of H besides, which are central differences of ∇H.

use burn::tensor::{DType, Tensor, TensorData, activation};

use super::Defended;
use crate::model::cell::{BoundCell, Counted};
use crate::state::State;
use equipoise_attack::batch::{Images, Logits, Values, to_f64};
use equipoise_attack::loss::Objective;

/// The entropy −Σ p log p of the classes' probabilities.
struct Entropy;

impl Objective for Entropy {
    fn values(&self, logits: Logits) -> Values {
        let log = activation::log_softmax(logits, 1);
        (log.clone().exp() * log).sum_dim(1).squeeze_dim::<1>(1).neg()
    }
}

/// An input on its way, with ∇ₓ H there.
pub(super) struct Update {
    pub(super) images: Images,
    pub(super) slope: Images,
}

/// Cotangents on their way back through the updates of one input.
pub(super) struct Bars {
    /// Of the input.
    pub(super) images: Images,
    /// Of the image received.
    pub(super) received: Images,
    /// Of the state, where the sign has a slope.
    pub(super) state: Option<State>,
}

impl Defended<'_> {
    /// ∇H at a state and an input: with respect to the input, and to the state.
    pub(super) fn entropy_gradient(&self, state: &State, images: &Images) -> (Images, State) {
        let (injection, to_images) = self.model.linearize_stem(images);
        let cell = Counted::new(self.model.bind(&injection), self.counter.clone());
        let linearization = cell.linearize(state);
        let (logits, to_state) = self.model.linearize_head(linearization.value());
        let (_, derivative) = Entropy.values_and_derivative(&logits);
        let (at_state, at_injection) = linearization.vjp(&to_state(derivative));
        (to_images(at_injection), at_state)
    }

    /// The input after a step.
    pub(super) fn updated(&self, update: &Update, received: &Images) -> Images {
        let (low, high) = self.ball(received);
        self.moved(update).max_pair(low).min_pair(high).clamp(0.0, 1.0)
    }

    fn moved(&self, Update { images, slope }: &Update) -> Images {
        images.clone() - slope.clone().sign() * self.defence.beta
    }

    fn ball(&self, received: &Images) -> (Images, Images) {
        let rho = self.defence.rho;
        (received.clone() - rho, received.clone() + rho)
    }

    /// Pulls cotangents back through a step that was taken at a state; c is that of τ, where the sign has a slope.
    pub(super) fn update_back(
        &self,
        update: &Update,
        state: &State,
        received: &Images,
        c: Option<f64>,
        bars: &mut Bars,
    ) {
        let (moved, (low, high)) = (self.moved(update), self.ball(received));
        let in_ball = moved.clone().max_pair(low.clone()).min_pair(high.clone());
        let beyond_range = in_ball.clone().lower_elem(0.0).bool_or(in_ball.greater_elem(1.0));
        let beyond_ball = moved.clone().lower(low).bool_or(moved.greater(high));
        let bar = bars.images.clone().mask_fill(beyond_range, 0.0);
        let inside = bar.clone().mask_fill(beyond_ball, 0.0);
        bars.received = bars.received.clone() + (bar - inside.clone());
        bars.images = inside.clone();
        let Some(c) = c else { return };
        let Some(weight) = self.through_smooth_sign(&update.slope, inside, c) else { return };
        let (at_images, at_state) = self.entropy_curvature(state, &update.images, &weight);
        bars.images = bars.images.clone() + at_images;
        crate::solve::add(&mut bars.state, at_state);
    }

    /// −β τ/(|q| + τ)² ∘ a: the cotangent of q that a cotangent a of the step leaves; `None` if it is 0 everywhere.
    fn through_smooth_sign(&self, slope: &Images, a: Images, c: f64) -> Option<Images> {
        let [n, ..] = slope.dims();
        let numbers = to_f64(slope.clone());
        let sizes = numbers.chunks(numbers.len() / n).map(|q| c * median_size(q)).collect();
        let tau = column(sizes, slope);
        let spread = slope.clone().abs() + tau.clone();
        // Where q and τ are both 0 the sign is 0 nearby.
        let flat = spread.clone().lower_equal_elem(0.0);
        let derivative = (tau / spread.powf_scalar(2.0)).mask_fill(flat, 0.0);
        let weight = a * derivative * -self.defence.beta;
        to_f64(weight.clone()).iter().any(|&entry| entry != 0.0).then_some(weight)
    }

    /// ∂²H/∂x² w and ∂²H/∂z∂x w, by central differences of ∇H along w.
    fn entropy_curvature(&self, state: &State, images: &Images, w: &Images) -> (Images, State) {
        let [n, ..] = images.dims();
        // So short that it crosses few kinks, so long that rounding does not drown the difference.
        let step = if images.dtype() == DType::F64 { 1e-6 } else { 1e-3 };
        let numbers = to_f64(w.clone());
        let largest =
            numbers.chunks(numbers.len() / n).map(|w| w.iter().fold(0.0, |a: f64, b| a.max(b.abs())));
        let largest: Vec<f64> = largest.collect();
        let usable = |size: f64| size > 0.0 && size.is_finite();
        let to_step = largest.iter().map(|&size| if usable(size) { step / size } else { 0.0 }).collect();
        let back: Vec<f64> =
            largest.iter().map(|&size| if usable(size) { size / (2.0 * step) } else { 0.0 }).collect();
        let aside = w.clone() * column(to_step, images);
        let (x_plus, z_plus) = self.entropy_gradient(state, &(images.clone() + aside.clone()));
        let (x_minus, z_minus) = self.entropy_gradient(state, &(images.clone() - aside));
        let at_state = (z_plus - z_minus).times(&state.like(back.clone(), 1));
        ((x_plus - x_minus) * column(back, images), at_state)
    }
}

/// A number for each image, beside images.
fn column(numbers: Vec<f64>, like: &Images) -> Images {
    let n = numbers.len();
    let exact: Tensor<4> =
        Tensor::from_data(TensorData::new(numbers, [n, 1, 1, 1]), (&like.device(), DType::F64));
    exact.cast(like.dtype())
}

/// The median of |q|, of two middle ones their mean.
fn median_size(q: &[f64]) -> f64 {
    let mut sizes: Vec<f64> = q.iter().map(|q| q.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let middle = sizes.len() / 2;
    match sizes.len() % 2 {
        1 => sizes[middle],
        _ => (sizes[middle - 1] + sizes[middle]) / 2.0,
    }
}
