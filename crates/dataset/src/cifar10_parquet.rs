//! CIFAR-10 as Hugging Face publishes it: parquet files with a column `img` (or `image`) of
//! {`bytes`: a PNG or JPEG file, `path`} and a column `label`.
//!
//! The files are read with parquet's column readers, without arrow. A file is read whole (at most 120 MB), row
//! group after row group, and the images of a row group are decoded on all cores.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use rayon::prelude::*;

use crate::cifar10::{CLASSES, SIDE, SIZE};
use crate::decode::{decode, is_jpeg};
use crate::{Dataset, DatasetError, Pixels, Split};

/// Where the files may lie below the given folder.
pub(crate) const FOLDERS: [&str; 3] = ["", "plain_text", "data"];

const IMAGE_COLUMNS: [&str; 2] = ["img.bytes", "image.bytes"];
const LABEL_COLUMNS: [&str; 2] = ["label", "labels"];

/// The files `train*.parquet` or `test*.parquet`, sorted by name, of the first folder that has any.
pub(crate) fn find(folder: &Path, split: Split) -> Result<Vec<PathBuf>, DatasetError> {
    for below in FOLDERS {
        let folder = folder.join(below);
        if !folder.is_dir() {
            continue;
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|error| DatasetError::read(&folder, error))? {
            let path = entry.map_err(|error| DatasetError::read(&folder, error))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with(split.name()) && name.ends_with(".parquet") {
                files.push(path);
            }
        }
        if !files.is_empty() {
            files.sort();
            return Ok(files);
        }
    }
    Ok(Vec::new())
}

/// Reads the files one after another. The name tells whether an image was stored as JPEG.
pub(crate) fn load(files: &[PathBuf]) -> Result<Dataset, DatasetError> {
    let mut content = Content::default();
    for path in files {
        append(path, &mut content)?;
    }
    Dataset::at(
        &files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
        if content.any_jpeg { "CIFAR-10 (JPEG)" } else { "CIFAR-10" },
        [3, SIDE, SIDE],
        CLASSES.len(),
        CLASSES.map(String::from).to_vec(),
        Pixels::U8(content.pixels),
        content.labels,
    )
}

#[derive(Default)]
struct Content {
    pixels: Vec<u8>,
    labels: Vec<usize>,
    any_jpeg: bool,
}

fn append(path: &Path, content: &mut Content) -> Result<(), DatasetError> {
    let damaged = |error: ParquetError| {
        DatasetError::format(
            path.display(),
            format!("not a readable parquet file: {error}"),
            "the file is truncated, damaged or compressed with another codec than snappy: get it again",
        )
    };
    // In memory, because readers of one `File` share its position.
    let bytes = fs::read(path).map_err(|error| DatasetError::read(path, error))?;
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).map_err(damaged)?;
    let columns = Columns::find(reader.metadata().file_metadata().schema_descr(), path)?;
    let mut row = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(damaged)?;
        let images = read::<ByteArrayType>(&*group, columns.image).map_err(damaged)?;
        let labels: Vec<Option<i64>> = match columns.label_type {
            Type::INT32 => read::<Int32Type>(&*group, columns.label)
                .map_err(damaged)?
                .into_iter()
                .map(|label| label.map(i64::from))
                .collect(),
            _ => read::<Int64Type>(&*group, columns.label).map_err(damaged)?,
        };
        if images.len() != labels.len() {
            return Err(DatasetError::Length {
                place: path.display().to_string(),
                what: "labels",
                found: labels.len(),
                expected: images.len(),
            });
        }
        append_labels(path, row, &labels, &mut content.labels)?;
        let images: Vec<&[u8]> =
            images.iter().map(|image| image.as_ref().map_or(&[][..], |i| i.data())).collect();
        content.any_jpeg |= images.iter().any(|image| is_jpeg(image));
        append_images(path, row, &images, &mut content.pixels)?;
        row += labels.len();
    }
    Ok(())
}

/// The two columns that matter, by their place in the file.
struct Columns {
    image: usize,
    label: usize,
    label_type: Type,
}

