//! Where a data set comes from: the `--data` specifications.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::cifar::{self, CIFAR10, CIFAR100, CIFAR100_COARSE};
use crate::mnist::{self, FASHION_MNIST, FASHION_MNIST_PATH, MNIST};
use crate::{Dataset, DatasetError, Reading, digits, folder, npz, svhn};

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// The part that models are fitted to.
    Train,
    /// The part that results are reported on.
    Test,
}

impl Split {
    /// Both, in the order in which they are used.
    pub const ALL: [Self; 2] = [Self::Train, Self::Test];

    /// `train` or `test`, also the name of files and folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = DatasetError;

    fn from_str(name: &str) -> Result<Self, DatasetError> {
        Self::ALL
            .into_iter()
            .find(|split| split.name() == name)
            .ok_or_else(|| DatasetError::UnknownSplit { name: name.to_owned() })
    }
}

/// A data set that can be loaded, written as [`Source::FORMS`] says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The 1,797 8x8 handwritten digits that this crate embeds: 1,297 to train on, 500 to test.
    Digits,
    /// CIFAR-10: a folder of the batches for C programs (`.bin`) or for Python (`cifar-10-batches-py`, as torchvision
    /// leaves them), or of parquet files in the Hugging Face layout.
    Cifar10(PathBuf),
    /// CIFAR-100 in the same layouts, with its 100 classes.
    Cifar100(PathBuf),
    /// CIFAR-100 with its 20 superclasses.
    Cifar100Coarse(PathBuf),
    /// SVHN's cropped digits: a folder of `train_32x32.mat` and `test_32x32.mat`, or of parquet files.
    Svhn(PathBuf),
    /// MNIST: a folder of IDX files, gzipped or not, torchvision's root, or a folder of parquet files.
    Mnist(PathBuf),
    /// Fashion-MNIST in the same layouts.
    FashionMnist(PathBuf),
    /// A folder of images: `PATH/{train,test}/CLASS/**/*.{png,jpg,jpeg,bmp,ppm,pgm,tif,tiff,webp}`.
    Folder(PathBuf),
    /// NumPy arrays `x` and `y`: one file, or a folder with `train.npz` and `test.npz`.
    Npz(PathBuf),
}

impl Source {
    /// Every form of specification, as errors and help texts print them.
    pub const FORMS: &'static str = "digits, cifar10:PATH, cifar100:PATH, cifar100-coarse:PATH, svhn:PATH, mnist:PATH, \
                                     fashion-mnist[:PATH], folder:PATH or npz:PATH";

    /// Reads, decodes and checks one split.
    ///
    /// # Errors
    /// Everything that can be wrong with the files; the message names the file and the row, record or byte.
    pub fn load(&self, split: Split) -> Result<Dataset, DatasetError> {
        self.load_with(split, &Reading::default())
    }

    /// [`Source::load`], with images resized and cropped, and the layout of arrays, as `reading` says. The name of the
    /// data set then says so too.
    ///
    /// # Errors
    /// As [`Source::load`]; also when a crop is larger than the images, or a layout is given for anything but `npz`.
    pub fn load_with(&self, split: Split, reading: &Reading) -> Result<Dataset, DatasetError> {
        let all = |count: usize| Ok::<_, DatasetError>((0..count).collect());
        self.load_rows(split, reading, all).map(|(set, _)| set)
    }

    /// [`Source::load_with`], of the rows alone that `choose` picks once it is told how many there are. They are returned
    /// beside the images. Where it is cheap, as for arrays that are not compressed, the others are not read.
    ///
    /// ```
    /// use equipoise_dataset::{DatasetError, Reading, Source, Split};
    ///
    /// let odd = |count: usize| Ok::<_, DatasetError>((1..count).step_by(2).collect());
    /// let (set, rows) = Source::Digits.load_rows(Split::Test, &Reading::default(), odd)?;
    /// assert_eq!((set.len(), rows[..3].to_vec()), (250, vec![1, 3, 5]));
    /// # Ok::<(), DatasetError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Source::load_with`], and what `choose` answers.
    ///
    /// # Panics
    /// When a row that was chosen is not there, or rows do not ascend.
    pub fn load_rows<E: From<DatasetError>>(
        &self,
        split: Split,
        reading: &Reading,
        choose: impl FnOnce(usize) -> Result<Vec<usize>, E>,
    ) -> Result<(Dataset, Vec<usize>), E> {
        if let Some(layout) = reading.layout
            && !matches!(self, Self::Npz(_))
        {
            return Err(DatasetError::format(
                self,
                format!(
                    "--layout {layout} is for the arrays of npz:PATH, and these images have a layout of their own"
                ),
                "leave --layout out",
            )
            .into());
        }
        if let Self::Npz(path) = self {
            let (set, rows) = npz::load(path, split, reading, choose)?;
            return Ok((set.prepared(reading, self)?, rows));
        }
        let set = self.load_all(split, reading)?;
        let rows = choose(set.len())?;
        assert!(rows.is_sorted(), "rows ascend");
        let first = rows.iter().copied().eq(0..rows.len());
        let set = if first { set.take(rows.len()) } else { set.select(&rows) };
        // The images of a folder may differ in size until they are prepared, and are already.
        let set = if let Self::Folder(_) = self { set } else { set.prepared(reading, self)? };
        Ok((set, rows))
    }

