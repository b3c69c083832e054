//! `cifar100:PATH` and `cifar100-coarse:PATH` in every layout.

mod common;

use std::fs;

use common::*;
use equipoise_dataset::{Source, Split};
use parquet::basic::Compression;
use tempfile::{TempDir, tempdir};

fn sources(folder: &TempDir) -> [Source; 2] {
    [Source::Cifar100(folder.path().into()), Source::Cifar100Coarse(folder.path().into())]
}

#[test]
fn the_files_for_c_programs_hold_both_labels() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("cifar-100-binary")).unwrap();
    // The superclass, the class, the pixels.
    let both = |coarse: u8, fine| [&[coarse][..], &record(fine, 3)].concat();
    let put = |name: &str, content: &[u8]| {
        fs::write(folder.path().join("cifar-100-binary").join(name), content).unwrap();
    };
    put("train.bin", &[both(19, 99), both(0, 4)].concat());
    put("test.bin", &both(11, 19));
    let [fine, coarse] = sources(&folder).map(|source| source.load(Split::Train).unwrap());
    assert_eq!((fine.name.as_str(), fine.classes, fine.labels.as_slice()), ("CIFAR-100", 100, &[99, 4][..]));
    assert_eq!(coarse.name, "CIFAR-100 (20 superclasses)");
    assert_eq!((coarse.classes, coarse.labels.as_slice()), (20, &[19, 0][..]));
    assert_eq!((fine.class_names[99].as_str(), coarse.class_names[19].as_str()), ("worm", "vehicles_2"));
    assert_eq!(bytes(&fine.select(&[1])), record(4, 3)[1..]);
    let [fine, coarse] = sources(&folder).map(|source| source.load(Split::Test).unwrap());
    // Cattle are large omnivores and herbivores.
    assert_eq!((fine.class_names[fine.labels[0]].as_str(), coarse.labels[0]), ("cattle", 11));
    assert_eq!(coarse.class_names[11], "large_omnivores_and_herbivores");

    put("test.bin", &[both(11, 19), both(20, 100)].concat());
    let [fine, coarse] = sources(&folder).map(|source| failure(&source, Split::Test));
    says(&fine, &["test.bin, record 1 (byte 3074): label 100 is outside 0..=99"]);
    says(&coarse, &["label 20 is outside 0..=19"]);
    put("test.bin", &record(1, 1));
    says(&failure(&sources(&folder)[0], Split::Test), &["3073 bytes", "3074", "cifar-100-binary.tar.gz"]);
}

#[test]
fn class_names_are_sorted_and_complete() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("test.bin"), [&[0][..], &record(0, 0)].concat()).unwrap();
    for (source, count) in sources(&folder).into_iter().zip([100, 20]) {
        let names = source.load(Split::Test).unwrap().class_names;
        assert_eq!(names.len(), count);
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}

#[test]
fn parquet_has_a_column_for_each_kind_of_label() {
    let folder = tempdir().unwrap();
    let rows: Vec<_> = (0..4u8).map(|at| (Some(plain_png(32, 32, [at, 0, 0])), i64::from(at) * 30)).collect();
    let path = folder.path().join("test-00000-of-00001.parquet");
    parquet_with(
        &path,
        "img",
        &["fine_label", "coarse_label"],
        &rows,
        3,
        Compression::ZSTD(Default::default()),
    );
    let [fine, coarse] = sources(&folder).map(|source| source.load(Split::Test).unwrap());
    assert_eq!((fine.labels, coarse.labels), (vec![0, 30, 60, 90], vec![0, 6, 12, 18]));
    // A file of CIFAR-10 has neither.
    parquet(&path, "img", &rows[..1], 3);
    let [fine, coarse] = sources(&folder).map(|source| failure(&source, Split::Test));
    says(&fine, &["img.bytes, img.path, label", "fine_label"]);
    says(&coarse, &["coarse_label"]);
}

#[test]
fn a_folder_without_data_says_what_was_looked_for() {
    let folder = tempdir().unwrap();
    for source in sources(&folder) {
        says(
            &failure(&source, Split::Train),
            &["train.bin", "cifar-100-binary", "cifar-100-python", "train*.parquet"],
        );
    }
}
