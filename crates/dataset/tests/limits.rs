//! What a file claims is compared with what it holds and with the limit before memory is taken for it, and rows that are
//! not asked for are not read.

mod common;

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use common::*;
use equipoise_dataset::{Dataset, DatasetError, Limit, Reading, Source, Split};
use tempfile::{TempDir, tempdir};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An npy array of any header.
fn npy(kind: &str, fortran: bool, shape: &str, values: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': ({shape}), }}");
    header += &" ".repeat((64 - (header.len() + 11) % 64) % 64);
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(values);
    file
}

fn npz(path: &Path, method: CompressionMethod, members: &[(&str, Vec<u8>)]) -> Source {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        archive.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        archive.write_all(content).unwrap();
    }
    fs::write(path, archive.finish().unwrap().into_inner()).unwrap();
    Source::Npz(path.into())
}

const METHODS: [CompressionMethod; 2] = [CompressionMethod::Stored, CompressionMethod::Deflated];

fn rows(source: &Source, wanted: &[usize]) -> Result<Dataset, DatasetError> {
    let chosen = |_| Ok::<_, DatasetError>(wanted.to_vec());
    let (set, rows) = source.load_rows(Split::Test, &Reading::default(), chosen)?;
    assert_eq!(rows, wanted);
    Ok(set)
}

/// 60 images of [3, 20, 31] as [N, H, W, C]: a run of rows is more than is read at once.
fn values() -> Vec<f32> {
    (0..60 * 20 * 31 * 3).map(|at| (at * 7 % 1000) as f32 / 1000.0).collect()
}

#[test]
fn rows_are_those_of_the_whole() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.npz");
    let labels: Vec<u8> = (0..60).map(|at| at % 7).collect();
    let floats: Vec<u8> = values().iter().flat_map(|value| value.to_le_bytes()).collect();
    let doubles: Vec<u8> = values().iter().flat_map(|value| f64::from(*value).to_be_bytes()).collect();
    let whole_numbers: Vec<u8> = (0..60 * 20 * 31 * 3).map(|at| (at % 251) as u8).collect();
    for method in METHODS {
        for (kind, fortran, shape, content) in [
            ("<f4", false, "60, 20, 31, 3", &floats),
            (">f8", false, "60, 3, 20, 31", &doubles),
            ("|u1", false, "60, 20, 31, 3", &whole_numbers),
            ("<f4", true, "60, 3, 20, 31", &floats),
            ("|u1", false, "60, 20, 93", &whole_numbers),
        ] {
            let members =
                [("x.npy", npy(kind, fortran, shape, content)), ("y.npy", npy("|u1", false, "60,", &labels))];
            let source = npz(&path, method, &members);
            let whole = source.load(Split::Test).unwrap();
            assert_eq!(whole.len(), 60);
            for wanted in
                [vec![0], vec![59], vec![3, 4, 5, 17, 18, 40], (10..50).collect(), (0..60).collect()]
            {
                let part = rows(&source, &wanted).unwrap();
                assert!(part == whole.select(&wanted), "{kind} {shape} {wanted:?}");
                assert_eq!(part.classes, 7);
            }
        }
    }
    // Sources that are read whole choose alike.
    let whole = Source::Digits.load(Split::Test).unwrap();
    for wanted in [vec![0, 1, 2], vec![2, 5, 499]] {
        assert!(rows(&Source::Digits, &wanted).unwrap() == whole.select(&wanted));
    }
}

#[test]
fn rows_that_are_not_asked_for_are_not_read() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.npz");
    // The last image is none.
    let mut content: Vec<u8> = [0.5_f32; 4].iter().flat_map(|value| value.to_le_bytes()).collect();
    content[12..].copy_from_slice(&f32::NAN.to_le_bytes());
    for method in METHODS {
        let y = npy("<i8", false, "4,", &[0; 32]);
        let source =
            npz(&path, method, &[("x.npy", npy("<f4", false, "4, 1, 1, 1", &content)), ("y.npy", y)]);
        assert_eq!(rows(&source, &[0, 2]).unwrap().images(&[0, 1]), [0.5, 0.5]);
        // An image is named by its row in the file.
        for wanted in [vec![3], vec![1, 3], vec![0, 1, 2, 3]] {
            says(&rows(&source, &wanted).unwrap_err().to_string(), &["x.npz, image 3, value 0", "NaN"]);
        }
    }
    // A file that ends where its directory says that it goes on: the first rows are there.
    let refused = |count: usize| Err(DatasetError::UnknownSplit { name: format!("{count}") });
    let source = Source::Npz(path);
    let error = source.load_rows(Split::Test, &Reading::default(), refused).unwrap_err();
    assert!(matches!(error, DatasetError::UnknownSplit { name } if name == "4"));
}

