//! Planted gradients: white boxes whose gradient is wrong by a known amount.

use burn::tensor::Tensor;
use equipoise::attack::{Classifier, Question, ValueAndGradient, WhiteBox};
use equipoise::batch::{Images, Logits, from_vec, to_vec};
use equipoise::evaluate::Points;
use equipoise::loss::Objective;
use equipoise::random::ExampleRng;
use equipoise::work::Work;

/// Finds out which clean image a perturbed one belongs to: attacks do not say.
pub struct Origins {
    pixels: Vec<f32>,
    size: usize,
    eps: f32,
    /// Pixels in the order in which they tell images apart.
    order: Vec<usize>,
}

impl Origins {
    /// Of images that are perturbed by at most `eps` in each pixel.
    pub fn new(points: &Points, eps: f64) -> Self {
        let size = points.images().dims()[1..].iter().product();
        let pixels = to_vec(points.images().clone());
        let spread = |pixel: usize| {
            let values = pixels.iter().skip(pixel).step_by(size).map(|&x| f64::from(x));
            let (sum, squares, n) =
                values.fold((0.0, 0.0, 0.0), |(sum, squares, n), x| (sum + x, squares + x * x, n + 1.0));
            squares / n - (sum / n) * (sum / n)
        };
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&a, &b| spread(b).total_cmp(&spread(a)));
        Self { pixels, size, eps: eps as f32 + 1e-5, order }
    }

    /// The row of each image.
    pub fn rows(&self, images: &Images) -> Vec<usize> {
        to_vec(images.clone()).chunks_exact(self.size).map(|image| self.row(image)).collect()
    }

    /// The row of the clean image within `eps` of this one; of several the nearest.
    fn row(&self, image: &[f32]) -> usize {
        let distance = |clean: &[f32]| clean.iter().zip(image).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let all = || self.pixels.chunks_exact(self.size).enumerate();
        let near = |clean: &[f32]| self.order.iter().all(|&k| (clean[k] - image[k]).abs() <= self.eps);
        let nearest = |a: &(usize, &[f32]), b: &(usize, &[f32])| distance(a.1).total_cmp(&distance(b.1));
        let within = all().filter(|(_, clean)| near(clean)).min_by(nearest);
        within.or_else(|| all().min_by(nearest)).map_or(0, |(row, _)| row)
    }
}

/// A gradient at a fixed angle to another: cosine times its direction plus noise across it that belongs to the image
/// and to the draw, so that it stays the same from step to step and from start to start.
pub struct Turned<'a> {
    inner: &'a dyn WhiteBox,
    origins: &'a Origins,
    cosine: f64,
    noise: Vec<f32>,
}

impl<'a> Turned<'a> {
    /// The draw of this number.
    pub fn new(
        inner: &'a dyn WhiteBox,
        origins: &'a Origins,
        points: &Points,
        cosine: f64,
        (seed, draw): (u64, usize),
    ) -> Self {
        let mut noise = Vec::with_capacity(points.len() * origins.size);
        for &index in points.indices() {
            let mut rng = ExampleRng::new(seed, "planted gradient", index, draw);
            noise.extend((0..origins.size).map(|_| rng.normal() as f32));
        }
        Self { inner, origins, cosine, noise }
    }

    fn turn(&self, image: &[f32], gradient: &mut [f32]) {
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let length = dot(gradient, gradient).sqrt();
        if length == 0.0 || !length.is_finite() {
            return;
        }
        let size = self.origins.size;
        let noise = &self.noise[self.origins.row(image) * size..][..size];
        let along = dot(noise, gradient) / length;
        let across = (dot(noise, noise) - along * along).max(f64::MIN_POSITIVE).sqrt();
        let sine = (1.0 - self.cosine * self.cosine).sqrt();
        // cos g + sin |g| n / |n|, n the noise less its part along g.
        let of_noise = sine * length / across;
        let of_gradient = self.cosine - of_noise * along / length;
        for (g, n) in gradient.iter_mut().zip(noise) {
            *g = (of_gradient * f64::from(*g) + of_noise * f64::from(*n)) as f32;
        }
    }
}

impl Classifier for Turned<'_> {
    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        self.inner.answer(question)
    }

    fn work(&self) -> Work {
        self.inner.work()
    }
}

