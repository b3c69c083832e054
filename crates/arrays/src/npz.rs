//! The npz format: a zip of npy files, as `numpy.savez` and `numpy.savez_compressed` write it.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use zip::ZipArchive;

use crate::can_inflate_to;
use crate::npy::{Array, Header};

/// All arrays by name. Members that are no arrays are refused, and so is more than `limit` bytes of values in all. The
/// error says what is wrong, and in which member.
///
/// # Errors
///
/// If it is no zip, a member is no array of numbers, or there is more than may be read.
pub fn read(file: impl Read + Seek, limit: u64) -> Result<BTreeMap<String, Array>, String> {
    let mut archive = ZipArchive::new(file).map_err(|error| error.to_string())?;
    let mut arrays = BTreeMap::new();
    let mut left = limit;
    for place in 0..archive.len() {
        let mut member = archive.by_index(place).map_err(|error| error.to_string())?;
        let full = member.name().map_err(|error| error.to_string())?.into_owned();
        let wrong = |problem: String| format!("{full}: {problem}");
        let Some(name) = full.strip_suffix(".npy") else {
            return Err(wrong("is no NumPy array".into()));
        };
        let (packed, size) = (member.compressed_size(), member.size());
        if !can_inflate_to(packed, size) {
            return Err(wrong(format!("claims {size} bytes, more than {packed} can hold")));
        }
        let header = Header::read(&mut member).map_err(wrong)?;
        let bytes = header.bytes as u64;
        left = left.checked_sub(bytes).ok_or_else(|| {
            wrong(format!("with it there are more than the {limit} bytes that are read of one file"))
        })?;
        let array = Array::read(header, &mut member).map_err(wrong)?;
        if arrays.insert(name.to_owned(), array).is_some() {
            return Err(wrong("is there twice".into()));
        }
    }
    Ok(arrays)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::npy::write_header;

    fn archive(members: &[(&str, &[u8])]) -> Cursor<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap()
    }

    fn array(values: &[f64]) -> Vec<u8> {
        let mut file = Vec::new();
        write_header(&mut file, "<f8", &[values.len()]).unwrap();
        values.iter().for_each(|value| file.extend(value.to_le_bytes()));
        file
    }

    #[test]
    fn arrays_are_read_by_name() {
        let (a, b) = (array(&[1.0, -2.5]), array(&[3.0]));
        let found = read(archive(&[("a.npy", &a), ("b.npy", &b)]), 1 << 20).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(found["a"].to_f64(), [1.0, -2.5]);
    }

    #[test]
    fn what_is_no_array_is_named() {
        let a = array(&[1.0, 2.0]);
        let error = |members: &[(&str, &[u8])], limit| read(archive(members), limit).unwrap_err();
        assert!(error(&[("a.txt", b"1")], 99).contains("a.txt: is no NumPy array"));
        assert!(error(&[("a.npy", b"1")], 99).starts_with("a.npy: "));
        assert!(error(&[("a.npy", &a)], 15).contains("more than the 15 bytes"));
        assert!(read(archive(&[("a.npy", &a)]), 16).is_ok());
        assert!(read(Cursor::new(b"no zip"), 99).is_err());
    }
}
