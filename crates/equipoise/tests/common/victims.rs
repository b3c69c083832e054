//! Victims whose robustness is known, shared by the tests of attacks and of the evaluation.
#![allow(dead_code, reason = "each test binary uses some of it")]

use burn::tensor::{Device, Tensor};
use equipoise::attack::{
    Attack, Attempt, Budget, Classifier, Examples, Noise, Norm, Question, ValueAndGradient, WhiteBox,
};
use equipoise::batch::{Images, Logits, from_vec, predictions, to_vec};
use equipoise::loss::Objective;
use equipoise::random::ExampleRng;
use equipoise::work::{Work, WorkCounter};

/// `[C, H, W]` of the test images.
pub const SHAPE: [usize; 3] = [3, 4, 4];
/// Pixels of a test image.
pub const SIZE: usize = SHAPE[0] * SHAPE[1] * SHAPE[2];

/// Logits W x + b. One evaluation counts as a cell evaluation, one gradient as an evaluation and a VJP.
#[derive(Debug, Clone)]
pub struct Linear {
    pub classes: usize,
    /// `[K, D]`, row-major.
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
    pub counter: WorkCounter,
}

impl Linear {
    /// Standard normal weights, and biases that make the classes about equally likely on images around 0.5.
    pub fn random(classes: usize, seed: u64) -> Self {
        let mut rng = ExampleRng::new(seed, "weights", 0, 0);
        let weights: Vec<f32> = (0..classes * SIZE).map(|_| rng.normal() as f32).collect();
        let bias = weights.chunks(SIZE).map(|row| -0.5 * row.iter().sum::<f32>()).collect();
        Self { classes, weights, bias, counter: WorkCounter::default() }
    }

    /// w_j − w_y in float64, and the margin z_j − z_y at `x`.
    fn margin(&self, x: &[f32], y: usize, j: usize) -> (Vec<f64>, f64) {
        let row = |class: usize| &self.weights[class * SIZE..][..SIZE];
        let slope: Vec<f64> = row(j).iter().zip(row(y)).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect();
        let offset = f64::from(self.bias[j]) - f64::from(self.bias[y]);
        let value = slope.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>() + offset;
        (slope, value)
    }

    /// The largest margin max_{j≠y} z_j − z_y that can be reached within the budget. Exact for L∞ (each pixel
    /// goes to its own end) and L1 (the steepest pixels first, each to its end); for L2 exact where no pixel reaches
    /// 0 or 1, else an upper bound.
    pub fn worst_margin(&self, x: &[f32], y: usize, budget: &Budget) -> f64 {
        let eps = budget.eps();
        (0..self.classes)
            .filter(|&j| j != y)
            .map(|j| {
                let (slope, value) = self.margin(x, y, j);
                let gain = match budget.norm() {
                    Norm::L2 => eps * slope.iter().map(|w| w * w).sum::<f64>().sqrt(),
                    Norm::L1 => {
                        let mut pixels: Vec<(f64, f64)> = slope
                            .iter()
                            .zip(x)
                            .map(|(w, &x)| {
                                (w.abs(), if *w > 0.0 { 1.0 - f64::from(x) } else { f64::from(x) })
                            })
                            .collect();
                        pixels.sort_by(|a, b| b.0.total_cmp(&a.0));
                        let mut left = eps;
                        let mut gain = 0.0;
                        for (w, room) in pixels {
                            gain += w * room.min(left);
                            left -= room.min(left);
                        }
                        gain
                    }
                    Norm::Linf => slope
                        .iter()
                        .zip(x)
                        .map(|(w, &x)| {
                            let x = f64::from(x);
                            w * if *w > 0.0 { eps.min(1.0 - x) } else { -eps.min(x) }
                        })
                        .sum(),
                };
                value + gain
            })
            .fold(f64::NEG_INFINITY, f64::max)
    }

    /// Whether each image can be broken within the budget.
    pub fn breakable(&self, images: &Images, labels: &[usize], budget: &Budget) -> Vec<bool> {
        to_vec(images.clone())
            .chunks(SIZE)
            .zip(labels)
            .map(|(x, &y)| {
                let margin = self.worst_margin(x, y, budget);
                assert!(margin.abs() > 1e-4, "a point on the edge tests nothing but rounding: {margin}");
                margin > 0.0
            })
            .collect()
    }

    fn matrix(&self, device: &Device) -> Tensor<3> {
        from_vec(self.weights.clone(), [1, self.classes, SIZE], device)
    }
}

impl Classifier for Linear {
    fn classes(&self) -> usize {
        self.classes
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        let images = question.images;
        // Not `matmul`: its kernel for a single row differs from that for several.
        let n = images.dims()[0];
        self.counter.evaluated(n);
        let device = images.device();
        let products = images.clone().reshape([n, 1, SIZE]) * self.matrix(&device);
        let bias = from_vec(self.bias.clone(), [1, self.classes], &device);
        products.sum_dim(2).reshape([n, self.classes]) + bias
    }

    fn work(&self) -> Work {
        self.counter.total()
    }
}

impl WhiteBox for Linear {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        let images = question.images;
        let n = images.dims()[0];
        let logits = self.answer(question);
        let (values, derivative) = objective.values_and_derivative(&logits);
        self.counter.pulled_back(n);
        let gradient = (derivative.reshape([n, self.classes, 1]) * self.matrix(&images.device())).sum_dim(1);
        ValueAndGradient { logits, values, gradient: gradient.reshape(images.dims()) }
    }
}

