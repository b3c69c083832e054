//! Published data sets as Hugging Face has them: parquet files with a column `img` (or `image`) of
//! {`bytes`: an image file, `path`} and a column of labels.
//!
//! The files are read with parquet's column readers, without arrow. A file is read whole (at most 120 MB), row
//! group after row group, and the images of a row group are decoded on all cores.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use rayon::prelude::*;

use crate::decode::{Undecoded, decode, is_jpeg};
use crate::known::Known;
use crate::shards::Files;
use crate::{Dataset, DatasetError, Limit, Split};

const IMAGE_COLUMNS: [&str; 2] = ["img.bytes", "image.bytes"];
/// A column of a row group that claims more than this is damaged: 50,000 images of 32x32 have 120 MB.
const MAX_COLUMN: i64 = 1 << 31;

/// Reads the files one after another. The name tells whether an image was stored as JPEG.
pub(crate) fn load(
    known: &Known,
    files: &Files,
    split: Split,
    limit: Limit,
) -> Result<Dataset, DatasetError> {
    let mut content = Content { known, limit, pixels: Vec::new(), labels: Vec::new(), any_jpeg: false };
    let mut starts = Vec::new();
    for path in &files.paths {
        starts.push((path, content.labels.len()));
        append(path, &mut content)?;
    }
    refuse_copies(&content, &starts)?;
    let place = names(&starts);
    let mut set = known.dataset(&place, split, content.pixels, content.labels)?;
    if content.any_jpeg {
        set.name += " (JPEG)";
    }
    if !files.others.is_empty() {
        set.notes.push(format!("{place}: these were read, and beside them not {}", files.others.join(", ")));
    }
    Ok(set)
}

struct Content<'a> {
    known: &'a Known,
    limit: Limit,
    pixels: Vec<u8>,
    labels: Vec<usize>,
    any_jpeg: bool,
}

/// Refuses a file whose rows are all in those before it, whatever they are called, and a whole in which every row is
/// there several times.
fn refuse_copies(content: &Content<'_>, starts: &[(&PathBuf, usize)]) -> Result<(), DatasetError> {
    let size = content.known.size();
    let rows: Vec<u64> = content.pixels.par_chunks_exact(size).zip(&content.labels).map(hash).collect();
    let mut counts: HashMap<u64, usize> = HashMap::new();
    for (number, &(path, start)) in starts.iter().enumerate() {
        let rows = &rows[start..starts.get(number + 1).map_or(rows.len(), |next| next.1)];
        if !rows.is_empty() && rows.iter().all(|row| counts.contains_key(row)) && number > 0 {
            return Err(DatasetError::format(
                path.display(),
                format!("all of its rows are also in {}", names(&starts[..number])),
                "keep each row once",
            ));
        }
        rows.iter().for_each(|&row| *counts.entry(row).or_default() += 1);
    }
    let times = counts.values().copied().min().unwrap_or(0);
    // One image many times over is somebody's test; several, each as often, are rows written twice.
    if times > 1 && counts.len() > 1 && counts.values().all(|&count| count == times) {
        return Err(DatasetError::format(
            names(starts),
            format!("each of {} rows is there {times} times", counts.len()),
            "keep each row once",
        ));
    }
    Ok(())
}

