//! One image under noise: its draws, and how a classifier votes on them.

use burn::tensor::Device;
use rayon::prelude::*;

use crate::attack::{Classifier, Question, Step, WarmStart};
use crate::batch::{Images, from_vec, predictions, select, to_vec};
use crate::evaluate::{Observer, Points};
use crate::random::{ExampleRng, Key};

/// One image under noise.
pub(super) struct Draws<'a> {
    sigma: f64,
    classifier: &'a dyn Classifier,
    /// The image's numbers, and its shape as a batch of one.
    clean: Vec<f32>,
    shape: [usize; 4],
    device: Device,
    /// Its row in its data set.
    index: usize,
    seed: u64,
    /// How many draws are asked about at once.
    batch: usize,
    observer: &'a dyn Observer,
}

impl<'a> Draws<'a> {
    /// Those of one image, `row` of the points.
    pub(super) fn new(
        sigma: f64,
        classifier: &'a dyn Classifier,
        points: &Points,
        row: usize,
        (seed, batch): (u64, usize),
        observer: &'a dyn Observer,
    ) -> Self {
        let image = select(points.images(), &[row]);
        let (shape, device) = (image.dims(), image.device());
        let (clean, index) = (to_vec(image), points.indices()[row]);
        Self { sigma, classifier, clean, shape, device, index, seed, batch: batch.max(1), observer }
    }

    /// How many of the draws gave each class. `done` of `total` draws of the image came before.
    pub(super) fn counts(
        &self,
        purpose: &str,
        draws: usize,
        (done, total): (usize, usize),
    ) -> Option<Vec<usize>> {
        let mut counts = vec![0; self.classifier.classes()];
        let numbers: Vec<usize> = (0..draws).collect();
        for class in self.classes(purpose, &numbers, (done, total))?.into_iter().flatten() {
            counts[class] += 1;
        }
        Some(counts)
    }

    /// The class of each of some draws; `None` for logits that are not finite.
    pub(super) fn classes(
        &self,
        purpose: &str,
        draws: &[usize],
        (done, total): (usize, usize),
    ) -> Option<Vec<Option<usize>>> {
        let mut classes = Vec::with_capacity(draws.len());
        for chunk in draws.chunks(self.batch) {
            self.goes_on(done + classes.len(), total)?;
            let (images, keys) = (self.noisy(purpose, chunk), self.keys(chunk));
            let question = Question { images: &images, keys: &keys };
            classes.extend(predictions(&self.classifier.answer(&question)));
        }
        (!self.observer.failed()).then_some(classes)
    }

    /// The class of each of the first `draws` draws by an approximation of `steps` steps. Draw i goes on from the end of draw
    /// i − `chains`, and the first of each chain from the end of the iteration for the image without noise. So a vote depends on those of
    /// its chain alone, whatever is asked about at once.
    pub(super) fn approximate(
        &self,
        purpose: &str,
        draws: usize,
        (steps, chains): (usize, usize),
        (done, total): (usize, usize),
    ) -> Option<Vec<Option<usize>>> {
        let hasty = self.classifier.approximation().expect("`check_classifier` refuses those without one");
        let mut classes = vec![None; draws];
        let mut asked = 0;
        let firsts: Vec<usize> = (0..chains.min(draws)).collect();
        let clean = from_vec(self.clean.clone(), self.shape, &self.device);
        for firsts in firsts.chunks(self.batch) {
            let mut warm_start = WarmStart::default();
            let keys = self.keys(&[0]);
            hasty.approximate(&Question { images: &clean, keys: &keys }, steps, &mut warm_start);
            warm_start.select(&vec![0; firsts.len()]);
            let mut numbers = firsts.to_vec();
            while !numbers.is_empty() {
                self.goes_on(done + asked, total)?;
                let (images, keys) = (self.noisy(purpose, &numbers), self.keys(&numbers));
                let question = Question { images: &images, keys: &keys };
                let found = predictions(&hasty.approximate(&question, steps, &mut warm_start));
                for (&number, class) in numbers.iter().zip(found) {
                    classes[number] = class;
                }
                asked += numbers.len();
                let rows: Vec<usize> = (0..numbers.len()).filter(|&k| numbers[k] + chains < draws).collect();
                if rows.len() < numbers.len() && !rows.is_empty() {
                    warm_start.select(&rows);
                }
                numbers = rows.iter().map(|&k| numbers[k] + chains).collect();
            }
        }
        (!self.observer.failed()).then_some(classes)
    }

    /// Random numbers of the image for another purpose than noise.
    pub(super) fn rng(&self, purpose: &str) -> ExampleRng {
        ExampleRng::new(self.seed, purpose, self.index, 0)
    }

    /// `None` once the observer stops it.
    fn goes_on(&self, done: usize, total: usize) -> Option<()> {
        let step = Step { done, total, examples: 1, standing: 1 };
        let stopped = self.observer.cancelled() || self.observer.step(step).is_break();
        (!stopped).then_some(())
    }

    /// The image under the noise of some draws.
    fn noisy(&self, purpose: &str, draws: &[usize]) -> Images {
        // Not `self`: classifiers and observers stay on their thread.
        let Self { clean, index, seed, sigma, .. } = self;
        let (index, seed, sigma) = (*index, *seed, *sigma);
        let mut noisy = vec![0.0; draws.len() * clean.len()];
        noisy.par_chunks_mut(clean.len()).zip(draws).for_each(|(noisy, &draw)| {
            let mut rng = ExampleRng::new(seed, purpose, index, draw);
            for (noisy, &clean) in noisy.iter_mut().zip(clean) {
                *noisy = (f64::from(clean) + sigma * rng.normal()) as f32;
            }
        });
        let [_, channels, height, width] = self.shape;
        from_vec(noisy, [draws.len(), channels, height, width], &self.device)
    }

    /// A classifier that draws random numbers itself draws others for each noisy image.
    fn keys(&self, draws: &[usize]) -> Vec<Key> {
        let (seed, index) = (self.seed, self.index);
        draws.iter().map(|&draw| Key { seed, asker: "smoothing", index, start: 0, draw }).collect()
    }
}
