//! `svhn:PATH`: the Street View House Numbers, cropped digits: `train_32x32.mat` and `test_32x32.mat`, or parquet
//! files.
//!
//! `X` is uint8 [32, 32, 3, N] (rows, columns, channels, images), `y` holds N labels, in which 10 stands for the
//! digit 0.

use std::path::Path;

use equipoise_arrays::mat;

use crate::known::{Known, check_folder};
use crate::{Dataset, DatasetError, Limit, Split, parquet_images, shards};

const SVHN: Known = Known {
    name: "SVHN",
    shape: [3, 32, 32],
    classes: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    counts: [73_257, 26_032],
    parquet_folders: &["", "cropped_digits", "data"],
    label_columns: &["label", "labels"],
};

/// Reads the MAT-file when it is there, else the parquet files.
pub(crate) fn load(folder: &Path, split: Split, limit: Limit) -> Result<Dataset, DatasetError> {
    check_folder(folder, "give the folder of train_32x32.mat and test_32x32.mat")?;
    let path = folder.join(format!("{split}_32x32.mat"));
    let parquet = shards::find(folder, SVHN.parquet_folders, split)?;
    match (path.is_file(), parquet) {
        (true, parquet) => {
            let mut set = read(&path, split, limit)?;
            if parquet.is_some() {
                let place = folder.display();
                set.notes.push(format!(
                    "{place}: the .mat file was read; the parquet files, which are there too, were not"
                ));
            }
            Ok(set)
        }
        (false, Some(files)) => parquet_images::load(&SVHN, &files, split, limit),
        (false, None) => Err(DatasetError::Missing {
            place: folder.display().to_string(),
            missing: format!(
                "{split}_32x32.mat and {split}*.parquet (here or in {})",
                SVHN.parquet_folders[1..].join(", ")
            ),
            advice: "get the cropped digits (format 2), as torchvision does".into(),
        }),
    }
}

fn read(path: &Path, split: Split, limit: Limit) -> Result<Dataset, DatasetError> {
    let wrong = |problem: String| {
        DatasetError::format(path.display(), problem, "get the cropped digits (format 2) again")
    };
    let may = |matrix: &mat::Shape| {
        let images = matrix.shape.last().copied().unwrap_or(0);
        limit.check(path.display(), images, matrix.bytes / images.max(1))
    };
    let mut arrays =
        mat::read(path, |name| ["X", "y"].contains(&name), may).map_err(|error| match error {
            mat::Error::Io(error) => DatasetError::read(path, error),
            mat::Error::Format(problem) => wrong(problem),
            mat::Error::Refused(error) => error,
        })?;
    let (images, labels) = arrays
        .remove("X")
        .zip(arrays.remove("y"))
        .ok_or_else(|| wrong("it does not hold numeric arrays X and y".into()))?;
    // MATLAB drops a last axis of length 1.
    let count = match images.shape.as_slice() {
        [32, 32, 3] => 1,
        &[32, 32, 3, count] => count,
        shape => return Err(wrong(format!("X has the shape {shape:?} instead of [32, 32, 3, N]"))),
    };
    if labels.shape.iter().try_fold(1, |product: usize, &side| product.checked_mul(side)) != Some(count) {
        return Err(wrong(format!("y has the shape {:?}, which does not fit {count} images", labels.shape)));
    }
    let bytes = |what: &str, matrix: mat::Matrix| {
        matrix.into_u8().ok_or_else(|| wrong(format!("{what} holds values outside 0..=255, or fractions")))
    };
    let (mut pixels, digits) = (bytes("X", images)?, bytes("y", labels)?);
    // Each image has its columns one after another; only within it does anything move.
    let mut columns = [0; 3 * 32 * 32];
    for image in pixels.chunks_exact_mut(columns.len()) {
        columns.copy_from_slice(image);
        for (at, value) in image.iter_mut().enumerate() {
            let (plane, y, x) = (at / 1024, at / 32 % 32, at % 32);
            *value = columns[plane * 1024 + x * 32 + y];
        }
    }
    if digits.contains(&0) && digits.contains(&10) {
        return Err(wrong("y holds both 0 and 10, which stands for the digit 0".into()));
    }
    let mut labels = Vec::with_capacity(count);
    for (index, digit) in digits.into_iter().enumerate() {
        let digit = if digit == 10 { 0 } else { digit };
        labels.push(SVHN.label(digit.into(), || format!("{}, y, image {index}", path.display()))?);
    }
    SVHN.dataset(&path.display().to_string(), split, pixels, labels)
}
