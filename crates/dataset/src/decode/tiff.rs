//! TIFF: gray of 1, 2, 4, 8 and 16 bits, RGB of 8 and 16 bits, with or without alpha.

use std::io::Cursor;

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::{Image, Undecoded, check_size, complete, high_bytes};

pub(super) fn decode(bytes: &[u8], expected: Option<[usize; 2]>) -> Result<Image, Undecoded> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(said)?;
    let (width, height) = decoder.dimensions().map_err(said)?;
    let size @ [width, height] = [width as usize, height as usize];
    check_size(width, height, expected)?;
    let mut limits = Limits::default();
    limits.decoding_buffer_size = limits.decoding_buffer_size.max(8 * width * height);
    let mut decoder = decoder.with_limits(limits);
    let color = decoder.colortype().map_err(said)?;
    let number = |decoder: &mut Decoder<_>, tag| decoder.find_tag_unsigned_vec::<u16>(tag).map_err(said);
    let (channels, alpha, bits) = match color {
        ColorType::Gray(bits @ (1 | 2 | 4 | 8 | 16)) => (1, false, bits),
        ColorType::GrayA(bits @ (8 | 16)) => (1, true, bits),
        // Black is zero, and the second sample is alpha.
        ColorType::Multiband { bit_depth: bits @ (8 | 16), num_samples: 2 }
            if number(&mut decoder, Tag::PhotometricInterpretation)? == Some(vec![1])
                && matches!(number(&mut decoder, Tag::ExtraSamples)?.as_deref(), Some([1 | 2])) =>
        {
            (1, true, bits)
        }
        ColorType::RGB(bits @ (8 | 16)) => (3, false, bits),
        ColorType::RGBA(bits @ (8 | 16)) => (3, true, bits),
        other => return Err(format!("TIFF images of type {other:?} are not read (convert it to PNG)").into()),
    };
    if number(&mut decoder, Tag::PlanarConfiguration)? == Some(vec![2]) && channels + usize::from(alpha) > 1 {
        return Err("TIFF images with separate planes are not read (convert it to PNG)".into());
    }
    let values = match decoder.read_image().map_err(said)? {
        DecodingResult::U8(values) if bits < 8 => unpacked(&values, width, height, bits)?,
        DecodingResult::U8(values) => values,
        DecodingResult::U16(values) => high_bytes(&values),
        _ => return Err("TIFF images of floats or signed numbers are not read (convert it to PNG)".into()),
    };
    Ok(complete(size, channels, alpha, &values)?)
}

fn said(error: TiffError) -> String {
    match error {
        TiffError::UnsupportedError(what) => format!("TIFF: {what} (convert it to PNG)"),
        error => error.to_string(),
    }
}

/// Gray of less than a byte, the first in the highest bits; each row begins with a byte.
fn unpacked(packed: &[u8], width: usize, height: usize, bits: u8) -> Result<Vec<u8>, String> {
    let bits = usize::from(bits);
    let row = (width * bits).div_ceil(8);
    if packed.len() != row * height {
        return Err("the decoder returned an incomplete image".into());
    }
    let largest = ((1 << bits) - 1) as u8;
    let value = |row: &[u8], x: usize| {
        let shift = 8 - bits - x * bits % 8;
        (row[x * bits / 8] >> shift & largest) * (255 / largest)
    };
    Ok(packed.chunks_exact(row).flat_map(|row| (0..width).map(move |x| value(row, x))).collect())
}
