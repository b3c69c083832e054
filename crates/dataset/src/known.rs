//! What is known beforehand of a published data set, whatever the layout of its files.

use std::path::Path;

use crate::{Dataset, DatasetError, Pixels, Split};

/// A published data set.
pub(crate) struct Known {
    /// The name to print.
    pub name: &'static str,
    /// Channels, height and width of an image.
    pub shape: [usize; 3],
    /// The class names, in the order of the labels.
    pub classes: &'static [&'static str],
    /// How many images are in the training and in the test part.
    pub counts: [usize; 2],
    /// The folders of its repository at Hugging Face that hold parquet files.
    pub parquet_folders: &'static [&'static str],
    /// What its column of labels is called there.
    pub label_columns: &'static [&'static str],
}

impl Known {
    /// The number of values in an image.
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// Checks a label; `place` says which.
    pub fn label(&self, label: i128, place: impl FnOnce() -> String) -> Result<usize, DatasetError> {
        let classes = self.classes.len();
        match usize::try_from(label) {
            Ok(class) if class < classes => Ok(class),
            _ => Err(DatasetError::Label { place: place(), label, classes }),
        }
    }

    /// The data set, with a note where it has not as many images as were published.
    pub fn dataset(
        &self,
        place: &str,
        split: Split,
        pixels: Vec<u8>,
        labels: Vec<usize>,
    ) -> Result<Dataset, DatasetError> {
        self.sized(place, split, self.shape, pixels, labels)
    }

    /// The same with images of another shape.
    pub fn sized(
        &self,
        place: &str,
        split: Split,
        shape: [usize; 3],
        pixels: Vec<u8>,
        labels: Vec<usize>,
    ) -> Result<Dataset, DatasetError> {
        let names = self.classes.iter().map(|&name| name.to_owned()).collect();
        let mut set =
            Dataset::at(place, self.name, shape, self.classes.len(), names, Pixels::U8(pixels), labels)?;
        let published = self.counts[usize::from(split == Split::Test)];
        if set.len() != published {
            set.notes.push(format!(
                "{place}: {} images, but the {split} split of {} has {published}: this is another selection",
                set.len(),
                self.name
            ));
        }
        Ok(set)
    }
}

/// `folder` is there, or an error that says what to give.
pub(crate) fn check_folder(folder: &Path, advice: &str) -> Result<(), DatasetError> {
    match folder.is_dir() {
        true => Ok(()),
        false => Err(DatasetError::Missing {
            place: folder.display().to_string(),
            missing: "this folder".into(),
            advice: advice.into(),
        }),
    }
}
