//! The npy format: one NumPy array of numbers (NEP 1).
//!
//! Bytes: `\x93NUMPY`, a version (major, minor), the length of the header (little-endian, 2 bytes in version 1,
//! else 4), the header (a Python dict with `descr`, `fortran_order` and `shape`), the values.

use std::io::{Read, Write};

use half::f16;

use crate::{signed, words};

const MAGIC: &[u8] = b"\x93NUMPY";
/// The values start at a multiple of this.
const ALIGNMENT: usize = 64;
/// NumPy's headers have some 100 bytes; a longer one is damage, and is not worth the memory.
const MAX_HEADER: usize = 65_536;

/// An array as it is stored.
#[derive(Debug)]
pub struct Array {
    /// The type of its numbers.
    pub kind: Kind,
    /// The length of each axis.
    pub shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    /// Reads the values that follow a header, to the end of `reader`. The error says what is wrong.
    pub fn read(header: Header, reader: impl Read) -> Result<Self, String> {
        // The header's promise is not trusted with an allocation: a damaged one may promise terabytes.
        let mut bytes = Vec::new();
        reader.take(header.bytes as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Self::of(header.kind, header.fortran_order, header.shape, bytes)
    }

    /// An array from its parts: a type such as `<f4`, the order of the values, a shape, and the values' bytes. The
    /// error says what is wrong.
    pub fn new(descr: &str, fortran_order: bool, shape: Vec<usize>, bytes: &[u8]) -> Result<Self, String> {
        Self::of(Kind::parse(descr)?, fortran_order, shape, bytes.to_vec())
    }

    fn of(kind: Kind, fortran_order: bool, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Self, String> {
        let expected = kind.bytes_of(&shape)?;
        if bytes.len() != expected {
            let found = if bytes.len() > expected { "more".into() } else { bytes.len().to_string() };
            return Err(misfit(&shape, expected, &found));
        }
        let bytes = match (fortran_order, kind.width) {
            (false, _) => bytes,
            (true, 1) => in_c_order(&bytes, &shape),
            (true, 2) => in_c_order(bytes.as_chunks::<2>().0, &shape).into_flattened(),
            (true, 4) => in_c_order(bytes.as_chunks::<4>().0, &shape).into_flattened(),
            (true, _) => in_c_order(bytes.as_chunks::<8>().0, &shape).into_flattened(),
        };
        Ok(Self { kind, shape, bytes })
    }

    /// The values, each as it is stored, in C's order.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The values when they are 8-bit unsigned.
    pub fn into_u8(self) -> Option<Vec<u8>> {
        (self.kind.name == "u1").then_some(self.bytes)
    }

    /// The values when they are integers of any width.
    pub fn integers(&self) -> Option<impl Iterator<Item = i128>> {
        let (signs, width) = match self.kind.name.as_bytes().first() {
            Some(b'u') => (false, self.kind.width),
            Some(b'i') => (true, self.kind.width),
            _ => return None,
        };
        let value = move |bits: u64| if signs { signed(bits, width) } else { bits.into() };
        Some(self.kind.words(&self.bytes).map(value))
    }

    /// [`Array::integers`], together.
    pub fn to_integers(&self) -> Option<Vec<i128>> {
        self.integers().map(Iterator::collect)
    }

    /// The values in float64, in C's order; integers beyond 2⁵³ are rounded.
    pub fn to_f64(&self) -> Vec<f64> {
        if let Some(integers) = self.integers() {
            return integers.map(|value| value as f64).collect();
        }
        let words = self.kind.words(&self.bytes);
        match self.kind.width {
            2 => words.map(|bits| f16::from_bits(bits as u16).to_f64()).collect(),
            4 => words.map(|bits| f64::from(f32::from_bits(bits as u32))).collect(),
            _ => words.map(f64::from_bits).collect(),
        }
    }
}

/// What is wrong with an array whose values have not the bytes that its shape needs.
pub fn misfit(shape: &[usize], expected: usize, found: &str) -> String {
    format!("its shape {shape:?} needs {expected} bytes, found {found}")
}

/// A type of numbers.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Kind and bytes per value, such as `f4` or `u1`.
    pub name: String,
    /// Bytes per value.
    pub width: usize,
    big_endian: bool,
}

impl Kind {
    /// `<f4`: the order of the bytes, the kind, and how many they are.
    fn parse(descr: &str) -> Result<Self, String> {
        let (order, name) = descr.split_at_checked(1).unwrap_or(("", ""));
        let width = match (name.split_at_checked(1), order) {
            (Some(("f" | "i" | "u", width)), "<" | ">" | "|" | "=") => width.parse::<usize>().ok(),
            _ => None,
        };
        let width = width
            .filter(|width| matches!(width, 1 | 2 | 4 | 8))
            .ok_or_else(|| format!("its type {descr} is no number of 1 to 8 bytes"))?;
        let big_endian = order == ">" || (order == "=" && cfg!(target_endian = "big"));
        Ok(Self { name: name.to_owned(), width, big_endian })
    }