#[test]
fn arrays_that_claim_what_the_archive_cannot_hold_are_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.npz");
    let y = || ("y.npy", npy("<i8", false, "2,", &[0; 16]));
    for method in METHODS {
        for shape in [
            "2, 1, 1, 3",
            "2, 3, 1048576, 1048576",
            "2, 1, 0, 8",
            "4611686018427387904, 3, 4611686018427387904, 32",
        ] {
            let source = npz(&path, method, &[("x.npy", npy("<f4", false, shape, &[0; 8])), y()]);
            says(&failure(&source, Split::Test), &["x.npz"]);
        }
        // Labels and classes are bounded too.
        let x = || ("x.npy", npy("<f4", false, "2, 1, 1, 1", &[0; 8]));
        let labels = ("y.npy", npy("<i8", false, "1099511627776,", &[0; 16]));
        says(&failure(&npz(&path, method, &[x(), labels]), Split::Test), &["array y", "1099511627776"]);
        let classes = ("classes.npy", npy("|u1", false, "1000000,", &[1; 1_000_000]));
        says(
            &failure(&npz(&path, method, &[x(), y(), classes]), Split::Test),
            &["array classes", "one integer"],
        );
    }
    // The directory's sizes agree with the header, and nothing that short inflates to that.
    let members = [("x.npy", npy("|u1", false, "2, 1, 1, 4096", &[0; 8192])), y()];
    npz(&path, CompressionMethod::Deflated, &members);
    let mut bytes = fs::read(&path).unwrap();
    let claimed = npy("|u1", false, "2, 1, 1, 4096", &[0; 8192]).len() as u32;
    // As another size in the directory, which is believed before the data are.
    let directory = bytes.windows(4).position(|at| at == b"PK\x01\x02").unwrap();
    assert_eq!(bytes[directory + 24..directory + 28], claimed.to_le_bytes());
    bytes[directory + 24..directory + 28].copy_from_slice(&(claimed + 1).to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    says(&failure(&Source::Npz(path), Split::Test), &["array x", "needs 8192 bytes, found 8193"]);
}

fn limited(source: &Source, bytes: u64) -> String {
    let reading = Reading { limit: Limit(bytes), ..Reading::default() };
    source.load_with(Split::Test, &reading).unwrap_err().to_string()
}

