//! `npz:PATH`: NumPy arrays, `x` and `y`, as `numpy.savez` or `numpy.savez_compressed` writes them.
//!
//! - `x`: floats of 16, 32 or 64 bits in `[0, 1]`, or uint8, of shape [N, C, H, W], [N, H, W, C] or, gray, [N, H, W].
//!   Where the channels are follows from their number, 1 or 3; where the shape admits both, it must be said.
//! - `y`: [N] or [N, 1] integers of any width, from 0.
//! - `classes` (optional): one integer, the number of classes; without it, the largest label + 1. Where there is a
//!   `train.npz`, its number holds for `test.npz` too.
//!
//! One file may hold both splits, as `x_train`, `y_train`, `x_test`, `y_test` (Keras) or `train_images`,
//! `train_labels`, .. (MedMNIST).

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use equipoise_arrays::can_inflate_to;
use equipoise_arrays::npy::{Array, Header, misfit};
use zip::read::{ZipFile, ZipFileSeek};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::{Dataset, DatasetError, Layout, Limit, Pixels, Reading, Split};

/// More classes than this are damage, and every class costs a name.
const MAX_CLASSES: usize = 65_536;
/// So many bytes of images are read at once, or one image.
const CHUNK: usize = 1 << 20;

/// Reads the rows that `choose` picks, in ascending order, once it is told how many there are; of the others it reads the
/// labels alone, whose largest may be the number of classes.
pub(crate) fn load<E: From<DatasetError>>(
    path: &Path,
    split: Split,
    reading: &Reading,
    choose: impl FnOnce(usize) -> Result<Vec<usize>, E>,
) -> Result<(Dataset, Vec<usize>), E> {
    let mut file = Npz::open(&file(path, split)?)?;
    let place = file.path.display().to_string();
    let (x, y) = file.names(split);
    let header = file_header(&mut file, &x)?;
    let images = Images::of(&file, &x, header, reading.layout)?;
    if images.count == 0 {
        return Err(DatasetError::Empty { place, advice: "give at least one".into() }.into());
    }
    let labels = file.labels(&y, Some(images.count), reading.limit)?;
    let classes = match (file.classes()?, trained_classes(path, split, reading.limit)?) {
        (Some(classes), _) | (None, Some(classes)) => classes,
        (None, None) => labels.iter().max().map_or(0, |largest| largest + 1),
    };
    if let Some(index) = labels.iter().position(|&label| label >= classes) {
        let place = format!("{place}, array {y}, image {index}");
        return Err(DatasetError::Label { place, label: labels[index] as i128, classes }.into());
    }
    let rows = choose(images.count)?;
    let shape = images.shape;
    let pixels = file.pixels(&x, images, &rows, reading.limit)?;
    let class_names = (0..classes).map(|class| class.to_string()).collect();
    let name = file.path.file_name().unwrap_or(file.path.as_os_str()).to_string_lossy();
    let labels = rows.iter().map(|&row| labels[row]).collect();
    let set = Dataset::at(&place, name, shape, classes, class_names, pixels, labels)?;
    Ok((set, rows))
}

fn file_header(file: &mut Npz, name: &str) -> Result<Header, DatasetError> {
    let header = file.header(name)?;
    header.ok_or_else(|| file.missing(name))
}

/// Whether a file holds a training split of its own beside that for testing.
pub(crate) fn has_both_splits(path: &Path) -> Result<bool, DatasetError> {
    let file = Npz::open(path)?;
    Ok(file.names(Split::Train) != file.names(Split::Test))
}

/// The number of classes of the training split, where that is a file of its own beside the one for testing.
fn trained_classes(path: &Path, split: Split, limit: Limit) -> Result<Option<usize>, DatasetError> {
    let training = path.join("train.npz");
    if split == Split::Train || path.is_file() || !training.is_file() {
        return Ok(None);
    }
    let mut file = Npz::open(&training)?;
    if let Some(classes) = file.classes()? {
        return Ok(Some(classes));
    }
    let (_, y) = file.names(Split::Train);
    Ok(file.labels(&y, None, limit)?.iter().max().map(|largest| largest + 1))
}

/// The file itself, whatever the split, or `train.npz` or `test.npz` in a folder.
fn file(path: &Path, split: Split) -> Result<PathBuf, DatasetError> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let below = path.join(format!("{split}.npz"));
    if below.is_file() {
        return Ok(below);
    }
    Err(DatasetError::Missing {
        place: path.display().to_string(),
        missing: if path.is_dir() { format!("{split}.npz") } else { "this file".into() },
        advice: "give an npz file, or a folder with train.npz and test.npz".into(),
    })
}

