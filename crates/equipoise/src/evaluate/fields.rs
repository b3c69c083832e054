//! The small pieces that reading and writing safetensors files takes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, View};

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
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
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
