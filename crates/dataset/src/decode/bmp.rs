//! BMP without compression: palettes of 1, 4 and 8 bits, 16 bits, 24 bits and 32 bits.
//!
//! Bytes: `BM`, the length of the file, 4 reserved bytes, where the pixels begin; the length of the header and the
//! header; the palette (blue, green, red); rows from the bottom up, each filled up to a multiple of 4 bytes.

use super::{Image, Undecoded, check_size, complete};

/// Red, green, blue and alpha of 16-bit pixels where the header does not say.
const MASKS_16: [u32; 4] = [0x7c00, 0x03e0, 0x001f, 0];
/// The fourth byte of 32-bit pixels is unused where the header does not say otherwise.
const MASKS_32: [u32; 4] = [0x00ff_0000, 0x0000_ff00, 0x0000_00ff, 0];

pub(super) fn decode(bytes: &[u8], expected: Option<[usize; 2]>) -> Result<Image, Undecoded> {
    decoded(bytes, expected).ok_or("the BMP image is truncated")?
}

/// `None` where the file ends too early.
fn decoded(bytes: &[u8], expected: Option<[usize; 2]>) -> Option<Result<Image, Undecoded>> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (pixels_at, header) = (u32_at(10)? as usize, u32_at(14)? as usize);
    // OS/2's header has 12 bytes, with sizes of 16 bits, and a palette of 3 bytes a colour.
    let old = header == 12;
    if !old && !(40..=124).contains(&header) {
        return Some(Err(format!("BMP headers of {header} bytes are not read (convert it to PNG)").into()));
    }
    let (width, height, bits) = match old {
        true => (u32::from(u16_at(18)?), i32::from(u16_at(20)?), u16_at(24)?),
        false => (u32_at(18)?, u32_at(22)? as i32, u16_at(28)?),
    };
    let compression = if old { 0 } else { u32_at(30)? };
    let size @ [width, height_] = [width as usize, height.unsigned_abs() as usize];
    if let Err(error) = check_size(width, height_, expected) {
        return Some(Err(error));
    }
    let masks = match (compression, bits) {
        (0, 16) => MASKS_16,
        (0, 32) => MASKS_32,
        // The masks follow the shortest header, and are part of the longer ones. An alpha mask is in the latter only.
        (3, 16 | 32) => {
            let alpha = if header >= 56 { u32_at(66)? } else { 0 };
            [u32_at(54)?, u32_at(58)?, u32_at(62)?, alpha]
        }
        (0, 1 | 4 | 8 | 24) => [0; 4],
        (1 | 2, _) => return Some(Err("RLE-compressed BMP images are not read (convert it to PNG)".into())),
        (other, bits) => {
            return Some(Err(format!(
                "BMP images of {bits} bits with compression {other} are not read (convert it to PNG)"
            )
            .into()));
        }
    };
    let row = (width * usize::from(bits)).div_ceil(32) * 4;
    let mut rows: Vec<&[u8]> = bytes.get(pixels_at..)?.get(..row * height_)?.chunks_exact(row).collect();
    if height > 0 {
        rows.reverse();
    }
    let image = match bits {
        1 | 4 | 8 => {
            let colours = palette(bytes, 14 + header, if old { 3 } else { 4 }, pixels_at)?;
            indexed(size, &rows, usize::from(bits), &colours)
        }
        24 => {
            let pixels = rows.iter().flat_map(|row| row.chunks_exact(3).take(width));
            complete(size, 3, false, &pixels.flat_map(|p| [p[2], p[1], p[0]]).collect::<Vec<u8>>())
        }
        _ => masked(size, &rows, usize::from(bits / 8), masks),
    };
    Some(image.map_err(Undecoded::from))
}

/// Red, green and blue of each colour, up to the pixels.
fn palette(bytes: &[u8], at: usize, stride: usize, pixels_at: usize) -> Option<Vec<[u8; 3]>> {
    let entries = bytes.get(at..pixels_at)?.chunks_exact(stride).take(256);
    Some(entries.map(|entry| [entry[2], entry[1], entry[0]]).collect())
}

/// Gray where every colour of the palette is, as Pillow has it.
fn indexed(size: [usize; 2], rows: &[&[u8]], bits: usize, colours: &[[u8; 3]]) -> Result<Image, String> {
    let index = |row: &[u8], x: usize| {
        let shift = 8 - bits - x * bits % 8;
        usize::from(row[x * bits / 8] >> shift) & ((1 << bits) - 1)
    };
    let mut pixels = Vec::with_capacity(size[0] * size[1]);
    for row in rows {
        for x in 0..size[0] {
            let at = index(row, x);
            let colour = colours.get(at).ok_or_else(|| {
                format!("a pixel has colour {at} of a palette of {}: the file is damaged", colours.len())
            })?;
            pixels.push(*colour);
        }
    }
    match colours.iter().all(|[red, green, blue]| red == green && green == blue) {
        true => complete(size, 1, false, &pixels.iter().map(|colour| colour[0]).collect::<Vec<_>>()),
        false => complete(size, 3, false, pixels.as_flattened()),
    }
}

/// Pixels of 2 or 4 bytes, whose channels are where the masks say.
fn masked(size: [usize; 2], rows: &[&[u8]], width: usize, masks: [u32; 4]) -> Result<Image, String> {
    if masks[..3].contains(&0) || masks.iter().any(|&mask| !is_run(mask)) {
        return Err(format!("the colour masks {masks:08x?} are not read (convert it to PNG)"));
    }
    let alpha = masks[3] != 0;
    let masks = &masks[..if alpha { 4 } else { 3 }];
    let channel = |pixel: u32, mask: u32| {
        let largest = u64::from(mask >> mask.trailing_zeros());
        (u64::from((pixel & mask) >> mask.trailing_zeros()) * 255 / largest) as u8
    };
    let mut values = Vec::with_capacity(size[0] * size[1] * masks.len());
    for pixel in rows.iter().flat_map(|row| row.chunks_exact(width).take(size[0])) {
        let pixel = pixel.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        values.extend(masks.iter().map(|&mask| channel(pixel, mask)));
    }
    complete(size, 3, alpha, &values)
}

/// Whether the bits that are set stand side by side.
fn is_run(mask: u32) -> bool {
    mask == 0 || (mask >> mask.trailing_zeros()).wrapping_add(1).is_power_of_two() || mask == u32::MAX
}
