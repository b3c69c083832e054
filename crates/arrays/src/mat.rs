//! MATLAB's MAT-file format, level 5: numeric arrays by name, compressed or not.
//!
//! Bytes: a header of 128, then elements. An element is a tag (a type and a length of 4 bytes each, or, where the
//! data have at most 4 bytes, both in 4 and the data in the other 4) and data, filled up to a multiple of 8. An array
//! is an element of elements: flags with the class, lengths of the axes, name, values. A compressed one is zlib
//! around that. Values are in Fortran's order, the first axis fastest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::ZlibDecoder;

use crate::npy::in_c_order;
use crate::{can_inflate_to, signed, words};

/// A numeric array.
#[derive(Debug, PartialEq)]
pub struct Matrix {
    /// The length of each axis.
    pub shape: Vec<usize>,
    stored: Stored,
    big_endian: bool,
    bytes: Vec<u8>,
}

/// A value of an array.
enum Number {
    Integer(i128),
    Float(f64),
}

/// How a value is stored: integers of a class of floats are stored as integers too.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stored {
    Signed(usize),
    Unsigned(usize),
    Float(usize),
}

impl Stored {
    fn of(kind: u32) -> Option<Self> {
        Some(match kind {
            1 => Self::Signed(1),
            2 => Self::Unsigned(1),
            3 => Self::Signed(2),
            4 => Self::Unsigned(2),
            5 => Self::Signed(4),
            6 => Self::Unsigned(4),
            7 => Self::Float(4),
            9 => Self::Float(8),
            12 => Self::Signed(8),
            13 => Self::Unsigned(8),
            _ => return None,
        })
    }

    fn width(self) -> usize {
        match self {
            Self::Signed(width) | Self::Unsigned(width) | Self::Float(width) => width,
        }
    }
}

const COMPRESSED: u32 = 15;
const MATRIX: u32 = 14;

impl Matrix {
    /// The values when all are integers that a byte holds.
    pub fn into_u8(self) -> Option<Vec<u8>> {
        match self.stored {
            Stored::Unsigned(1) => Some(self.bytes),
            _ => self.values().map(|value| u8::try_from(value?).ok()).collect(),
        }
    }

    /// The values as integers; `None` for what is none.
    fn values(&self) -> impl Iterator<Item = Option<i128>> {
        self.numbers().map(|number| match number {
            Number::Integer(value) => Some(value),
            Number::Float(value) => (value.fract() == 0.0 && value.abs() < 1e15).then_some(value as i128),
        })
    }

    /// The values in float64, in C's order, the last axis fastest; integers beyond 2⁵³ are rounded.
    pub fn to_f64(&self) -> Vec<f64> {
        let values: Vec<f64> = self
            .numbers()
            .map(|number| match number {
                Number::Integer(value) => value as f64,
                Number::Float(value) => value,
            })
            .collect();
        in_c_order(&values, &self.shape)
    }

    fn numbers(&self) -> impl Iterator<Item = Number> {
        words(&self.bytes, self.stored.width(), self.big_endian).map(|bits| match self.stored {
            Stored::Unsigned(_) => Number::Integer(bits.into()),
            Stored::Signed(width) => Number::Integer(signed(bits, width)),
            Stored::Float(4) => Number::Float(f32::from_bits(bits as u32).into()),
            Stored::Float(_) => Number::Float(f64::from_bits(bits)),
        })
    }
}

/// Reads the arrays whose names are `wanted`; the others are passed over. Before the values of one are read, `may` is asked
/// whether its shape, and the bytes of its values, are welcome.
///
/// # Errors
///
/// If the file cannot be read, is of another format, or `may` refuses.
pub fn read<E>(
    path: &Path,
    wanted: impl Fn(&str) -> bool,
    may: impl Fn(&Shape) -> Result<(), E>,
) -> Result<BTreeMap<String, Matrix>, Error<E>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    read_from(BufReader::new(file), length, Asked { wanted: &wanted, may: &may })
}

/// What is known of an array before its values are read.
#[derive(Debug)]
pub struct Shape {
    /// The length of each axis.
    pub shape: Vec<usize>,
    /// How many bytes its values have as they are stored.
    pub bytes: usize,
}

/// Which arrays are wanted, and whether one may be read.
struct Asked<'a, E> {
    wanted: &'a dyn Fn(&str) -> bool,
    may: &'a dyn Fn(&Shape) -> Result<(), E>,
}

impl<E> Clone for Asked<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Asked<'_, E> {}

/// Why a file could not be read.
#[derive(Debug)]
pub enum Error<E> {
    /// What the system said.
    Io(std::io::Error),
    /// What is wrong with the file.
    Format(String),
    /// Why an array of it may not be read.
    Refused(E),
}

