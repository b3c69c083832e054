//! JPEG.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Image, Undecoded, check_size, complete};

pub(super) fn decode(bytes: &[u8], expected: Option<[usize; 2]>) -> Result<Image, Undecoded> {
    // The decoder fills up what is missing of a truncated image, strict or not.
    if !has_its_end(bytes) {
        return Err("the JPEG image is truncated (no end marker)".into());
    }
    let options = DecoderOptions::default().set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| format!("{error}"))?;
    let info = decoder.info().ok_or("no JPEG header")?;
    let size @ [width, height] = [usize::from(info.width), usize::from(info.height)];
    check_size(width, height, expected)?;
    let (channels, out) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (1, ColorSpace::Luma),
        Some(ColorSpace::CMYK | ColorSpace::YCCK) => {
            return Err("it is a CMYK image (convert it to RGB)".into());
        }
        _ => (3, ColorSpace::RGB),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(out));
    let interleaved = decoder.decode().map_err(|error| format!("{error}"))?;
    Ok(complete(size, channels, false, &interleaved)?)
}

/// Whether an end marker (FF D9) follows the last scan (FF DA). In coded data FF is always followed by 00 or a
/// restart marker; thumbnails with markers of their own come before the scans.
fn has_its_end(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    last(0xda).is_some_and(|scan| last(0xd9).is_some_and(|end| end > scan))
}
