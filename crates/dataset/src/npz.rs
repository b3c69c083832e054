//! `npz:PATH`: NumPy arrays, `x` and `y`, as `numpy.savez` or `numpy.savez_compressed` writes them.
//!
//! - `x`: floats of 16, 32 or 64 bits in `[0, 1]`, or uint8, of shape [N, C, H, W], [N, H, W, C] or, gray, [N, H, W].
//!   Where the channels are follows from their number, 1 or 3; where the shape admits both, it must be said.
//! - `y`: [N] or [N, 1] integers of any width, from 0.
//! - `classes` (optional): one integer, the number of classes; without it, the largest label + 1. Where there is a
//!   `train.npz`, its number holds for `test.npz` too.
//!
//! One file may hold both splits, as `x_train`, `y_train`, `x_test`, `y_test` (Keras) or `train_images`,
//! `train_labels`, .. (MedMNIST).

use std::fmt::Display;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use crate::npy::Array;
use crate::{Dataset, DatasetError, Layout, Pixels, Split};

/// More classes than this are damage, and every class costs a name.
const MAX_CLASSES: usize = 65_536;

pub(crate) fn load(path: &Path, split: Split, layout: Option<Layout>) -> Result<Dataset, DatasetError> {
    let mut file = Npz::open(&file(path, split)?)?;
    let (x, y) = file.names(split);
    let (images, labels) = (file.required(&x)?, file.required(&y)?);
    let (shape, count, pixels) = file.images(&x, images, layout)?;
    let labels = file.labels(&y, labels, count)?;
    let classes = match (file.classes()?, trained_classes(path, split)?) {
        (Some(classes), _) | (None, Some(classes)) => classes,
        // Without images `Dataset` says so.
        (None, None) => labels.iter().max().map_or(0, |largest| largest + 1),
    };
    if let Some(index) = labels.iter().position(|&label| label >= classes) {
        let place = format!("{}, array {y}, image {index}", file.path.display());
        return Err(DatasetError::Label { place, label: labels[index] as i128, classes });
    }
    let class_names = (0..classes).map(|class| class.to_string()).collect();
    let name = file.path.file_name().unwrap_or(file.path.as_os_str()).to_string_lossy();
    Dataset::at(&file.path.display().to_string(), name, shape, classes, class_names, pixels, labels)
}

/// Whether a file holds a training split of its own beside that for testing.
pub(crate) fn has_both_splits(path: &Path) -> Result<bool, DatasetError> {
    let file = Npz::open(path)?;
    Ok(file.names(Split::Train) != file.names(Split::Test))
}

