//! `cifar10:PATH`: both layouts, and what is said when they are wrong.

mod common;

use std::fs;

use common::*;
use equipoise_dataset::{Source, Split};
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use tempfile::tempdir;

#[test]
fn canonical_batches_are_read_in_order() {
    let folder = tempdir().unwrap();
    // The published archive unpacks to this folder; its parent is what people give.
    let batches = folder.path().join("cifar-10-batches-bin");
    fs::create_dir(&batches).unwrap();
    for batch in 1..=5 {
        let content = [record(batch, batch.into()), record(9 - batch, 10)].concat();
        fs::write(batches.join(format!("data_batch_{batch}.bin")), content).unwrap();
    }
    fs::write(batches.join("test_batch.bin"), record(7, 3)).unwrap();
    let source = Source::Cifar10(folder.path().into());
    let train = source.load(Split::Train).unwrap();
    assert_eq!((train.name.as_str(), train.shape, train.classes), ("CIFAR-10", [3, 32, 32], 10));
    assert_eq!(train.labels, [1, 8, 2, 7, 3, 6, 4, 5, 5, 4]);
    assert_eq!(bytes(&train.select(&[8])), record(0, 5)[1..]);
    let test = Source::Cifar10(batches).load(Split::Test).unwrap();
    assert_eq!((test.labels[0], test.class_names[7].as_str()), (7, "horse"));
}

#[test]
fn a_truncated_batch_is_named_with_its_bytes() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("test_batch.bin");
    let source = Source::Cifar10(folder.path().into());
    fs::write(&path, &[record(0, 0), record(1, 1)].concat()[..6000]).unwrap();
    says(&failure(&source, Split::Test), &[path.to_str().unwrap(), "6000 bytes", "3073"]);
    fs::write(&path, []).unwrap();
    says(&failure(&source, Split::Test), &["0 bytes"]);
}

#[test]
fn a_label_out_of_range_is_named_with_its_record_and_byte() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("test_batch.bin");
    fs::write(&path, [record(0, 0), record(10, 1)].concat()).unwrap();
    let message = failure(&Source::Cifar10(folder.path().into()), Split::Test);
    says(&message, &["test_batch.bin, record 1 (byte 3073)", "label 10 is outside 0..=9"]);
}

#[test]
fn missing_batches_are_listed() {
    let folder = tempdir().unwrap();
    for batch in [1, 3, 5] {
        fs::write(folder.path().join(format!("data_batch_{batch}.bin")), record(0, 0)).unwrap();
    }
    let source = Source::Cifar10(folder.path().into());
    says(&failure(&source, Split::Train), &["data_batch_2.bin, data_batch_4.bin not found"]);
    says(&failure(&source, Split::Test), &["test_batch.bin not found"]);
}

#[test]
fn a_folder_without_data_says_what_was_looked_for() {
    let folder = tempdir().unwrap();
    let source = Source::Cifar10(folder.path().into());
    says(
        &failure(&source, Split::Train),
        &["train*.parquet", "cifar-10-batches-bin", "cifar-10-batches-py", "plain_text"],
    );
    let absent = Source::Cifar10(folder.path().join("absent"));
    says(&failure(&absent, Split::Train), &["absent", "not found"]);
}

#[test]
fn parquet_is_read_over_files_and_row_groups() {
    let folder = tempdir().unwrap();
    let below = folder.path().join("plain_text");
    fs::create_dir(&below).unwrap();
    let rows = |from: u8, to: u8| -> Vec<_> {
        (from..to).map(|at| (Some(plain_png(32, 32, [at, 2 * at, 3 * at])), i64::from(at % 10))).collect()
    };
    parquet(&below.join("train-00000-of-00002.parquet"), "img", &rows(0, 7), 3);
    parquet(&below.join("train-00001-of-00002.parquet"), "image", &rows(7, 12), 100);
    let train = Source::Cifar10(folder.path().into()).load(Split::Train).unwrap();
    assert_eq!(train.name, "CIFAR-10");
    assert_eq!(train.labels, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    for at in 0..12 {
        let value = at as u8;
        let planes = [[value; 1024], [2 * value; 1024], [3 * value; 1024]].concat();
        assert_eq!(bytes(&train.select(&[at])), planes);
    }
}

#[test]
fn every_compression_that_pyarrow_writes_is_read() {
    let rows: Vec<_> = (0..5u8).map(|at| (Some(plain_png(32, 32, [at, 9, 7])), at.into())).collect();
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ] {
        let folder = tempdir().unwrap();
        parquet_with(&folder.path().join("test.parquet"), "img", &["label"], &rows, 3, compression);
        let test = Source::Cifar10(folder.path().into()).load(Split::Test).unwrap();
        assert_eq!(test.labels, [0, 1, 2, 3, 4], "{compression}");
        assert_eq!(test.image(4)[0], 4.0 / 255.0);
    }
}

