//! `npz:PATH`: NumPy arrays, `x` and `y`, as `numpy.savez` or `numpy.savez_compressed` writes them.
//!
//! - `x`: float32 [N, C, H, W] in `[0, 1]`, or uint8 [N, H, W, C].
//! - `y`: [N] integers of any width, from 0.
//! - `classes` (optional): one integer, the number of classes; without it, the largest label + 1.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use crate::npy::Array;
use crate::{Dataset, DatasetError, Pixels, Split};

/// More classes than this are damage, and every class costs a name.
const MAX_CLASSES: usize = 65_536;

pub(crate) fn load(path: &Path, split: Split) -> Result<Dataset, DatasetError> {
    let path = &file(path, split)?;
    let opened = File::open(path).map_err(|error| DatasetError::read(path, error))?;
    let mut archive = ZipArchive::new(BufReader::new(opened)).map_err(|error| {
        DatasetError::format(
            path.display(),
            format!("not an npz file: {error}"),
            "write it with numpy.savez(path, x=images, y=labels)",
        )
    })?;
    let x = required(&mut archive, path, "x")?;
    let y = required(&mut archive, path, "y")?;
    let classes = optional(&mut archive, path, "classes")?;

    let (shape, count, pixels) = images(path, x)?;
    let (classes, labels) = labels(path, &y, classes.as_ref(), count)?;
    let class_names = (0..classes).map(|class| class.to_string()).collect();
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    Dataset::at(&path.display().to_string(), name, shape, classes, class_names, pixels, labels)
}

/// The file itself, whatever the split, or `train.npz` or `test.npz` in a folder.
fn file(path: &Path, split: Split) -> Result<PathBuf, DatasetError> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let below = path.join(format!("{split}.npz"));
    if below.is_file() {
        return Ok(below);
    }
    Err(DatasetError::Missing {
        place: path.display().to_string(),
        missing: if path.is_dir() { format!("{split}.npz") } else { "this file".into() },
        advice: "give an npz file, or a folder with train.npz and test.npz".into(),
    })
}

type Archive = ZipArchive<BufReader<File>>;

fn required(archive: &mut Archive, path: &Path, name: &str) -> Result<Array, DatasetError> {
    optional(archive, path, name)?.ok_or_else(|| {
        let found: Vec<String> = archive
            .file_names()
            .map(|found| found.map(|found| found.trim_end_matches(".npy").to_owned()).unwrap_or_default())
            .collect();
        DatasetError::Missing {
            place: path.display().to_string(),
            missing: format!("array {name} (it holds: {})", found.join(", ")),
            advice: "write it with numpy.savez(path, x=images, y=labels)".into(),
        }
    })
}

fn optional(archive: &mut Archive, path: &Path, name: &str) -> Result<Option<Array>, DatasetError> {
    let damaged = |problem: String| {
        DatasetError::format(
            array(path, name),
            problem,
            "write it again with numpy.savez(path, x=images, y=labels)",
        )
    };
    match archive.by_name(&format!("{name}.npy")) {
        Ok(entry) => Array::read(entry).map(Some).map_err(damaged),
        Err(ZipError::FileNotFound) => Ok(None),
        Err(error) => Err(damaged(error.to_string())),
    }
}

fn array(path: &Path, name: &str) -> String {
    format!("{}, array {name}", path.display())
}

/// The shape of an image, their number, and the pixels in C, H, W order.
fn images(path: &Path, x: Array) -> Result<([usize; 3], usize, Pixels), DatasetError> {
    let wrong = |problem: String| {
        let advice = "give float32 [N, C, H, W] in [0, 1] or uint8 [N, H, W, C], with 1 or 3 channels";
        DatasetError::format(array(path, "x"), problem, advice)
    };
    let &[count, a, b, c] = x.shape.as_slice() else {
        return Err(wrong(format!("its shape {:?} has not 4 dimensions", x.shape)));
    };
    let shape = match x.kind.as_str() {
        "f4" => [a, b, c],
        "u1" => [c, a, b],
        kind => return Err(wrong(format!("its type {kind} is neither float32 (f4) nor uint8 (u1)"))),
    };
    // The two layouts are easily mixed up, and nothing further on would notice.
    if !matches!(shape[0], 1 | 3) {
        return Err(wrong(format!("its shape {:?} means images of {} channels", x.shape, shape[0])));
    }
    let pixels = match x.to_f32() {
        Some(values) => Pixels::F32(values),
        None => Pixels::U8(planes(&x.into_u8().unwrap_or_default(), shape)),
    };
    Ok((shape, count, pixels))
}

/// [N, H, W, C] to [N, C, H, W].
fn planes(values: &[u8], [channels, height, width]: [usize; 3]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len());
    let size = (channels * height * width).max(1);
    for image in values.chunks_exact(size) {
        for channel in 0..channels {
            out.extend(image.iter().skip(channel).step_by(channels));
        }
    }
    out
}

fn labels(
    path: &Path,
    y: &Array,
    classes: Option<&Array>,
    count: usize,
) -> Result<(usize, Vec<usize>), DatasetError> {
    if y.shape != [count] {
        return Err(DatasetError::format(
            array(path, "y"),
            format!("its shape {:?} does not fit {count} images", y.shape),
            format!("give one label per image, shape [{count}]"),
        ));
    }
    let labels = y.to_integers().ok_or_else(|| {
        DatasetError::format(
            array(path, "y"),
            format!("its type {} is no integer", y.kind),
            "save y.astype(int)",
        )
    })?;
    let classes = match classes.map(|classes| classes.to_integers().unwrap_or_default()) {
        Some(value) => match value.as_slice() {
            &[value] if (1..=MAX_CLASSES as i128).contains(&value) => Some(value as usize),
            _ => {
                return Err(DatasetError::format(
                    array(path, "classes"),
                    format!("it is not one integer in 1..={MAX_CLASSES}"),
                    "save numpy.int64(the number of classes)",
                ));
            }
        },
        None => None,
    };
    let limit = classes.unwrap_or(MAX_CLASSES);
    let mut checked = Vec::with_capacity(labels.len());
    for (index, label) in labels.into_iter().enumerate() {
        match usize::try_from(label) {
            Ok(label) if label < limit => checked.push(label),
            _ => {
                let place = format!("{}, image {index}", array(path, "y"));
                return Err(DatasetError::Label { place, label, classes: limit });
            }
        }
    }
    // Without images `Dataset` says so.
    let classes = classes.unwrap_or_else(|| checked.iter().max().map_or(0, |largest| largest + 1));
    Ok((classes, checked))
}