fn folder_of(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

#[test]
fn every_format_keeps_to_the_limit() {
    let images =
        folder_of(&[("test/a/1.png", plain_png(8, 8, [1; 3])), ("test/a/2.png", plain_png(8, 8, [2; 3]))]);
    let idx_files = folder_of(&[
        ("t10k-images-idx3-ubyte.gz", gzip(&idx(&[9, 28, 28], &[0; 9 * 784]))),
        ("t10k-labels-idx1-ubyte", idx(&[9], &[0; 9])),
    ]);
    let mat = folder_of(&[("test_32x32.mat", fs::read(fixture("mat/compressed.mat")).unwrap())]);
    let hugging_face = tempdir().unwrap();
    let row = |label: i64| (Some(plain_png(32, 32, [label as u8; 3])), label);
    parquet(&hugging_face.path().join("test.parquet"), "img", &[row(1), row(2), row(3)], 2);
    let arrays = tempdir().unwrap();
    let members =
        [("x.npy", npy("|u1", false, "4, 8, 8, 3", &[0; 768])), ("y.npy", npy("<i8", false, "4,", &[0; 32]))];
    let arrays = npz(&arrays.path().join("test.npz"), CompressionMethod::Stored, &members);
    for (source, file, enough) in [
        (Source::Folder(images.path().into()), "test", 2 * (192 + 32)),
        (Source::Mnist(idx_files.path().into()), "t10k-images-idx3-ubyte.gz", 9 * (784 + 32)),
        (Source::Svhn(mat.path().into()), "test_32x32.mat", 3 * (3072 + 32)),
        (Source::Cifar10(hugging_face.path().into()), "test.parquet", 3 * (3072 + 32 + 64)),
        (arrays, "test.npz, array x", 4 * (192 + 32)),
    ] {
        says(&limited(&source, enough / 2), &[file, "--max-input", "more than the limit of"]);
        let reading = Reading { limit: Limit(enough), ..Reading::default() };
        source.load_with(Split::Test, &reading).unwrap_or_else(|error| panic!("{error}"));
    }
    // One row is less than all.
    let reading = Reading { limit: Limit(4 * 32), ..Reading::default() };
    let first = |_| Ok::<_, DatasetError>(vec![0]);
    let small = folder_of(&[]);
    let source = npz(
        &small.path().join("test.npz"),
        CompressionMethod::Stored,
        &[("x.npy", npy("|u1", false, "4, 8, 8", &[0; 256])), ("y.npy", npy("<i8", false, "4,", &[0; 32]))],
    );
    assert_eq!(source.load_rows(Split::Test, &reading, first).unwrap().0.len(), 1);
    // A flag can ask for too much as well as a file.
    let reading = Reading { resize: "8192".parse().ok(), ..Reading::default() };
    let message = Source::Digits.load_with(Split::Test, &reading).unwrap_err().to_string();
    says(&message, &["digits: 500 images of 67108864 bytes need 31.3 GiB", "16 GiB"]);
}

/// A PNG of some size whose pixels are those of a 1x1 image.
fn png_bomb(width: u32, height: u32) -> Vec<u8> {
    let mut bomb = plain_png(1, 1, [0; 3]);
    bomb[16..20].copy_from_slice(&width.to_be_bytes());
    bomb[20..24].copy_from_slice(&height.to_be_bytes());
    let mut checksum = flate2::Crc::new();
    checksum.update(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    bomb
}

#[test]
fn headers_of_images_are_not_believed() {
    for (width, height) in [(100_000, 100_000), (9_000, 9_000), (1 << 31, 1), (1, 1 << 30)] {
        // As the first image, from which the size of all is taken, and beside a first.
        let alone = folder_of(&[("test/a/1.png", png_bomb(width, height))]);
        let message = failure(&Source::Folder(alone.path().into()), Split::Test);
        says(&message, &["1.png"]);
        let beside = folder_of(&[
            ("test/a/1.png", plain_png(8, 8, [1; 3])),
            ("test/a/2.png", png_bomb(width, height)),
        ]);
        says(&failure(&Source::Folder(beside.path().into()), Split::Test), &["2.png"]);
        let rows = tempdir().unwrap();
        parquet(&rows.path().join("test.parquet"), "img", &[(Some(png_bomb(width, height)), 1)], 1);
        says(&failure(&Source::Cifar10(rows.path().into()), Split::Test), &["test.parquet, row 0"]);
    }
    // An image of another size is named by its header, before it is decoded: its pixels are damaged.
    let mut damaged = png_bomb(9, 7);
    let at = damaged.len() - 20;
    damaged[at] ^= 255;
    let beside = folder_of(&[("test/a/1.png", plain_png(8, 8, [1; 3])), ("test/a/2.png", damaged)]);
    let message = failure(&Source::Folder(beside.path().into()), Split::Test);
    says(&message, &["2.png: the image is 9x7 pixels, expected 8x8"]);
}

#[test]
fn compressed_zeros_are_not_unpacked_without_end() {
    let labels = idx(&[9], &[0; 9]);
    for (images, problem) in [
        // More than the header announces, much more, and nothing of the format.
        (gzip(&idx(&[9, 28, 28], &vec![0; 50 << 20])), "but more bytes follow it"),
        (gzip(&vec![0; 50 << 20]), "not an IDX file"),
        // More than so few bytes can become.
        (gzip(&idx(&[u32::MAX, 28, 28], &[0; 784])), "but fewer bytes follow it"),
    ] {
        let folder =
            folder_of(&[("t10k-images-idx3-ubyte.gz", images), ("t10k-labels-idx1-ubyte", labels.clone())]);
        let message = failure(&Source::Mnist(folder.path().into()), Split::Test);
        says(&message, &["t10k-images-idx3-ubyte.gz", problem]);
    }
}
