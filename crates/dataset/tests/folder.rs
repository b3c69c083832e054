//! `folder:PATH`.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use equipoise_dataset::{Source, Split};
use png::ColorType;
use tempfile::{TempDir, tempdir};

fn put(folder: &TempDir, path: &str, content: impl AsRef<[u8]>) {
    let path = folder.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn source(folder: &TempDir) -> Source {
    Source::Folder(folder.path().into())
}

fn gray(value: u8) -> Vec<u8> {
    png(2, 3, ColorType::Grayscale, &[value; 6])
}

#[test]
fn classes_are_sorted_and_images_alternate() {
    let folder = tempdir().unwrap();
    put(&folder, "train/cat/a.png", gray(1));
    put(&folder, "train/cat/b.PNG", gray(2));
    put(&folder, "train/ant/z.png", gray(3));
    put(&folder, "train/ant/notes.txt", "ignored");
    put(&folder, "train/.cache/a.png", "hidden");
    put(&folder, "test/dog/a.png", gray(4));
    let train = source(&folder).load(Split::Train).unwrap();
    assert_eq!((train.shape, train.class_names.join(" ").as_str()), ([1, 3, 2], "ant cat dog"));
    assert_eq!(train.labels, [0, 1, 1]);
    assert_eq!(bytes(&train), [[3; 6], [1; 6], [2; 6]].concat());
    // A class that a split lacks keeps its number.
    assert_eq!(source(&folder).load(Split::Test).unwrap().labels, [2]);
}

#[test]
fn one_colour_image_makes_all_of_them_colour() {
    let folder = tempdir().unwrap();
    put(&folder, "train/a/1.png", gray(9));
    put(&folder, "train/a/2.png", plain_png(2, 3, [1, 2, 3]));
    put(&folder, "train/a/3.png", png(2, 3, ColorType::Rgba, &[4, 5, 6, 255].repeat(6)));
    let train = source(&folder).load(Split::Train).unwrap();
    assert_eq!(train.shape, [3, 3, 2]);
    let planes = |colour: [u8; 3]| colour.map(|value| [value; 6]).concat();
    assert_eq!(bytes(&train), [planes([9; 3]), planes([1, 2, 3]), planes([4, 5, 6])].concat());
}

#[test]
fn jpeg_values_are_those_of_libjpeg_within_rounding() {
    let folder = tempdir().unwrap();
    put(&folder, "train/a/1.jpg", fs::read(fixture("gray.jpg")).unwrap());
    put(&folder, "test/a/1.jpeg", fs::read(fixture("colour.jpg")).unwrap());
    let train = source(&folder).load(Split::Train).unwrap();
    assert_eq!(train.shape, [1, 32, 32]);
    let test = source(&folder).load(Split::Test).unwrap();
    assert_eq!(test.shape, [3, 32, 32]);
    let near = |value: u8, expected: usize| assert!(usize::from(value).abs_diff(expected) <= 8);
    for (at, &value) in bytes(&train).iter().enumerate() {
        near(value, at % 32 * 8);
    }
    let colour = bytes(&test);
    for y in 4..28 {
        for x in 4..28 {
            near(colour[y * 32 + x], x * 8);
            near(colour[1024 + y * 32 + x], y * 8);
            near(colour[2048 + y * 32 + x], 128);
        }
    }
}

#[test]
fn missing_folders_are_named() {
    let folder = tempdir().unwrap();
    put(&folder, "cat/a.png", gray(1));
    let looked = folder.path().join("test");
    says(&failure(&source(&folder), Split::Test), &[looked.to_str().unwrap(), "not found", "CLASS"]);
    let absent = Source::Folder(Path::new("no/such/folder").into());
    says(&failure(&absent, Split::Train), &["no/such/folder"]);
}

#[test]
fn no_images_is_an_error() {
    let folder = tempdir().unwrap();
    put(&folder, "train/cat/a.gif", "GIF89a");
    says(&failure(&source(&folder), Split::Train), &["no images", ".png, .jpg, .jpeg"]);
}

#[test]
fn bad_files_are_named() {
    let folder = tempdir().unwrap();
    put(&folder, "train/a/1.png", gray(1));
    put(&folder, "train/a/2.png", plain_png(4, 3, [0; 3]));
    says(
        &failure(&source(&folder), Split::Train),
        &["2.png: the image is 4x3", "expected 2x3 like", "1.png"],
    );
    put(&folder, "train/a/2.png", &gray(1)[..40]);
    says(&failure(&source(&folder), Split::Train), &["2.png:"]);
    put(&folder, "train/a/2.png", png(1, 1, ColorType::GrayscaleAlpha, &[0, 254]));
    says(&failure(&source(&folder), Split::Train), &["2.png:", "transparent"]);
}