impl<E> From<std::io::Error> for Error<E> {
    fn from(error: std::io::Error) -> Self {
        // The end of the file, and what zlib finds, are faults of the contents.
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Format("it ends too early".into()),
            std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
                Self::Format(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

impl<E> From<String> for Error<E> {
    fn from(problem: String) -> Self {
        Self::Format(problem)
    }
}

fn read_from<E>(
    mut file: impl Read,
    length: u64,
    asked: Asked<'_, E>,
) -> Result<BTreeMap<String, Matrix>, Error<E>> {
    let mut header = [0; 128];
    let version = file.read_exact(&mut header).map(|()| [header[124], header[125], header[126], header[127]]);
    let big_endian = match version {
        Ok([0, 1, b'I', b'M']) => false,
        Ok([1, 0, b'M', b'I']) => true,
        _ if header.starts_with(b"MATLAB 7.3") => {
            return Err(Error::Format("MATLAB 7.3 files (HDF5) are not read: save it with -v7".into()));
        }
        _ => return Err(Error::Format("not a MAT-file of level 5".into())),
    };
    let mut found = BTreeMap::new();
    let mut at = 128;
    while at < length {
        let (kind, size) = Source { reader: &mut file, big_endian }.long_tag()?;
        at += 8 + size;
        if at > length {
            return Err(Error::Format(format!("an element claims {size} bytes, more than the file has")));
        }
        let mut element = file.by_ref().take(size);
        let matrix = match kind {
            COMPRESSED => {
                let mut source = Source { reader: &mut ZlibDecoder::new(&mut element), big_endian };
                match source.long_tag()? {
                    (MATRIX, inner) if can_inflate_to(size, inner) => source.matrix(inner, asked)?,
                    (MATRIX, inner) => {
                        return Err(Error::Format(format!(
                            "an array claims {inner} bytes, more than {size} can hold"
                        )));
                    }
                    _ => None,
                }
            }
            MATRIX => Source { reader: &mut element, big_endian }.matrix(size, asked)?,
            _ => None,
        };
        // What was not looked at.
        std::io::copy(&mut element, &mut std::io::sink())?;
        found.extend(matrix);
    }
    Ok(found)
}

/// What an element begins with.
struct Tag {
    kind: u32,
    length: u64,
    /// The data, where they are so short that they are in the tag.
    small: Option<Vec<u8>>,
}

struct Source<'a, R> {
    reader: &'a mut R,
    big_endian: bool,
}

impl<R: Read> Source<'_, R> {
    fn word<E>(&mut self) -> Result<u32, Error<E>> {
        let mut bytes = [0; 4];
        self.reader.read_exact(&mut bytes)?;
        Ok(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// A tag of 8 bytes: type and length.
    fn long_tag<E>(&mut self) -> Result<(u32, u64), Error<E>> {
        Ok((self.word()?, self.word()?.into()))
    }

    /// The data of an element that have at most `most` bytes.
    fn element<E>(&mut self, most: u64) -> Result<Vec<u8>, Error<E>> {
        let tag = self.tag(most)?;
        self.data(tag)
    }

    /// The tag of an element whose data have at most `most` bytes, and data that are in it.
    fn tag<E>(&mut self, most: u64) -> Result<Tag, Error<E>> {
        let first = self.word()?;
        if first >> 16 != 0 {
            // The length is in the upper half, and the data are where the length usually is.
            let (kind, length) = (first & 0xffff, (first >> 16) as usize);
            let mut data = [0; 4];
            self.reader.read_exact(&mut data)?;
            let data = data.get(..length).ok_or_else(|| format!("a small element claims {length} bytes"))?;
            return Ok(Tag { kind, length: length as u64, small: Some(data.to_vec()) });
        }
        let length = u64::from(self.word()?);
        if length > most {
            return Err(Error::Format(format!("an element claims {length} bytes where {most} are left")));
        }
        Ok(Tag { kind: first, length, small: None })
    }

    fn data<E>(&mut self, Tag { length, small, .. }: Tag) -> Result<Vec<u8>, Error<E>> {
        if let Some(data) = small {
            return Ok(data);
        }
        let mut data = Vec::new();
        self.reader.by_ref().take(length).read_to_end(&mut data)?;
        if data.len() as u64 != length {
            return Err(Error::Format("it ends too early".into()));
        }
        std::io::copy(
            &mut self.reader.by_ref().take(length.next_multiple_of(8) - length),
            &mut std::io::sink(),
        )?;
        Ok(data)
    }

    /// An array of `size` bytes with its name, when it is numeric and wanted.
    fn matrix<E>(&mut self, size: u64, asked: Asked<'_, E>) -> Result<Option<(String, Matrix)>, Error<E>> {
        let big_endian = self.big_endian;
        let word = |bytes: &[u8]| match (bytes.first_chunk(), big_endian) {
            (Some(&bytes), true) => u32::from_be_bytes(bytes),
            (Some(&bytes), false) => u32::from_le_bytes(bytes),
            (None, _) => 0,
        };
        let small = size.min(1024);
        let flags = self.element(small)?;
        let flags = word(&flags);
        // Cells, structures and objects have other parts; 6 to 15 are the numbers.
        if !(6..=15).contains(&(flags & 0xff)) {
            return Ok(None);
        }
        let sides = self.element(small)?;
        let shape: Vec<usize> = sides.chunks_exact(4).map(|side| word(side) as usize).collect();
        let name = String::from_utf8_lossy(&self.element(small)?).into_owned();
        if !(asked.wanted)(&name) {
            return Ok(None);
        }
        if flags & 0x0800 != 0 {
            return Err(Error::Format(format!("{name} is complex")));
        }
        let tag = self.tag(size)?;
        let stored = Stored::of(tag.kind).ok_or_else(|| format!("{name} is of unknown type {}", tag.kind))?;
        let count = shape.iter().try_fold(stored.width(), |count, &side| count.checked_mul(side));
        let Some(bytes) = count.filter(|&count| count as u64 == tag.length) else {
            return Err(Error::Format(format!(
                "{name} has {} bytes, which do not fit its shape {shape:?}",
                tag.length
            )));
        };
        let matrix = Shape { shape, bytes };
        (asked.may)(&matrix).map_err(Error::Refused)?;
        let (shape, bytes) = (matrix.shape, self.data(tag)?);
        Ok(Some((name, Matrix { shape, stored, big_endian, bytes })))
    }
}
