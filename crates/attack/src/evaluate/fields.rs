//! The small pieces that reading and writing safetensors files takes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;

use equipoise_files::sha256;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, View};
use serde_json::{Map, Value};

/// Entries of the metadata: the file's checksum, and what a clock said, which is no part of it.
const SUM: &str = "sha256";
const CLOCK: &str = "seconds";

/// Where a file of this format has its metadata.
const METADATA: &str = "__metadata__";

/// A safetensors file: the same bytes for the same content, with a checksum of the whole in its metadata, which
/// [`Fields::read`] checks. The library has the metadata in a hash map, whose order is drawn anew by each run.
pub(super) fn file<const N: usize>(
    fields: Vec<(&str, Field)>,
    metadata: [(&str, String); N],
) -> Result<Vec<u8>, String> {
    let bytes = safetensors::tensor::serialize(fields, None).map_err(|error| error.to_string())?;
    let (mut header, content) = parts(&bytes)?;
    let metadata: Map<String, Value> =
        metadata.into_iter().map(|(key, text)| (key.to_owned(), text.into())).collect();
    header.insert(METADATA.to_owned(), metadata.into());
    let sum = checksum(&header, content);
    header[METADATA][SUM] = sum.into();
    let mut text = Value::from(header).to_string();
    // The content begins at a multiple of eight, as the library has it.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let length = (text.len() as u64).to_le_bytes();
    Ok([&length, text.as_bytes(), content].concat())
}

/// A file's header and what comes after it.
fn parts(bytes: &[u8]) -> Result<(Map<String, Value>, &[u8]), String> {
    let short = || "it is cut off".to_owned();
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| short())?;
    let (header, content) = rest.split_at_checked(length).ok_or_else(short)?;
    Ok((serde_json::from_slice(header).map_err(|error| error.to_string())?, content))
}

/// Of everything but the checksum itself and what a clock said.
fn checksum(header: &Map<String, Value>, content: &[u8]) -> String {
    let mut header = header.clone();
    if let Some(metadata) = header.get_mut(METADATA).and_then(Value::as_object_mut) {
        metadata.remove(SUM);
        metadata.remove(CLOCK);
    }
    sha256(&[Value::from(header).to_string().as_bytes(), content].concat())
}

/// Whether a file is as it was written.
fn check(bytes: &[u8]) -> Result<(), String> {
    let (header, content) = parts(bytes)?;
    match header.get(METADATA).and_then(|metadata| metadata.get(SUM)) {
        None => Err("it has no checksum".to_owned()),
        Some(stated) if *stated == checksum(&header, content) => Ok(()),
        Some(_) => Err("its checksum does not match its content: it is not as it was written".to_owned()),
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
        let content = |bytes: &[u8]| {
            let read = Fields::read(bytes).ok()?;
            let numbers = (
                read.i64("rows"),
                read.f32("x").map(|x| x[..2].to_vec()),
                read.u8("flags").map(<[u8]>::to_vec),
            );
            Some((read.metadata.clone(), numbers))
        };
        let whole = content(&bytes);
        assert!(whole.is_some());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let read = content(&changed);
                assert!(read.is_none() || read == whole, "byte {at}, bit {bit}");
            }
        }
        for length in 0..bytes.len() {
            assert!(Fields::read(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn what_a_clock_said_is_no_part_of_the_checksum() {
        let at = |seconds: &str| {
            let bytes =
                file(vec![("x", Field::u8(vec![7], vec![1]))], [(CLOCK, seconds.to_owned())]).unwrap();
            Fields::read(&bytes).unwrap().text(SUM).unwrap().to_owned()
        };
        assert_eq!(at("0.5"), at("123"));
    }
}
