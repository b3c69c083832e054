//! `npz:PATH` and `write_npz`.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use equipoise_dataset::{DatasetError, NpyArray, Source, Split, write_npz};
use tempfile::tempdir;

fn floats<'a>(shape: &[usize], values: &'a [f32]) -> NpyArray<'a> {
    NpyArray::F32 { shape: shape.to_vec(), values }
}

fn integers<'a>(shape: &[usize], values: &'a [i64]) -> NpyArray<'a> {
    NpyArray::I64 { shape: shape.to_vec(), values }
}

fn npz(path: &Path) -> Source {
    Source::Npz(path.into())
}

#[test]
fn files_of_numpy_are_read() {
    let set = npz(&fixture("float.npz")).load(Split::Train).unwrap();
    assert_eq!((set.name.as_str(), set.shape, set.classes), ("float.npz", [3, 2, 2], 2));
    assert_eq!(set.labels, [1, 0]);
    assert_eq!(set.image(1), (12..24).map(|value| value as f32 / 32.0).collect::<Vec<_>>());

    // Compressed, uint8 with channels last, big-endian labels, more classes than occur.
    let set = npz(&fixture("bytes.npz")).load(Split::Test).unwrap();
    assert_eq!((set.shape, set.classes, set.labels.as_slice()), ([3, 2, 2], 7, &[0, 4][..]));
    assert_eq!(bytes(&set.take(1)), [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);

    says(&failure(&npz(&fixture("fortran.npz")), Split::Test), &["array x", "ascontiguousarray"]);
}

#[test]
fn what_is_written_is_read_back_exactly() {
    let folder = tempdir().unwrap();
    let values: Vec<f32> = (0..24).map(|at| at as f32 / 23.0).collect();
    let arrays = [
        ("x", floats(&[2, 3, 2, 2], &values)),
        ("y", integers(&[2], &[3, 1])),
        ("index", integers(&[2], &[17, 4])),
        ("classes", integers(&[], &[10])),
    ];
    let path = folder.path().join("test.npz");
    write_npz(&path, &arrays).unwrap();
    // Given as a folder here, and as a file elsewhere.
    let set = npz(folder.path()).load(Split::Test).unwrap();
    assert_eq!((set.classes, set.labels.as_slice()), (10, &[3, 1][..]));
    assert_eq!(set.images(&[0, 1]), values);
    // Neither a clock nor a leftover.
    let again = folder.path().join("again.npz");
    write_npz(&again, &arrays).unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(&again).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.npz");
    fs::write(&path, "old").unwrap();
    let error = write_npz(&path, &[("x", floats(&[3], &[0.0; 2]))]).unwrap_err();
    says(&error.to_string(), &["array x of shape [3]", "found 2, expected 3"]);
    let twice = [("x", floats(&[1], &[0.0])), ("x", floats(&[1], &[0.0]))];
    assert!(matches!(write_npz(&path, &twice), Err(DatasetError::Io { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let nowhere = folder.path().join("absent/a.npz");
    says(&write_npz(&nowhere, &[]).unwrap_err().to_string(), &["cannot write", "absent"]);
}

/// The message for a file of the given arrays.
fn refuse(arrays: &[(&str, NpyArray<'_>)]) -> String {
    let folder = tempdir().unwrap();
    let path = folder.path().join("bad.npz");
    write_npz(&path, arrays).unwrap();
    failure(&npz(&path), Split::Test)
}

#[test]
fn bad_arrays_are_named() {
    let x = || ("x", floats(&[2, 1, 1, 2], &[0.0, 1.0, 0.5, 0.25]));
    let y = || ("y", integers(&[2], &[0, 1]));
    says(&refuse(&[y()]), &["bad.npz: array x (it holds: y) not found"]);
    says(&refuse(&[x(), ("z", integers(&[], &[0]))]), &["array y (it holds: x, z) not found"]);
    for (bad, shown) in [(f32::NAN, "NaN"), (1.5, "1.5"), (-0.25, "-0.25"), (f32::INFINITY, "inf")] {
        let message = refuse(&[("x", floats(&[2, 1, 1, 2], &[0.0, 1.0, bad, 0.0])), y()]);
        says(&message, &["bad.npz, image 1, value 0", shown, "outside [0, 1]"]);
    }
    says(&refuse(&[x(), ("y", integers(&[2], &[0, -1]))]), &["array y, image 1: label -1"]);
    says(&refuse(&[x(), ("y", integers(&[2], &[1 << 40, 0]))]), &["array y, image 0: label 1099511627776"]);
    let classes = |values| ("classes", integers(&[], values));
    says(&refuse(&[x(), y(), classes(&[1])]), &["array y, image 1: label 1 is outside 0..=0"]);
    says(&refuse(&[x(), y(), classes(&[0])]), &["array classes"]);
    says(&refuse(&[x(), ("y", integers(&[1], &[0]))]), &["array y", "[1] does not fit 2 images"]);
    says(&refuse(&[x(), ("y", floats(&[2], &[0.0, 1.0]))]), &["array y", "f4 is no integer"]);
    says(&refuse(&[("x", integers(&[2, 1, 1, 1], &[0, 1])), y()]), &["array x", "i8"]);
    says(&refuse(&[("x", floats(&[2, 2], &[0.0; 4])), y()]), &["array x", "[2, 2] has not 4 dimensions"]);
    // Channels last, which float images are not.
    says(&refuse(&[("x", floats(&[2, 4, 4, 3], &[0.0; 96])), y()]), &["images of 4 channels"]);
    let empty = [("x", floats(&[0, 1, 1, 1], &[])), ("y", integers(&[0], &[]))];
    says(&refuse(&empty), &["no images"]);
}

#[test]
fn bad_files_are_named() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("train.npz");
    says(&failure(&npz(folder.path()), Split::Train), &["train.npz not found"]);
    says(&failure(&npz(&path), Split::Train), &["train.npz: this file not found"]);
    let whole = fs::read(fixture("float.npz")).unwrap();
    for kept in [whole.len() - 1, whole.len() / 2, 0] {
        fs::write(&path, &whole[..kept]).unwrap();
        says(&failure(&npz(&path), Split::Train), &["train.npz: not an npz file"]);
    }
    // A value changed after the checksum was taken.
    let mut damaged = whole.clone();
    damaged[180] ^= 1;
    fs::write(&path, damaged).unwrap();
    says(&failure(&npz(&path), Split::Train), &["train.npz, array x:"]);
}