impl WhiteBox for Turned<'_> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        let images = question.images;
        let answer = self.inner.differentiate(question, objective);
        let (pixels, size) = (to_vec(images.clone()), self.origins.size);
        let mut gradient = to_vec(answer.gradient);
        for (image, gradient) in pixels.chunks_exact(size).zip(gradient.chunks_exact_mut(size)) {
            self.turn(image, gradient);
        }
        ValueAndGradient { gradient: from_vec(gradient, images.dims(), &images.device()), ..answer }
    }
}

/// A model whose inputs are rounded to a few levels on the way in: its true gradient is zero almost everywhere.
pub struct Rounded<'a> {
    /// The model behind the rounding.
    pub inner: &'a dyn WhiteBox,
    /// Steps between 0 and 1.
    pub steps: f64,
}

impl Rounded<'_> {
    fn rounded(&self, images: &Images) -> Images {
        let numbers = to_vec(images.clone()).into_iter();
        let rounded = numbers.map(|x| ((f64::from(x) * self.steps).round() / self.steps) as f32).collect();
        from_vec(rounded, images.dims(), &images.device())
    }
}

impl Classifier for Rounded<'_> {
    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        self.inner.answer(&question.about(&self.rounded(question.images)))
    }
}

impl WhiteBox for Rounded<'_> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        let logits = self.answer(question);
        let values = objective.values(logits.clone());
        ValueAndGradient { logits, values, gradient: question.images.zeros_like() }
    }
}

/// Logits times a factor: so loud that the softmax is 1 to the last bit.
pub struct Loud<'a> {
    /// The model.
    pub inner: &'a dyn WhiteBox,
    /// The factor.
    pub factor: f64,
}

/// The objective of louder logits, as a function of the quiet ones.
struct Louder<'a> {
    of: &'a dyn Objective,
    factor: f64,
}

impl Objective for Louder<'_> {
    fn values(&self, logits: Logits) -> Tensor<1> {
        self.of.values(logits * self.factor)
    }
}

impl Classifier for Loud<'_> {
    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        self.inner.answer(question) * self.factor
    }
}

impl WhiteBox for Loud<'_> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        let louder = Louder { of: objective, factor: self.factor };
        let answer = self.inner.differentiate(question, &louder);
        ValueAndGradient { logits: answer.logits * self.factor, ..answer }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use equipoise::loss::CrossEntropy;
    use equipoise::victim::Victim;

    use super::super::model::untrained;
    use super::super::victims::{Kind, Victims};
    use super::*;

    #[test]
    fn a_planted_cosine_is_what_it_says_and_stays_with_its_image() {
        let victims = Victims::new(0, &Device::default()).unwrap();
        let points = victims.first(40).unwrap();
        let model = untrained(64, 10, 1, 0.5, &Device::default());
        let deployment = Victims::deployment(Kind::Contractive);
        let truth = Victim::ready_made(&model, &deployment);
        let origins = Origins::new(&points, 0.15);
        let objective = CrossEntropy { labels: points.labels().to_vec() };
        // Perturbed, and in another order.
        let noise: Vec<f32> = (0..40 * 64).map(|k| if k % 3 == 0 { 0.15 } else { -0.1 }).collect();
        let moved =
            (points.images().clone() + from_vec(noise, [40, 1, 8, 8], &Device::default())).clamp(0.0, 1.0);
        for (row, image) in to_vec(moved.clone()).chunks_exact(64).enumerate() {
            assert_eq!(origins.row(image), row);
        }
        let rows = |victim: &dyn WhiteBox, images: &Images| {
            to_vec(victim.value_and_gradient(images, &objective).gradient)
        };
        let cosines = |a: &[f32], b: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            let pairs = a.chunks_exact(64).zip(b.chunks_exact(64));
            pairs.map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).collect::<Vec<_>>()
        };
        let plain = rows(&truth, &moved);
        for cosine in [-0.5, 0.0, 0.8, 0.95] {
            let draw = |draw| Turned::new(&truth, &origins, &points, cosine, (7, draw));
            let turned = rows(&draw(2), &moved);
            assert!(cosines(&plain, &turned).iter().all(|found| (found - cosine).abs() < 1e-4));
            assert_eq!(turned, rows(&draw(2), &moved));
            // Another draw is another direction at the same angle: across the truth they agree by chance alone.
            let other = rows(&draw(3), &moved);
            let mean = cosines(&turned, &other).iter().sum::<f64>() / 40.0;
            assert!((mean - cosine * cosine).abs() < 0.1 * (1.0 - cosine * cosine) + 1e-6, "{mean} {cosine}");
        }
    }
}