#[test]
fn shards_that_are_missing_and_rows_that_are_there_twice_are_refused() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let rows = |from: u8| -> Vec<_> {
        (from..from + 3).map(|at| (Some(plain_png(32, 32, [at, 0, 0])), (at % 10).into())).collect()
    };
    let source = Source::Cifar10(folder.path().into());
    parquet(&at("test-00000-of-00003.parquet"), "img", &rows(0), 9);
    parquet(&at("test-00002-of-00003.parquet"), "img", &rows(20), 9);
    says(&failure(&source, Split::Test), &["test-00001-of-00003 not found", "2 of 3 shards"]);
    parquet(&at("test-00001-of-00003.parquet"), "img", &rows(10), 9);
    let test = source.load(Split::Test).unwrap();
    assert_eq!((test.len(), bytes(&test.select(&[3]))[0]), (9, 10));
    says(&test.notes.join(";"), &["9 images", "test split of CIFAR-10 has 10000"]);

    // A whole file beside the shards, here or in another of the folders that are looked in.
    parquet(&at("test.parquet"), "img", &rows(0), 9);
    says(&failure(&source, Split::Test), &["test.parquet", "same rows"]);
    fs::create_dir(at("data")).unwrap();
    fs::rename(at("test.parquet"), at("data/test.parquet")).unwrap();
    says(&failure(&source, Split::Test), &["there twice", "data"]);
    fs::remove_file(at("data/test.parquet")).unwrap();

    // A shard that is a copy of another, whatever its name says.
    fs::copy(at("test-00000-of-00003.parquet"), at("test-00001-of-00003.parquet")).unwrap();
    says(
        &failure(&source, Split::Test),
        &["test-00001-of-00003.parquet: all of its rows", "test-00000-of-00003.parquet"],
    );

    // Rows twice within one file.
    let folder = tempdir().unwrap();
    parquet(&folder.path().join("train.parquet"), "img", &[rows(0), rows(0)].concat(), 4);
    let source = Source::Cifar10(folder.path().into());
    says(&failure(&source, Split::Train), &["train.parquet: each of 3 rows is there 2 times"]);
}

#[test]
fn other_layouts_and_files_beside_those_that_are_read_are_named() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("test_batch.bin"), record(7, 3)).unwrap();
    parquet(&folder.path().join("test.parquet"), "img", &[(Some(plain_png(32, 32, [0; 3])), 5)], 2);
    let source = Source::Cifar10(folder.path().into());
    let test = source.load(Split::Test).unwrap();
    assert_eq!(test.labels, [7]);
    says(&test.notes.join(";"), &[".bin files were read; the parquet files, which are there too, were not"]);
    fs::remove_file(folder.path().join("test_batch.bin")).unwrap();
    fs::write(folder.path().join("validation.parquet"), "").unwrap();
    let test = source.load(Split::Test).unwrap();
    says(&test.notes.join(";"), &["beside them not validation.parquet"]);
}

#[test]
fn jpeg_inside_parquet_changes_the_name() {
    let folder = tempdir().unwrap();
    let jpeg = fs::read(fixture("colour.jpg")).unwrap();
    let rows = [(Some(plain_png(32, 32, [0; 3])), 0), (Some(jpeg), 1)];
    parquet(&folder.path().join("test.parquet"), "img", &rows, 10);
    let test = Source::Cifar10(folder.path().into()).load(Split::Test).unwrap();
    assert_eq!(test.name, "CIFAR-10 (JPEG)");
}

/// Loads a `test.parquet` of a good row and then `row`, two rows to a row group.
fn third_row(row: (Option<Vec<u8>>, i64)) -> String {
    let folder = tempdir().unwrap();
    let good = (Some(plain_png(32, 32, [1, 2, 3])), 5);
    parquet(&folder.path().join("test.parquet"), "img", &[good.clone(), good.clone(), row, good], 2);
    failure(&Source::Cifar10(folder.path().into()), Split::Test)
}

