//! The small pieces that reading and writing safetensors files takes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use equipoise_files::sha256;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, SafeTensorError, View};

/// The key of the metadata that holds the file's checksum.
const SUM: &str = "sha256";

/// The length of a checksum.
const DIGITS: usize = 64;

/// A safetensors file: the same bytes for the same content, with a checksum of the whole in its metadata, which
/// [`Fields::read`] checks.
///
/// The checksum is that of the file with zeros in its place. Entries of the metadata are written in their order; the library
/// has them in a hash map.
pub(super) fn file<const N: usize>(
    fields: Vec<(&str, Field)>,
    metadata: [(&str, String); N],
) -> Result<Vec<u8>, SafeTensorError> {
    let mut metadata: BTreeMap<&str, String> = metadata.into_iter().collect();
    metadata.insert(SUM, "0".repeat(DIGITS));
    let bytes = safetensors::tensor::serialize(fields, None)?;
    let (length, header) = bytes.split_at_checked(8).ok_or(SafeTensorError::HeaderTooSmall)?;
    let length = u64::from_le_bytes(length.try_into().map_err(|_| SafeTensorError::HeaderTooSmall)?) as usize;
    let (header, content) = header.split_at_checked(length).ok_or(SafeTensorError::InvalidHeaderLength)?;
    let text = std::str::from_utf8(header).map_err(SafeTensorError::InvalidHeader)?;
    let metadata = serde_json::to_string(&metadata).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
    let tensors = text.trim_end().trim_start_matches('{');
    let mut header = format!("{{\"__metadata__\":{metadata},{tensors}");
    // The content begins at a multiple of eight, as the library has it.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(content);
    let sum = sha256(&file);
    let at = place_of_sum(&file).ok_or(SafeTensorError::InvalidHeaderLength)?;
    file[at..at + DIGITS].copy_from_slice(sum.as_bytes());
    Ok(file)
}

/// Where the digits of a file's checksum begin.
fn place_of_sum(bytes: &[u8]) -> Option<usize> {
    let mark = format!("\"{SUM}\":\"");
    let at = bytes.windows(mark.len()).position(|window| window == mark.as_bytes())? + mark.len();
    (at + DIGITS <= bytes.len()).then_some(at)
}

/// Whether a file is as it was written.
fn check(bytes: &[u8]) -> Result<(), String> {
    let at = place_of_sum(bytes).ok_or("it has no checksum")?;
    let mut blank = bytes.to_vec();
    blank[at..at + DIGITS].fill(b'0');
    if sha256(&blank).as_bytes() == &bytes[at..at + DIGITS] {
        Ok(())
    } else {
        Err("its checksum does not match its content: it is not as it was written".to_owned())
    }
}

/// Classes as int64, −1 for none.
pub(super) fn classes_to_i64(classes: &[Option<usize>]) -> Vec<i64> {
    classes.iter().map(|class| class.map_or(-1, |class| class as i64)).collect()
}

/// A tensor on its way into a file.
pub(super) struct Field {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Field {
    pub fn f32(values: &[f32], shape: Vec<usize>) -> Self {
        Self {
            dtype: Dtype::F32,
            shape,
            bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    pub fn i64(values: &[i64], shape: Vec<usize>) -> Self {
        Self {
            dtype: Dtype::I64,
            shape,
            bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    pub fn u8(bytes: Vec<u8>, shape: Vec<usize>) -> Self {
        Self { dtype: Dtype::U8, shape, bytes }
    }
}

impl View for Field {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// A file that is read back. Its errors say what is wrong with it, and leave it to the caller to say with which.
pub(super) struct Fields<'a> {
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl<'a> Fields<'a> {
    /// What [`file`] made. A file that something else made, or changed, is refused.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        check(bytes)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        Ok(Self { tensors, metadata: header.metadata().clone().unwrap_or_default() })
    }

    /// An entry of the metadata.
    pub fn text(&self, name: &str) -> Result<&str, String> {
        self.metadata.get(name).map(String::as_str).ok_or_else(|| format!("it lacks `{name}`"))
    }

    /// An entry of the metadata that is a number.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.text(name)?;
        text.parse().map_err(|_| format!("its `{name}` is `{text}`"))
    }

    pub fn shape(&self, name: &str) -> Result<Vec<usize>, String> {
        Ok(self.tensors.tensor(name).map_err(|error| error.to_string())?.shape().to_vec())
    }

    pub fn u8(&self, name: &str) -> Result<&[u8], String> {
        self.content(name, Dtype::U8)
    }

    pub fn f32(&self, name: &str) -> Result<Vec<f32>, String> {
        let (words, _) = self.content(name, Dtype::F32)?.as_chunks::<4>();
        Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    }

    pub fn i64(&self, name: &str) -> Result<Vec<i64>, String> {
        let (words, _) = self.content(name, Dtype::I64)?.as_chunks::<8>();
        Ok(words.iter().map(|word| i64::from_le_bytes(*word)).collect())
    }

    /// Whole numbers that are not negative.
    pub fn indices(&self, name: &str) -> Result<Vec<usize>, String> {
        let numbers = self.i64(name)?.into_iter().map(usize::try_from).collect::<Result<_, _>>();
        numbers.map_err(|_| format!("a number of its `{name}` is negative"))
    }

    /// What [`classes_to_i64`] made.
    pub fn classes(&self, name: &str) -> Result<Vec<Option<usize>>, String> {
        Ok(self.i64(name)?.into_iter().map(|class| usize::try_from(class).ok()).collect())
    }

    fn content(&self, name: &str, dtype: Dtype) -> Result<&[u8], String> {
        let tensor = self.tensors.tensor(name).map_err(|error| error.to_string())?;
        if tensor.dtype() == dtype { Ok(tensor.data()) } else { Err(format!("`{name}` has the wrong type")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<u8> {
        let fields = vec![
            ("x", Field::f32(&[0.1, 0.2, f32::NAN], vec![3])),
            ("rows", Field::i64(&[-1, 7], vec![2])),
            ("flags", Field::u8(vec![1, 0, 1], vec![3])),
        ];
        file(fields, [("version", "1".to_owned()), ("a", "\"quoted\"\n".to_owned())]).unwrap()
    }

    #[test]
    fn the_same_content_is_the_same_file_and_other_readers_know_it() {
        let bytes = example();
        assert!((0..20).all(|_| example() == bytes));
        let read = Fields::read(&bytes).unwrap();
        assert_eq!((read.text("version"), read.text("a")), (Ok("1"), Ok("\"quoted\"\n")));
        assert_eq!(read.i64("rows"), Ok(vec![-1, 7]));
        assert_eq!(read.u8("flags"), Ok(&[1, 0, 1][..]));
        assert_eq!(read.f32("x").unwrap()[..2], [0.1, 0.2]);
        let plain = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(plain.names().len(), 3);
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert_eq!((length + 8) % 8, 0, "the content is aligned");
    }

    #[test]
    fn no_bit_may_change() {
        let bytes = example();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(Fields::read(&changed).is_err(), "byte {at}, bit {bit}");
            }
        }
        for length in 0..bytes.len() {
            assert!(Fields::read(&bytes[..length]).is_err());
        }
    }
}
