//! Data sets.

use std::fs;

use equipoise_dataset::{Source, Split};
use equipoise_fuzz::mutate::{bytes, gzip, mat, png, zip};
use equipoise_fuzz::{Mutator, Sample, Target, fuzz};
use parquet::basic::Compression;

use crate::{files, fixture};

/// The test split of a data set at the folder of a case.
fn loads(samples: Vec<Sample>, source: fn(std::path::PathBuf) -> Source) -> Target {
    Target::new(samples, move |folder| {
        let set = source(folder.to_owned()).load(Split::Test).map_err(|error| error.to_string())?;
        let values = set.images(&(0..set.len()).collect::<Vec<_>>());
        assert_eq!(values.len(), set.len() * set.shape.iter().product::<usize>());
        assert!(set.labels.iter().all(|&label| label < set.classes));
        Ok(())
    })
}

/// Images with some endings among the fixtures, each in a folder of a class.
fn images(endings: &[&str], mutator: Mutator) -> Target {
    let mut samples = Vec::new();
    let folders = ["dataset/tests/data", "dataset/tests/data/formats"];
    let mut paths: Vec<_> = folders.iter().flat_map(|at| fs::read_dir(fixture(at)).unwrap()).collect();
    paths.sort_by_key(|path| path.as_ref().unwrap().path());
    for path in paths {
        let path = path.unwrap().path();
        let Some(ending) = path.extension().and_then(|ending| ending.to_str()) else { continue };
        // What is refused as it is says little when it is damaged.
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let refused =
            ["gray-alpha", "rgba", "float", "cmyk", "rle"].contains(&&*stem) || path.ends_with("palette.tif");
        if !endings.contains(&ending) || refused {
            continue;
        }
        let content = fs::read(&path).unwrap();
        samples.push(Sample::of(format!("test/class/image.{ending}"), content, mutator));
    }
    loads(samples, Source::Folder)
}

fuzz!(png_images, 1500, images(&["png"], png));
fuzz!(jpeg_images, 1500, images(&["jpg"], bytes));
fuzz!(bmp_images, 1500, images(&["bmp"], bytes));
fuzz!(pnm_images, 1500, images(&["ppm", "pgm"], bytes));
// The decoder reserves up to 256 MiB for an entry of the first directory, and does not touch it before the entry is read.
fuzz!(tiff_images, 1500, images(&["tif", "tiff"], bytes).with_room(320 << 20));
// A lossless image of one colour has no bit per pixel: what it may take is bounded by the greatest size of an image alone, as
// three bytes of a pixel for us and four for the decoder.
fuzz!(webp_images, 1500, images(&["webp"], bytes).with_room(7 * (1024 * 1024 * 1024 / 12) + (96 << 20)));

fuzz!(npz_arrays, 2000, {
    let mut samples = Vec::new();
    for name in ["float16", "float32-nhwc", "float64-big-endian", "gray", "keras", "medmnist", "uint8-nchw"] {
        let content = fs::read(fixture(&format!("dataset/tests/data/npz/{name}.npz"))).unwrap();
        samples.push(Sample::of("test.npz", content, zip));
    }
    Target::new(samples, |folder| {
        let source = Source::Npz(folder.join("test.npz"));
        let whole = source.has_training_split().and_then(|_| source.load(Split::Test));
        whole.map(drop).map_err(|error| error.to_string())
    })
});

fuzz!(cifar10_for_c_programs, 1000, {
    let content = (0..3).flat_map(|seed| files::record(seed, seed.into())).collect::<Vec<u8>>();
    loads(vec![Sample::of("test_batch.bin", content, bytes)], Source::Cifar10)
});

fuzz!(cifar100_for_c_programs, 1000, {
    let record = |seed: u8| [vec![seed], files::record(9 * seed, seed.into())].concat();
    let content = (0..3).flat_map(record).collect::<Vec<u8>>();
    loads(vec![Sample::of("test.bin", content, bytes)], Source::Cifar100)
});

fuzz!(cifar10_for_python, 2000, {
    let batch = |name: &str| {
        let content = fs::read(fixture(&format!("dataset/tests/data/pickles/{name}"))).unwrap();
        Sample::of("cifar-10-batches-py/test_batch", content, bytes)
    };
    let samples = ["protocol-2", "protocol-3", "protocol-4", "protocol-5"].map(batch);
    loads(samples.to_vec(), Source::Cifar10)
});

fuzz!(idx_arrays, 2000, {
    let values: Vec<u8> = (0..2 * 28 * 28).map(|at| (at * 7 % 251) as u8).collect();
    let (images, labels) = (files::idx(&[2, 28, 28], &values), files::idx(&[2], &[3, 9]));
    let plain = Sample::of("t10k-images-idx3-ubyte", images.clone(), bytes).and(
        "t10k-labels-idx1-ubyte",
        labels.clone(),
        Some(bytes),
    );
    let packed = Sample::of("t10k-images-idx3-ubyte.gz", files::gzip(&images), gzip).and(
        "t10k-labels-idx1-ubyte.gz",
        files::gzip(&labels),
        Some(gzip),
    );
    loads(vec![plain, packed], Source::Mnist)
});

fuzz!(mat_files, 2000, {
    let file = |name: &str| {
        let content = fs::read(fixture(&format!("dataset/tests/data/mat/{name}.mat"))).unwrap();
        Sample::of("test_32x32.mat", content, mat)
    };
    loads(["compressed", "double", "plain"].map(file).to_vec(), Source::Svhn)
});

fuzz!(parquet_files, 2000, {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.parquet");
    let image = |shade: u8| files::plain_png(32, 32, [shade, 0, 255 - shade]);
    let rows = [(Some(image(0)), 0), (Some(image(90)), 9), (Some(image(200)), 4)];
    let compressions = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::BROTLI(Default::default()),
        Compression::LZ4_RAW,
    ];
    let samples = compressions.map(|compression| {
        files::parquet_with(&path, "img", &["label"], &rows, 2, compression);
        Sample::of("test-00000-of-00001.parquet", fs::read(&path).unwrap(), bytes)
    });
    loads(samples.to_vec(), Source::Cifar10)
});
