//! The IDX format of MNIST and its kin: a magic number, big-endian lengths, bytes.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use equipoise_arrays::can_inflate_to;
use flate2::read::MultiGzDecoder;

use crate::{DatasetError, Limit};

const ADVICE: &str = "get the file again";

/// Reads an IDX file of bytes with `D` dimensions, the first of them the images, gzipped or not: their lengths, and the
/// bytes.
pub(crate) fn read<const D: usize>(path: &Path, limit: Limit) -> Result<([usize; D], Vec<u8>), DatasetError> {
    let cannot = |error| DatasetError::read(path, error);
    let wrong = |problem| DatasetError::format(path.display(), problem, ADVICE);
    let length = path.metadata().map_err(cannot)?.len();
    let open = || File::open(path).map(BufReader::new).map_err(cannot);
    let mut start = [0; 2];
    let gzipped = open()?.read_exact(&mut start).is_ok() && start == [0x1f, 0x8b];
    if gzipped {
        let said = |error| format!("damaged gzip: {error}");
        let mut reader = MultiGzDecoder::new(open()?);
        let lengths = header(&mut reader, said, |bytes| can_inflate_to(length, bytes)).map_err(wrong)?;
        limit.check(path.display(), lengths[0], lengths[1..].iter().product())?;
        return Ok((lengths, body(reader, lengths, said).map_err(wrong)?));
    }
    let (mut reader, said) = (open()?, |error: io::Error| error.to_string());
    let lengths = header(&mut reader, said, |bytes| bytes <= length).map_err(wrong)?;
    limit.check(path.display(), lengths[0], lengths[1..].iter().product())?;
    Ok((lengths, body(reader, lengths, said).map_err(wrong)?))
}

fn announced<const D: usize>(lengths: [usize; D], found: &str) -> String {
    format!("the header announces {lengths:?} values, but {found} bytes follow it")
}

/// The lengths of the dimensions, whose product is a number of bytes that the file `can_hold`.
fn header<const D: usize>(
    reader: &mut impl Read,
    said: impl Fn(io::Error) -> String,
    can_hold: impl Fn(u64) -> bool,
) -> Result<[usize; D], String> {
    let mut header = Vec::new();
    reader.take(4 + 4 * D as u64).read_to_end(&mut header).map_err(said)?;
    // Two zeros, 8 for unsigned bytes, the number of dimensions.
    let magic = [0, 0, 8, D as u8];
    if header.len() < 4 + 4 * D || header[..4] != magic {
        return Err(format!("not an IDX file of bytes with {D} dimensions (magic number {magic:02x?})"));
    }
    let lengths: [usize; D] = std::array::from_fn(|at| {
        let field = &header[4 + 4 * at..8 + 4 * at];
        field.iter().fold(0, |value, &byte| value << 8 | usize::from(byte))
    });
    let expected = lengths.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    match expected {
        Some(expected) if can_hold(expected as u64) => Ok(lengths),
        _ => Err(announced(lengths, "fewer")),
    }
}

/// The bytes after a header of these lengths, and no more.
fn body<const D: usize>(
    reader: impl Read,
    lengths: [usize; D],
    said: impl Fn(io::Error) -> String,
) -> Result<Vec<u8>, String> {
    let expected: usize = lengths.iter().product();
    let mut body = Vec::new();
    reader.take(expected as u64 + 1).read_to_end(&mut body).map_err(said)?;
    match body.len() {
        found if found > expected => Err(announced(lengths, "more")),
        found if found < expected => Err(announced(lengths, &found.to_string())),
        _ => Ok(body),
    }
}

#[cfg(test)]
mod tests {
    fn parse<const D: usize>(mut bytes: &[u8]) -> Result<([usize; D], Vec<u8>), String> {
        let (length, said) = (bytes.len() as u64, |error: std::io::Error| error.to_string());
        let lengths = super::header(&mut bytes, said, |expected| expected <= length)?;
        Ok((lengths, super::body(bytes, lengths, said)?))
    }

    #[test]
    fn lengths_and_bytes_are_read() {
        let bytes = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];
        assert_eq!(parse::<2>(&bytes).unwrap(), ([2, 3], vec![1, 2, 3, 4, 5, 6]));
        assert!(parse::<2>(&bytes[..17]).unwrap_err().contains("[2, 3] values, but 5 bytes"));
        assert!(parse::<2>(&[&bytes[..], &[7]].concat()).unwrap_err().contains("but more bytes"));
        assert!(parse::<1>(&bytes).unwrap_err().contains("1 dimensions"));
        assert!(parse::<2>(&bytes[..3]).is_err());
        let huge = [0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(parse::<3>(&huge).unwrap_err().contains("but fewer bytes"));
    }
}