    /// Everything, of one size: that of a folder's images only after they are prepared.
    fn load_all(&self, split: Split, reading: &Reading) -> Result<Dataset, DatasetError> {
        let limit = reading.limit;
        match self {
            Self::Digits => digits::load(split),
            Self::Cifar10(path) => cifar::load(&CIFAR10, path, split, limit),
            Self::Cifar100(path) => cifar::load(&CIFAR100, path, split, limit),
            Self::Cifar100Coarse(path) => cifar::load(&CIFAR100_COARSE, path, split, limit),
            Self::Svhn(path) => svhn::load(path, split, limit),
            Self::Mnist(path) => mnist::load(&MNIST, path, split, limit),
            Self::FashionMnist(path) => mnist::load(&FASHION_MNIST, path, split, limit),
            Self::Folder(path) => folder::load(path, split, reading),
            Self::Npz(path) => {
                npz::load(path, split, reading, |count| Ok((0..count).collect())).map(|(set, _)| set)
            }
        }
    }

    /// Whether there is a training split beside that for testing: a single npz file with `x` and `y` is read as
    /// either. Whether the training split's files are there, [`Source::load`] says.
    ///
    /// # Errors
    /// When the npz file cannot be read.
    pub fn has_training_split(&self) -> Result<bool, DatasetError> {
        match self {
            Self::Npz(path) if path.is_file() => npz::has_both_splits(path),
            _ => Ok(true),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path) = match self {
            Self::Digits => return f.write_str("digits"),
            Self::FashionMnist(path) if path == Path::new(FASHION_MNIST_PATH) => {
                return f.write_str("fashion-mnist");
            }
            Self::Cifar10(path) => ("cifar10", path),
            Self::Cifar100(path) => ("cifar100", path),
            Self::Cifar100Coarse(path) => ("cifar100-coarse", path),
            Self::Svhn(path) => ("svhn", path),
            Self::Mnist(path) => ("mnist", path),
            Self::FashionMnist(path) => ("fashion-mnist", path),
            Self::Folder(path) => ("folder", path),
            Self::Npz(path) => ("npz", path),
        };
        write!(f, "{kind}:{}", path.display())
    }
}

impl FromStr for Source {
    type Err = DatasetError;

    fn from_str(spec: &str) -> Result<Self, DatasetError> {
        let (kind, path) = match spec.split_once(':') {
            Some((kind, path)) => (kind, Some(PathBuf::from(path))),
            None => (spec, None),
        };
        let wrong = |problem: String| DatasetError::UnknownSource { spec: spec.to_owned(), problem };
        if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(wrong("the path after the colon is empty".into()));
        }
        let of = match kind {
            "digits" if path.is_none() => return Ok(Self::Digits),
            "digits" => return Err(wrong("digits is embedded and takes no path".into())),
            "fashion-mnist" if path.is_none() => return Ok(Self::FashionMnist(FASHION_MNIST_PATH.into())),
            "cifar10" => Self::Cifar10,
            "cifar100" => Self::Cifar100,
            "cifar100-coarse" => Self::Cifar100Coarse,
            "svhn" => Self::Svhn,
            "mnist" => Self::Mnist,
            "fashion-mnist" => Self::FashionMnist,
            "folder" => Self::Folder,
            "npz" => Self::Npz,
            _ => return Err(wrong("no such kind of data set".into())),
        };
        path.map(of).ok_or_else(|| wrong(format!("{kind} needs a path")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read_and_written_alike() {
        for spec in [
            "digits",
            "cifar10:a/b",
            "cifar100:a",
            "cifar100-coarse:a",
            "svhn:s",
            "mnist:m",
            "fashion-mnist",
            "fashion-mnist:x",
            "folder:C:/y",
            "npz:z.npz",
        ] {
            let kind = spec.split(':').next().unwrap();
            assert!(Source::FORMS.contains(kind), "{spec}");
            assert_eq!(spec.parse::<Source>().unwrap().to_string(), spec);
        }
        assert_eq!("folder:C:/y".parse::<Source>().unwrap(), Source::Folder("C:/y".into()));
        for split in Split::ALL {
            assert_eq!(split.to_string().parse::<Split>().unwrap(), split);
        }
    }

    #[test]
    fn unknown_specifications_say_what_to_write() {
        for (spec, problem) in [
            ("imagenet", "no such kind"),
            ("", "no such kind"),
            ("cifar10", "cifar10 needs a path"),
            ("mnist", "mnist needs a path"),
            ("npz:", "the path after the colon is empty"),
            ("digits:here", "takes no path"),
        ] {
            let message = spec.parse::<Source>().unwrap_err().to_string();
            assert!(message.contains(problem) && message.contains("npz:PATH"), "{message}");
        }
        let message = "valid".parse::<Split>().unwrap_err().to_string();
        assert!(message.contains("\"valid\"") && message.contains("train or test"), "{message}");
    }
}