fn names(files: &[(&PathBuf, usize)]) -> String {
    files.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn hash((planes, label): (&[u8], &usize)) -> u64 {
    let mut hasher = DefaultHasher::new();
    (planes, label).hash(&mut hasher);
    hasher.finish()
}

fn append(path: &Path, content: &mut Content<'_>) -> Result<(), DatasetError> {
    let damaged = |error: ParquetError| {
        DatasetError::format(
            path.display(),
            format!("not a readable parquet file: {error}"),
            "the file is truncated, damaged or compressed by LZO: get it again, or write it with another compression",
        )
    };
    // In memory, because readers of one `File` share its position.
    let bytes = fs::read(path).map_err(|error| DatasetError::read(path, error))?;
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).map_err(damaged)?;
    let columns = Columns::find(content.known, reader.metadata().file_metadata().schema_descr(), path)?;
    let mut row = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(damaged)?;
        for column in [columns.image, columns.label] {
            let claimed = group.metadata().column(column).uncompressed_size();
            if !(0..=MAX_COLUMN).contains(&claimed) {
                let problem = format!("a column of a row group claims {claimed} bytes");
                return Err(damaged(ParquetError::General(problem)));
            }
        }
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        // Run lengths and dictionaries make any number of rows out of a few bytes. A row is an image file, its pixels, and
        // a label.
        let row_size = content.known.size() + size_of::<ByteArray>();
        content.limit.check(path.display(), content.labels.len().saturating_add(rows), row_size)?;
        let images = read::<ByteArrayType>(&*group, columns.image, rows).map_err(damaged)?;
        let labels: Vec<Option<i64>> = match columns.label_type {
            Type::INT32 => read::<Int32Type>(&*group, columns.label, rows)
                .map_err(damaged)?
                .into_iter()
                .map(|label| label.map(i64::from))
                .collect(),
            _ => read::<Int64Type>(&*group, columns.label, rows).map_err(damaged)?,
        };
        for (what, found) in [("images", images.len()), ("labels", labels.len())] {
            if found != rows {
                let place = path.display().to_string();
                return Err(DatasetError::Length { place, what, found, expected: rows });
            }
        }
        append_labels(content.known, path, row, &labels, &mut content.labels)?;
        let images: Vec<&[u8]> =
            images.iter().map(|image| image.as_ref().map_or(&[][..], |i| i.data())).collect();
        content.any_jpeg |= images.iter().any(|image| is_jpeg(image));
        append_images(content.known, path, row, &images, &mut content.pixels)?;
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
    fn find(known: &Known, schema: &SchemaDescriptor, path: &Path) -> Result<Self, DatasetError> {
        let place = |names: &[&str], types: &[Type]| {
            schema.columns().iter().position(|column| {
                names.contains(&column.path().string().as_str())
                    && types.contains(&column.physical_type())
                    && column.max_rep_level() == 0
            })
        };
        let image = place(&IMAGE_COLUMNS, &[Type::BYTE_ARRAY]);
        let label = place(known.label_columns, &[Type::INT32, Type::INT64]);
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
                    format!(
                        "it needs img.bytes (or image.bytes) with image files and {} with integers",
                        known.label_columns[0]
                    ),
                ))
            }
        }
    }
}

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a decoder whose panics become errors of the file: a panic hook need not report them.
pub fn expects_panic() -> bool {
    CAUGHT.get()
}

/// A whole column of a row group that has so many rows; a null is `None`. A row more tells that there are more.
fn read<T: DataType>(
    group: &dyn RowGroupReader,
    column: usize,
    rows: usize,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let description = group.metadata().column(column).column_descr_ptr();
    // The parquet crate asserts some things of the footer that a damaged file can violate (found by fuzzing).
    // What it was building is dropped here, so nothing half-made is seen.
    CAUGHT.set(true);
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let mut reader: ColumnReaderImpl<T> = get_typed_column_reader(group.get_column_reader(column)?);
        let mut levels = Vec::new();
        let mut values = Vec::new();
        reader.read_records(rows.saturating_add(1), Some(&mut levels), None, &mut values)?;
        Ok((levels, values))
    }));
    CAUGHT.set(false);
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
    known: &Known,
    path: &Path,
    first_row: usize,
    labels: &[Option<i64>],
    out: &mut Vec<usize>,
) -> Result<(), DatasetError> {
    for (at, &label) in labels.iter().enumerate() {
        // Hugging Face writes -1 where a label is withheld; a null says the same.
        out.push(known.label(label.unwrap_or(-1).into(), || row(path, first_row + at))?);
    }
    Ok(())
}

fn append_images(
    known: &Known,
    path: &Path,
    first_row: usize,
    images: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), DatasetError> {
    let [channels, height, width] = known.shape;
    let start = out.len();
    out.resize(start + images.len() * known.size(), 0);
    // One result per image, so that the first bad row is reported whichever thread met it.
    let results: Vec<Result<(), DatasetError>> = out[start..]
        .par_chunks_exact_mut(known.size())
        .zip(images)
        .enumerate()
        .map(|(at, (planes, image))| {
            let image = decode(image, Some([width, height])).map_err(|problem| match problem {
                Undecoded::Size([found_width, found_height]) => DatasetError::ImageSize {
                    place: row(path, first_row + at),
                    found: format!("{found_width}x{found_height}"),
                    expected: format!("{width}x{height}"),
                },
                Undecoded::Damaged(problem) => {
                    DatasetError::format(row(path, first_row + at), problem, "repair or remove the row")
                }
            })?;
            if image.channels > channels {
                return Err(DatasetError::format(
                    row(path, first_row + at),
                    format!("a colour image, and those of {} are gray", known.name),
                    "give the data set that the file belongs to",
                ));
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
