//! PNG.

use std::io::Cursor;

use equipoise_arrays::can_inflate_to;
use png::{ColorType, Transformations};

use super::{Image, Undecoded, check_size, complete};

pub(super) fn decode(bytes: &[u8], expected: Option<[usize; 2]>) -> Result<Image, Undecoded> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    // Palettes become colours, 1 to 16 bits become 8.
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let size @ [width, height] = [reader.info().width as usize, reader.info().height as usize];
    check_size(width, height, expected)?;
    // The decoder takes it for granted that there are whole colours, and no more than a byte can number.
    if reader.info().palette.as_ref().is_some_and(|palette| palette.len() % 3 != 0 || palette.len() > 3 * 256)
    {
        return Err("its palette does not hold 1 to 256 whole colours".to_owned().into());
    }
    // One bit may become three bytes: what counts is how much the file can inflate to.
    let stored = (reader.info().raw_row_length() as u64).saturating_mul(height as u64);
    if !can_inflate_to(bytes.len() as u64, stored) {
        return Err(format!(
            "its header claims {width}x{height} pixels, more than {} bytes can hold",
            bytes.len()
        )
        .into());
    }
    let length = reader.output_buffer_size().ok_or("the PNG image is too large")?;
    let mut buffer = vec![0; length];
    let frame = reader.next_frame(&mut buffer).map_err(|error| error.to_string())?;
    buffer.truncate(frame.buffer_size());
    let (channels, alpha) = match frame.color_type {
        ColorType::Grayscale => (1, false),
        ColorType::GrayscaleAlpha => (1, true),
        ColorType::Rgba => (3, true),
        ColorType::Rgb | ColorType::Indexed => (3, false),
    };
    Ok(complete(size, channels, alpha, &buffer)?)
}
