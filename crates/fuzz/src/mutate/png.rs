//! Damage to the chunks of PNG files, whose checksums stay right.

use std::io::{Read, Write};

use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

use super::{bytes, inflated};
use crate::Choices;

/// How a PNG file begins.
const MAGIC: usize = 8;

/// Damages a chunk (the pixels also as they are before compression), removes or repeats it.
pub fn png(content: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let Some((magic, mut rest)) = content.split_at_checked(MAGIC).filter(|_| !choices.one_in(5)) else {
        return bytes(content, choices);
    };
    let mut chunks = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (Some(chunk), Some(next)) = (after.get(..4 + length), after.get(8 + length..)) else { break };
        chunks.push(chunk.to_vec());
        rest = next;
    }
    if chunks.is_empty() {
        return bytes(content, choices);
    }
    let at = choices.below(chunks.len());
    match choices.below(8) {
        0 => {
            chunks.remove(at);
        }
        1 => chunks.insert(at, chunks[at].clone()),
        _ => {
            let (name, value) = chunks[at].split_at(4);
            let mut inner = Vec::new();
            let value = if name == b"IDAT"
                && !choices.one_in(4)
                && ZlibDecoder::new(value).read_to_end(&mut inner).is_ok()
            {
                let mut inner = bytes(&inner, choices);
                inflated(&mut inner, choices);
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&inner).and_then(|()| encoder.finish()).expect("memory can be written to")
            } else {
                bytes(value, choices)
            };
            chunks[at] = [name, &value].concat();
        }
    }
    let mut file = magic.to_vec();
    for chunk in chunks {
        let mut sum = Crc::new();
        sum.update(&chunk);
        file.extend((chunk.len() as u32 - 4).to_be_bytes());
        file.extend(&chunk);
        file.extend(sum.sum().to_be_bytes());
    }
    file
}