/// An open file.
struct Npz {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

const ADVICE: &str = "write it with numpy.savez(path, x=images, y=labels)";
const AGAIN: &str = "write it again with numpy.savez(path, x=images, y=labels)";

impl Npz {
    fn open(path: &Path) -> Result<Self, DatasetError> {
        let opened = File::open(path).map_err(|error| DatasetError::read(path, error))?;
        let archive = ZipArchive::new(BufReader::new(opened)).map_err(|error| {
            DatasetError::format(path.display(), format!("not an npz file: {error}"), ADVICE)
        })?;
        Ok(Self { path: path.to_owned(), archive })
    }

    fn has(&self, name: &str) -> bool {
        self.archive.index_for_name(&format!("{name}.npy")).is_some()
    }

    /// What the images and the labels of the split are called: `x` and `y` unless only other usual names are there.
    fn names(&self, split: Split) -> (String, String) {
        let of_both = [
            (format!("x_{split}"), format!("y_{split}")),
            (format!("{split}_images"), format!("{split}_labels")),
        ];
        let neither = !self.has("x") && !self.has("y");
        of_both
            .into_iter()
            .find(|(x, y)| neither && self.has(x) && self.has(y))
            .unwrap_or(("x".into(), "y".into()))
    }

    fn missing(&self, name: &str) -> DatasetError {
        let found: Vec<String> = self
            .archive
            .file_names()
            .map(|found| found.map(|found| found.trim_end_matches(".npy").to_owned()).unwrap_or_default())
            .collect();
        DatasetError::Missing {
            place: self.path.display().to_string(),
            missing: format!("array {name} (it holds: {})", found.join(", ")),
            advice: ADVICE.into(),
        }
    }

