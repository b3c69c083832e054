//! Adversarial images read back, and verified: they must be within the budget of the images at hand and made for this
//! model, and the model must classify each as the file says.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::fields::Fields;
use super::observer::Observer;
use super::points::Points;
use crate::attack::{Budget, Classifier};
use crate::batch::{Images, from_vec, predictions, select};

/// Why saved adversarial images cannot be used.
#[derive(Debug, Error)]
pub enum SavedError {
    /// The file could not be read.
    #[error("cannot read {}: {source}; {}", .path.display(), equipoise_files::advice(.source))]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not what [`save_adversarial`](super::save_adversarial) writes.
    #[error(
        "{}: no complete file of adversarial images: {problem}; give the .safetensors file that `evaluate \
         --save-adversarial` writes", .path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The images belong to another model, data set or budget.
    #[error("{}: {problem}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What does not fit, and what to do.
        problem: String,
    },
    /// The observer asked to stop.
    #[error("stopped before the adversarial images were verified")]
    Cancelled,
}

/// Adversarial images as they were saved, not yet verified.
#[derive(Debug, Clone)]
pub struct SavedAdversarial {
    path: PathBuf,
    shape: [usize; 3],
    images: Vec<f32>,
    labels: Vec<usize>,
    /// Whether the model was fooled.
    fooled: Vec<bool>,
    /// Where each index of the data set stands.
    rows: HashMap<usize, usize>,
    readout: String,
    norm: String,
    eps: f64,
    model: String,
}

/// Adversarial images `[N, C, H, W]` of some points, in their order, that a model was seen to answer to as it was
/// recorded.
#[derive(Debug, Clone)]
pub struct Verified {
    images: Images,
}

impl Verified {
    /// The images, `[N, C, H, W]`.
    pub fn images(&self) -> &Images {
        &self.images
    }
}

/// Reads what [`save_adversarial`](super::save_adversarial) wrote.
///
/// # Errors
///
/// [`SavedError`] if the file cannot be read, or is not whole.
pub fn read_adversarial(path: impl AsRef<Path>) -> Result<SavedAdversarial, SavedError> {
    let path = path.as_ref().to_owned();
    let bytes = fs::read(&path).map_err(|source| SavedError::File { path: path.clone(), source })?;
    decode(&bytes, &path).map_err(|problem| SavedError::Content { path, problem })
}

fn decode(bytes: &[u8], path: &Path) -> Result<SavedAdversarial, String> {
    let file = Fields::read(bytes)?;
    match file.text("version")? {
        "1" => (),
        version => return Err(format!("its layout has version {version}, and this build reads 1")),
    }
    let [n, channels, height, width] = file.shape("x")?[..] else {
        return Err("`x` is not of shape [N, C, H, W]".to_owned());
    };
    let (labels, index) = (file.indices("y")?, file.indices("index")?);
    let answers = file.classes("adversarial_prediction")?;
    if [labels.len(), index.len(), answers.len()] != [n; 3] {
        return Err(format!("`x` has {n} images, and `y`, `index` or `adversarial_prediction` others"));
    }
    Ok(SavedAdversarial {
        path: path.to_owned(),
        shape: [channels, height, width],
        images: file.f32("x")?,
        fooled: answers.iter().zip(&labels).map(|(answer, label)| *answer != Some(*label)).collect(),
        labels,
        rows: index.into_iter().enumerate().map(|(row, index)| (index, row)).collect(),
        readout: file.text("readout")?.to_owned(),
        norm: file.text("norm")?.to_owned(),
        eps: file.number("eps")?,
        model: file.text("model")?.to_owned(),
    })
}

impl SavedAdversarial {
    /// Whether they were made against this model (what tells it from others), behind this readout, within this budget.
    pub fn is_of(&self, model: &str, readout: &str, budget: &Budget) -> bool {
        let norm = budget.norm().to_string();
        (self.model.as_str(), self.readout.as_str(), self.norm.as_str(), self.eps)
            == (model, readout, norm.as_str(), budget.eps())
    }