impl Columns {
    fn find(schema: &SchemaDescriptor, path: &Path) -> Result<Self, DatasetError> {
        let place = |names: [&str; 2], types: &[Type]| {
            schema.columns().iter().position(|column| {
                names.contains(&column.path().string().as_str())
                    && types.contains(&column.physical_type())
                    && column.max_rep_level() == 0
            })
        };
        let image = place(IMAGE_COLUMNS, &[Type::BYTE_ARRAY]);
        let label = place(LABEL_COLUMNS, &[Type::INT32, Type::INT64]);
        match (image, label) {
            (Some(image), Some(label)) => {
                Ok(Self { image, label, label_type: schema.column(label).physical_type() })
            }
            _ => {
                let found: Vec<String> =
                    schema.columns().iter().map(|column| column.path().string()).collect();
                Err(DatasetError::format(
                    path.display(),
                    format!("the columns are {}", found.join(", ")),
                    "it needs img.bytes (or image.bytes) with image files and label with integers",
                ))
            }
        }
    }
}

/// A whole column of a row group; a null is `None`.
fn read<T: DataType>(group: &dyn RowGroupReader, column: usize) -> Result<Vec<Option<T::T>>, ParquetError> {
    let description = group.metadata().column(column).column_descr_ptr();
    // The parquet crate asserts some things of the footer that a damaged file can violate (found by fuzzing).
    // What it was building is dropped here, so nothing half-made is seen.
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let mut reader: ColumnReaderImpl<T> = get_typed_column_reader(group.get_column_reader(column)?);
        let mut levels = Vec::new();
        let mut values = Vec::new();
        reader.read_records(usize::MAX, Some(&mut levels), None, &mut values)?;
        Ok((levels, values))
    }));
    let (levels, values) =
        attempt.unwrap_or_else(|_| Err(ParquetError::General("its footer contradicts itself".into())))?;
    if description.max_def_level() == 0 {
        return Ok(values.into_iter().map(Some).collect());
    }
    // Nulls are left out of `values`; a value is there where the level is the highest.
    let mut values = values.into_iter();
    Ok(levels
        .into_iter()
        .map(|level| if level == description.max_def_level() { values.next() } else { None })
        .collect())
}

fn append_labels(
    path: &Path,
    first_row: usize,
    labels: &[Option<i64>],
    out: &mut Vec<usize>,
) -> Result<(), DatasetError> {
    for (at, &label) in labels.iter().enumerate() {
        // Hugging Face writes -1 where a label is withheld; a null says the same.
        let label = label.unwrap_or(-1);
        match usize::try_from(label) {
            Ok(class) if class < CLASSES.len() => out.push(class),
            _ => {
                return Err(DatasetError::Label {
                    place: row(path, first_row + at),
                    label: label.into(),
                    classes: CLASSES.len(),
                });
            }
        }
    }
    Ok(())
}

fn append_images(
    path: &Path,
    first_row: usize,
    images: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), DatasetError> {
    let start = out.len();
    out.resize(start + images.len() * SIZE, 0);
    // One result per image, so that the first bad row is reported whichever thread met it.
    let results: Vec<Result<(), DatasetError>> = out[start..]
        .par_chunks_exact_mut(SIZE)
        .zip(images)
        .enumerate()
        .map(|(at, (planes, image))| {
            let image = decode(image).map_err(|problem| {
                DatasetError::format(row(path, first_row + at), problem, "repair or remove the row")
            })?;
            if (image.width, image.height) != (SIDE, SIDE) {
                return Err(DatasetError::ImageSize {
                    place: row(path, first_row + at),
                    found: image.size(),
                    expected: format!("{SIDE}x{SIDE}"),
                });
            }
            image.write_planes(planes);
            Ok(())
        })
        .collect();
    results.into_iter().collect()
}

/// Rows are counted from 0 in each file.
fn row(path: &Path, row: usize) -> String {
    format!("{}, row {row}", path.display())
}
