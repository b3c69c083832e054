//! `mnist:PATH` and `fashion-mnist[:PATH]`: four IDX files, gzipped or not, or parquet files.

use std::path::{Path, PathBuf};

use crate::known::{Known, check_folder};
use crate::{Dataset, DatasetError, Limit, Split, idx, parquet_images, shards};

/// MNIST or a data set in its form.
pub(crate) struct Mnist {
    pub known: Known,
    /// Where torchvision leaves the files, below the folder that it is given.
    torchvision: &'static str,
    /// Where to get the files.
    advice: &'static str,
}

/// MNIST: handwritten digits.
pub(crate) const MNIST: Mnist = Mnist {
    known: Known {
        name: "MNIST",
        shape: [1, 28, 28],
        classes: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        counts: [60_000, 10_000],
        parquet_folders: &["", "mnist", "data"],
        label_columns: &["label", "labels"],
    },
    torchvision: "MNIST/raw",
    advice: "give the folder of the four IDX files, torchvision's root, or the folder of the parquet files",
};

/// Fashion-MNIST: articles of clothing.
pub(crate) const FASHION_MNIST: Mnist = Mnist {
    known: Known {
        name: "Fashion-MNIST",
        classes: &[
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
        ],
        parquet_folders: &["", "fashion_mnist", "data"],
        ..MNIST.known
    },
    torchvision: "FashionMNIST/raw",
    advice: "install the Debian package dataset-fashion-mnist (apt-get install dataset-fashion-mnist) or give the \
             folder of the IDX or parquet files as fashion-mnist:PATH",
};

/// Where Debian's package `dataset-fashion-mnist` puts the files.
pub(crate) const FASHION_MNIST_PATH: &str = "/usr/share/datasets/fashion-mnist";

/// Reads the IDX files when there are any, else the parquet files.
pub(crate) fn load(
    mnist: &Mnist,
    folder: &Path,
    split: Split,
    limit: Limit,
) -> Result<Dataset, DatasetError> {
    let Mnist { known, torchvision, advice } = mnist;
    check_folder(folder, advice)?;
    let stem = match split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let below = [folder.to_owned(), folder.join("raw"), folder.join(torchvision)];
    let find = |what: &str| below.iter().find_map(|folder| file(folder, stem, what));
    let parquet = shards::find(folder, known.parquet_folders, split)?;
    let (images, labels) = match (find("images-idx3"), find("labels-idx1"), parquet) {
        (Some(images), Some(labels), parquet) => {
            let mut set = read(known, &images, &labels, split, limit)?;
            if parquet.is_some() {
                let place = folder.display();
                set.notes.push(format!(
                    "{place}: the IDX files were read; the parquet files, which are there too, were not"
                ));
            }
            return Ok(set);
        }
        (None, None, Some(files)) => return parquet_images::load(known, &files, split, limit),
        (images, labels, _) => (images, labels),
    };
    let missing =
        [("images-idx3", images), ("labels-idx1", labels)].into_iter().filter(|(_, path)| path.is_none());
    let missing: Vec<String> =
        missing.map(|(what, _)| format!("{stem}-{what}-ubyte or {stem}-{what}-ubyte.gz")).collect();
    Err(DatasetError::Missing {
        place: folder.display().to_string(),
        missing: missing.join(" and "),
        advice: format!("looked here, in raw and in {torchvision}; {advice}"),
    })
}

/// The file of images or labels, plain or gzipped, with a hyphen before `idx` or the dot of the original.
fn file(folder: &Path, stem: &str, what: &str) -> Option<PathBuf> {
    let name = format!("{stem}-{what}-ubyte");
    let dotted = name.replace("-idx", ".idx");
    let names = [name.clone(), dotted.clone(), format!("{name}.gz"), format!("{dotted}.gz")];
    names.into_iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

fn read(
    known: &Known,
    images_path: &Path,
    labels_path: &Path,
    split: Split,
    limit: Limit,
) -> Result<Dataset, DatasetError> {
    let ([count, height, width], pixels) = idx::read::<3>(images_path, limit)?;
    let ([label_count], bytes) = idx::read::<1>(labels_path, limit)?;
    if count != label_count {
        return Err(DatasetError::Length {
            place: labels_path.display().to_string(),
            what: "labels",
            found: label_count,
            expected: count,
        });
    }
    let mut labels = Vec::with_capacity(count);
    for (index, label) in bytes.into_iter().enumerate() {
        labels.push(known.label(label.into(), || format!("{}, image {index}", labels_path.display()))?);
    }
    known.sized(&labels_path.display().to_string(), split, [1, height, width], pixels, labels)
}
