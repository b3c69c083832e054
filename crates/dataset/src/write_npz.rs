//! Saves arrays for NumPy users: `numpy.load(path)["x"]`.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use equipoise_arrays::npy;
use equipoise_files::write_atomically_with;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::DatasetError;

/// An array to save: a shape and as many values, the last axis fastest (C order).
#[derive(Clone, Debug, PartialEq)]
pub enum NpyArray<'a> {
    /// float32.
    F32 {
        /// The length of each axis; empty for a single number.
        shape: Vec<usize>,
        /// The values.
        values: &'a [f32],
    },
    /// int64.
    I64 {
        /// The length of each axis; empty for a single number.
        shape: Vec<usize>,
        /// The values.
        values: &'a [i64],
    },
}

impl NpyArray<'_> {
    fn shape(&self) -> &[usize] {
        match self {
            Self::F32 { shape, .. } | Self::I64 { shape, .. } => shape,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::F32 { values, .. } => values.len(),
            Self::I64 { values, .. } => values.len(),
        }
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        match self {
            Self::F32 { shape, values } => {
                npy::write_header(out, "<f4", shape)?;
                values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
            }
            Self::I64 { shape, values } => {
                npy::write_header(out, "<i8", shape)?;
                values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
            }
        }
    }
}

/// Writes named arrays as an uncompressed npz file, as `numpy.savez` does; the same arrays give the same bytes.
///
/// Images that `npz:PATH` is to read back are `x`, F32 `[N, C, H, W]` in `[0, 1]`, with labels `y`, I64 `[N]`,
/// and, where not every class occurs, `classes`, I64 `[]`. Further arrays are welcome (`index`, ..).
///
/// The file is written beside its place and renamed when complete: a file called `path` is always whole.
///
/// # Errors
/// When an array's values do not fit its shape, two arrays share a name, or the file cannot be written.
///
/// ```
/// use equipoise_dataset::{NpyArray, write_npz};
///
/// let path = std::env::temp_dir().join(format!("equipoise-doc-{}.npz", std::process::id()));
/// let x = NpyArray::F32 { shape: vec![2, 1, 1, 1], values: &[0.25, 0.75] };
/// let y = NpyArray::I64 { shape: vec![2], values: &[0, 1] };
/// write_npz(&path, &[("x", x), ("y", y)])?;
/// # std::fs::remove_file(&path).ok();
/// # Ok::<(), equipoise_dataset::DatasetError>(())
/// ```
pub fn write_npz(path: impl AsRef<Path>, arrays: &[(&str, NpyArray<'_>)]) -> Result<(), DatasetError> {
    let path = path.as_ref();
    for (name, array) in arrays {
        let expected = array.shape().iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        if expected != Some(array.len()) {
            return Err(DatasetError::Length {
                place: format!("{}, array {name} of shape {:?}", path.display(), array.shape()),
                what: "values",
                found: array.len(),
                expected: expected.unwrap_or(usize::MAX),
            });
        }
    }
    write_atomically_with(path, |file| write(file, arrays)).map_err(|error| DatasetError::write(path, error))
}

fn write(file: &mut File, arrays: &[(&str, NpyArray<'_>)]) -> std::io::Result<()> {
    let mut zip = ZipWriter::new(Latch { file: BufWriter::new(file), error: None });
    for (name, array) in arrays {
        // Images beyond 4 GiB need zip64, which is chosen before their length is known.
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(array.len() as u64 * 8 >= u64::from(u32::MAX) / 2);
        zip.start_file(format!("{name}.npy"), options)?;
        // The zip writer hashes what it gets: hand it blocks, not single values.
        let mut block = BufWriter::with_capacity(1 << 16, &mut zip);
        array.write(&mut block)?;
        block.flush()?;
    }
    let mut latch = zip.finish()?;
    latch.flush()?;
    latch.error.map_or(Ok(()), Err)
}

/// A file that remembers its first error and then takes what comes in silence: the destructor of the zip writer would print
/// its own errors.
struct Latch<'a> {
    file: BufWriter<&'a mut File>,
    error: Option<std::io::Error>,
}

impl Latch<'_> {
    fn hold<T>(
        &mut self,
        instead: T,
        work: impl FnOnce(&mut BufWriter<&mut File>) -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        if self.error.is_some() {
            return Ok(instead);
        }
        work(&mut self.file).or_else(|error| {
            self.error = Some(error);
            Ok(instead)
        })
    }
}

impl Write for Latch<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hold(bytes.len(), |file| file.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.hold((), |file| file.flush())
    }
}

impl Seek for Latch<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.hold(0, |file| file.seek(to))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_by_the_error() {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let values = vec![0.5; 100_000];
        let arrays = [("x", NpyArray::F32 { shape: vec![100_000], values: &values })];
        let error = write(&mut full, &arrays).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}
