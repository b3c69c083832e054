//! `cifar10:PATH`, `cifar100:PATH` and `cifar100-coarse:PATH`: finds out which of the three layouts PATH holds.

use std::path::{Path, PathBuf};

use crate::known::{Known, check_folder};
use crate::{Dataset, DatasetError, Limit, Split, cifar_bin, cifar_python, parquet_images, shards};

/// A CIFAR data set in the layouts of its authors.
pub(crate) struct Cifar {
    pub known: Known,
    /// The folder that the archive for C programs unpacks to, and the archive.
    pub bin: Archive,
    /// The folder that the archive for Python unpacks to, which torchvision leaves too, and the archive.
    pub python: Archive,
    /// The files of the training and the test part, without their ending.
    pub files: [&'static [&'static str]; 2],
    /// How many label bytes precede the pixels in the files for C programs, and which of them is meant.
    pub label_bytes: usize,
    pub label_byte: usize,
    /// What the labels are called in the files for Python.
    pub label_key: &'static str,
}

/// A published archive, and the folder that it unpacks to.
pub(crate) struct Archive {
    pub folder: &'static str,
    pub name: &'static str,
}

impl Cifar {
    /// The files of a split, without their ending.
    pub fn files(&self, split: Split) -> &'static [&'static str] {
        self.files[usize::from(split == Split::Test)]
    }
}

/// CIFAR-10.
pub(crate) const CIFAR10: Cifar = Cifar {
    known: Known {
        name: "CIFAR-10",
        shape: [3, 32, 32],
        classes: &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        counts: [50_000, 10_000],
        parquet_folders: &["", "plain_text", "data"],
        label_columns: &["label", "labels"],
    },
    bin: Archive { folder: "cifar-10-batches-bin", name: "cifar-10-binary.tar.gz" },
    python: Archive { folder: "cifar-10-batches-py", name: "cifar-10-python.tar.gz" },
    files: [
        &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
        &["test_batch"],
    ],
    label_bytes: 1,
    label_byte: 0,
    label_key: "labels",
};

/// CIFAR-100 with its 100 classes.
pub(crate) const CIFAR100: Cifar = Cifar {
    known: Known {
        name: "CIFAR-100",
        shape: [3, 32, 32],
        classes: &FINE,
        counts: [50_000, 10_000],
        parquet_folders: &["", "cifar100", "data"],
        label_columns: &["fine_label", "fine_labels"],
    },
    bin: Archive { folder: "cifar-100-binary", name: "cifar-100-binary.tar.gz" },
    python: Archive { folder: "cifar-100-python", name: "cifar-100-python.tar.gz" },
    files: [&["train"], &["test"]],
    label_bytes: 2,
    label_byte: 1,
    label_key: "fine_labels",
};

/// CIFAR-100 with its 20 superclasses.
pub(crate) const CIFAR100_COARSE: Cifar = Cifar {
    known: Known {
        name: "CIFAR-100 (20 superclasses)",
        classes: &COARSE,
        label_columns: &["coarse_label", "coarse_labels"],
        ..CIFAR100.known
    },
    label_byte: 0,
    label_key: "coarse_labels",
    ..CIFAR100
};

/// Reads the first layout that is there; a note names the others.
pub(crate) fn load(
    cifar: &Cifar,
    folder: &Path,
    split: Split,
    limit: Limit,
) -> Result<Dataset, DatasetError> {
    let Cifar { known, bin, python, .. } = cifar;
    let what =
        format!("the folder that {} or {} unpacks to, or that of the parquet files", bin.name, python.name);
    check_folder(folder, &format!("give {what}"))?;
    let (batches, pickles) = (find(cifar, folder, bin, ".bin"), find(cifar, folder, python, ""));
    let parquet = shards::find(folder, known.parquet_folders, split)?;
    let mut notes = Vec::new();
    let mut other = |there: bool, read: &str, not_read: &str| {
        if there {
            notes.push(format!(
                "{}: {read} were read; {not_read}, which are there too, were not",
                folder.display()
            ));
        }
    };
    let mut set = match (batches, pickles, parquet) {
        (Some(batches), pickles, parquet) => {
            other(pickles.is_some(), "the .bin files", "the files for Python");
            other(parquet.is_some(), "the .bin files", "the parquet files");
            cifar_bin::load(cifar, &batches, split)?
        }
        (None, Some(pickles), parquet) => {
            other(parquet.is_some(), "the files for Python", "the parquet files");
            cifar_python::load(cifar, &pickles, split)?
        }
        (None, None, Some(files)) => parquet_images::load(known, &files, split, limit)?,
        (None, None, None) => {
            return Err(DatasetError::Missing {
                place: folder.display().to_string(),
                missing: format!(
                    "{} (here or in {}), {} (here or in {}) and {split}*.parquet (here or in {})",
                    with_ending(cifar.files(split), ".bin"),
                    bin.folder,
                    with_ending(cifar.files(split), ""),
                    python.folder,
                    known.parquet_folders[1..].join(", ")
                ),
                advice: format!(
                    "unpack {} or {} there, or copy Hugging Face's parquet files",
                    bin.name, python.name
                ),
            });
        }
    };
    set.notes.extend(notes);
    Ok(set)
}

