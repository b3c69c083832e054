//! The points under evaluation: images, labels, and where they stand in their data set.

use std::collections::HashSet;

use equipoise_files::sha256;
use thiserror::Error;

use crate::attack::Examples;
use crate::batch::{Images, Logits, predictions, select, to_vec};
use crate::random::Key;

/// Why examples cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PointsError {
    /// Not as many labels or indices as images.
    #[error("{images} images come with {labels} labels and {indices} indices: give one of each per image")]
    Lengths {
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
        /// Number of indices.
        indices: usize,
    },
    /// An intensity outside \[0, 1\], or not a number.
    #[error(
        "image {index} of the data set has intensity {value}: scale images to [0, 1] before evaluating, and \
         leave normalisation to the model"
    )]
    Intensity {
        /// The example's index in its data set.
        index: usize,
        /// The first such intensity.
        value: f32,
    },
    /// The same example twice.
    #[error("example {0} of the data set was given twice: give each example once")]
    Twice(usize),
}

/// Examples to evaluate.
#[derive(Debug, Clone)]
pub struct Points {
    indices: Vec<usize>,
    images: Images,
    labels: Vec<usize>,
}

impl Points {
    /// `images` `[N, C, H, W]` in \[0, 1\], their true classes, and their indices in the data set's split,
    /// which name them in the record and key their random numbers.
    ///
    /// # Errors
    ///
    /// [`PointsError`] if the numbers of examples differ, an intensity is outside \[0, 1\], or an index
    /// occurs twice.
    pub fn new(indices: Vec<usize>, images: Images, labels: Vec<usize>) -> Result<Self, PointsError> {
        let [n, channels, height, width] = images.dims();
        if labels.len() != n || indices.len() != n {
            return Err(PointsError::Lengths { images: n, labels: labels.len(), indices: indices.len() });
        }
        let mut seen = HashSet::new();
        if let Some(&index) = indices.iter().find(|&&index| !seen.insert(index)) {
            return Err(PointsError::Twice(index));
        }
        let size = (channels * height * width).max(1);
        let pixels = to_vec(images.clone());
        if let Some(k) = pixels.iter().position(|pixel| !(0.0..=1.0).contains(pixel)) {
            return Err(PointsError::Intensity { index: indices[k / size], value: pixels[k] });
        }
        Ok(Self { indices, images, labels })
    }

    /// The points in these rows, in this order.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            indices: rows.iter().map(|&row| self.indices[row]).collect(),
            images: select(&self.images, rows),
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
        }
    }

    /// The same examples with other images of them, attacked ones.
    pub fn with_images(self, images: Images) -> Self {
        Self { images, ..self }
    }

    /// Whether each is classified correctly by these logits `[N, classes]`.
    pub fn correct(&self, logits: &Logits) -> Vec<bool> {
        let answers = predictions(logits).into_iter();
        answers.zip(&self.labels).map(|(answer, label)| answer == Some(*label)).collect()
    }

    /// As an attack is given them, for one of its starts.
    pub fn examples(&self, seed: u64, start: usize) -> Examples<'_> {
        Examples { images: &self.images, labels: &self.labels, indices: &self.indices, seed, start }
    }

    /// What random numbers of each are derived from when `asker` asks about it.
    pub fn keys(&self, seed: u64, asker: &'static str) -> Vec<Key> {
        Key::first(seed, asker, &self.indices)
    }

    /// SHA-256 of each example: its index, label and unperturbed image.
    pub(super) fn hashes(&self) -> Vec<String> {
        let pixels = to_vec(self.images.clone());
        let size = pixels.len() / self.len().max(1);
        let hash = |row: usize| {
            let mut bytes = (self.indices[row] as u64).to_le_bytes().to_vec();
            bytes.extend((self.labels[row] as u64).to_le_bytes());
            bytes.extend(pixels[row * size..][..size].iter().flat_map(|pixel| pixel.to_le_bytes()));
            sha256(&bytes)
        };
        (0..self.len()).map(hash).collect()
    }

    /// SHA-256 of all of them: indices, labels and unperturbed images, in order.
    pub fn sha256(&self) -> String {
        sha256(self.hashes().concat().as_bytes())
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Indices in the data set's split.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// Unperturbed images `[N, C, H, W]`.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// True classes.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }
}
