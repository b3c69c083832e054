//! Where a data set comes from: the `--data` specifications.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Dataset, DatasetError, cifar10, digits, fashion_mnist, folder, npz};

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

/// A data set that can be loaded, written `digits`, `cifar10:PATH`, `fashion-mnist[:PATH]`, `folder:PATH`
/// or `npz:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The 1,797 8x8 handwritten digits that this crate embeds: 1,297 to train on, 500 to test.
    Digits,
    /// CIFAR-10: a folder of canonical `.bin` batches, or of parquet files in the Hugging Face layout.
    Cifar10(PathBuf),
    /// Fashion-MNIST: a folder of IDX files, gzipped or not.
    FashionMnist(PathBuf),
    /// A folder of images: `PATH/{train,test}/CLASS/*.{png,jpg,jpeg}`.
    Folder(PathBuf),
    /// NumPy arrays `x` and `y`: one file, or a folder with `train.npz` and `test.npz`.
    Npz(PathBuf),
}

impl Source {
    /// Reads, decodes and checks one split.
    ///
    /// # Errors
    /// Everything that can be wrong with the files; the message names the file and the row, record or byte.
    pub fn load(&self, split: Split) -> Result<Dataset, DatasetError> {
        match self {
            Self::Digits => digits::load(split),
            Self::Cifar10(path) => cifar10::load(path, split),
            Self::FashionMnist(path) => fashion_mnist::load(path, split),
            Self::Folder(path) => folder::load(path, split),
            Self::Npz(path) => npz::load(path, split),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digits => f.write_str("digits"),
            Self::Cifar10(path) => write!(f, "cifar10:{}", path.display()),
            Self::FashionMnist(path) if path == Path::new(fashion_mnist::DEFAULT_PATH) => {
                f.write_str("fashion-mnist")
            }
            Self::FashionMnist(path) => write!(f, "fashion-mnist:{}", path.display()),
            Self::Folder(path) => write!(f, "folder:{}", path.display()),
            Self::Npz(path) => write!(f, "npz:{}", path.display()),
        }
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
        let needed = |path: Option<PathBuf>| path.ok_or_else(|| wrong(format!("{kind} needs a path")));
        match kind {
            "digits" if path.is_none() => Ok(Self::Digits),
            "digits" => Err(wrong("digits is embedded and takes no path".into())),
            "cifar10" => Ok(Self::Cifar10(needed(path)?)),
            "fashion-mnist" => {
                Ok(Self::FashionMnist(path.unwrap_or_else(|| fashion_mnist::DEFAULT_PATH.into())))
            }
            "folder" => Ok(Self::Folder(needed(path)?)),
            "npz" => Ok(Self::Npz(needed(path)?)),
            _ => Err(wrong("no such kind of data set".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read_and_written_alike() {
        for spec in ["digits", "cifar10:a/b", "fashion-mnist", "fashion-mnist:x", "folder:C:/y", "npz:z.npz"]
        {
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