/// The folder, this one or the archive's below it, that holds at least one file of either split.
fn find(cifar: &Cifar, folder: &Path, archive: &Archive, ending: &str) -> Option<PathBuf> {
    let holds_one = |path: &PathBuf| {
        cifar.files.iter().copied().flatten().any(|name| path.join(format!("{name}{ending}")).is_file())
    };
    [folder.to_owned(), folder.join(archive.folder)].into_iter().find(holds_one)
}

/// All files of the split; part of the training set would silently be another data set.
pub(crate) fn all_files(
    cifar: &Cifar,
    folder: &Path,
    split: Split,
    ending: &str,
    archive: &Archive,
) -> Result<Vec<PathBuf>, DatasetError> {
    let names = cifar.files(split).iter().map(|name| format!("{name}{ending}"));
    let (there, missing): (Vec<String>, Vec<String>) = names.partition(|name| folder.join(name).is_file());
    if !missing.is_empty() {
        return Err(DatasetError::Missing {
            place: folder.display().to_string(),
            missing: missing.join(", "),
            advice: format!("unpack {} again", archive.name),
        });
    }
    Ok(there.into_iter().map(|name| folder.join(name)).collect())
}

/// `data_batch_1.bin .. data_batch_5.bin`.
fn with_ending(names: &[&str], ending: &str) -> String {
    match names {
        [first, .., last] => format!("{first}{ending} .. {last}{ending}"),
        names => names.iter().map(|name| format!("{name}{ending}")).collect::<Vec<_>>().join(", "),
    }
}

const FINE: [&str; 100] = [
    "apple",
    "aquarium_fish",
    "baby",
    "bear",
    "beaver",
    "bed",
    "bee",
    "beetle",
    "bicycle",
    "bottle",
    "bowl",
    "boy",
    "bridge",
    "bus",
    "butterfly",
    "camel",
    "can",
    "castle",
    "caterpillar",
    "cattle",
    "chair",
    "chimpanzee",
    "clock",
    "cloud",
    "cockroach",
    "couch",
    "crab",
    "crocodile",
    "cup",
    "dinosaur",
    "dolphin",
    "elephant",
    "flatfish",
    "forest",
    "fox",
    "girl",
    "hamster",
    "house",
    "kangaroo",
    "keyboard",
    "lamp",
    "lawn_mower",
    "leopard",
    "lion",
    "lizard",
    "lobster",
    "man",
    "maple_tree",
    "motorcycle",
    "mountain",
    "mouse",
    "mushroom",
    "oak_tree",
    "orange",
    "orchid",
    "otter",
    "palm_tree",
    "pear",
    "pickup_truck",
    "pine_tree",
    "plain",
    "plate",
    "poppy",
    "porcupine",
    "possum",
    "rabbit",
    "raccoon",
    "ray",
    "road",
    "rocket",
    "rose",
    "sea",
    "seal",
    "shark",
    "shrew",
    "skunk",
    "skyscraper",
    "snail",
    "snake",
    "spider",
    "squirrel",
    "streetcar",
    "sunflower",
    "sweet_pepper",
    "table",
    "tank",
    "telephone",
    "television",
    "tiger",
    "tractor",
    "train",
    "trout",
    "tulip",
    "turtle",
    "wardrobe",
    "whale",
    "willow_tree",
    "wolf",
    "woman",
    "worm",
];

const COARSE: [&str; 20] = [
    "aquatic_mammals",
    "fish",
    "flowers",
    "food_containers",
    "fruit_and_vegetables",
    "household_electrical_devices",
    "household_furniture",
    "insects",
    "large_carnivores",
    "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "people",
    "reptiles",
    "small_mammals",
    "trees",
    "vehicles_1",
    "vehicles_2",
];