#[test]
fn a_bad_row_is_named() {
    let image = || Some(plain_png(32, 32, [0; 3]));
    says(
        &third_row((Some(plain_png(31, 33, [0; 3])), 0)),
        &["test.parquet, row 2:", "31x33", "expected 32x32"],
    );
    says(&third_row((image(), 10)), &["row 2: label 10 is outside 0..=9"]);
    says(&third_row((image(), -1)), &["row 2: label -1"]);
    says(&third_row((None, 0)), &["row 2:", "neither a PNG nor a JPEG"]);
    says(&third_row((Some(b"GIF89a".to_vec()), 0)), &["row 2:", "GIF images are not read"]);
    for (whole, name) in [(image().unwrap(), "PNG"), (fs::read(fixture("colour.jpg")).unwrap(), "JPEG")] {
        for kept in [whole.len() - 14, whole.len() / 2, 12, 3] {
            println!("{name}, {kept} of {} bytes", whole.len());
            says(&third_row((Some(whole[..kept].to_vec()), 0)), &["row 2:"]);
        }
    }
}

#[test]
fn a_truncated_parquet_is_named() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("test.parquet");
    parquet(&path, "img", &[(Some(plain_png(32, 32, [1, 2, 3])), 5)], 2);
    let whole = fs::read(&path).unwrap();
    let source = Source::Cifar10(folder.path().into());
    for kept in [whole.len() - 1, whole.len() / 2, 4, 0] {
        fs::write(&path, &whole[..kept]).unwrap();
        says(&failure(&source, Split::Test), &[path.to_str().unwrap(), "truncated"]);
    }
}

#[test]
fn no_damaged_byte_makes_the_program_panic() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("test.parquet");
    parquet(&path, "img", &[(Some(plain_png(32, 32, [1, 2, 3])), 5)], 2);
    let whole = fs::read(&path).unwrap();
    let source = Source::Cifar10(folder.path().into());
    for at in 0..whole.len() {
        for value in [0, 1, 127, 255] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            fs::write(&path, damaged).unwrap();
            // Damage may go unseen (in a name, say), but what is returned is whole.
            match source.load(Split::Test) {
                Ok(set) => assert_eq!((set.len(), set.shape), (1, [3, 32, 32])),
                Err(error) => says(&error.to_string(), &["test.parquet"]),
            }
        }
    }
}

#[test]
fn other_columns_are_listed() {
    let folder = tempdir().unwrap();
    parquet(&folder.path().join("test.parquet"), "picture", &[(None, 5)], 2);
    let message = failure(&Source::Cifar10(folder.path().into()), Split::Test);
    says(&message, &["picture.bytes, picture.path, label", "img.bytes"]);
}

#[test]
fn a_parquet_without_rows_is_empty() {
    let folder = tempdir().unwrap();
    parquet(&folder.path().join("test.parquet"), "img", &[], 2);
    says(&failure(&Source::Cifar10(folder.path().into()), Split::Test), &["test.parquet: no images"]);
}

#[test]
fn the_shared_jpeg_copy_loads() {
    let Some(source) = shared_cifar10() else { return };
    for (split, count) in [(Split::Train, 50_000), (Split::Test, 10_000)] {
        let set = source.load(split).unwrap();
        assert_eq!((set.name.as_str(), set.len(), set.shape), ("CIFAR-10 (JPEG)", count, [3, 32, 32]));
        for class in 0..10 {
            assert_eq!(set.labels.iter().filter(|&&label| label == class).count(), count / 10);
        }
        // The means that everyone normalises CIFAR-10 with are 0.491, 0.482, 0.447.
        let part = set.take(2000);
        let values = bytes(&part);
        for (channel, expected) in [0.491, 0.482, 0.447].into_iter().enumerate() {
            let planes = values.chunks(1024).skip(channel).step_by(3).flatten();
            let mean = planes.map(|&value| f64::from(value)).sum::<f64>() / (2000.0 * 1024.0 * 255.0);
            assert!((mean - expected).abs() < 0.01, "channel {channel}: {mean}");
        }
    }
}
