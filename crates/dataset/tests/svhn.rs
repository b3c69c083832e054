//! `svhn:PATH`: MAT-files that SciPy wrote, and what is said when they are wrong.

mod common;

use std::fs;

use common::*;
use equipoise_dataset::{Source, Split};
use tempfile::{TempDir, tempdir};

/// A folder whose training split is this file.
fn folder(content: &[u8]) -> (TempDir, Source) {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("train_32x32.mat"), content).unwrap();
    let source = Source::Svhn(folder.path().into());
    (folder, source)
}

fn mat(name: &str) -> Vec<u8> {
    fs::read(fixture(&format!("mat/{name}.mat"))).unwrap()
}

/// As `make.py` has it: planes of rows.
fn image(n: usize) -> Vec<u8> {
    let value = |at: usize| (n * 50 + at / 32 % 32 * 3 + at % 32 * 2 + at / 1024 * 40) % 251;
    (0..3072).map(|at| value(at) as u8).collect()
}

#[test]
fn compressed_and_plain_files_are_read() {
    // Compressed as published; as floats, with labels in a row, which Octave and others write.
    for name in ["compressed", "double"] {
        let train = folder(&mat(name)).1.load(Split::Train).unwrap();
        assert_eq!((train.name.as_str(), train.shape, train.classes), ("SVHN", [3, 32, 32], 10), "{name}");
        // 10 stands for the digit 0.
        assert_eq!((train.labels.as_slice(), train.class_names[0].as_str()), (&[0, 1, 9][..], "0"));
        assert_eq!(bytes(&train), [image(0), image(1), image(2)].concat());
        says(&train.notes.join(";"), &["3 images", "73257"]);
    }
    // One image, whose last axis is gone, and labels that are floats.
    let train = folder(&mat("plain")).1.load(Split::Train).unwrap();
    assert_eq!((train.labels.as_slice(), bytes(&train)), (&[0][..], image(0)));
}

#[test]
fn bad_files_are_named() {
    let (folder_, source) = folder(b"");
    says(&failure(&source, Split::Train), &["train_32x32.mat: not a MAT-file of level 5"]);
    says(&failure(&source, Split::Test), &["test_32x32.mat and test*.parquet", "not found"]);
    let fails = |content: &[u8]| {
        fs::write(folder_.path().join("train_32x32.mat"), content).unwrap();
        failure(&source, Split::Train)
    };
    says(&fails(&mat("level-4")), &["not a MAT-file of level 5"]);
    says(&fails(&mat("unequal")), &["y has the shape [3, 1]", "1 images"]);
    says(&fails(&mat("fractions")), &["X holds values outside 0..=255, or fractions"]);
    let mut hdf5 = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".to_vec();
    hdf5.resize(600, 0);
    says(&fails(&hdf5), &["7.3", "-v7"]);
    let whole = mat("compressed");
    for kept in [whole.len() - 1, whole.len() / 2, 200, 130, 127] {
        fails(&whole[..kept]);
    }
    let nothing = &whole[..128];
    says(&fails(nothing), &["does not hold numeric arrays X and y"]);
    // An element that claims more than the file has, and an array that claims more than its element can hold.
    let mut damaged = whole.clone();
    damaged[135] = 0x7f;
    says(&fails(&damaged), &["claims", "more than the file has"]);
    let plain = mat("plain");
    let at = plain.windows(8).position(|tag| tag == [2, 0, 0, 0, 0, 12, 0, 0]).unwrap();
    let mut damaged = plain.clone();
    damaged[at + 7] = 0x7f;
    says(&fails(&damaged), &["an element claims"]);
}

#[test]
fn no_damaged_byte_makes_the_program_panic() {
    for name in ["compressed", "plain"] {
        let whole = mat(name);
        let (folder_, source) = folder(&whole);
        for at in 0..300 {
            for value in [0, 255] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                fs::write(folder_.path().join("train_32x32.mat"), damaged).unwrap();
                match source.load(Split::Train) {
                    Ok(set) => assert_eq!(set.shape, [3, 32, 32]),
                    Err(error) => says(&error.to_string(), &["train_32x32.mat"]),
                }
            }
        }
    }
}

#[test]
fn parquet_is_read_too() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("cropped_digits")).unwrap();
    let rows = [(Some(plain_png(32, 32, [1, 2, 3])), 0), (Some(plain_png(32, 32, [4, 5, 6])), 9)];
    parquet(&folder.path().join("cropped_digits/test-00000-of-00001.parquet"), "image", &rows, 2);
    let test = Source::Svhn(folder.path().into()).load(Split::Test).unwrap();
    assert_eq!((test.name.as_str(), test.labels.as_slice()), ("SVHN", &[0, 9][..]));
}
