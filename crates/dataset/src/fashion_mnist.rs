//! `fashion-mnist[:PATH]`: four IDX files, gzipped or not.

use std::path::{Path, PathBuf};

use crate::{Dataset, DatasetError, Pixels, Split, idx};

/// Where Debian's package `dataset-fashion-mnist` puts the files.
pub(crate) const DEFAULT_PATH: &str = "/usr/share/datasets/fashion-mnist";

const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

pub(crate) fn load(folder: &Path, split: Split) -> Result<Dataset, DatasetError> {
    let stem = match split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let images_path = find(folder, &format!("{stem}-images-idx3-ubyte"))?;
    let labels_path = find(folder, &format!("{stem}-labels-idx1-ubyte"))?;
    let ([count, height, width], pixels) = idx::read::<3>(&images_path)?;
    let ([label_count], labels) = idx::read::<1>(&labels_path)?;
    if count != label_count {
        return Err(DatasetError::Length {
            place: labels_path.display().to_string(),
            what: "labels",
            found: label_count,
            expected: count,
        });
    }
    Dataset::at(
        &labels_path.display().to_string(),
        "Fashion-MNIST",
        [1, height, width],
        CLASSES.len(),
        CLASSES.map(String::from).to_vec(),
        Pixels::U8(pixels),
        labels.into_iter().map(usize::from).collect(),
    )
}

fn find(folder: &Path, name: &str) -> Result<PathBuf, DatasetError> {
    [folder.join(name), folder.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file()).ok_or_else(
        || DatasetError::Missing {
            place: folder.display().to_string(),
            missing: format!("{name} or {name}.gz"),
            advice:
                "install the Debian package dataset-fashion-mnist (apt-get install dataset-fashion-mnist) \
                     or give the folder as fashion-mnist:PATH"
                    .into(),
        },
    )
}
