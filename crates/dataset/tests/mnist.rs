//! `mnist:PATH` and `fashion-mnist[:PATH]`.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use equipoise_dataset::{Source, Split};
use tempfile::tempdir;

#[test]
fn plain_and_gzipped_files_are_read() {
    let folder = tempdir().unwrap();
    let put = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
    let pixels: Vec<u8> = (0..2 * 28 * 28).map(|at| (at % 256) as u8).collect();
    put("train-images-idx3-ubyte", &idx(&[2, 28, 28], &pixels));
    put("train-labels-idx1-ubyte", &idx(&[2], &[9, 0]));
    put("t10k-images-idx3-ubyte.gz", &gzip(&idx(&[1, 28, 28], &pixels[..784])));
    put("t10k-labels-idx1-ubyte.gz", &gzip(&idx(&[1], &[3])));
    let source = Source::FashionMnist(folder.path().into());
    let train = source.load(Split::Train).unwrap();
    assert_eq!((train.name.as_str(), train.shape), ("Fashion-MNIST", [1, 28, 28]));
    assert_eq!((train.labels.as_slice(), train.class_names[9].as_str()), (&[9, 0][..], "Ankle boot"));
    assert_eq!(bytes(&train), pixels);
    assert_eq!(source.load(Split::Test).unwrap().labels, [3]);
    says(&train.notes.join(";"), &["2 images", "train split of Fashion-MNIST has 60000"]);
    let digits = Source::Mnist(folder.path().into()).load(Split::Train).unwrap();
    assert_eq!((digits.name.as_str(), digits.class_names[9].as_str()), ("MNIST", "9"));
}

#[test]
fn torchvisions_folders_and_the_dotted_names_of_the_original_are_found() {
    let folder = tempdir().unwrap();
    let raw = folder.path().join("MNIST/raw");
    fs::create_dir_all(&raw).unwrap();
    let images = idx(&[1, 28, 28], &[7; 784]);
    fs::write(raw.join("train-images-idx3-ubyte"), &images).unwrap();
    // torchvision keeps the gzipped files beside those that it unpacks.
    fs::write(raw.join("train-images-idx3-ubyte.gz"), gzip(&images)).unwrap();
    fs::write(raw.join("train-labels-idx1-ubyte"), idx(&[1], &[4])).unwrap();
    fs::write(raw.join("t10k-images.idx3-ubyte"), idx(&[2, 28, 28], &[9; 2 * 784])).unwrap();
    fs::write(raw.join("t10k-labels.idx1-ubyte.gz"), gzip(&idx(&[2], &[5, 6]))).unwrap();
    for path in [folder.path(), &folder.path().join("MNIST"), &raw] {
        let source = Source::Mnist(path.into());
        assert_eq!(source.load(Split::Train).unwrap().labels, [4]);
        assert_eq!(source.load(Split::Test).unwrap().labels, [5, 6]);
    }
}

#[test]
fn parquet_of_gray_images_is_read() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("mnist")).unwrap();
    let gray = |value| png(28, 28, png::ColorType::Grayscale, &[value; 784]);
    let rows = [(Some(gray(3)), 7), (Some(gray(5)), 1)];
    parquet(&folder.path().join("mnist/test-00000-of-00001.parquet"), "image", &rows, 2);
    let source = Source::Mnist(folder.path().into());
    let test = source.load(Split::Test).unwrap();
    assert_eq!((test.shape, test.labels.as_slice()), ([1, 28, 28], &[7, 1][..]));
    assert_eq!(bytes(&test.select(&[1])), [5; 784]);
    says(
        &failure(&source, Split::Train),
        &["train-images-idx3-ubyte", "looked here, in raw and in MNIST/raw"],
    );
    let colour = [(Some(plain_png(28, 28, [1, 2, 3])), 7)];
    parquet(&folder.path().join("mnist/test-00000-of-00001.parquet"), "image", &colour, 2);
    says(&failure(&source, Split::Test), &["row 0: a colour image", "MNIST are gray"]);
}

#[test]
fn bad_files_are_named() {
    let folder = tempdir().unwrap();
    let put = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
    let fails = || failure(&Source::FashionMnist(folder.path().into()), Split::Test);
    says(&fails(), &["t10k-images-idx3-ubyte", "dataset-fashion-mnist", "fashion-mnist:PATH"]);
    put("t10k-images-idx3-ubyte", &idx(&[2, 1, 1], &[1, 2]));
    says(&fails(), &["t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz not found"]);
    put("t10k-labels-idx1-ubyte", &idx(&[1], &[0]));
    says(&fails(), &["t10k-labels-idx1-ubyte: labels: found 1, expected 2"]);
    put("t10k-labels-idx1-ubyte", &idx(&[2], &[0, 10]));
    says(&fails(), &["t10k-labels-idx1-ubyte, image 1: label 10"]);
    put("t10k-labels-idx1-ubyte", &idx(&[0], &[]));
    put("t10k-images-idx3-ubyte", &idx(&[0, 1, 1], &[]));
    says(&fails(), &["no images"]);
    put("t10k-images-idx3-ubyte", &idx(&[2, 1, 1], &[1]));
    says(&fails(), &["t10k-images-idx3-ubyte: the header announces [2, 1, 1]", "1 bytes"]);
    // More than the file can hold, plain and gzipped: refused before memory is taken.
    let huge = idx(&[60_000, 65_535, 65_535], &[1]);
    put("t10k-images-idx3-ubyte", &huge);
    says(&fails(), &["[60000, 65535, 65535]", "but fewer bytes"]);
    put("t10k-images-idx3-ubyte", &gzip(&huge));
    says(&fails(), &["[60000, 65535, 65535]", "but fewer bytes"]);
    put("t10k-images-idx3-ubyte", &gzip(&idx(&[2, 1, 1], &[1, 2]))[..20]);
    says(&fails(), &["t10k-images-idx3-ubyte: damaged gzip"]);
}

#[test]
fn debians_package_loads_where_it_is_installed() {
    let source: Source = "fashion-mnist".parse().unwrap();
    let Source::FashionMnist(path) = &source else { unreachable!() };
    if !Path::is_dir(path) {
        println!("skipped: the package dataset-fashion-mnist is not installed");
        return;
    }
    for (split, count) in [(Split::Train, 60_000), (Split::Test, 10_000)] {
        let set = source.load(split).unwrap();
        assert_eq!((set.len(), set.shape), (count, [1, 28, 28]));
        assert_eq!(set.labels.iter().filter(|&&label| label == 4).count(), count / 10);
    }
}
