//! `npz:PATH` and `write_npz`.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use equipoise_dataset::{DatasetError, NpyArray, Reading, Source, Split, write_npz};
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

    // Fortran's order is another order of the same values.
    let set = npz(&fixture("fortran.npz")).load(Split::Test).unwrap();
    assert_eq!(set.image(1), (12..24).map(|value| value as f32 / 32.0).collect::<Vec<_>>());
}

#[test]
fn other_types_and_layouts_of_numpy_are_read() {
    // [2, 3, 2, 4], value (24 n + 8 c + 4 h + w) / 48, in every form.
    let value = |at: usize| at as f32 / 48.0;
    let expected: Vec<f32> = (0..48).map(value).collect();
    for name in ["float16", "float64", "float64-big-endian", "float32-nhwc", "float64-nhwc-fortran"] {
        let set = npz(&fixture(&format!("npz/{name}.npz"))).load(Split::Test).unwrap();
        assert_eq!((set.shape, set.labels.as_slice()), ([3, 2, 4], &[1, 2][..]), "{name}");
        for (found, expected) in set.images(&[0, 1]).into_iter().zip(&expected) {
            // float16 has 11 significant bits.
            let error = if name == "float16" { 3e-4 } else { 0.0 };
            assert!((found - expected).abs() <= error, "{name}: {found} {expected}");
        }
    }
    for name in ["uint8-nchw", "uint8-nhwc", "uint8-nchw-fortran"] {
        let set = npz(&fixture(&format!("npz/{name}.npz"))).load(Split::Test).unwrap();
        assert_eq!((set.shape, set.labels.as_slice()), ([3, 2, 4], &[1, 2][..]), "{name}");
        assert_eq!(bytes(&set), (0..48).collect::<Vec<u8>>(), "{name}");
    }
    let gray = npz(&fixture("npz/gray.npz")).load(Split::Test).unwrap();
    assert_eq!((gray.shape, bytes(&gray)), ([1, 3, 4], (0..24).collect()));
    for (name, problem) in [("int64", "i8"), ("bool", "|b1"), ("objects", "|O")] {
        says(&failure(&npz(&fixture(&format!("npz/{name}.npz"))), Split::Test), &["array x", problem]);
    }
}

#[test]
fn both_splits_in_one_file_are_told_apart() {
    for name in ["keras", "medmnist"] {
        let source = npz(&fixture(&format!("npz/{name}.npz")));
        assert!(source.has_training_split().unwrap());
        assert_eq!(source.load(Split::Train).unwrap().labels, [0, 2, 1], "{name}");
        assert_eq!(source.load(Split::Test).unwrap().labels, [1], "{name}");
    }
    assert!(!npz(&fixture("float.npz")).has_training_split().unwrap());
}

#[test]
fn where_the_channels_are_is_asked_where_the_shape_does_not_say() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.npz");
    let read = |shape: &[usize], layout: Option<&str>| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|at| at as f32 / 1000.0).collect();
        write_npz(&path, &[("x", floats(shape, &values)), ("y", integers(&[2], &[0, 1]))]).unwrap();
        let layout = layout.map(|layout| layout.parse().unwrap());
        npz(&path).load_with(Split::Test, &Reading { layout, ..Reading::default() })
    };
    let shape = |shape: &[usize], layout| read(shape, layout).unwrap().shape;
    assert_eq!(shape(&[2, 3, 4, 5], None), [3, 4, 5]);
    assert_eq!(shape(&[2, 4, 5, 3], None), [3, 4, 5]);
    assert_eq!(shape(&[2, 1, 4, 5], None), [1, 4, 5]);
    assert_eq!(shape(&[2, 4, 5, 1], None), [1, 4, 5]);
    assert_eq!(shape(&[2, 1, 1, 1], None), [1, 1, 1]);
    for (ambiguous, nchw, nhwc) in [
        ([2, 3, 3, 3], [3, 3, 3], [3, 3, 3]),
        ([2, 3, 4, 1], [3, 4, 1], [1, 3, 4]),
        ([2, 1, 4, 3], [1, 4, 3], [3, 1, 4]),
        ([2, 1, 4, 1], [1, 4, 1], [1, 1, 4]),
        ([2, 4, 4, 4], [4, 4, 4], [4, 4, 4]),
    ] {
        let message = read(&ambiguous, None).unwrap_err().to_string();
        says(&message, &["x.npz, array x", &format!("{ambiguous:?}"), "--layout nchw or --layout nhwc"]);
        assert_eq!(shape(&ambiguous, Some("nchw")), nchw);
        assert_eq!(shape(&ambiguous, Some("nhwc")), nhwc);
    }
    // The values move with the layout.
    let set = read(&[2, 3, 3, 3], Some("nhwc")).unwrap();
    assert_eq!(set.image(0)[..3], [0.0, 0.003, 0.006]);
    // The flag wins over the shape.
    assert_eq!(shape(&[2, 4, 5, 3], Some("nchw")), [4, 5, 3]);
}

#[test]
fn test_labels_follow_the_training_file() {
    let folder = tempdir().unwrap();
    let save = |split: &str, labels: &[i64], classes: Option<&[i64]>| {
        let values = vec![0.5; labels.len()];
        let x = floats(&[labels.len(), 1, 1, 1], &values);
        let mut arrays = vec![("x", x), ("y", integers(&[labels.len()], labels))];
        arrays.extend(classes.map(|classes| ("classes", integers(&[], classes))));
        write_npz(folder.path().join(format!("{split}.npz")), &arrays).unwrap();
    };
    save("train", &[0, 4, 2], None);
    save("test", &[1], None);
    assert_eq!(npz(folder.path()).load(Split::Test).unwrap().classes, 5);
    save("test", &[5], None);
    says(&failure(&npz(folder.path()), Split::Test), &["array y, image 0: label 5 is outside 0..=4"]);
    save("train", &[0, 4, 2], Some(&[7]));
    assert_eq!(npz(folder.path()).load(Split::Test).unwrap().classes, 7);
}

#[test]
fn images_are_resized() {
    let reading = Reading { resize: "4".parse().ok(), ..Reading::default() };
    let set = npz(&fixture("float.npz")).load_with(Split::Test, &reading).unwrap();
    assert_eq!((set.shape, set.name.as_str()), ([3, 4, 4], "float.npz, shorter side resized to 4"));
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
    says(
        &refuse(&[("x", floats(&[2, 2], &[0.0; 4])), y()]),
        &["array x", "[2, 2] has neither 3 nor 4 dimensions"],
    );
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
