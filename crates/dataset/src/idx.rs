//! The IDX format of MNIST and its kin: a magic number, big-endian lengths, bytes.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::DatasetError;

const ADVICE: &str = "get the file again";
/// What a byte of deflate can become at most.
const MAX_INFLATION: u64 = 1032;

/// Reads an IDX file of bytes with `D` dimensions, gzipped or not: their lengths, and the bytes.
pub(crate) fn read<const D: usize>(path: &Path) -> Result<([usize; D], Vec<u8>), DatasetError> {
    let cannot = |error| DatasetError::read(path, error);
    let wrong = |problem| DatasetError::format(path.display(), problem, ADVICE);
    let length = path.metadata().map_err(cannot)?.len();
    let open = || File::open(path).map(BufReader::new).map_err(cannot);
    let mut start = [0; 2];
    let gzipped = open()?.read_exact(&mut start).is_ok() && start == [0x1f, 0x8b];
    if gzipped {
        let said = |error| format!("damaged gzip: {error}");
        return parse(MultiGzDecoder::new(open()?), length.saturating_mul(MAX_INFLATION), said)
            .map_err(wrong);
    }
    parse(open()?, length, |error| error.to_string()).map_err(wrong)
}

/// Reads at most `most` bytes, and takes memory for no more.
fn parse<const D: usize>(
    mut reader: impl Read,
    most: u64,
    said: impl Fn(std::io::Error) -> String,
) -> Result<([usize; D], Vec<u8>), String> {
    let mut header = Vec::new();
    reader.by_ref().take(4 + 4 * D as u64).read_to_end(&mut header).map_err(&said)?;
    // Two zeros, 8 for unsigned bytes, the number of dimensions.
    let magic = [0, 0, 8, D as u8];
    if header.len() < 4 + 4 * D || header[..4] != magic {
        return Err(format!("not an IDX file of bytes with {D} dimensions (magic number {magic:02x?})"));
    }
    let lengths: [usize; D] = std::array::from_fn(|at| {
        let field = &header[4 + 4 * at..8 + 4 * at];
        field.iter().fold(0, |value, &byte| value << 8 | usize::from(byte))
    });
    let announced =
        |found: &str| format!("the header announces {lengths:?} values, but {found} bytes follow it");
    let expected = lengths.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    let Some(expected) = expected.filter(|&expected| expected as u64 <= most) else {
        return Err(announced("fewer"));
    };
    let mut body = Vec::new();
    reader.take(expected as u64 + 1).read_to_end(&mut body).map_err(said)?;
    match body.len() {
        found if found > expected => Err(announced("more")),
        found if found < expected => Err(announced(&found.to_string())),
        _ => Ok((lengths, body)),
    }
}

#[cfg(test)]
mod tests {
    fn parse<const D: usize>(bytes: &[u8]) -> Result<([usize; D], Vec<u8>), String> {
        super::parse(bytes, bytes.len() as u64, |error| error.to_string())
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
