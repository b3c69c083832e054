//! Writers of small files for the tests, byte by byte as the formats ask.
#![allow(dead_code, reason = "each test file uses some of them")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use equipoise_dataset::{Dataset, Source, Split};
use flate2::write::GzEncoder;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// A file of `tests/data`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The JPEG copy of CIFAR-10 that lies beside some checkouts; without it the test says so and ends.
pub fn shared_cifar10() -> Option<Source> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/cifar10-jpeg"));
    if path.is_dir() {
        return Some(Source::Cifar10(path));
    }
    println!("skipped: {} is absent", path.display());
    None
}

/// The message of a load that must fail: one line.
pub fn failure(source: &Source, split: Split) -> String {
    let message = match source.load(split) {
        Ok(set) => panic!("{source} loaded: {set:?}"),
        Err(error) => error.to_string(),
    };
    assert!(!message.contains('\n'), "{message}");
    println!("{message}");
    message
}

/// Fails unless `message` has every part.
#[track_caller]
pub fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no \"{part}\" in: {message}");
    }
}

/// The images of a set as bytes.
pub fn bytes(set: &Dataset) -> Vec<u8> {
    let all: Vec<usize> = (0..set.len()).collect();
    set.images(&all).into_iter().map(|value| (value * 255.0).round() as u8).collect()
}

/// A CIFAR-10 record: a label and 3,072 bytes that depend on `seed`.
pub fn record(label: u8, seed: usize) -> Vec<u8> {
    let mut record = vec![label];
    record.extend((0..3072).map(|at| ((at * 7 + seed * 31) % 251) as u8));
    record
}

/// The PNG file of an image whose channels lie side by side.
pub fn png(width: u32, height: u32, color: png::ColorType, values: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(color);
    encoder.write_header().unwrap().write_image_data(values).unwrap();
    file
}

/// An RGB PNG of one colour.
pub fn plain_png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    png(width, height, png::ColorType::Rgb, &colour.repeat((width * height) as usize))
}

/// An IDX file of bytes.
pub fn idx(lengths: &[u32], values: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, lengths.len() as u8];
    file.extend(lengths.iter().flat_map(|length| length.to_be_bytes()));
    file.extend(values);
    file
}

/// A parquet file in the Hugging Face layout with `per_group` rows in a row group; `image` is `img` or `image`.
pub fn parquet(path: &Path, image: &str, rows: &[(Option<Vec<u8>>, i64)], per_group: usize) {
    parquet_with(path, image, &["label"], rows, per_group, Compression::SNAPPY);
}

/// The same with other columns of labels (the second holds each label divided by 5) and another compression.
pub fn parquet_with(
    path: &Path,
    image: &str,
    labels: &[&str],
    rows: &[(Option<Vec<u8>>, i64)],
    per_group: usize,
    compression: Compression,
) {
    let columns: String = labels.iter().map(|name| format!("optional int64 {name}; ")).collect();
    let schema = format!(
        "message schema {{ optional group {image} {{ optional binary bytes; optional binary path (UTF8); }} {columns} }}"
    );
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for rows in rows.chunks(per_group) {
        let mut group = writer.next_row_group().unwrap();
        // 2: the value is there; 1: `img` is there, its `bytes` are null.
        let present = |image: &Option<Vec<u8>>| if image.is_some() { 2 } else { 1 };
        let levels: Vec<i16> = rows.iter().map(|(image, _)| present(image)).collect();
        let images: Vec<ByteArray> =
            rows.iter().filter_map(|(image, _)| image.clone()).map(ByteArray::from).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&images, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows.len()]), None).unwrap();
        column.close().unwrap();
        for number in 0..labels.len() {
            let values: Vec<i64> =
                rows.iter().map(|&(_, label)| if number == 0 { label } else { label / 5 }).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&values, Some(&vec![1; rows.len()]), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// Gzipped.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}
