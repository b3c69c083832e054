//! PNG.

use std::io::Cursor;

use png::{ColorType, Transformations};

use super::{Image, check_size, complete};

pub(super) fn decode(bytes: &[u8]) -> Result<Image, String> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    // Palettes become colours, 1 to 16 bits become 8.
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let size @ [width, height] = [reader.info().width as usize, reader.info().height as usize];
    check_size(width, height)?;
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
    complete(size, channels, alpha, &buffer)
}
