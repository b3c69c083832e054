//! The examples of an attack on the host, one row of pixels each.
//!
//! AutoAttack's members keep a history for every example (its best point, its step size, its random numbers) and
//! drop examples as they fall. Kept row by row on the host, that history is one small struct per example, and
//! it is plain that no example sees another; only the batches that the victim is asked about become tensors.

use burn::tensor::Device;

use super::classes::rivals;
use super::{Attempt, Classifier, Targets};
use crate::batch::{Images, from_vec, predictions, to_vec};

/// Clean images, and what has been found for each.
pub(super) struct Board {
    clean: Vec<f32>,
    found: Vec<f32>,
    claimed: Vec<bool>,
    shape: [usize; 4],
    device: Device,
}

impl Board {
    /// Nothing found yet: each example's image is the unperturbed one.
    pub(super) fn new(targets: &Targets<'_>) -> Self {
        let clean = to_vec(targets.images.clone());
        Self {
            found: clean.clone(),
            clean,
            claimed: vec![false; targets.labels.len()],
            shape: targets.images.dims(),
            device: targets.images.device(),
        }
    }

    /// `[C, H, W]`.
    pub(super) fn image_shape(&self) -> [usize; 3] {
        let [_, channels, height, width] = self.shape;
        [channels, height, width]
    }

    /// Pixels of an image.
    pub(super) fn size(&self) -> usize {
        self.image_shape().into_iter().product()
    }

    /// The unperturbed image in this row.
    pub(super) fn clean(&self, row: usize) -> &[f32] {
        &self.clean[row * self.size()..][..self.size()]
    }

    /// All rows.
    pub(super) fn rows(&self) -> Vec<usize> {
        (0..self.claimed.len()).collect()
    }

    /// Whether success was claimed for this row.
    pub(super) fn claimed(&self, row: usize) -> bool {
        self.claimed[row]
    }

    /// Looks at the unperturbed images: claims those that are misclassified, and returns for each example the
    /// classes other than its label in the order in which targeted attacks try them.
    pub(super) fn goals(&mut self, victim: &dyn Classifier, targets: &Targets<'_>) -> Vec<Vec<usize>> {
        if targets.labels.is_empty() {
            return Vec::new();
        }
        let logits = victim.logits(targets.images);
        for (row, class) in predictions(&logits).into_iter().enumerate() {
            self.claimed[row] = class != Some(targets.labels[row]);
        }
        rivals(&logits, targets.labels)
    }

    /// The rows for which no success was claimed.
    pub(super) fn standing(&self) -> Vec<usize> {
        (0..self.claimed.len()).filter(|&row| !self.claimed[row]).collect()
    }

    /// Keeps an image for this row, in place of what was there.
    pub(super) fn keep(&mut self, row: usize, image: &[f32], claimed: bool) {
        let size = self.size();
        self.found[row * size..][..size].copy_from_slice(image);
        self.claimed[row] = claimed;
    }

    /// The images of some examples, as the victim takes them.
    pub(super) fn batch<'a>(&self, images: impl IntoIterator<Item = &'a [f32]>) -> Images {
        let [_, channels, height, width] = self.shape;
        let images: Vec<&[f32]> = images.into_iter().collect();
        from_vec(images.concat(), [images.len(), channels, height, width], &self.device)
    }

    /// What the attack brings back.
    pub(super) fn finish(self) -> Attempt {
        Attempt { images: from_vec(self.found, self.shape, &self.device), claimed: self.claimed }
    }
}

/// The rows of a tensor's content, `size` entries each.
pub(super) fn rows(content: &[f32], size: usize) -> impl Iterator<Item = &[f32]> {
    content.chunks_exact(size.max(1))
}