/// Logits W₂ tanh(W₁ (x − ½)) with weights from a seed: a small victim that is not linear, its gradient written out.
#[derive(Debug, Clone)]
pub struct TwoLayer {
    classes: usize,
    size: usize,
    first: Vec<f32>,
    second: Vec<f32>,
    pub counter: WorkCounter,
}

/// Hidden units of [`TwoLayer`].
const HIDDEN: usize = 16;

impl TwoLayer {
    /// On the test images.
    pub fn random(classes: usize, seed: u64) -> Self {
        Self::shaped(classes, SHAPE, seed)
    }

    /// On images of this shape.
    pub fn shaped(classes: usize, shape: [usize; 3], seed: u64) -> Self {
        let size = shape.iter().product();
        let mut rng = ExampleRng::new(seed, "two layers", 0, 0);
        let mut draw = |count, scale: f64| (0..count).map(|_| (rng.normal() * scale) as f32).collect();
        let first = draw(HIDDEN * size, 1.5 / (size as f64 / 12.0).sqrt());
        Self { classes, size, first, second: draw(classes * HIDDEN, 1.0), counter: WorkCounter::default() }
    }

    /// Hidden values `[N, H, 1]`.
    fn hidden(&self, images: &Images) -> Tensor<3> {
        let n = images.dims()[0];
        let weights = from_vec(self.first.clone(), [1, HIDDEN, self.size], &images.device());
        ((images.clone() - 0.5).reshape([n, 1, self.size]) * weights).sum_dim(2).tanh()
    }

    fn head(&self, hidden: Tensor<3>) -> Logits {
        let n = hidden.dims()[0];
        let weights = from_vec(self.second.clone(), [1, self.classes, HIDDEN], &hidden.device());
        (hidden.reshape([n, 1, HIDDEN]) * weights).sum_dim(2).reshape([n, self.classes])
    }
}

impl Classifier for TwoLayer {
    fn classes(&self) -> usize {
        self.classes
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        self.counter.evaluated(question.images.dims()[0]);
        self.head(self.hidden(question.images))
    }

    fn work(&self) -> Work {
        self.counter.total()
    }
}

impl WhiteBox for TwoLayer {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        let images = question.images;
        let n = images.dims()[0];
        self.counter.evaluated(n);
        self.counter.pulled_back(n);
        let (device, hidden) = (images.device(), self.hidden(images));
        let logits = self.head(hidden.clone());
        let (values, derivative) = objective.values_and_derivative(&logits);
        let second = from_vec(self.second.clone(), [1, self.classes, HIDDEN], &device);
        let first = from_vec(self.first.clone(), [1, HIDDEN, self.size], &device);
        let back = (derivative.reshape([n, self.classes, 1]) * second).sum_dim(1).reshape([n, HIDDEN, 1]);
        let back = back * (hidden.clone() * hidden).neg().add_scalar(1.0);
        let gradient = (back * first).sum_dim(1).reshape(images.dims());
        ValueAndGradient { logits, values, gradient }
    }
}

/// A victim whose answers are changed on the way.
pub struct Altered<'a, L, G> {
    pub inner: &'a Linear,
    pub logits: L,
    pub gradient: G,
}

impl<L: Fn(&Images, Logits) -> Logits, G> Classifier for Altered<'_, L, G> {
    fn classes(&self) -> usize {
        self.inner.classes
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        (self.logits)(question.images, self.inner.answer(question))
    }

    fn work(&self) -> Work {
        self.inner.work()
    }
}

impl<L: Fn(&Images, Logits) -> Logits, G: Fn(Images) -> Images> WhiteBox for Altered<'_, L, G> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        let answer = self.inner.differentiate(question, objective);
        let logits = (self.logits)(question.images, answer.logits);
        ValueAndGradient { logits, gradient: (self.gradient)(answer.gradient), ..answer }
    }
}

/// Honest logits.
pub fn honest(_images: &Images, logits: Logits) -> Logits {
    logits
}

/// An estimator that sees nothing.
pub fn zero(gradient: Images) -> Images {
    gradient.zeros_like()
}

/// N images uniform between `low` and `high`.
pub fn images(n: usize, seed: u64, low: f64, high: f64) -> Images {
    images_of(n, SHAPE, seed, low, high)
}

/// The same in another shape.
pub fn images_of(n: usize, shape: [usize; 3], seed: u64, low: f64, high: f64) -> Images {
    let indices: Vec<usize> = (0..n).collect();
    Noise::new(seed, "images", 0).uniform(&indices, shape, low, high, &Device::default())
}

/// What the victim says of the images: labels that are all correct.
pub fn labels(victim: &Linear, images: &Images) -> Vec<usize> {
    predictions(&victim.logits(images)).into_iter().map(|class| class.expect("finite")).collect()
}

/// Seed of the attacks.
pub const SEED: u64 = 11;

/// An attack on all of these images, whose indices are their rows.
pub fn attempt(
    attack: &dyn Attack,
    victim: &dyn WhiteBox,
    x: &Images,
    y: &[usize],
    budget: &Budget,
) -> Attempt {
    let indices: Vec<usize> = (0..y.len()).collect();
    attack.run(victim, &Examples { images: x, labels: y, indices: &indices, seed: SEED, start: 0 }, budget)
}

/// Which images are misclassified.
pub fn wrong(victim: &dyn Classifier, images: &Images, labels: &[usize]) -> Vec<bool> {
    predictions(&victim.logits(images)).into_iter().zip(labels).map(|(class, &y)| class != Some(y)).collect()
}
