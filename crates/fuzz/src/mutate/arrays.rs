//! Damage to arrays of NumPy and MATLAB.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::{bytes, inflated, text};
use crate::Choices;

/// Types of NumPy's, and some that are none.
const TYPES: [&str; 12] =
    ["<f4", ">f4", "<f8", "|O", "<i4", "|u1", "|b1", "<U9", "<f2", "<c8", "<i8", "<f4\\n"];

/// Damages the header of an npy file, with the right length, or its numbers.
pub fn npy(content: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let header = content.starts_with(b"\x93NUMPY\x01").then(|| {
        let length = usize::from(u16::from_le_bytes([*content.get(8)?, *content.get(9)?]));
        Some((content.get(10..10 + length)?, content.get(10 + length..)?))
    });
    let Some((header, body)) = header.flatten() else { return bytes(content, choices) };
    let mut body = body.to_vec();
    let header = match choices.below(6) {
        0 => return bytes(content, choices),
        1 => {
            bytes::floats(&mut body, choices);
            header.to_vec()
        }
        2 => {
            bytes::change(&mut body, choices);
            header.to_vec()
        }
        3 => {
            let header = String::from_utf8_lossy(header).into_owned();
            let old = header.split('\'').nth(3).unwrap_or_default().to_owned();
            header.replacen(&old, choices.pick(&TYPES), 1).into_bytes()
        }
        4 => {
            let header = String::from_utf8_lossy(header).into_owned();
            header.replacen("False", choices.pick(&["True", "", "None"]), 1).into_bytes()
        }
        _ => text(header, choices),
    };
    let length = (header.len().min(usize::from(u16::MAX)) as u16).to_le_bytes();
    [&content[..8], &length, &header, &body].concat()
}

/// The type of an element that is a zlib stream of another.
const COMPRESSED: u32 = 15;

/// Damages an element of a MAT-file of level 5, also where it is compressed.
pub fn mat(content: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let Some((header, mut rest)) = content.split_at_checked(128).filter(|_| !choices.one_in(5)) else {
        return bytes(content, choices);
    };
    let mut elements = Vec::new();
    while let Some((tag, after)) = rest.split_first_chunk::<8>() {
        let kind = u32::from_le_bytes([tag[0], tag[1], tag[2], tag[3]]);
        let size = u32::from_le_bytes([tag[4], tag[5], tag[6], tag[7]]) as usize;
        let Some((value, next)) = after.split_at_checked(size) else { break };
        elements.push((kind, value.to_vec()));
        rest = next;
    }
    if elements.is_empty() {
        return bytes(content, choices);
    }
    let at = choices.below(elements.len());
    let (kind, value) = &mut elements[at];
    let mut inner = Vec::new();
    if *kind == COMPRESSED && ZlibDecoder::new(&value[..]).read_to_end(&mut inner).is_ok() {
        let mut inner = bytes(&inner, choices);
        inflated(&mut inner, choices);
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        *value = encoder.write_all(&inner).and_then(|()| encoder.finish()).expect("memory can be written to");
    } else {
        *value = bytes(value, choices);
    }
    let mut file = header.to_vec();
    for (kind, value) in elements {
        file.extend(kind.to_le_bytes());
        file.extend((value.len() as u32).to_le_bytes());
        file.extend(value);
    }
    file
}