    /// Whether its values are floats of 16, 32 or 64 bits.
    pub fn is_float(&self) -> bool {
        matches!(self.name.as_str(), "f2" | "f4" | "f8")
    }

    /// Appends values of floats, those of 64 bits rounded.
    pub fn append_f32(&self, bytes: &[u8], out: &mut Vec<f32>) {
        let words = self.words(bytes);
        match self.width {
            2 => out.extend(words.map(|bits| f16::from_bits(bits as u16).to_f32())),
            4 => out.extend(words.map(|bits| f32::from_bits(bits as u32))),
            _ => out.extend(words.map(|bits| f64::from_bits(bits) as f32)),
        }
    }

    /// Each value's bits, as the low bits of a word.
    fn words(&self, bytes: &[u8]) -> impl Iterator<Item = u64> {
        words(bytes, self.width, self.big_endian)
    }

    /// How many bytes an array of this shape has.
    fn bytes_of(&self, shape: &[usize]) -> Result<usize, String> {
        let values = shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
        values.and_then(|count| count.checked_mul(self.width)).ok_or_else(|| "its shape is too large".into())
    }
}

/// From Fortran's order, the first axis fastest, to C's, the last axis fastest.
pub(crate) fn in_c_order<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
    // How far apart neighbours along each axis are.
    let strides: Vec<usize> = shape
        .iter()
        .scan(1_usize, |stride, &side| {
            let this = *stride;
            *stride = stride.saturating_mul(side);
            Some(this)
        })
        .collect();
    let mut out = Vec::with_capacity(values.len());
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    while out.len() < values.len() {
        out.push(values[at]);
        // The next index, as an odometer counts.
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    out
}

/// What stands before the values.
#[derive(Debug)]
pub struct Header {
    /// The type of the numbers.
    pub kind: Kind,
    /// Whether the first axis is the fastest.
    pub fortran_order: bool,
    /// The length of each axis.
    pub shape: Vec<usize>,
    /// How many bytes the values have.
    pub bytes: usize,
    /// How many bytes the header itself has.
    pub length: usize,
}

impl Header {
    /// Reads a header; the values come next. The error says what is wrong.
    pub fn read(reader: &mut impl Read) -> Result<Self, String> {
        let (Written { descr, fortran_order, shape }, length) = read_header(reader)?;
        let kind = Kind::parse(&descr)?;
        let bytes = kind.bytes_of(&shape)?;
        Ok(Self { kind, fortran_order, shape, bytes, length })
    }
}

/// A header as it is written.
struct Written {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// A header, and how many bytes it has.
fn read_header(reader: &mut impl Read) -> Result<(Written, usize), String> {
    let mut start = [0; 8];
    let mut length = [0; 4];
    let short = |_| "it ends within its header".to_owned();
    reader.read_exact(&mut start).map_err(short)?;
    if !start.starts_with(MAGIC) {
        return Err("it does not begin like an npy array".into());
    }
    let length_bytes = if start[6] == 1 { 2 } else { 4 };
    reader.read_exact(&mut length[..length_bytes]).map_err(short)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        return Err(format!("its header claims {length} bytes"));
    }
    let mut header = vec![0; length];
    reader.read_exact(&mut header).map_err(short)?;
    let header = String::from_utf8_lossy(&header);
    let all = start.len() + length_bytes + length;
    parse_header(&header)
        .map(|written| (written, all))
        .ok_or_else(|| format!("its header is not understood: {}", header.trim()))
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`: NumPy writes the dict by `repr`, so plain
/// searches for the three keys suffice. A structured type has a list in place of the quoted name: `None`.
fn parse_header(header: &str) -> Option<Written> {
    let value = |key: &str| header.split_once(key).map(|(_, rest)| rest.trim_start());
    let descr = value("'descr':")?.strip_prefix('\'')?.split_once('\'')?.0.to_owned();
    let fortran_order = value("'fortran_order':")?.starts_with("True");
    let sides = value("'shape':")?.strip_prefix('(')?.split_once(')')?.0;
    let sides = sides.split(',').map(str::trim).filter(|side| !side.is_empty());
    let shape = sides.map(|side| side.parse().ok()).collect::<Option<Vec<usize>>>()?;
    Some(Written { descr, fortran_order, shape })
}

/// Writes the part before the values, as NumPy does (version 1).
pub fn write_header(out: &mut impl Write, descr: &str, shape: &[usize]) -> std::io::Result<()> {
    // A tuple of one needs its comma; NumPy writes it for one only.
    let sides = match shape {
        [side] => format!("{side},"),
        sides => sides.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sides}), }}");
    let before = MAGIC.len() + 4;
    let padded = (before + header.len() + 1).next_multiple_of(ALIGNMENT);
    while before + header.len() + 1 < padded {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|_| std::io::Error::other("too many dimensions"))?;
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(header.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(descr: &str, shape: &[usize], bytes: &[u8]) -> Result<Array, String> {
        let mut file = Vec::new();
        write_header(&mut file, descr, shape).unwrap();
        assert_eq!(file.len() % ALIGNMENT, 0);
        file.extend(bytes);
        let mut file = file.as_slice();
        let length = file.len();
        let header = Header::read(&mut file)?;
        assert_eq!(length - file.len(), header.length);
        Array::read(header, file)
    }

    fn floats(descr: &str, shape: &[usize], bytes: &[u8]) -> Vec<f32> {
        let array = array(descr, shape, bytes).unwrap();
        let mut out = Vec::new();
        assert!(array.kind.is_float());
        array.kind.append_f32(array.bytes(), &mut out);
        out
    }

    #[test]
    fn integers_of_any_width_and_order() {
        assert_eq!(array("|i1", &[2], &[255, 3]).unwrap().to_integers().unwrap(), [-1, 3]);
        assert_eq!(array("<i2", &[1], &[0xfe, 0xff]).unwrap().to_integers().unwrap(), [-2]);
        assert_eq!(array(">u4", &[1], &[0, 0, 1, 2]).unwrap().to_integers().unwrap(), [258]);
        assert_eq!(array("<i8", &[1], &[0xff; 8]).unwrap().to_integers().unwrap(), [-1]);
        assert_eq!(array("<u8", &[1], &[0xff; 8]).unwrap().to_integers().unwrap(), [u64::MAX.into()]);
        assert!(array("<f8", &[1], &[0; 8]).unwrap().to_integers().is_none());
    }

    #[test]
    fn floats_of_either_order() {
        assert_eq!(floats("<f4", &[], &0.5f32.to_le_bytes()), [0.5]);
        assert_eq!(floats(">f4", &[1, 1], &0.5f32.to_be_bytes()), [0.5]);
    }

    #[test]
    fn floats_of_other_widths_become_float32() {
        assert_eq!(floats("<f2", &[2], &[0x00, 0x38, 0x00, 0x3c]), [0.5, 1.0]);
        assert_eq!(floats(">f2", &[1], &[0x34, 0x00]), [0.25]);
        assert_eq!(floats("<f8", &[1], &0.1f64.to_le_bytes()), [0.1]);
        assert!(!array("<u1", &[1], &[0]).unwrap().kind.is_float());
    }

    #[test]
    fn fortran_order_becomes_c_order() {
        let array = |shape: &[usize], bytes: &[u8]| {
            let array = Array::new("<u2", true, shape.to_vec(), bytes).unwrap();
            array.to_integers().unwrap()
        };
        // [[0, 1, 2], [3, 4, 5]], column by column.
        let columns = [0, 0, 3, 0, 1, 0, 4, 0, 2, 0, 5, 0];
        assert_eq!(array(&[2, 3], &columns), [0, 1, 2, 3, 4, 5]);
        assert_eq!(array(&[6], &columns), [0, 3, 1, 4, 2, 5]);
        assert_eq!(array(&[], &[7, 0]), [7]);
        assert_eq!(array(&[0, 3], &[]), Vec::<i128>::new());
        // x[i, j, k] = 100 i + 10 j + k, the first axis fastest.
        let values: Vec<u16> = (0..2 * 3 * 4).map(|at| (at % 2) * 100 + (at / 2 % 3) * 10 + at / 6).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let expected: Vec<i128> = (0..24).map(|at| (at / 12) * 100 + (at / 4 % 3) * 10 + at % 4).collect();
        assert_eq!(array(&[2, 3, 4], &bytes), expected);
    }

    #[test]
    fn damage_is_described() {
        let error = |descr, shape: &[usize], bytes: &[u8]| array(descr, shape, bytes).unwrap_err();
        assert!(error("<f4", &[2], &[0; 7]).contains("needs 8 bytes, found 7"));
        assert!(error("<f4", &[2], &[0; 9]).contains("found more"));
        assert!(error("|O", &[1], &[0; 8]).contains("|O"));
        assert!(error("<U5", &[1], &[0; 20]).contains("<U5"));
        assert!(error("é", &[1], &[0; 20]).contains("é"));
        assert!(error("<f4", &[usize::MAX, 2], &[]).contains("too large"));
        let header = |mut bytes: &[u8]| Header::read(&mut bytes).unwrap_err();
        assert!(header(b"\x93NUMPY\x01\x00\xff").contains("within its header"));
        assert!(header(b"PK345678abc").contains("npy"));
        assert!(header(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").contains("claims"));
        assert!(parse_header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }").is_none());
    }
}
