//! The IDX format of MNIST and its kin: a magic number, big-endian lengths, bytes.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::DatasetError;

const ADVICE: &str = "get the file again";

/// Reads an IDX file of bytes with `D` dimensions, gzipped or not: their lengths, and the bytes.
pub(crate) fn read<const D: usize>(path: &Path) -> Result<([usize; D], Vec<u8>), DatasetError> {
    let mut bytes = fs::read(path).map_err(|error| DatasetError::read(path, error))?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).map_err(|error| {
            DatasetError::format(path.display(), format!("damaged gzip: {error}"), ADVICE)
        })?;
        bytes = plain;
    }
    parse(&bytes).map_err(|problem| DatasetError::format(path.display(), problem, ADVICE))
}

fn parse<const D: usize>(bytes: &[u8]) -> Result<([usize; D], Vec<u8>), String> {
    let header = 4 + 4 * D;
    // Two zeros, 8 for unsigned bytes, the number of dimensions.
    let magic = [0, 0, 8, D as u8];
    if bytes.len() < header || bytes[..4] != magic {
        return Err(format!("not an IDX file of bytes with {D} dimensions (magic number {magic:02x?})"));
    }
    let lengths: [usize; D] = std::array::from_fn(|at| {
        let field = &bytes[4 + 4 * at..8 + 4 * at];
        field.iter().fold(0, |value, &byte| value << 8 | usize::from(byte))
    });
    let body = &bytes[header..];
    let expected = lengths.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    if expected != Some(body.len()) {
        return Err(format!("the header announces {lengths:?} values, but {} bytes follow it", body.len()));
    }
    Ok((lengths, body.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn lengths_and_bytes_are_read() {
        let bytes = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];
        assert_eq!(parse::<2>(&bytes).unwrap(), ([2, 3], vec![1, 2, 3, 4, 5, 6]));
        assert!(parse::<2>(&bytes[..17]).unwrap_err().contains("[2, 3] values, but 5 bytes"));
        assert!(parse::<1>(&bytes).unwrap_err().contains("1 dimensions"));
        assert!(parse::<2>(&bytes[..3]).is_err());
        let huge = [0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(parse::<3>(&huge).is_err());
    }
}
