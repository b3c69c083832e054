//! `fashion-mnist[:PATH]`.

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;

use common::*;
use equipoise_dataset::{Source, Split};
use flate2::{Compression, write::GzEncoder};
use tempfile::tempdir;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

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
