//! CIFAR-10 as its authors publish it: files of records, each a label byte and three planes of 1,024 bytes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cifar10::{CLASSES, SIDE, SIZE};
use crate::{Dataset, DatasetError, Pixels, Split};

const RECORD: usize = 1 + SIZE;
const TRAIN: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
const TEST: [&str; 1] = ["test_batch.bin"];

/// Where the batches may lie below the given folder; the second is what the published archive unpacks to.
pub(crate) const FOLDERS: [&str; 2] = ["", "cifar-10-batches-bin"];

/// The folder that holds at least one batch.
pub(crate) fn find(folder: &Path) -> Option<PathBuf> {
    let holds_a_batch = |path: &PathBuf| TRAIN.iter().chain(&TEST).any(|name| path.join(name).is_file());
    FOLDERS.iter().map(|below| folder.join(below)).find(holds_a_batch)
}

/// All batches of the split; part of the training set would silently be another data set.
pub(crate) fn load(folder: &Path, split: Split) -> Result<Dataset, DatasetError> {
    let names: &[&str] = match split {
        Split::Train => &TRAIN,
        Split::Test => &TEST,
    };
    let missing: Vec<&str> = names.iter().copied().filter(|name| !folder.join(name).is_file()).collect();
    if !missing.is_empty() {
        return Err(DatasetError::Missing {
            place: folder.display().to_string(),
            missing: missing.join(", "),
            advice: "unpack cifar-10-binary.tar.gz again".into(),
        });
    }
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for name in names {
        append(&folder.join(name), &mut pixels, &mut labels)?;
    }
    Dataset::at(
        &folder.display().to_string(),
        "CIFAR-10",
        [3, SIDE, SIDE],
        CLASSES.len(),
        CLASSES.map(String::from).to_vec(),
        Pixels::U8(pixels),
        labels,
    )
}

fn append(path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<usize>) -> Result<(), DatasetError> {
    let bytes = fs::read(path).map_err(|error| DatasetError::read(path, error))?;
    if bytes.is_empty() || bytes.len() % RECORD != 0 {
        return Err(DatasetError::format(
            path.display(),
            format!("{} bytes are not a positive multiple of {RECORD}", bytes.len()),
            "the file is truncated or of another format: unpack cifar-10-binary.tar.gz again",
        ));
    }
    for (record, content) in bytes.chunks_exact(RECORD).enumerate() {
        let label = usize::from(content[0]);
        if label >= CLASSES.len() {
            return Err(DatasetError::Label {
                place: format!("{}, record {record} (byte {})", path.display(), record * RECORD),
                label: label as i128,
                classes: CLASSES.len(),
            });
        }
        labels.push(label);
        pixels.extend_from_slice(&content[1..]);
    }
    Ok(())
}
