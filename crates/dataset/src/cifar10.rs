//! `cifar10:PATH`: finds out which of the two layouts PATH holds.

use std::path::Path;

use crate::{Dataset, DatasetError, Split, cifar10_bin, cifar10_parquet};

/// The class names, in the order of the labels.
pub(crate) const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
/// Width and height of every image.
pub(crate) const SIDE: usize = 32;
/// The number of values in an image: red, green and blue planes.
pub(crate) const SIZE: usize = 3 * SIDE * SIDE;

/// The canonical batches when there are any, else parquet files.
pub(crate) fn load(folder: &Path, split: Split) -> Result<Dataset, DatasetError> {
    if !folder.is_dir() {
        return Err(DatasetError::Missing {
            place: folder.display().to_string(),
            missing: "this folder".into(),
            advice: "give the folder that holds data_batch_1.bin .. test_batch.bin or the parquet files"
                .into(),
        });
    }
    if let Some(batches) = cifar10_bin::find(folder) {
        return cifar10_bin::load(&batches, split);
    }
    let files = cifar10_parquet::find(folder, split)?;
    if files.is_empty() {
        return Err(DatasetError::Missing {
            place: folder.display().to_string(),
            missing: format!(
                "the .bin batches (here or in {}) and {split}*.parquet (here or in {})",
                cifar10_bin::FOLDERS[1],
                cifar10_parquet::FOLDERS[1..].join(", ")
            ),
            advice: "unpack cifar-10-binary.tar.gz there or copy the Hugging Face parquet files".into(),
        });
    }
    cifar10_parquet::load(&files)
}
