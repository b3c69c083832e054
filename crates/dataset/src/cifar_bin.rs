//! CIFAR as its authors publish it for C programs: files of records, each the label bytes (one in CIFAR-10; the
//! superclass and the class in CIFAR-100) and three planes of 1,024 bytes.

use std::fs;
use std::path::Path;

use crate::cifar::{Cifar, all_files};
use crate::{Dataset, DatasetError, Split};

/// Reads all files of the split in their order.
pub(crate) fn load(cifar: &Cifar, folder: &Path, split: Split) -> Result<Dataset, DatasetError> {
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for path in all_files(cifar, folder, split, ".bin", &cifar.bin)? {
        append(cifar, &path, &mut pixels, &mut labels)?;
    }
    cifar.known.dataset(&folder.display().to_string(), split, pixels, labels)
}

fn append(
    cifar: &Cifar,
    path: &Path,
    pixels: &mut Vec<u8>,
    labels: &mut Vec<usize>,
) -> Result<(), DatasetError> {
    let size = cifar.label_bytes + cifar.known.size();
    let bytes = fs::read(path).map_err(|error| DatasetError::read(path, error))?;
    if bytes.is_empty() || bytes.len() % size != 0 {
        return Err(DatasetError::format(
            path.display(),
            format!("{} bytes are not a positive multiple of {size}", bytes.len()),
            format!("the file is truncated or of another format: unpack {} again", cifar.bin.name),
        ));
    }
    for (record, content) in bytes.chunks_exact(size).enumerate() {
        let (label, planes) = content.split_at(cifar.label_bytes);
        let place = || format!("{}, record {record} (byte {})", path.display(), record * size);
        labels.push(cifar.known.label(label[cifar.label_byte].into(), place)?);
        pixels.extend_from_slice(planes);
    }
    Ok(())
}