    /// All images with their indices, as bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut order: Vec<(usize, usize)> = self.rows.iter().map(|(&index, &row)| (index, row)).collect();
        order.sort_unstable();
        let size: usize = self.shape.iter().product();
        let mut bytes = Vec::with_capacity(4 * self.images.len());
        for (index, row) in order {
            bytes.extend((index as u64).to_le_bytes());
            bytes.extend(self.images[row * size..][..size].iter().flat_map(|pixel| pixel.to_le_bytes()));
        }
        bytes
    }

    /// The shape of an image, `[C, H, W]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The image of the example with this index, row by row; `None` if there is none.
    pub fn image(&self, index: usize) -> Option<&[f32]> {
        let size: usize = self.shape.iter().product();
        self.rows.get(&index).map(|&row| &self.images[row * size..][..size])
    }

    /// Verifies the images of some points by a forward pass of the deployed model on each. `model` is what tells
    /// the model from others, as it was when the images were saved. The file may hold more images than these.
    ///
    /// # Errors
    ///
    /// [`SavedError::Foreign`] if the images are of another model, readout or budget, if one is missing, has
    /// another label or is farther from its original than ε, or if the model is fooled where it was not, or the
    /// other way round. [`SavedError::Cancelled`] if the observer asks to stop.
    pub fn verify(
        &self,
        judge: &dyn Classifier,
        (model, readout): (&str, &str),
        points: &Points,
        budget: &Budget,
        batch_size: usize,
        observer: &dyn Observer,
    ) -> Result<Verified, SavedError> {
        let foreign = |problem: String| SavedError::Foreign { path: self.path.clone(), problem };
        if self.model != model {
            return Err(foreign(
                "these images were made against another model; give those that were made against this one"
                    .into(),
            ));
        }
        if self.readout != readout {
            return Err(foreign(format!(
                "these images were made behind the readout {}, and the model is deployed with {readout}; give those \
                 that were made behind it",
                self.readout
            )));
        }
        let (norm, eps) = (budget.norm().to_string(), budget.eps());
        if (&self.norm, self.eps) != (&norm, eps) {
            return Err(foreign(format!(
                "these images were made within {} of {}, not within {norm} of {eps}; use the same budget",
                self.norm, self.eps
            )));
        }
        let images = self.images_of(points, budget).map_err(foreign)?;
        observer.stage("saved adversarial images", points.len());
        let all: Vec<usize> = (0..points.len()).collect();
        for rows in all.chunks(batch_size.max(1)) {
            if observer.cancelled() {
                return Err(SavedError::Cancelled);
            }
            let answers = predictions(&judge.logits(&select(&images, rows)));
            for (&row, answer) in rows.iter().zip(answers) {
                let (index, label) = (points.indices()[row], points.labels()[row]);
                let recorded = self.fooled[self.rows[&index]];
                if (answer != Some(label)) != recorded {
                    let fooled = if recorded { "fools the model" } else { "does not fool the model" };
                    return Err(foreign(format!(
                        "image {index}: it is recorded that it {fooled}, and the contrary is found; make the images \
                         anew, by `evaluate --save-adversarial` on this machine"
                    )));
                }
            }
            observer.advance(rows.len(), "");
        }
        Ok(Verified { images })
    }

    /// The images of these points, near enough to be theirs.
    fn images_of(&self, points: &Points, budget: &Budget) -> Result<Images, String> {
        let clean = points.images();
        let [_, shape @ ..] = clean.dims();
        let other = "give the data set and the split that they were made of";
        if shape != self.shape {
            return Err(format!(
                "these images are {:?}, and those of the data {shape:?}; {other}",
                self.shape
            ));
        }
        let size: usize = shape.iter().product();
        let mut pixels = Vec::with_capacity(points.len() * size);
        for (&index, &label) in points.indices().iter().zip(points.labels()) {
            let Some(&row) = self.rows.get(&index) else {
                let held = self.rows.len();
                return Err(format!(
                    "image {index} of the data is not among its {held} images; look at those only, or evaluate more"
                ));
            };
            if self.labels[row] != label {
                let there = self.labels[row];
                return Err(format!("image {index} has label {there}, and {label} in the data; {other}"));
            }
            pixels.extend_from_slice(&self.images[row * size..][..size]);
        }
        let images = from_vec(pixels, clean.dims(), &clean.device());
        if let Some(row) = budget.contains(clean, &images).iter().position(|inside| !inside) {
            return Err(format!(
                "image {} is not within ε of that of the data; {other}",
                points.indices()[row]
            ));
        }
        Ok(images)
    }
}