/// The number of classes of the training split, where that is a file of its own beside the one for testing.
fn trained_classes(path: &Path, split: Split) -> Result<Option<usize>, DatasetError> {
    let training = path.join("train.npz");
    if split == Split::Train || path.is_file() || !training.is_file() {
        return Ok(None);
    }
    let mut file = Npz::open(&training)?;
    if let Some(classes) = file.classes()? {
        return Ok(Some(classes));
    }
    let (_, y) = file.names(Split::Train);
    let labels = file.required(&y)?;
    let count = labels.shape.first().copied().unwrap_or(0);
    Ok(file.labels(&y, labels, count)?.iter().max().map(|largest| largest + 1))
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

/// An open file.
struct Npz {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

const ADVICE: &str = "write it with numpy.savez(path, x=images, y=labels)";

impl Npz {
    fn open(path: &Path) -> Result<Self, DatasetError> {
        let opened = File::open(path).map_err(|error| DatasetError::read(path, error))?;
        let archive = ZipArchive::new(BufReader::new(opened)).map_err(|error| {
            DatasetError::format(path.display(), format!("not an npz file: {error}"), ADVICE)
        })?;
        Ok(Self { path: path.to_owned(), archive })
    }

    fn has(&self, name: &str) -> bool {
        self.archive.index_for_name(&format!("{name}.npy")).is_some()
    }

    /// What the images and the labels of the split are called: `x` and `y` unless only other usual names are there.
    fn names(&self, split: Split) -> (String, String) {
        let of_both = [
            (format!("x_{split}"), format!("y_{split}")),
            (format!("{split}_images"), format!("{split}_labels")),
        ];
        let neither = !self.has("x") && !self.has("y");
        of_both
            .into_iter()
            .find(|(x, y)| neither && self.has(x) && self.has(y))
            .unwrap_or(("x".into(), "y".into()))
    }

    fn required(&mut self, name: &str) -> Result<Array, DatasetError> {
        self.optional(name)?.ok_or_else(|| {
            let found: Vec<String> = self
                .archive
                .file_names()
                .map(|found| found.map(|found| found.trim_end_matches(".npy").to_owned()).unwrap_or_default())
                .collect();
            DatasetError::Missing {
                place: self.path.display().to_string(),
                missing: format!("array {name} (it holds: {})", found.join(", ")),
                advice: ADVICE.into(),
            }
        })
    }

    fn optional(&mut self, name: &str) -> Result<Option<Array>, DatasetError> {
        let read = match self.archive.by_name(&format!("{name}.npy")) {
            Ok(entry) => Array::read(entry).map(Some),
            Err(ZipError::FileNotFound) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        read.map_err(|problem| {
            self.wrong(name, problem, "write it again with numpy.savez(path, x=images, y=labels)")
        })
    }

    fn wrong(&self, name: &str, problem: impl Display, advice: impl Display) -> DatasetError {
        DatasetError::format(format!("{}, array {name}", self.path.display()), problem, advice)
    }

    /// The shape of an image, their number, and the pixels in C, H, W order.
    fn images(
        &self,
        name: &str,
        x: Array,
        layout: Option<Layout>,
    ) -> Result<([usize; 3], usize, Pixels), DatasetError> {
        let wrong = |problem: String| {
            let advice = "give float16, float32 or float64 in [0, 1] or uint8, [N, C, H, W], [N, H, W, C] or [N, H, W]";
            self.wrong(name, problem, advice)
        };
        if !matches!(x.kind.as_str(), "f2" | "f4" | "f8" | "u1") {
            return Err(wrong(format!("its type {} is neither a float (f2, f4, f8) nor uint8 (u1)", x.kind)));
        }
        let (count, shape, found) = match *x.shape.as_slice() {
            [count, height, width] => (count, [1, height, width], Layout::Nchw),
            [count, a, b, c] => match self.layout(name, &x.shape, layout)? {
                Layout::Nchw => (count, [a, b, c], Layout::Nchw),
                Layout::Nhwc => (count, [c, a, b], Layout::Nhwc),
            },
            _ => return Err(wrong(format!("its shape {:?} has neither 3 nor 4 dimensions", x.shape))),
        };
        let pixels = match x.to_f32() {
            Some(values) => Pixels::F32(planes(values, shape, found)),
            None => Pixels::U8(planes(x.into_u8().unwrap_or_default(), shape, found)),
        };
        Ok((shape, count, pixels))
    }

    /// Where the channels of four dimensions are: as given, or where 1 or 3 of them can be.
    fn layout(&self, name: &str, shape: &[usize], given: Option<Layout>) -> Result<Layout, DatasetError> {
        let is_channels = |side: usize| matches!(side, 1 | 3);
        let (first, last) = (is_channels(shape[1]), is_channels(shape[3]));
        match given {
            Some(layout) => Ok(layout),
            // One pixel in each image: both layouts mean the same.
            None if shape[1..] == [1; 3] => Ok(Layout::Nchw),
            None if first && !last => Ok(Layout::Nchw),
            None if last && !first => Ok(Layout::Nhwc),
            None => {
                let problem = match first {
                    true => "can mean channels first (nchw) or last (nhwc)",
                    false => "has 1 or 3, as channels have, neither in the second place nor in the last",
                };
                Err(self.wrong(
                    name,
                    format!("its shape {shape:?} {problem}"),
                    "say which by --layout nchw or --layout nhwc",
                ))
            }
        }
    }

    /// The labels, one for each of so many images.
    fn labels(&self, name: &str, y: Array, count: usize) -> Result<Vec<usize>, DatasetError> {
        if y.shape != [count] && y.shape != [count, 1] {
            return Err(self.wrong(
                name,
                format!("its shape {:?} does not fit {count} images", y.shape),
                format!("give one label per image, shape [{count}]"),
            ));
        }
        let labels = y.to_integers().ok_or_else(|| {
            self.wrong(name, format!("its type {} is no integer", y.kind), "save y.astype(int)")
        })?;
        let mut checked = Vec::with_capacity(labels.len());
        for (index, label) in labels.into_iter().enumerate() {
            match usize::try_from(label) {
                Ok(label) if label < MAX_CLASSES => checked.push(label),
                _ => {
                    let place = format!("{}, array {name}, image {index}", self.path.display());
                    return Err(DatasetError::Label { place, label, classes: MAX_CLASSES });
                }
            }
        }
        Ok(checked)
    }

    /// The number of classes, where the file says it.
    fn classes(&mut self) -> Result<Option<usize>, DatasetError> {
        let Some(array) = self.optional("classes")? else { return Ok(None) };
        match array.to_integers().unwrap_or_default().as_slice() {
            &[value] if (1..=MAX_CLASSES as i128).contains(&value) => Ok(Some(value as usize)),
            _ => Err(self.wrong(
                "classes",
                format!("it is not one integer in 1..={MAX_CLASSES}"),
                "save numpy.int64(the number of classes)",
            )),
        }
    }
}

/// To [N, C, H, W].
fn planes<T: Copy>(values: Vec<T>, [channels, height, width]: [usize; 3], from: Layout) -> Vec<T> {
    if from == Layout::Nchw || channels == 1 {
        return values;
    }
    let mut out = Vec::with_capacity(values.len());
    let size = (channels * height * width).max(1);
    for image in values.chunks_exact(size) {
        for channel in 0..channels {
            out.extend(image.iter().skip(channel).step_by(channels));
        }
    }
    out
}