    /// The header of an array, whose values the archive can hold by what it says of their size; `None` where there is no
    /// such array.
    fn header(&mut self, name: &str) -> Result<Option<Header>, DatasetError> {
        let read = match self.archive.by_name(&format!("{name}.npy")) {
            Ok(mut entry) => Header::read(&mut entry).and_then(|header| {
                let found = entry.size().saturating_sub(header.length as u64);
                if found != header.bytes as u64 {
                    return Err(misfit(&header.shape, header.bytes, &found.to_string()));
                }
                if !can_inflate_to(entry.compressed_size(), entry.size()) {
                    let (claimed, held) = (entry.size(), entry.compressed_size());
                    return Err(format!("it claims {claimed} bytes, more than {held} can hold"));
                }
                Ok(Some(header))
            }),
            Err(ZipError::FileNotFound) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        read.map_err(|problem| self.wrong(name, problem, AGAIN))
    }

    /// An array whose header was read.
    fn array(&mut self, name: &str) -> Result<Array, DatasetError> {
        let read = match self.archive.by_name(&format!("{name}.npy")) {
            Ok(mut entry) => Header::read(&mut entry).and_then(|header| Array::read(header, entry)),
            Err(error) => Err(error.to_string()),
        };
        read.map_err(|problem| self.wrong(name, problem, AGAIN))
    }

    fn wrong(&self, name: &str, problem: impl Display, advice: impl Display) -> DatasetError {
        DatasetError::format(format!("{}, array {name}", self.path.display()), problem, advice)
    }

    /// The pixels of some rows, in C, H, W order.
    fn pixels(
        &mut self,
        name: &str,
        images: Images,
        rows: &[usize],
        limit: Limit,
    ) -> Result<Pixels, DatasetError> {
        let place = format!("{}, array {name}", self.path.display());
        let size: usize = images.shape.iter().product();
        let is_float = images.header.kind.is_float();
        limit.check(&place, rows.len(), size * if is_float { 4 } else { 1 })?;
        let mut pixels = if is_float { Pixels::F32(Vec::new()) } else { Pixels::U8(Vec::new()) };
        let read = if images.header.fortran_order {
            // Every image is spread over the whole file.
            limit.check(&place, images.count, images.header.kind.width * size)?;
            let array = self.array(name)?;
            let row = images.header.kind.width * size;
            rows.iter().try_for_each(|&at| images.append(&mut pixels, at, &array.bytes()[at * row..][..row]))
        } else {
            self.each_row(name, &images.header, rows, |at, bytes| images.append(&mut pixels, at, bytes))
        };
        match read {
            Ok(()) => Ok(pixels),
            Err(Unread::Array(problem)) => Err(self.wrong(name, problem, AGAIN)),
            Err(Unread::Pixel { row, at, value }) => {
                let place = format!("{}, image {row}, value {at}", self.path.display());
                Err(DatasetError::Pixel { place, value })
            }
        }
    }

    /// Hands over the bytes of these rows, several consecutive ones at once with the number of the first. Whatever stands
    /// before and after them in the file is passed over where it is not compressed, and not looked at after the last.
    fn each_row(
        &mut self,
        name: &str,
        header: &Header,
        rows: &[usize],
        mut take: impl FnMut(usize, &[u8]) -> Result<(), Unread>,
    ) -> Result<(), Unread> {
        let count = header.shape.first().copied().unwrap_or(0);
        let size = header.bytes / count.max(1);
        let problem = |error: &dyn Display| Unread::Array(error.to_string());
        let whole = rows.len() == count;
        let mut member =
            Member::open(&mut self.archive, &format!("{name}.npy"), !whole).map_err(|e| problem(&e))?;
        member.skip(header.length as u64).map_err(|error| problem(&error))?;
        let mut next = 0;
        let mut buffer = Vec::new();
        for run in rows.chunk_by(|a, b| a + 1 == *b) {
            for part in run.chunks((CHUNK / size.max(1)).max(1)) {
                member.skip(((part[0] - next) * size) as u64).map_err(|error| problem(&error))?;
                next = part[part.len() - 1] + 1;
                buffer.clear();
                let length = part.len() * size;
                member
                    .by_ref()
                    .take(length as u64)
                    .read_to_end(&mut buffer)
                    .map_err(|error| problem(&error))?;
                if buffer.len() < length {
                    return Err(Unread::Array(misfit(&header.shape, header.bytes, "fewer")));
                }
                take(part[0], &buffer)?;
            }
        }
        if whole {
            // The end of the member is where its checksum is compared.
            let rest = member.read(&mut [0]).map_err(|error| problem(&error))?;
            if rest > 0 {
                return Err(Unread::Array(misfit(&header.shape, header.bytes, "more")));
            }
        }
        Ok(())
    }

    /// Where the channels of four dimensions are: as given, or where 1 or 3 of them can be.
    fn layout(&self, name: &str, shape: &[usize], given: Option<Layout>) -> Result<Layout, DatasetError> {
        let is_channels = |side: usize| matches!(side, 1 | 3);
        let (first, last) = (is_channels(shape[1]), is_channels(shape[3]));
        match given {
            Some(layout) => Ok(layout),
            // One pixel in each image: both layouts mean the same.
            None if shape[1..] == [1; 3] => Ok(Layout::Nchw),
            None if first && !last => Ok(Layout::Nchw),
            None if last && !first => Ok(Layout::Nhwc),
            None => {
                let problem = match first {
                    true => "can mean channels first (nchw) or last (nhwc)",
                    false => "has 1 or 3, as channels have, neither in the second place nor in the last",
                };
                Err(self.wrong(
                    name,
                    format!("its shape {shape:?} {problem}"),
                    "say which by --layout nchw or --layout nhwc",
                ))
            }
        }
    }

    /// The labels: one for each of so many images, or as many as there are.
    fn labels(&mut self, name: &str, count: Option<usize>, limit: Limit) -> Result<Vec<usize>, DatasetError> {
        let Header { shape, .. } = file_header(self, name)?;
        let count = count.or(shape.first().copied()).unwrap_or(0);
        if shape != [count] && shape != [count, 1] {
            return Err(self.wrong(
                name,
                format!("its shape {shape:?} does not fit {count} images"),
                format!("give one label per image, shape [{count}]"),
            ));
        }
        limit.check(format!("{}, array {name}", self.path.display()), count, 0)?;
        let y = self.array(name)?;
        let labels = y.integers().ok_or_else(|| {
            self.wrong(name, format!("its type {} is no integer", y.kind.name), "save y.astype(int)")
        })?;
        let mut checked = Vec::with_capacity(count);
        for (index, label) in labels.enumerate() {
            match usize::try_from(label) {
                Ok(label) if label < MAX_CLASSES => checked.push(label),
                _ => {
                    let place = format!("{}, array {name}, image {index}", self.path.display());
                    return Err(DatasetError::Label { place, label, classes: MAX_CLASSES });
                }
            }
        }
        Ok(checked)
    }

    /// The number of classes, where the file says it.
    fn classes(&mut self) -> Result<Option<usize>, DatasetError> {
        let Some(header) = self.header("classes")? else { return Ok(None) };
        let one = header.shape.iter().all(|&side| side == 1);
        let values = if one { self.array("classes")?.to_integers() } else { None };
        match values.unwrap_or_default().as_slice() {
            &[value] if (1..=MAX_CLASSES as i128).contains(&value) => Ok(Some(value as usize)),
            _ => Err(self.wrong(
                "classes",
                format!("it is not one integer in 1..={MAX_CLASSES}"),
                "save numpy.int64(the number of classes)",
            )),
        }
    }
}

/// Why rows could not be read.
enum Unread {
    /// What is wrong with the array.
    Array(String),
    /// A value outside of [0, 1]: which image, which of its values, and the value.
    Pixel { row: usize, at: usize, value: f32 },
}

/// An array of images, before its values are read.
struct Images {
    header: Header,
    count: usize,
    /// Channels, height, width.
    shape: [usize; 3],
    layout: Layout,
}

impl Images {
    fn of(file: &Npz, name: &str, header: Header, given: Option<Layout>) -> Result<Self, DatasetError> {
        let wrong = |problem: String| {
            let advice = "give float16, float32 or float64 in [0, 1] or uint8, [N, C, H, W], [N, H, W, C] or [N, H, W]";
            file.wrong(name, problem, advice)
        };
        if !header.kind.is_float() && header.kind.name != "u1" {
            let kind = &header.kind.name;
            return Err(wrong(format!("its type {kind} is neither a float (f2, f4, f8) nor uint8 (u1)")));
        }
        let (count, shape, layout) = match *header.shape.as_slice() {
            [count, height, width] => (count, [1, height, width], Layout::Nchw),
            [count, a, b, c] => match file.layout(name, &header.shape, given)? {
                Layout::Nchw => (count, [a, b, c], Layout::Nchw),
                Layout::Nhwc => (count, [c, a, b], Layout::Nhwc),
            },
            _ => return Err(wrong(format!("its shape {:?} has neither 3 nor 4 dimensions", header.shape))),
        };
        Ok(Self { header, count, shape, layout })
    }

    /// Appends images, the first of which is this row.
    fn append(&self, pixels: &mut Pixels, row: usize, bytes: &[u8]) -> Result<(), Unread> {
        match pixels {
            Pixels::U8(values) => {
                let start = values.len();
                values.extend_from_slice(bytes);
                self.to_planes(&mut values[start..]);
            }
            Pixels::F32(values) => {
                let start = values.len();
                self.header.kind.append_f32(bytes, values);
                let added = &mut values[start..];
                self.to_planes(added);
                // A range does not contain NaN.
                if let Some(at) = added.iter().position(|value| !(0.0..=1.0).contains(value)) {
                    let size: usize = self.shape.iter().product();
                    return Err(Unread::Pixel { row: row + at / size, at: at % size, value: added[at] });
                }
            }
        }
        Ok(())
    }

    /// Whole images, from the layout of the array to C, H, W.
    fn to_planes<T: Copy>(&self, values: &mut [T]) {
        let [channels, height, width] = self.shape;
        if self.layout == Layout::Nchw || channels == 1 {
            return;
        }
        let mut planes = Vec::with_capacity(channels * height * width);
        for image in values.chunks_exact_mut((channels * height * width).max(1)) {
            planes.clear();
            for channel in 0..channels {
                planes.extend(image.iter().skip(channel).step_by(channels));
            }
            image.copy_from_slice(&planes);
        }
    }
}

/// A member of an archive that is read from its beginning on.
enum Member<'a> {
    /// Stored as it is: any part of it can be found. Its checksum is not compared.
    Anywhere(ZipFileSeek<'a, BufReader<File>>),
    Onwards(ZipFile<'a, BufReader<File>>),
}

impl<'a> Member<'a> {
    /// Opens a member, if possible so that parts of it can be `found`.
    fn open(archive: &'a mut ZipArchive<BufReader<File>>, name: &str, found: bool) -> Result<Self, ZipError> {
        let stored = archive.by_name(name)?.compression() == CompressionMethod::Stored;
        match found && stored {
            true => archive.by_name_seek(name).map(Self::Anywhere),
            false => archive.by_name(name).map(Self::Onwards),
        }
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match self {
            Self::Anywhere(member) => {
                let bytes = i64::try_from(bytes).map_err(io::Error::other)?;
                member.seek(SeekFrom::Current(bytes)).map(drop)
            }
            Self::Onwards(member) => io::copy(&mut member.take(bytes), &mut io::sink()).map(drop),
        }
    }
}

impl Read for Member<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Anywhere(member) => member.read(into),
            Self::Onwards(member) => member.read(into),
        }
    }
}
